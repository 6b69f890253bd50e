import builtins

import pandas as pd
import pytest

from ekiben.errors import InvalidRequest
from ekiben.model.rows_file import read_rows, rows_of_json


def test_both_forms_of_json(tmp_path):
    file = tmp_path / "rows.json"
    file.write_text('[{"a": 1}, [2]]')
    assert read_rows(file) == [{"a": 1}, [2]]
    file.write_text('{"instances": [1, 2, 3]}')
    assert read_rows(file, limit=2) == [1, 2]


def test_parquet(tmp_path):
    pd.DataFrame({"a": range(10), "b": [None, *"bcdefghij"]}).to_parquet(tmp_path / "rows.parquet")
    assert read_rows(tmp_path / "rows.parquet", limit=3) == [{"a": 0, "b": None}, {"a": 1, "b": "b"}, {"a": 2, "b": "c"}]
    assert len(read_rows(tmp_path / "rows.parquet")) == 10


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.json", b"{", r"rows\.json is not JSON"),
        ("rows.json", b"[NaN]", "is not JSON"),
        ("rows.json", b'{"rows": [1]}', r'holds no rows; give a list of rows, or \{"instances": \[rows\]\}'),
        ("rows.json", b"3", "holds no rows"),
        ("rows.json", b"[]", "holds no rows"),
        ("rows.json", None, r"rows\.json cannot be read: No such file"),
        ("rows.parquet", b"PAR1", r"rows\.parquet is not Parquet"),
        ("rows.parquet", None, r"rows\.parquet cannot be read: there is no such file"),
    ],
)
def test_what_holds_no_rows_is_named(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidRequest, match=message):
        read_rows(tmp_path / name)


def test_a_source_is_named():
    with pytest.raises(InvalidRequest, match="the standard input is not JSON"):
        rows_of_json(b"", "the standard input")


def test_parquet_without_pyarrow_says_what_to_do(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "pyarrow":
            raise ImportError("No module named 'pyarrow'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InvalidRequest, match=r"needs pyarrow.*or give the rows as JSON"):
        read_rows(tmp_path / "rows.parquet")
