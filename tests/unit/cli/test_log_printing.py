import json

import pyarrow as pa
import pytest

from ekiben.cli.log_printing import print_answer


@pytest.fixture
def table():
    return pa.table(
        {
            "text": ["a,b", None],
            "number": [1 / 3, float("nan")],
            "whole": [2, None],
            "list": [[1, 2], None],
            "time": pa.array([0, None], pa.timestamp("us", "UTC")),
            "bytes": pa.array([b"\0", None]),
        }
    )


def test_for_people(table, capsys):
    print_answer(table.select(["text", "number", "list"]), as_json=False, as_csv=False)
    assert capsys.readouterr().out == "text  number    list\na,b   0.333333  [1,2]\n      nan\n"


def test_as_csv(table, capsys):
    print_answer(table, as_json=False, as_csv=True)
    first = '"a,b",0.3333333333333333,2,"[1,2]",1970-01-01T00:00:00+00:00,"""AA=="""'
    assert capsys.readouterr().out == f"text,number,whole,list,time,bytes\n{first}\n,nan,,,,\n"


def test_as_json(table, capsys):
    print_answer(table, as_json=True, as_csv=False)
    first, second = json.loads(capsys.readouterr().out)
    assert first["number"] == 1 / 3
    assert second == dict.fromkeys(table.column_names)


def test_columns_without_rows_and_rows_without_columns(table, capsys):
    print_answer(table.slice(0, 0).select(["text"]), as_json=False, as_csv=False)
    print_answer(pa.table({}), as_json=False, as_csv=False)
    assert capsys.readouterr().out == "text\n"
