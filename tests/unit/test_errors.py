from __future__ import annotations

import inspect
import re

import msgspec
import pytest

from ekiben import errors
from ekiben.errors import EkibenError, InvalidRows, QueueFull, RowError, SpecError

CLASSES = {name: kind for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, EkibenError)}


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes():
    drawn: dict[str, str] = {}
    above = {0: "EkibenError"}
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"^    ([│ ]*)[├└]── (\w+)", line):
            depth = len(found[1]) // 4 + 1
            above[depth] = found[2]
            drawn[found[2]] = above[depth - 1]

    assert drawn == {name: kind.__base__.__name__ for name, kind in CLASSES.items() if kind is not EkibenError}


def test_no_web_framework_and_no_status_code_is_in_the_tree():
    source = inspect.getsource(errors)

    assert not re.search(r"^\s*(import|from) (?!__future__|typing|msgspec)", source, re.MULTILINE)
    assert not re.search(r"\b[45]\d\d\b", source)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (RowError(3, "age", -1, "must be at least 0"), "row 3, field 'age': must be at least 0 (got -1)"),
        (RowError(0, None, "x", "must be an object or a list"), "row 0: must be an object or a list (got 'x')"),
    ],
)
def test_a_row_error_says_where_and_what(fault, text):
    assert str(fault) == text


def test_a_row_error_always_has_its_value_in_json_null_too():
    assert msgspec.json.decode(msgspec.json.encode(RowError(0, None, None, "r"))) == {"row": 0, "field": None, "value": None, "rule": "r"}


def test_many_problems_show_the_first_ones_and_count_the_rest():
    faults = [RowError(n, "a", n, "must be less") for n in range(25)]

    assert str(InvalidRows(faults[:1])) == "row 0, field 'a': must be less (got 0)"
    assert str(InvalidRows(faults[:2])) == "row 0, field 'a': must be less (got 0); 2 problems in all"
    many = InvalidRows(faults)
    assert many.details == faults[:20]
    assert str(many).endswith("25 problems in all (and 5 more)")


def test_a_spec_error_names_file_and_field():
    error = SpecError("tiny/model.yaml", "inputs[0].type", "is 'flot'", "use float")

    assert str(error) == "tiny/model.yaml: inputs[0].type: is 'flot'; use float"
    assert (error.file, error.field) == ("tiny/model.yaml", "inputs[0].type")


def test_what_may_be_retried_says_when():
    assert QueueFull("full", retry_after_s=2.5).retry_after_s == 2.5
    assert QueueFull("full").details == []


def test_golden_and_method_errors_carry_what_their_handlers_need():
    assert errors.GoldenRowsMismatch("m", [1, 4]).rows == [1, 4]
    assert errors.MethodNotAllowed("m", "GET, POST").allow == "GET, POST"
