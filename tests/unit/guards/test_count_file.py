import os
import stat
from pathlib import Path

import pytest

from ekiben.guards import count_file
from ekiben.guards.count_file import HEADER_BYTES, CountFile

LAYOUT = {"magic": b"TESTFILE", "entry_bytes": 40, "buckets": 16}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home" / "counts"


def test_it_is_its_owners_and_of_fixed_size(path):
    file = CountFile(path, **LAYOUT)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_size == file.size_bytes == HEADER_BYTES + 16 * 8 * 40
    assert path.stat().st_blocks * 512 >= file.size_bytes, "a full disk would end a worker later"
    file.close()


def test_two_see_the_same_bytes_and_hash_alike_and_another_file_does_not(path, tmp_path):
    one, other, elsewhere = CountFile(path, **LAYOUT), CountFile(path, **LAYOUT), CountFile(tmp_path / "b", **LAYOUT)
    key = one.key_of(b"name")
    assert other.key_of(b"name") == key != elsewhere.key_of(b"name")
    bucket = one.bucket_of(key)
    assert one.find(key, bucket) == -1
    one.data[bucket + 40 : bucket + 56] = key
    assert other.find(key, bucket) == bucket + 40
    for file in (one, other, elsewhere):
        file.close()


def test_bytes_that_look_like_a_key_are_none(path):
    file = CountFile(path, **LAYOUT)
    key = file.key_of(b"name")
    bucket = file.bucket_of(key)
    file.data[bucket + 3 : bucket + 19] = key
    assert file.find(key, bucket) == -1
    file.data[bucket + 80 : bucket + 96] = key
    assert file.find(key, bucket) == bucket + 80
    file.close()


@pytest.mark.parametrize(
    "found",
    [b"x", b"something of somebody else's", b"x" * (HEADER_BYTES + 16 * 8 * 40), bytes(10), bytes(10**6)],
    ids=["short", "foreign", "of its size", "begun", "too large"],
)
def test_what_is_there_and_is_none_of_ours_is_made_anew_and_not_cut_under_others(path, found):
    path.parent.mkdir()
    path.write_bytes(found)
    with path.open("rb") as before:
        file = CountFile(path, **LAYOUT)
        assert os.fstat(before.fileno()).st_size >= len(found)
    assert path.stat().st_size == file.size_bytes
    assert CountFile(path, **LAYOUT)._seed == file._seed
    file.close()


def test_one_of_another_layout_is_made_anew_and_who_has_it_mapped_goes_on(path):
    old = CountFile(path, **LAYOUT)
    new = CountFile(path, **{**LAYOUT, "buckets": 32})
    old.data[HEADER_BYTES] = 7
    assert new.data[HEADER_BYTES] == 0
    assert path.stat().st_size == new.size_bytes
    old.close()
    new.close()


def test_a_link_is_not_followed_and_a_folder_that_cannot_be_written_is_told(path, tmp_path):
    path.parent.mkdir()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        CountFile(path, **LAYOUT)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        CountFile(tmp_path / "file" / "counts", **LAYOUT)


def test_one_that_others_replace_meanwhile_is_opened_again(path, monkeypatch):
    CountFile(path, **LAYOUT).close()
    answers = iter([False, True])
    monkeypatch.setattr(CountFile, "_is_at", lambda *_: next(answers))
    CountFile(path, **LAYOUT).close()
    monkeypatch.setattr(CountFile, "_is_at", lambda *_: False)
    with pytest.raises(OSError, match="again and again"):
        CountFile(path, **LAYOUT)


def test_one_that_is_gone_is_not_at_its_place(path):
    file = CountFile(path, **LAYOUT)
    assert file._is_at(path, file._file)
    path.unlink()
    assert not file._is_at(path, file._file)
    file.close()


def test_where_it_cannot_be_mapped_it_is_closed(path, monkeypatch):
    closed = []
    close = os.close
    monkeypatch.setattr(os, "close", lambda n: (closed.append(n), close(n)))

    def no_memory(*_):
        raise OSError("no memory")

    monkeypatch.setattr(count_file.mmap, "mmap", no_memory)
    with pytest.raises(OSError, match="no memory"):
        CountFile(path, **LAYOUT)
    assert len(closed) == 1


def test_where_there_is_no_room_it_is_told_and_closed(path, monkeypatch):
    def full(*_):
        raise OSError("no space left on device")

    before = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="no space"):
        CountFile(path, **LAYOUT)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
