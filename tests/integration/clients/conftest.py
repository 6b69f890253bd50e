from __future__ import annotations

from collections.abc import Iterator

import pytest
from integration.clients.pantry import fill, wait_for_workers
from integration.running import Project, Running


@pytest.fixture(scope="session")
def pantry(tmp_path_factory) -> Project:
    """The project of all tests of clients."""
    root = tmp_path_factory.mktemp("clients")
    project = Project(root / "project")
    fill(project, root / "files")
    return project


@pytest.fixture(scope="module")
def server(pantry) -> Iterator[Running]:
    """Two workers, as clients meet them."""
    with Running(pantry, workers=2) as running:
        wait_for_workers(running, 2)
        yield running
