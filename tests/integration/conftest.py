from __future__ import annotations

import shutil

import msgspec
import pytest
from integration.running import Project

from ekiben.model.artifact import MANIFEST, Artifact, read_artifact


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
