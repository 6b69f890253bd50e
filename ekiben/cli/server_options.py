"""``--server``, ``--key`` and ``--key-file``: commands that work on the control database here, or through a server's admin API."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

if TYPE_CHECKING:
    from ekiben.cli.remote import AdminClient
    from ekiben.rollout.interface import RolloutOperations


class ServerOption(msgspec.Struct, frozen=True):
    """A server that is to be asked.

    Attributes:
        url: As given.
        key: The key of its admin API.
    """

    url: str
    key: str

    def client(self) -> AdminClient:
        """What asks it.

        Raises:
            SettingError: The URL or the key cannot be one.
        """
        from ekiben.cli.remote import AdminClient  # noqa: PLC0415  httpx takes a while to import

        return AdminClient(self.url, self.key)


def server_options(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options; it gets them as ``server``, a `ServerOption`, or None for the control database here."""

    @click.option("--server", metavar="URL", help="Ask this server's admin API; left out, the control database in EKIBEN_HOME is used.")
    @click.option("--key", metavar="KEY", help="The key of the admin API. Others on this machine may see it: rather give --key-file.")
    @click.option("--key-file", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="A file with the key of the admin API.")
    @wraps(command)
    def with_server(*args: Any, server: str | None, key: str | None, key_file: Path | None, **kwargs: Any) -> None:
        if server is None and (key is not None or key_file is not None):
            raise click.UsageError("--key and --key-file are of use with --server URL")
        if server is not None and (key is None) == (key_file is None):
            raise click.UsageError("--server needs its key: one of --key-file FILE and --key KEY")
        option = None
        if server is not None:
            option = ServerOption(server, key if key is not None else _read(key_file))
        command(*args, server=option, **kwargs)

    return with_server


def operations_of(server: ServerOption | None) -> RolloutOperations:
    """What answers about rollouts: the control database here, or the server.

    Raises:
        EkibenError: A setting, the URL or the key cannot be used.
    """
    if server is not None:
        from ekiben.cli.remote import RemoteOperations  # noqa: PLC0415  httpx takes a while to import

        return RemoteOperations(server.client())
    import time  # noqa: PLC0415  as the others here: only a local command needs them

    from ekiben.registry import open_registry  # noqa: PLC0415
    from ekiben.rollout.operations import Operations  # noqa: PLC0415
    from ekiben.settings import load_settings  # noqa: PLC0415
    from ekiben.state.opening import open_control  # noqa: PLC0415

    settings = load_settings()
    control = open_control(settings)
    return Operations(control, open_registry(settings, control=control), who=person(), wall=time.time, plan_folder=Path("models"))


def person() -> str:
    """Who types, as events name them: ``user@host``."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user may have no name
        user = str(os.getuid()) if hasattr(os, "getuid") else "somebody"
    return f"{user}@{socket.gethostname()}"


def _read(key_file: Path | None) -> str:
    assert key_file is not None  # one of the two is given
    try:
        return key_file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise click.UsageError(f"--key-file {key_file} cannot be read: {e}") from None
