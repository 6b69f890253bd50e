"""``ekiben predict``: predictions in this process, with no server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ekiben.cli.printing import json_option, print_json, print_table


@click.command()
@click.argument("reference", metavar="NAME-or-TAG")
@click.argument("rows", metavar="ROWS.json|-", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@json_option
def predict(reference: str, rows: Path, *, as_json: bool) -> None:
    """Predict rows with a version, in this process.

    The rows are a JSON list, or {"instances": [rows]}; each row an object with the inputs' names or a list in their order.
    A Parquet file does too; - reads JSON from the standard input.
    """
    from ekiben.model.rows_file import read_rows, rows_of_json  # noqa: PLC0415  commands import what they need when they run
    from ekiben.registry import open_registry  # noqa: PLC0415
    from ekiben.settings import load_settings  # noqa: PLC0415

    given = rows_of_json(sys.stdin.buffer.read(), "the standard input") if str(rows) == "-" else read_rows(rows)
    settings = load_settings()
    registry = open_registry(settings)
    version = registry.resolve(reference)
    predictions = registry.policy.open(version, providers=settings.onnx_providers).predict(given)
    if as_json:
        print_json({"predictions": predictions, "model_name": version.model, "model_version": version.version})
    elif predictions:
        names = list(predictions[0])
        lines = [(str(n), *(_shown(element[name]) for name in names)) for n, element in enumerate(predictions)]
        print_table(("ROW", *(name.upper() for name in names)), lines, title=version.tag)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(item)}" for name, item in value.items())
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    return str(value)
