"""A Bento where it was unpacked: the aliases it brought, until the control database says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ekiben.errors import RegistryError
from ekiben.registry.packing import aliases_of_labels
from ekiben.registry.reference import CHAMPION
from ekiben.state.aliases import Aliases

_BENTO_FILE = "bento.yaml"


class PackedAliases(Aliases):
    """The aliases of a control database over those of a Bento.

    A model whose champion the database names, and that version is in the store, is the database's alone: what was promoted or
    rolled back here stays so. Any other model has the Bento's aliases, and the database's own beside them. So a volume left
    by an earlier image, whose champion is not in this one, never makes the latest version champion by accident.

    Args:
        live: The control database's.
        packed: Model → alias → version, as the Bento was built.
        has_version: Whether the store has a version of a model.
    """

    def __init__(self, live: Aliases, packed: Mapping[str, Mapping[str, str]], has_version: Callable[[str, str], bool]) -> None:
        self._live = live
        self._packed = packed
        self._has_version = has_version

    def get(self, model: str) -> dict[str, str]:
        """See `Aliases`."""
        return self._over(model, self._live.get(model))

    def all(self) -> dict[str, dict[str, str]]:
        """See `Aliases`."""
        live = self._live.all()
        merged = {model: self._over(model, live.get(model, {})) for model in sorted({*live, *self._packed})}
        return {model: named for model, named in merged.items() if named}

    def set(self, model: str, alias: str, version: str, *, replace: bool = True) -> bool:
        """See `Aliases`; what the Bento says of the model is written to the database first."""
        self._adopt(model)
        return self._live.set(model, alias, version, replace=replace)

    def remove(self, model: str, alias: str) -> bool:
        """See `Aliases`; a champion of the Bento can be replaced and not removed."""
        self._adopt(model)
        return self._live.remove(model, alias)

    def generation(self) -> int:
        """See `Aliases`."""
        return self._live.generation()

    def _over(self, model: str, live: dict[str, str]) -> dict[str, str]:
        packed = {alias: version for alias, version in self._packed.get(model, {}).items() if self._has_version(model, version)}
        if not packed or self._is_named(model, live.get(CHAMPION)):
            return live
        there = {alias: version for alias, version in live.items() if self._is_named(model, version)}
        return {**live, **packed, **there}

    def _adopt(self, model: str) -> None:
        live = self._live.get(model)
        for alias, version in self._over(model, live).items():
            if live.get(alias) != version:
                self._live.set(model, alias, version)

    def _is_named(self, model: str, version: str | None) -> bool:
        return version is not None and self._has_version(model, version)


def bento_folder(folder: Path) -> Path | None:
    """The Bento that a folder is, or is the source folder of; None where it is neither."""
    return next((bento for bento in (folder, folder.parent) if (bento / _BENTO_FILE).is_file()), None)


def packed_aliases(bento: Path) -> dict[str, dict[str, str]]:
    """The aliases that a Bento was built with.

    Raises:
        RegistryError: Its description cannot be read.
    """
    import yaml  # noqa: PLC0415  only where a Bento is

    file = bento / _BENTO_FILE
    try:
        read = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
        raise RegistryError(f"{file} cannot be read, so nobody knows which version is champion: {e}; build the Bento again") from e
    labels = read.get("labels") if isinstance(read, dict) else None
    return aliases_of_labels(labels) if isinstance(labels, dict) else {}
