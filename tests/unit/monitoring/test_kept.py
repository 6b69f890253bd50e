from ekiben.monitoring.kept import Compacted, Kept


def test_two_runs_as_one():
    first = Kept(
        compacted=Compacted(1, 2, 3, 4, ["a"]),
        shipped_files=5,
        shipped_bytes=6,
        shipped_segments=7,
        tidied_files=8,
        expired_files=9,
        problems=["p"],
    )
    taken = Kept(compacted=Compacted(1, 1, 1, 1, ["b"]), taken_in=1, shipped_files=1, shipped_bytes=1, problems=["q"])
    assert first.with_taken(taken) == Kept(
        compacted=Compacted(2, 3, 4, 5, ["a", "b"]), taken_in=1, shipped_files=6, shipped_bytes=7, shipped_segments=7, tidied_files=8,
        expired_files=9, problems=["p", "q"],
    )  # fmt: skip
    assert not first.with_taken(taken).is_busy
    assert first.with_taken(Kept(is_busy=True)).is_busy
