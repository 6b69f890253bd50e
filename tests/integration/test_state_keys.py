"""What API keys promise, on every backend."""

import threading

import msgspec
import pytest

from ekiben.errors import KeyRefused
from ekiben.guards.api_keys import KeyRing
from ekiben.guards.key_operations import ControlKeys

pytestmark = pytest.mark.processes


def operations(control, who="kim@desk"):
    return ControlKeys(control, who=who, wall=lambda: 1000.0)


def test_what_one_makes_and_ends_another_sees(controls):
    one, other = controls(), controls()
    ring = KeyRing(other.keys, wall=lambda: 1000.0)
    ring.refresh()
    made = operations(one).create("site", ["predict:m"], expires="1d")
    ring.refresh()
    assert ring.find(made.key.encode()).id == f"key:{made.about.prefix}"
    [kept] = other.keys.all()
    assert (kept.name, kept.scopes, kept.expires, kept.revision) == ("site", ("predict:m",), 1000.0 + 86400.0, 1)
    assert made.key[12:] not in str(msgspec.to_builtins(kept))
    operations(other).revoke(made.about.prefix)
    ring.refresh()
    assert ring.find(made.key.encode()) is None
    assert [(e.kind, e.who) for e in one.events.find()] == [("key-created", "kim@desk"), ("key-revoked", "kim@desk")]


def test_of_many_that_rotate_a_key_at_once_one_makes_the_successor(controls):
    users = [operations(controls(), who=f"u{n}") for n in range(5)]
    old = users[0].create("site", ["predict"]).about.prefix
    barrier, made = threading.Barrier(len(users)), []

    def rotate(user):
        barrier.wait()
        try:
            made.append(user.rotate(old).about.prefix)
        except KeyRefused as e:
            assert "was rotated already" in str(e)  # noqa: PT017

    threads = [threading.Thread(target=rotate, args=(user,)) for user in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    control = controls()
    assert control.keys.get(old).replaced_by == made[0]
    assert {key.prefix for key in control.keys.all()} == {old, made[0]}
    assert len(control.events.find(kind="key-rotated")) == 1


def test_many_that_make_keys_at_once_lose_none(controls):
    users = [operations(controls()) for _ in range(4)]
    threads = [threading.Thread(target=user.create, args=(f"k{n}", ["predict"])) for n, user in enumerate(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    control = controls()
    assert {key.name for key in control.keys.all()} == {"k0", "k1", "k2", "k3"}
    assert (control.keys.generation(), control.generation()) == (4, (0, 0, 0))
