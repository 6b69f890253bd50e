from __future__ import annotations

import ctypes
import sys
import weakref

import pytest

from ekiben.serving.memory import give_back_memory


class Node:
    def __init__(self):
        self.itself = self


def test_what_only_a_cycle_holds_is_let_go_of():
    node = weakref.ref(Node())
    give_back_memory()
    assert node() is None


@pytest.mark.parametrize(
    ("platform", "library", "trimmed"),
    [("linux", "glibc", [0]), ("linux", "musl", []), ("darwin", "glibc", [])],
)
def test_the_c_library_is_asked_where_there_is_one_to_ask(monkeypatch, platform, library, trimmed):
    asked = []

    class Library:
        if library == "glibc":
            malloc_trim = staticmethod(asked.append)

    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
    give_back_memory()
    assert asked == trimmed
