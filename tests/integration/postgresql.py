"""A PostgreSQL server of the tests' own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path


class PostgresqlServer:
    """A server with its data in a folder; it refuses to run as root, so root runs it as its own user."""

    def __init__(self, programs: Path, folder: str) -> None:
        self._programs = programs
        self._folder = folder
        self._user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        self._databases = count(1)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        if os.geteuid() == 0:
            shutil.chown(folder, self._user)
        self._run("initdb", "-D", f"{folder}/data", "-A", "trust", "-U", "ekiben", "--no-sync")

    @property
    def url(self) -> str:
        """Of the database that administers the others."""
        return f"postgresql://ekiben@127.0.0.1:{self.port}/postgres"

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"control_{next(self._databases)}"
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "ekiben", name)
        return f"postgresql://ekiben@127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        options = f"-c listen_addresses=127.0.0.1 -p {self.port} -c unix_socket_directories={self._folder} -c fsync=off"
        self._run("pg_ctl", "-D", f"{self._folder}/data", "-l", f"{self._folder}/log", "-w", "-o", options, "start")

    def stop(self) -> None:
        """Stops it at once, as a crash would."""
        self._run("pg_ctl", "-D", f"{self._folder}/data", "-m", "immediate", "-w", "stop")

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stops it meanwhile."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Meanwhile the kernel takes what it is sent, and it answers nothing."""
        master = int(Path(f"{self._folder}/data/postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        everybody = [master, *map(int, children)]
        for process in everybody:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in everybody:
                os.kill(process, signal.SIGCONT)

    def _run(self, program: str, *arguments: str) -> None:
        who = {"user": self._user, "group": pwd.getpwnam(self._user).pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        subprocess.run([self._programs / program, *arguments], check=True, stdout=subprocess.DEVNULL, cwd=self._folder, timeout=120, **who)


def postgresql_programs() -> Path | None:
    """Where the server's programs are; None where it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@contextmanager
def running_postgresql(programs: Path) -> Iterator[PostgresqlServer]:
    """A server that runs meanwhile."""
    with tempfile.TemporaryDirectory(prefix="ekiben-pg-", dir="/tmp") as folder:
        server = PostgresqlServer(programs, folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
