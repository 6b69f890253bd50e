"""``ekiben models``: what is in the store."""

from __future__ import annotations

from typing import Any

import click

from ekiben.cli.models_add import add
from ekiben.cli.models_loads import load, unload
from ekiben.cli.models_signing import keygen, sign, verify
from ekiben.cli.printing import json_option, print_json, print_note, print_table, size

_SHOWN_METRICS = 3


@click.group()
def models() -> None:
    """Add models, list and check their versions, name the one that serves."""


models.add_command(add)
models.add_command(load)
models.add_command(unload)
models.add_command(verify)
models.add_command(keygen)
models.add_command(sign)


@models.command("list")
@click.argument("name", required=False)
@json_option
def list_(name: str | None, *, as_json: bool) -> None:
    """List the versions of all models, or of NAME."""
    from ekiben.cli.describe import summary  # noqa: PLC0415  commands import what they need when they run
    from ekiben.registry import open_registry  # noqa: PLC0415
    from ekiben.settings import load_settings  # noqa: PLC0415

    registry = open_registry(load_settings())
    found = [summary(version) for version in registry.versions(name)]
    if as_json:
        print_json(found)
    elif found:
        headings = ("VERSION", "ALIASES", "TASK", "FRAMEWORK", "METRICS", "SIZE", "CREATED")
        print_table(headings, [_line(item) for item in found])
    else:
        click.echo(f"there are no versions of {name}" if name else "there are no models; `ekiben models add` adds one")
    for model, alias, version in registry.dangling():
        if name in (None, model):
            meanwhile = f"; until then {model} alone means its latest version" if alias == "champion" else ""
            print_note(
                f"{model}@{alias} names the version {version}, which is no longer in the store; "
                f"`ekiben models alias {model} {alias} VERSION` names another{meanwhile}"
            )


@models.command()
@click.argument("reference", metavar="NAME-or-TAG")
@json_option
def show(reference: str, *, as_json: bool) -> None:
    """Show all there is to know about a version: NAME (its champion), NAME:VERSION, NAME:latest or NAME@ALIAS."""
    from ekiben.cli.describe import details  # noqa: PLC0415
    from ekiben.cli.details_table import print_details  # noqa: PLC0415
    from ekiben.registry import open_registry  # noqa: PLC0415
    from ekiben.settings import load_settings  # noqa: PLC0415

    found = details(open_registry(load_settings()).resolve(reference))
    if as_json:
        print_json(found)
    else:
        print_details(found)


@models.command()
@click.argument("name")
@click.argument("alias")
@click.argument("version", required=False)
@click.option("--remove", is_flag=True, help="Take the alias away.")
@json_option
def alias(name: str, alias: str, version: str | None, *, remove: bool, as_json: bool) -> None:
    """Make ALIAS (champion, challenger …) name a VERSION of model NAME; `latest` stands for the latest one."""
    from ekiben.registry import open_registry  # noqa: PLC0415
    from ekiben.settings import load_settings  # noqa: PLC0415

    if remove == (version is not None):
        raise click.UsageError("give a VERSION, or --remove")
    registry = open_registry(load_settings())
    if version is None:
        registry.remove_alias(name, alias)
    else:
        version = registry.set_alias(name, alias, version).version
    if as_json:
        print_json({"model": name, "aliases": registry.aliases.get(name)})
    else:
        click.echo(f"{name}@{alias} is removed" if version is None else f"{name}@{alias} is {name}:{version}")


@models.command()
@click.argument("tag")
@json_option
def delete(tag: str, *, as_json: bool) -> None:
    """Delete the version TAG (NAME:VERSION). A version that has an alias is kept."""
    from ekiben.registry import open_registry  # noqa: PLC0415
    from ekiben.settings import load_settings  # noqa: PLC0415

    open_registry(load_settings()).delete(tag)
    if as_json:
        print_json({"deleted": tag})
    else:
        click.echo(f"{tag} is deleted")


@models.command()
@click.option("--json", "as_json", is_flag=True, help="As without it: a schema is JSON.")
def schema(*, as_json: bool) -> None:  # noqa: ARG001  every command takes --json
    """Print the JSON Schema of model.yaml, for editors."""
    from ekiben.model.spec import json_schema  # noqa: PLC0415

    print_json(json_schema())


def _line(item: dict[str, Any]) -> tuple[str, ...]:
    metrics = list(item["metrics"].items())[:_SHOWN_METRICS]
    return (
        item["tag"],
        ", ".join(item["aliases"]),
        item["task"],
        item["framework"],
        ", ".join(f"{name} {value:.4g}" for name, value in metrics),
        size(item["size_bytes"]),
        item["created"][:16].replace("T", " "),
    )
