import json

import pytest
from click.testing import CliRunner

from ekiben.cli import main
from ekiben.registry import FolderRegistry
from ekiben.state import memory_control

JSON_LINES = '{"request_id": "a", "actual": "yes"}\n\n{"request_id": "b", "row": 1, "outcome": 2, "time": "2026-01-02T00:00:00Z"}\n'


@pytest.fixture
def control(tmp_path, monkeypatch, tiny_artifact):
    """The control database that commands open, beside a store with the model tiny."""
    control = memory_control()
    found = FolderRegistry(tmp_path / "store", control.aliases)
    found.register(tiny_artifact.path, tag="tiny:1")
    monkeypatch.setattr("ekiben.registry.open_registry", lambda settings: found)
    monkeypatch.setattr("ekiben.state.opening.open_control", lambda settings: control)
    control.truths.registry = found
    return control


@pytest.fixture
def import_(tmp_path, control):
    def run(text, *arguments, suffix=".jsonl"):
        file = tmp_path / f"truth{suffix}"
        if isinstance(text, str):
            file.write_text(text)
        return CliRunner().invoke(main, ["truth", "import", str(file), *arguments])

    return run


def kept(control):
    return sorted((t.model, t.request_id, t.row, t.actual, t.outcome) for t in control.truths._truths.values())


EXPECTED = [("tiny", "a", 0, "yes", None), ("tiny", "b", 1, None, 2.0)]


@pytest.mark.parametrize(
    ("text", "suffix"),
    [
        (JSON_LINES, ".jsonl"),
        (JSON_LINES, ".ndjson"),
        ('[{"request_id": "a", "actual": "yes", "row": null}, {"request_id": "b", "row": 1, "outcome": 2}]', ".json"),
        ('{"ground_truth": [{"request_id": "a", "actual": 1}, {"request_id": "b", "row": 1, "outcome": 2}]}', ".json"),
        ("\ufeffrequest_id,row,actual,outcome,time\na,,yes,,\nb,1,,2,1700000000\n", ".csv"),
    ],
)
def test_kinds_of_files(import_, control, text, suffix):
    done = import_(text, suffix=suffix)
    assert (done.exit_code, done.stdout) == (0, "2 records of ground truth of tiny are kept\n"), done.output
    assert kept(control) == EXPECTED


def test_parquet(import_, control, tmp_path):
    pandas = pytest.importorskip("pandas")
    times = pandas.to_datetime(["2026-01-01T00:00:00Z", None])
    frame = pandas.DataFrame({"request_id": ["a", "b"], "row": [0, 1], "actual": ["yes", None], "outcome": [None, 2.0], "time": times})
    frame.to_parquet(tmp_path / "truth.parquet")
    done = import_(None, "--json", suffix=".parquet")
    assert json.loads(done.stdout) == {"accepted": 2, "models": ["tiny"]}
    assert kept(control) == EXPECTED
    assert {t.request_id: t.time for t in control.truths._truths.values()}["a"] == 1_767_225_600


def test_feedback_of_users(import_, control):
    done = import_("request_id,feedback,comment\na,up,\nb,down,too slow\n", suffix=".csv")
    assert done.exit_code == 0, done.output
    assert [(t.outcome, t.comment) for t in control.truths._truths.values()] == [(1.0, None), (0.0, "too slow")]


def test_a_file_imported_again_changes_nothing(import_, control):
    import_(JSON_LINES)
    import_(JSON_LINES)
    assert kept(control) == EXPECTED


def test_more_than_are_reported_at_once(import_, control, monkeypatch):
    reported = []
    monkeypatch.setattr(control.truths, "report", lambda truths: reported.append(len(truths)))
    import_("".join(f'{{"request_id": "r{n}", "actual": "no"}}\n' for n in range(25_000)))
    assert reported == [10_000, 10_000, 5_000]


def test_whose_truth_it_is(import_, control, plane_artifact):
    control.truths.registry.register(plane_artifact.path, tag="plane:1")
    assert "record 1 is of no model, and there are plane, tiny in the store" in import_('{"request_id": "a", "actual": "yes"}').stderr
    assert "and NAME is tiny" in import_('{"request_id": "a", "actual": 1, "model": "plane"}', "tiny").stderr
    assert kept(control) == []
    done = import_('{"request_id": "a", "actual": 1.5, "model": "plane"}\n{"request_id": "a", "actual": "yes", "model": "tiny"}\n')
    assert "of plane, tiny are kept" in done.stdout
    assert import_('{"request_id": "b", "actual": "no"}', "tiny").exit_code == 0
    assert kept(control) == [("plane", "a", 0, 1.5, None), ("tiny", "a", 0, "yes", None), ("tiny", "b", 0, "no", None)]


@pytest.mark.parametrize(
    ("text", "suffix", "problem"),
    [
        (None, ".jsonl", "cannot be read: No such file"),
        (None, ".parquet", "cannot be read"),
        ("x", ".txt", "of a kind that is not read"),
        ("{}\n{", ".jsonl", "line 2 is not JSON"),
        ("{}", ".json", "holds no ground truth"),
        ("id,actual\n1,yes\n", ".csv", "no column request_id"),
        ("", ".csv", "no column request_id"),
        ("request_id,actual\na,yes,3\n", ".csv", "record 1 has more fields"),
        ('request_id,actual\n"a,yes\n', ".csv", "is not CSV"),
        (
            '{"request_id": "a", "actual": "yes"}\n{"request_id": "b", "actual": "maybe"}',
            ".jsonl",
            "record 2, field 'actual': must be",
        ),
        ("3\n4\n", ".jsonl", "record 1: must be an object with request_id"),
    ],
)
def test_of_a_file_with_a_fault_nothing_is_kept(import_, control, text, suffix, problem):
    done = import_(text, suffix=suffix)
    assert done.exit_code == 1
    assert problem in done.stderr
    assert kept(control) == []


def test_how_many_faults_there_are(import_):
    assert "(and 1 more); nothing was imported" in import_('{"request_id": "a"}\n{"request_id": "b"}').stderr


def test_a_file_that_is_no_text(import_, tmp_path):
    (tmp_path / "truth.csv").write_bytes(b"request_id\n\xff\n")
    assert "is not UTF-8 text" in import_(None, suffix=".csv").stderr
