"""``ekiben database``: the control database, what is in it and whether it is of this version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ekiben.cli.printing import json_option, print_fields, print_json, print_table

if TYPE_CHECKING:
    from ekiben.state.database import Database


@click.group()
def database() -> None:
    """Look at the control database and bring it to this version."""


@database.command()
@json_option
def status(*, as_json: bool) -> None:
    """Show which database it is, the revision of its tables and how many rows they have."""
    _show(_status(_open()), as_json=as_json)


@database.command()
@json_option
def upgrade(*, as_json: bool) -> None:
    """Create the tables or bring them to the newest revision. Servers do so too, with the first thing they write."""
    opened = _open()
    upgraded = opened.upgrade()
    found = _status(opened)
    if as_json:
        print_json({"upgraded": upgraded, **found})
    else:
        click.echo(f"{found['name']} is now of revision {found['revision']}" if upgraded else f"{found['name']} is up to date")


def _open() -> Database:
    from ekiben.settings import load_settings  # noqa: PLC0415  commands import what they need when they run
    from ekiben.state.database import Database  # noqa: PLC0415

    return Database(load_settings().database_url)


def _status(opened: Database) -> dict[str, Any]:
    from sqlalchemy import func, select  # noqa: PLC0415

    from ekiben.state.schema import HEAD, SCHEMA  # noqa: PLC0415

    there = opened.tables()
    ours = [table for table in SCHEMA.sorted_tables if table.name in there]
    rows = {table.name: int(opened.read(select(func.count()).select_from(table))[0][0]) for table in ours}
    revision = opened.revision()
    return {
        "name": opened.name,
        "backend": opened.backend,
        "revision": revision,
        "newest_revision": HEAD,
        "rows": dict(sorted(rows.items())),
    }


def _show(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    fields = [("database", found["name"]), ("backend", found["backend"])]
    print_fields([*fields, ("revision", _revision(found)), ("newest", found["newest_revision"])])
    if found["rows"]:
        click.echo()
        print_table(("TABLE", "ROWS"), [(name, str(n)) for name, n in found["rows"].items()])


def _revision(found: dict[str, Any]) -> str:
    revision, newest = found["revision"], found["newest_revision"]
    if revision is None:
        what = "of before there were revisions" if found["rows"] else "not created yet"
        return f"none: it is {what}; the first write does the rest, or `ekiben database upgrade`"
    if revision < newest:
        return f"{revision}; the first write brings it to the newest one, or `ekiben database upgrade`"
    return f"{revision}; made by a newer Ekiben, and used as it is" if revision > newest else revision
