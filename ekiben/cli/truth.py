"""``ekiben truth``: what really happened to rows that were predicted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ekiben.cli.printing import json_option, print_json

if TYPE_CHECKING:
    from ekiben.cli.truth_file import Records
    from ekiben.registry import Registry
    from ekiben.state.truth import Truth

_AT_ONCE = 10_000


@click.group()
def truth() -> None:
    """Tell what really happened to rows that were predicted."""


@truth.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("name", required=False)
@json_option
def import_(file: Path, name: str | None, *, as_json: bool) -> None:
    """Import ground truth from FILE: .jsonl, .json, .csv or .parquet.

    A record has request_id, row (0 where it is left out), actual (what really happened), outcome (a number that experiments
    compare) or feedback (up or down, the outcomes 1 and 0), comment (what a user wrote) and time (ISO 8601 or seconds since
    the epoch; now where it is left out). The model is NAME, or a field "model", or the only model in the store. Importing a
    file again changes nothing; of a file with a fault nothing is imported.
    """
    from ekiben.cli.truth_file import read_records  # noqa: PLC0415  commands import what they need when they run
    from ekiben.registry import open_registry  # noqa: PLC0415
    from ekiben.settings import load_settings  # noqa: PLC0415
    from ekiben.state.opening import open_control  # noqa: PLC0415

    settings = load_settings()
    truths = _truths(read_records(file), name, open_registry(settings), file)
    kept = open_control(settings).truths
    for start in range(0, len(truths), _AT_ONCE):
        kept.report(truths[start : start + _AT_ONCE])
    models = sorted({t.model for t in truths})
    if as_json:
        print_json({"accepted": len(truths), "models": models})
    else:
        click.echo(f"{len(truths)} records of ground truth of {', '.join(models) or 'nothing'} are kept")


def _truths(records: Records, name: str | None, registry: Registry, file: Path) -> list[Truth]:
    """The truths of all records, in their order."""
    import time  # noqa: PLC0415  commands import what they need when they run

    from ekiben.errors import InvalidRequest, InvalidRows  # noqa: PLC0415
    from ekiben.serving.truth_items import TruthItems  # noqa: PLC0415

    now, found, faults = time.time(), [], []
    for model, placed in _by_model(records.items, name, registry).items():
        checks = TruthItems(model, registry.resolve(model).artifact().spec, numbers_as_text=records.is_text)
        items = [item for _, item in placed]
        try:
            found += checks.read(items, now=now)
        except InvalidRows as e:
            faults += [(placed[d.row][0] + 1, d) for d in e.details]
    if faults:
        record, first = min(faults, key=lambda fault: fault[0])
        where = f"record {record}" if first.field is None else f"record {record}, field {first.field!r}"
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise InvalidRequest(f"{file}: {where}: {first.rule} (got {first.value!r}){more}; nothing was imported")
    return found


def _by_model(items: list[Any], name: str | None, registry: Registry) -> dict[str, list[tuple[int, Any]]]:
    """Model → its records without the model's name, each with its index in the file."""
    from ekiben.errors import InvalidRequest  # noqa: PLC0415  commands import what they need when they run

    stored = registry.models()
    default = name or (stored[0] if len(stored) == 1 else None)
    placed: dict[str, list[tuple[int, Any]]] = {}
    for index, item in enumerate(items):
        model = item.get("model", default) if isinstance(item, dict) else default
        if not isinstance(model, str) or (name is not None and model != name):
            wanted = f"NAME is {name}" if name else f"there are {', '.join(stored) or 'none'} in the store"
            raise InvalidRequest(
                f"record {index + 1} is of {f'the model {model!r}' if model else 'no model'}, and {wanted}; say which it is of"
            )
        rest = {field: value for field, value in item.items() if field != "model"} if isinstance(item, dict) else item
        placed.setdefault(model, []).append((index, rest))
    return placed
