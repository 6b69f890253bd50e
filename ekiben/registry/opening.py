"""The registry that the settings describe."""

from __future__ import annotations

from pathlib import Path

from ekiben.registry.store import Registry
from ekiben.registry.trust import LoadPolicy
from ekiben.settings import Settings
from ekiben.state import Control
from ekiben.state.opening import open_control


def open_registry(settings: Settings, project: Path | None = None, control: Control | None = None) -> Registry:
    """The BentoML store with aliases and loads in the control database.

    Nothing is created, and neither BentoML nor the database is touched before the first question.

    Args:
        settings: The settings in force.
        project: The folder of ``service.py``; None for the working directory. Where it belongs to a Bento, models have the
            aliases that the Bento was built with until the control database has others, see `PackedAliases`; and a Bento that
            brings its models is the store.
        control: The control database, where it is open already; None opens that of the settings.

    Raises:
        StateError: The URL of the control database is of no use.
        RegistryError: The Bento's own description cannot be read.
    """
    from ekiben.registry.bento import BentoRegistry  # noqa: PLC0415  what reads models takes a while to import
    from ekiben.registry.packed_aliases import PackedAliases, bento_folder, packed_aliases  # noqa: PLC0415

    control = control if control is not None else open_control(settings)
    aliases, loads = control.aliases, control.loads
    policy = LoadPolicy.of(settings)
    bento = bento_folder(project or Path.cwd())
    if bento is None:
        return BentoRegistry(aliases, loads=loads, policy=policy)
    # BentoML's own rule: a Bento that brings models, as in a container, is served with these and no others.
    home = bento if any((bento / "models").glob("*")) else None
    store = BentoRegistry(aliases, home=home)
    return BentoRegistry(PackedAliases(aliases, packed_aliases(bento), store.has), loads=loads, home=home, policy=policy)
