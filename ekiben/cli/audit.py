"""``ekiben audit``: who did what over the admin API."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from ekiben.cli.printing import json_option, print_json, print_table
from ekiben.cli.server_options import ServerOption, server_options

if TYPE_CHECKING:
    from ekiben.state.events import Event


@click.command()
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000), help="The latest so many.")
@click.option("--after", default=0, type=click.IntRange(min=0), metavar="ID", help="Those after the one with this number.")
@server_options
@json_option
def audit(*, limit: int, after: int, server: ServerOption | None, as_json: bool) -> None:
    """Show who did what over the admin API and with API keys, and who was refused."""
    found = _trail(server, after, limit)
    if as_json:
        print_json(found)
    elif found:
        print_table(("TIME", "WHO", "KIND", "WHAT"), [(_time(e), e.who, e.kind, e.message) for e in found])
    else:
        click.echo("nothing was done yet")


def _trail(server: ServerOption | None, after: int, limit: int) -> list[Event]:
    if server is not None:
        from ekiben.cli.remote_keys import remote_trail  # noqa: PLC0415  httpx takes a while to import

        return remote_trail(server.client(), after=after, limit=limit)
    from ekiben.guards.audit import trail  # noqa: PLC0415  only a local command needs these
    from ekiben.settings import load_settings  # noqa: PLC0415
    from ekiben.state import opening  # noqa: PLC0415

    return trail(opening.open_control(load_settings()).events, after=after, limit=limit)


def _time(event: Event) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.time))
