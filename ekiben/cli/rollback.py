"""``ekiben rollback``: back to the version that was good, within a second."""

from __future__ import annotations

import click

from ekiben.cli.printing import json_option, print_json
from ekiben.cli.server_options import ServerOption, operations_of, server_options


@click.command()
@click.argument("name")
@click.option("--to", metavar="VERSION", help="The version to go back to; left out, the former champion.")
@server_options
@json_option
def rollback(name: str, *, to: str | None, server: ServerOption | None, as_json: bool) -> None:
    """Take model NAME back: abort its active rollout or experiment; where none is, make the former champion serve again."""
    view = operations_of(server).rollback(name, to=to)
    if as_json:
        print_json(view)
    else:
        click.echo(f"{view.message}; running servers follow within a second")
