import logging
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ekiben.errors import EkibenError
from ekiben.guards.admin_key import AdminKey
from ekiben.settings import load_settings

KEY = "k" * 43


def bearer(key):
    return b"Bearer " + key.encode()


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def of(home, **environ):
    return AdminKey.of(load_settings({"EKIBEN_HOME": str(home), **environ}))


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def written(file, text=KEY, mode=0o600):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)
    return file


def test_a_key_is_made_at_first_start_for_its_owner_alone(home):
    key = of(home)
    text = (home / "admin.key").read_text().strip()
    assert len(text) >= 43
    assert stat.S_IMODE((home / "admin.key").stat().st_mode) == 0o600
    assert names_in(home) == ["admin.key"]
    assert key.check(bearer(text)) == "right"
    assert of(home).check(bearer(text)) == "right"
    assert of(home.with_name("other")).check(bearer(text)) == "wrong"


def test_what_a_request_brings(home):
    written(home / "admin.key", KEY + "\n")
    key = of(home)
    assert [key.check(given) for given in (bearer(KEY), b"bearer " + KEY.encode(), b"  BEARER   " + KEY.encode() + b"  ")] == ["right"] * 3
    assert [key.check(g) for g in (None, b"", b"Bearer", b"Bearer ", b"Basic " + KEY.encode(), KEY.encode())] == ["missing"] * 6
    wrong = (bearer(KEY[:-1]), bearer(KEY + "k"), bearer("K" + KEY[1:]), b"Bearer \xff\xfe", b"Bearer " + KEY.encode() + b" x")
    assert [key.check(given) for given in wrong] == ["wrong"] * 5


def test_of_many_that_make_one_at_once_all_have_the_same(home):
    barrier = threading.Barrier(8)

    def make(_):
        barrier.wait()
        return of(home)

    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(make, range(8)))
    text = (home / "admin.key").read_text().strip()
    assert [key.check(bearer(text)) for key in keys] == ["right"] * 8
    assert names_in(home) == ["admin.key"]


def test_without_links_the_later_key_counts_for_both(home, monkeypatch):
    def refuse(self, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    first = of(home)
    text = (home / "admin.key").read_text().strip()
    assert first.check(bearer(text)) == "right"
    (home / "admin.key").unlink()
    second = of(home)
    later = (home / "admin.key").read_text().strip()
    assert later != text
    assert (first.check(bearer(later)), second.check(bearer(later))) == ("right", "right")
    assert first.check(bearer(text)) == "wrong"


def test_another_process_was_first(home, monkeypatch):
    link = Path.hardlink_to

    def lose(self, target):
        written(self)
        link(self, target)

    monkeypatch.setattr(Path, "hardlink_to", lose)
    assert of(home).check(bearer(KEY)) == "right"
    assert names_in(home) == ["admin.key"]


@pytest.mark.parametrize("settled", [True, False])
def test_a_new_key_counts_from_the_next_request_on(home, settled):
    file = written(home / "admin.key")
    wall = [file.stat().st_ctime + (60 if settled else 0)]
    key = AdminKey(file, wall=lambda: wall[0])
    assert key.check(bearer(KEY)) == "right"
    for n in range(20):  # of one size, and so quickly that the time of the file may be the same
        other = f"{n:02}" + KEY[2:]
        written(file, other)
        wall[0] = file.stat().st_ctime + (60 if settled else 0)
        if settled:
            os.utime(file, ns=(n, n))
        assert (key.check(bearer(other)), key.check(bearer(KEY))) == ("right", "wrong")


def test_a_file_that_did_not_change_is_not_read_again(home, monkeypatch):
    file = written(home / "admin.key")
    key = AdminKey(file, wall=lambda: file.stat().st_ctime + 60)
    assert key.check(bearer(KEY)) == "right"
    monkeypatch.setattr(Path, "open", lambda *a, **k: pytest.fail("read again"))
    assert key.check(bearer(KEY)) == "right"


def test_a_key_that_goes_away_turns_it_off_and_one_that_comes_back_on(home):
    key = of(home)
    text = (home / "admin.key").read_text()
    (home / "admin.key").unlink()
    assert key.check(bearer(text.strip())) == "off"
    assert "admin.key cannot be read (No such file or directory); set EKIBEN_ADMIN_KEY_FILE" in key.problem
    written(home / "admin.key", text)
    assert key.check(bearer(text.strip())) == "right"
    assert key.problem == ""


@pytest.mark.parametrize("text", ["", "\n", "short", "k" * 20 + " " + "k" * 20, "schlüssel" * 5, "k" * 20 + "\x07"])
def test_what_is_no_key_lets_nobody_in(home, text, caplog):
    written(home / "admin.key", text)
    key = of(home)
    for given in (text.strip(), "", KEY):
        assert key.check(b"Bearer " + given.encode()) == "off"
    assert "16 or more characters" in key.problem
    logged = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(logged) == 1  # said once, not with every request
    assert str(home) in logged[0]


def test_a_file_of_the_settings_is_used_as_it_is(home, tmp_path):
    file = written(tmp_path / "secret", KEY + "\n", mode=0o644)
    key = of(home, EKIBEN_ADMIN_KEY_FILE=str(file))
    assert key.check(bearer(KEY)) == "right"
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert not home.exists()


def test_a_file_open_to_others_is_closed(home, caplog):
    file = written(home / "admin.key", mode=0o644)
    of(home)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "was open to others (mode 644)" in caplog.text


def test_a_file_that_cannot_be_closed_is_warned_about(home, caplog, monkeypatch):
    written(home / "admin.key", mode=0o644)

    def refuse(self, mode):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    assert of(home).check(bearer(KEY)) == "right"
    assert "Operation not permitted" in caplog.text


def test_where_none_can_be_made_it_is_off_and_says_what_to_set(home, caplog):
    home.write_text("a file, where a folder is needed")
    key = of(home)
    assert key.check(bearer(KEY)) == "off"
    assert "EKIBEN_ADMIN_KEY_FILE" in key.problem
    assert "EKIBEN_HOME" in key.problem
    assert "cannot be made" in caplog.text


def test_a_draft_that_fails_leaves_nothing(home, monkeypatch):
    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert of(home).check(bearer(KEY)) == "off"
    assert names_in(home) == []


def test_the_key_stands_nowhere(home, caplog):
    caplog.set_level(logging.DEBUG)
    key = of(home)
    text = (home / "admin.key").read_text().strip()
    key.check(bearer(text))
    key.check(bearer(text + "x"))
    (home / "admin.key").write_text(text + " ")
    key.check(bearer(text))
    (home / "admin.key").write_text("a b" + text)
    key.check(bearer(text))
    assert text not in caplog.text + repr(key) + str(key) + key.problem + repr(EkibenError(key.problem))
