"""``ekiben keys``: API keys, for those who may ask a server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from ekiben.cli.printing import json_option, print_fields, print_json, print_note, print_table
from ekiben.cli.server_options import ServerOption, person, server_options

if TYPE_CHECKING:
    from ekiben.guards.key_operations import KeyOperations, KeyView, MadeKey


@click.group()
def keys() -> None:
    """Make API keys and end them. They work on the control database here, or through a server's admin API."""


@keys.command()
@click.argument("name")
@click.option(
    "--scope", "scopes", multiple=True, required=True, metavar="SCOPE",
    help="What it allows: predict, truth, read, admin, predict:MODEL or truth:MODEL; as many as needed.",
)  # fmt: skip
@click.option("--expires", metavar="DURATION", help="After how long it ends, as 90d; left out, never.")
@server_options
@json_option
def create(name: str, *, scopes: tuple[str, ...], expires: str | None, server: ServerOption | None, as_json: bool) -> None:
    """Make a key for NAME, and show it this once."""
    _show_made(_operations(server).create(name, scopes, expires=expires), as_json=as_json)


@keys.command(name="list")
@server_options
@json_option
def list_keys(*, server: ServerOption | None, as_json: bool) -> None:
    """Show the keys without their secrets, those that ended too."""
    found = _operations(server).list()
    if as_json:
        print_json(found)
    elif found:
        headings = ("PREFIX", "NAME", "SCOPES", "STATE", "CREATED", "BY", "EXPIRES", "SUCCESSOR")
        print_table(headings, [_row(key) for key in found], styles={"good": "green", "revoked": "red", "expired": "yellow"})
    else:
        click.echo("there are no keys; `ekiben keys create NAME --scope predict` makes one")


@keys.command()
@click.argument("prefix")
@click.option("--grace", default="1h", show_default=True, metavar="DURATION", help="How long the old one goes on being good.")
@server_options
@json_option
def rotate(prefix: str, *, grace: str, server: ServerOption | None, as_json: bool) -> None:
    """Make a key in place of the one with PREFIX, with its name, its scopes and as long a life."""
    _show_made(_operations(server).rotate(prefix, grace=grace), as_json=as_json)


@keys.command()
@click.argument("prefix")
@server_options
@json_option
def revoke(prefix: str, *, server: ServerOption | None, as_json: bool) -> None:
    """End the key with PREFIX for good; running servers refuse it within a second."""
    key = _operations(server).revoke(prefix)
    if as_json:
        print_json(key)
    else:
        click.echo(f"{key.prefix} ({key.name}) is revoked; running servers refuse it within a second")


def _operations(server: ServerOption | None) -> KeyOperations:
    """What answers: the control database here, or the server.

    Raises:
        EkibenError: A setting, the URL or the key cannot be used.
    """
    if server is not None:
        from ekiben.cli.remote_keys import RemoteKeys  # noqa: PLC0415  httpx takes a while to import

        return RemoteKeys(server.client())
    from ekiben.guards.key_operations import ControlKeys  # noqa: PLC0415  only a local command needs these
    from ekiben.settings import load_settings  # noqa: PLC0415
    from ekiben.state import opening  # noqa: PLC0415

    return ControlKeys(opening.open_control(load_settings()), who=person(), wall=time.time)


def _show_made(made: MadeKey, *, as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    about = made.about
    print_fields(
        [("key", made.key), ("name", about.name), ("scopes", " ".join(about.scopes)), ("expires", _date(about.expires) or "never")]
    )
    print_note("the key is shown this once; keep it where its user finds it and nobody else does")


def _row(key: KeyView) -> tuple[str, ...]:
    ends = "" if key.revoked else _date(key.expires) or "never"
    return (key.prefix, key.name, " ".join(key.scopes), key.state, _date(key.created), key.created_by, ends, key.replaced_by)


def _date(moment: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment)) if moment is not None else ""
