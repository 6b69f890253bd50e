"""What goes into a Bento: which versions of which models, and how the Bento remembers what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ekiben.errors import RegistryError, VersionNotFound
from ekiben.registry.reference import CHALLENGER, CHAMPION, parse_reference
from ekiben.registry.store import Registry, Version

PACKED_ALIASES = (CHAMPION, CHALLENGER)


class Packed(msgspec.Struct, frozen=True):
    """The versions chosen for a Bento.

    Attributes:
        versions: Each once, models by name.
        aliases: Model → alias → version, of packed versions only. Each model has a champion.
    """

    versions: tuple[Version, ...]
    aliases: dict[str, dict[str, str]]

    @property
    def tags(self) -> list[str]:
        """``name:version`` of each version."""
        return [version.tag for version in self.versions]

    @property
    def frameworks(self) -> list[str]:
        """The frameworks that the versions need, sorted."""
        return sorted({version.artifact().manifest.model.framework for version in self.versions})

    @property
    def labels(self) -> dict[str, str]:
        """The aliases as labels of the Bento, ``champion.NAME: VERSION``.

        The control database stays behind when a Bento is built; its labels are how the champion is known where it is unpacked.
        """
        return {f"{alias}.{model}": version for model, named in self.aliases.items() for alias, version in named.items()}


def choose(models: Sequence[str], registry: Registry, references: Sequence[str] = ()) -> Packed:
    """Chooses the versions to pack.

    Args:
        models: The models that the service serves.
        registry: Where their versions are.
        references: Versions asked for. A model that none of them names is packed with its champion and its challenger; one
            that some name, with those, and the first of them is champion unless the champion is among them.

    Raises:
        VersionNotFound: A model has no version, or not the one asked for.
        RegistryError: A reference is none, or names a model that is not served.
    """
    asked: dict[str, list[Version]] = {}
    for reference in references:
        model = parse_reference(reference).model
        if model not in models:
            raise RegistryError(f"{reference} is to be packed, but there is no models/{model}; there are {', '.join(models) or 'none'}")
        asked.setdefault(model, []).append(registry.resolve(reference))
    versions: list[Version] = []
    aliases: dict[str, dict[str, str]] = {}
    for model in sorted(models):
        chosen = list({v.tag: v for v in asked.get(model) or _default(model, registry)}.values())
        packed = {version.version for version in chosen}
        named = {alias: v for alias, v in registry.aliases.get(model).items() if alias in PACKED_ALIASES and v in packed}
        aliases[model] = {CHAMPION: chosen[0].version, **named}
        versions += chosen
    return Packed(tuple(versions), aliases)


def aliases_of_labels(labels: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Model → alias → version, read back from a Bento's labels; other labels are left alone."""
    found: dict[str, dict[str, str]] = {}
    for label, version in labels.items():
        alias, dot, model = label.partition(".")
        if dot and alias in PACKED_ALIASES:
            found.setdefault(model, {})[alias] = str(version)
    return found


def _default(model: str, registry: Registry) -> list[Version]:
    try:
        versions = [registry.resolve(model)]
    except VersionNotFound as e:
        raise VersionNotFound(f"models/{model} cannot be packed: {e}") from e
    if CHALLENGER in registry.aliases.get(model):
        versions.append(registry.resolve(f"{model}@{CHALLENGER}"))
    return versions
