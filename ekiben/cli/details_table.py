"""The tables of ``ekiben models show``."""

from __future__ import annotations

from typing import Any

import click

from ekiben.cli.describe import type_of
from ekiben.cli.printing import print_fields, print_table, size

_SHOWN_CATEGORIES = 6


def print_details(found: dict[str, Any]) -> None:
    """Prints what `describe.details` found out about a version."""
    card, provenance = found["card"], found["provenance"]
    print_fields(
        [
            ("version", found["tag"]),
            ("aliases", ", ".join(found["aliases"])),
            ("description", found["description"]),
            ("task", found["task"]),
            ("labels", ", ".join(found["labels"])),
            ("threshold", "" if found["threshold"] is None else f"{found['threshold']:g}"),
            ("framework", found["framework"]),
            ("metrics", ", ".join(f"{name} {value:.4g}" for name, value in found["metrics"].items())),
            ("parity", _pairs(found["parity"] or {})),
            ("latency budget", f"{found['latency_budget_ms']:g} ms at p99"),
            ("batching", _pairs(found["batching"])),
            ("created", provenance["created"]),
            ("commit", provenance["git_commit"] or ""),
            ("packages", _pairs(provenance["frameworks"])),
            ("data", _pairs(provenance["data"])),
            ("parameters", _pairs(provenance["parameters"])),
            *((name.replace("_", " "), text) for name, text in card.items()),
            ("files", f"{len(found['checksums']) + 1}, {size(found['size_bytes'])}, with {found['golden_rows']} golden rows"),
            ("path", found["path"]),
        ]
    )
    click.echo()
    print_table(("INPUT", "TYPE", "RULES", "DESCRIPTION"), [_input_line(item) for item in found["inputs"]])
    click.echo()
    print_table(("OUTPUT", "TYPE"), [(item["name"], type_of(item)) for item in found["outputs"]])
    click.echo()
    print_table(("FILE", "SHA-256"), found["checksums"].items())


def _input_line(item: dict[str, Any]) -> tuple[str, str, str, str]:
    rules = [f"{bound} {item[bound]:g}" for bound in ("min", "max") if bound in item]
    categories = item.get("categories", ())
    if categories:
        rest = len(categories) - _SHOWN_CATEGORIES
        rules.append("one of " + ", ".join(categories[:_SHOWN_CATEGORIES]) + (f" … ({rest} more)" if rest > 0 else ""))
    if item.get("nullable"):
        rules.append("may be null")
    unit = f" [{item['unit']}]" if item.get("unit") else ""
    return item["name"], type_of(item), ", ".join(rules), item.get("description", "") + unit


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
