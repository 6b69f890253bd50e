from __future__ import annotations

from hashlib import sha256

import numpy as np
import pytest

from ekiben.errors import ChecksumMismatch, FeatureError
from ekiben.model.features import fingerprint, load_transform


@pytest.fixture
def features(tmp_path):
    def write(source):
        file = tmp_path / "features.py"
        file.write_text(source)
        return file

    return write


def test_transform_gets_columns_and_gives_columns(features):
    transform = load_transform(features("import numpy as np\n\ndef transform(columns):\n    return {'y': np.sqrt(columns['x'])}\n"))

    assert transform({"x": np.array([4.0, 9.0])})["y"].tolist() == [2.0, 3.0]


def test_the_file_s_meaning_is_its_own(features):
    # This package's own __future__ imports must not reach the code: there, annotations are values.
    source = "def f(x: int): ...\nassert f.__annotations__['x'] is int\n\ndef transform(columns):\n    return columns\n"

    load_transform(features(source))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\n", r"defines no function transform\(columns\)"),
        ("transform = 3\n", "defines no function transform"),
        ("def transform(:\n", "does not run: SyntaxError"),
        ("import no_such_package\n", "does not run: ModuleNotFoundError"),
    ],
)
def test_a_file_without_a_working_transform_is_refused(features, source, message):
    with pytest.raises(FeatureError, match=message):
        load_transform(features(source))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FeatureError, match=r"features\.py: there is no such file"):
        load_transform(tmp_path / "features.py")


@pytest.mark.parametrize(
    "body",
    [
        "return [1, 2]",
        "return {}",
        "return {'y': [1, 2]}",
        "return {'y': columns['x'][:1]}",
        "return {'y': columns['x'].sum().reshape(())}",
    ],
)
def test_what_is_no_dict_of_arrays_of_all_rows_is_refused(features, body):
    transform = load_transform(features(f"def transform(columns):\n    {body}\n"))

    with pytest.raises(FeatureError, match="must return a dict of arrays with 2 rows each"):
        transform({"x": np.array([1.0, 2.0])})


def test_a_failing_transform_says_how(features):
    transform = load_transform(features("def transform(columns):\n    return columns['gone']\n"))

    with pytest.raises(FeatureError, match=r"features\.py: transform failed: KeyError: 'gone'"):
        transform({"x": np.zeros(1)})


def test_the_fingerprint_is_that_of_the_bytes(features):
    file = features("x = 1\n")

    assert fingerprint(file) == sha256(b"x = 1\n").hexdigest()


def test_only_the_code_that_was_recorded_is_run(features, tmp_path):
    recorded = fingerprint(features("def transform(columns):\n    return columns\n"))
    file = features(f"import pathlib\npathlib.Path({str(tmp_path / 'trace')!r}).touch()\ndef transform(columns):\n    return columns\n")

    with pytest.raises(ChecksumMismatch, match="the feature code has changed"):
        load_transform(file, sha256=recorded)
    assert not (tmp_path / "trace").exists()
    load_transform(file, sha256=fingerprint(file))
    assert (tmp_path / "trace").exists()


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(FeatureError, match="cannot be read: Is a directory"):
        load_transform(tmp_path)
