"""Looks the pinned packages up among known vulnerabilities: ``audit.py probe`` · ``audit.py run``, which `make audit` calls.

``probe`` needs Python alone and says whether the advisory service answers; ``run`` has pip-audit ask it, in the environment that
`make tools` makes. A finding fails, unless `deploy/audit-ignored.txt` says why it does not concern us and until when to believe that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
PINS = ROOT / "constraints.txt"
IGNORED = ROOT / "deploy" / "audit-ignored.txt"
# OSV has what PyPI and GitHub publish, and answers nothing wrong where a mirror of PyPI stands in PyPI's place.
OSV = "https://api.osv.dev/v1/query"
_PROBE_S = 5.0
_RUN_S = 600.0
_FIELDS = 3


def probe(url: str) -> str:
    """Why the advisory service cannot be asked; empty where it can. A package that never was is asked for."""
    question = json.dumps({"package": {"name": "ekiben-no-such-package", "ecosystem": "PyPI"}, "version": "0"}).encode()
    request = urllib.request.Request(url, data=question, headers={"content-type": "application/json"})  # noqa: S310  our own
    try:
        with urllib.request.urlopen(request, timeout=_PROBE_S) as answer:  # noqa: S310  as above
            json.load(answer)
    except urllib.error.HTTPError as e:
        return f"it answered {e.code}"
    except (OSError, ValueError) as e:
        return str(getattr(e, "reason", e))
    return ""


def ignored(text: str, today: date) -> tuple[dict[str, str], list[str]]:
    """What may be ignored, and what is wrong with the list.

    Args:
        text: A finding a line: its id, the last day on which the reason is believed, and the reason. ``#`` begins a comment.
        today: Today.

    Returns:
        Id → reason, and complaints about lines that are no longer, or not, in that form.
    """
    found: dict[str, str] = {}
    wrong = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].strip().split(maxsplit=_FIELDS - 1)
        if not words:
            continue
        try:
            identifier, until, reason = words
            is_over = date.fromisoformat(until) < today
        except ValueError:
            wrong.append(f"line {number} is not ID YYYY-MM-DD REASON")
            continue
        if is_over:
            wrong.append(f"line {number}: {identifier} was to be ignored until {until}: look again, and upgrade or give another day")
        else:
            found[identifier] = reason
    return found, wrong


def findings(report: Mapping[str, object], ignore: Mapping[str, str]) -> list[str]:
    """A line for each vulnerability of pip-audit's report that is not ignored, by its id or by another name of it."""
    lines = []
    dependencies = report["dependencies"]
    assert isinstance(dependencies, list)
    for item in dependencies:
        for vulnerability in item.get("vulns", ()):
            names = (vulnerability["id"], *vulnerability.get("aliases", ()))
            if not any(name in ignore for name in names):
                fixed = ", ".join(vulnerability.get("fix_versions", ())) or "no version yet"
                lines.append(f"{item['name']} {item['version']}: {' '.join(names)}, fixed in {fixed}")
    return lines


def run(command: Sequence[str], url: str, pins: Path, ignore_file: Path, today: date) -> list[str]:
    """Everything that must be done before the audit passes; nothing where it does.

    Args:
        command: How pip-audit is started.
        url: The advisory service.
        pins: The pinned packages, all of them: nothing is resolved.
        ignore_file: What may be ignored.
        today: Today.
    """
    ignore, wrong = ignored(ignore_file.read_text(), today)
    options = ["--vulnerability-service=osv", f"--osv-url={url}", "--no-deps", "--disable-pip", "--format=json", "--progress-spinner=off"]
    asked = [*command, *options, "--requirement", str(pins)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=_RUN_S)  # noqa: S603  our own command
    try:
        report = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return [*wrong, f"pip-audit did not come to its end: {last}"]
    return [*wrong, *findings(report, ignore)]


def main(arguments: Sequence[str]) -> int:
    """``probe`` or ``run``; 0 where all is well."""
    url = os.environ.get("AUDIT_URL") or OSV
    if list(arguments) == ["probe"]:
        problem = probe(url)
        if problem:
            sys.stdout.write(f"audit: {url} cannot be asked about vulnerabilities ({problem}); the packages were not looked up\n")
        return 1 if problem else 0
    to_do = run([sys.executable, "-m", "pip_audit"], url, PINS, IGNORED, datetime.now(UTC).date())
    for line in to_do:
        sys.stdout.write(f"audit: {line}\n")
    if not to_do:
        sys.stdout.write("audit: no vulnerability is known of the pinned packages, beyond those ignored\n")
    return 1 if to_do else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
