import subprocess
from datetime import UTC, datetime

import numpy as np
import pytest

from ekiben.registry.provenance import framework_versions, git_commit, now


@pytest.fixture
def repository(tmp_path):
    def git(*arguments):
        return subprocess.run(
            ["git", "-C", tmp_path, "-c", "user.name=n", "-c", "user.email=e@e", *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init")
    (tmp_path / "file").write_text("a")
    git("add", "file")
    git("commit", "-m", "first")
    return tmp_path, git("rev-parse", "HEAD")


def test_the_commit_of_a_clean_tree(repository):
    folder, commit = repository
    assert git_commit(folder) == commit
    assert git_commit(folder / "file") == commit


def test_a_changed_tree_says_so(repository):
    folder, commit = repository
    (folder / "file").write_text("b")
    assert git_commit(folder) == f"{commit}+changes"


def test_there_is_none_outside_git_or_without_it(tmp_path, monkeypatch):
    assert git_commit(tmp_path) is None
    monkeypatch.setenv("PATH", "")
    assert git_commit(tmp_path) is None


def test_now_is_utc_and_sorts():
    first, second = now(), now()
    assert first < second
    assert datetime.fromisoformat(first).utcoffset() == datetime.now(UTC).utcoffset()


def test_versions_of_what_is_installed():
    assert framework_versions("numpy", "no-such-package") == {"numpy": np.__version__}
