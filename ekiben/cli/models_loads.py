"""``ekiben models load`` and ``unload``: which models running servers keep in memory."""

from __future__ import annotations

import click

from ekiben.cli.printing import json_option, print_json


@click.command()
@click.argument("name")
@json_option
def load(name: str, *, as_json: bool) -> None:
    """Have running servers load model NAME, within a second; also one that is in the store and not in the models folder."""
    _ask(name, loaded=True, as_json=as_json)


@click.command()
@click.argument("name")
@json_option
def unload(name: str, *, as_json: bool) -> None:
    """Have running servers let go of model NAME; it stays so over restarts, until `load`."""
    _ask(name, loaded=False, as_json=as_json)


def _ask(name: str, *, loaded: bool, as_json: bool) -> None:
    from ekiben.registry import open_registry  # noqa: PLC0415  commands import what they need when they run
    from ekiben.settings import load_settings  # noqa: PLC0415

    registry = open_registry(load_settings())
    registry.resolve(name)
    registry.loads.set(name, loaded=loaded)
    if as_json:
        print_json({"model": name, "loaded": loaded})
    else:
        click.echo(f"{name} is to be {'loaded' if loaded else 'unloaded'}; running servers follow within a second")
