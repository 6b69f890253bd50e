from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import msgspec
import pytest
from integration.postgresql import PostgresqlServer, postgresql_programs, running_postgresql
from integration.redis_server import RedisServer
from integration.running import Project

from ekiben.model.artifact import MANIFEST, Artifact, read_artifact
from ekiben.state import Control, memory_control
from ekiben.state.database import Database
from ekiben.state.sql_control import sql_control


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """A PostgreSQL server for all tests."""
    programs = postgresql_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with running_postgresql(programs) as server:
        yield server


@pytest.fixture
def postgresql(postgresql_server) -> str:
    """The URL of an empty PostgreSQL database."""
    return postgresql_server.new_database()


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory) -> Iterator[RedisServer]:
    """A Redis server for the tests of a module."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("Redis is not installed (Debian: apt-get install redis-server)")
    server = RedisServer(program, tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def controls(request, tmp_path) -> Iterator[Callable[[], Control]]:
    """A function that gives one more user of the same, at first empty, control database: ``controls()``."""
    if request.param == "memory":
        control = memory_control()
        yield lambda: control
        return
    url = f"sqlite:///{tmp_path / 'control.db'}" if request.param == "sqlite" else request.getfixturevalue("postgresql")
    opened = []

    def connect() -> Control:
        opened.append(sql_control(Database(url)))
        return opened[-1]

    yield connect
    for control in opened:
        control.database.close()


@pytest.fixture
def project(tmp_path) -> Project:
    """An empty project."""
    return Project(tmp_path / "project")


@pytest.fixture
def serving(project, tiny_artifact, plane_artifact, grid_artifact) -> Project:
    """A project with the models tiny, plane and grid, each in version 1."""
    project.register(tiny_artifact, plane_artifact, grid_artifact, version="1")
    return project


@pytest.fixture
def another_tiny(tiny_artifact, tmp_path):
    """Makes further versions of tiny whose manifests differ."""

    def make(note: str) -> Artifact:
        folder = tmp_path / f"tiny-{note}"
        shutil.copytree(tiny_artifact.path, folder)
        manifest = msgspec.structs.replace(
            tiny_artifact.manifest,
            provenance=msgspec.structs.replace(
                tiny_artifact.manifest.provenance, created=f"2026-01-02T00:00:0{len(note) % 10}Z", parameters={"note": note}
            ),
        )
        (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest))
        return read_artifact(folder)

    return make
