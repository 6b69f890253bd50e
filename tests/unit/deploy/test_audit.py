import importlib.util
import json
import subprocess
import sys
import threading
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "deploy" / "audit.py"
TODAY = date(2026, 6, 1)
FOUND = {
    "id": "GHSA-aaaa-bbbb-cccc", "aliases": ["CVE-2026-1"], "published": "2026-01-01T00:00:00Z", "modified": "2026-01-01T00:00:00Z",
    "summary": "it falls over",
    "affected": [
        {
            "package": {"name": "badly", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0"}]}],
        }
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def audit():
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def service():
    """An advisory service that knows one vulnerability, of the package badly."""

    class Advisories(BaseHTTPRequestHandler):
        status = 200

        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            answer = json.dumps({"vulns": [FOUND]} if asked["package"]["name"] == "badly" else {}).encode()
            self.send_response(self.status)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Advisories) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        server.kind = Advisories
        server.url = f"http://127.0.0.1:{server.server_port}/v1/query"
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def files(tmp_path):
    def make(pins, ignore=""):
        (tmp_path / "pins.txt").write_text(pins)
        (tmp_path / "ignored.txt").write_text(ignore)
        return tmp_path / "pins.txt", tmp_path / "ignored.txt"

    return make


def test_a_service_that_answers_can_be_asked(audit, service):
    assert audit.probe(service.url) == ""
    service.kind.status = 503
    assert audit.probe(service.url) == "it answered 503"


def test_where_nobody_answers_that_is_one_line_and_no_failure_of_lint(service):
    service.shutdown()
    service.server_close()
    done = subprocess.run(
        ["make", "--silent", "audit", f"PYTHON={sys.executable}"],
        cwd=ROOT, env={"PATH": "/usr/bin:/bin", "AUDIT_URL": service.url}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert f"audit: {service.url} cannot be asked about vulnerabilities" in done.stdout
    assert "the packages were not looked up" in done.stdout


def test_a_finding_fails_until_somebody_says_why_not(audit, service, files, tool):
    command = [str(tool("python")), "-m", "pip_audit"]
    finding = "badly 1.0: CVE-2026-1 GHSA-aaaa-bbbb-cccc, fixed in 2.0"
    for ignore, expected in (
        ("", [finding]),
        ("GHSA-aaaa-bbbb-cccc 2026-06-01 not called", []),
        ("CVE-2026-1 2026-06-01 not called", []),
        ("CVE-2026-2 2026-06-01 not called", [finding]),
    ):
        assert audit.run(command, service.url, *files("badly==1.0\nwell==3.0\n", ignore), TODAY) == expected
    assert audit.run(command, service.url, *files("well==3.0\n"), TODAY) == []


def test_an_audit_that_breaks_off_does_not_pass(audit, files):
    pins = files("well==3.0\n")
    assert audit.run([sys.executable, "-c", "raise SystemExit('away')"], "", *pins, TODAY) == ["pip-audit did not come to its end: away"]
    assert audit.run([sys.executable, "-c", ""], "", *pins, TODAY) == ["pip-audit did not come to its end: it said nothing"]


def test_reasons_are_believed_for_a_time(audit):
    found, wrong = audit.ignored("# a comment\n\nA 2026-06-01 of today # more\nB 2026-05-31 old\nC soon because\nD 2026-07-01\n", TODAY)
    assert found == {"A": "of today"}
    assert wrong == [
        "line 4: B was to be ignored until 2026-05-31: look again, and upgrade or give another day",
        "line 5 is not ID YYYY-MM-DD REASON",
        "line 6 is not ID YYYY-MM-DD REASON",
    ]


def test_our_own_list_can_be_read(audit):
    assert audit.ignored(audit.IGNORED.read_text(), date(2026, 1, 1))[1] == []


def test_it_is_part_of_lint():
    recipe = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    assert "audit" in recipe
