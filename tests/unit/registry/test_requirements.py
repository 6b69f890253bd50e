from importlib import metadata

import pytest

from ekiben.errors import RegistryError
from ekiben.registry.requirements import pinned_requirements, read_pins

PACKAGES = {
    "ekiben": (
        "0.1",
        [
            "numpy>=2",
            "Bento_ML>=1; extra == 'serve'",
            "psycopg[binary]; extra == 'postgresql'",
            "arrows; extra == 'monitor'",
            "pytest; extra == 'dev'",
        ],
    ),
    "bento-ml": ("1.4", ["a[fast]", "winonly; sys_platform == 'win32'", "old; python_version < '3.11'"]),
    "a": ("1", ["b; extra == 'fast'", "c; extra == 'slow'", "bento_ml"]),
    "b": ("2+local", None),
    "numpy": ("2.4", []),
    "arrows": ("5", []),
    "psycopg": ("3", ["psycopg-binary==3; extra == 'binary'"]),
    "psycopg-binary": ("3", None),
    "onnxruntime": ("1.30", ["numpy"]),
    "torch": ("2.7+cpu", None),
    "scikit-learn": ("1.6", None),
    "skops": ("0.11", None),
    "pandas": ("2.2", None),
}


class Installed(metadata.Distribution):
    def __init__(self, name):
        if name not in PACKAGES:
            raise metadata.PackageNotFoundError(name)
        self.name_ = name

    version = property(lambda self: PACKAGES[self.name_][0])
    requires = property(lambda self: PACKAGES[self.name_][1])

    def read_text(self, filename):
        raise NotImplementedError

    def locate_file(self, path):
        raise NotImplementedError


BASE = ["a==1", "b==2", "bento-ml==1.4", "numpy==2.4", "onnxruntime==1.30", "psycopg==3", "psycopg-binary==3"]


def test_all_that_is_needed_is_pinned_and_nothing_else():
    assert pinned_requirements(["onnx"], {}, distribution=Installed) == BASE


@pytest.mark.parametrize(
    ("framework", "added"), [("torch", ["torch==2.7"]), ("sklearn", ["pandas==2.2", "scikit-learn==1.6", "skops==0.11"])]
)
def test_a_framework_adds_its_own_packages(framework, added):
    assert sorted(set(pinned_requirements(["onnx", framework], {}, distribution=Installed)) - set(BASE)) == added


def test_constraints_decide_over_what_is_installed_and_stand_in_for_what_is_not(monkeypatch):
    monkeypatch.setitem(PACKAGES, "a", ("1", ["elsewhere"]))
    found = pinned_requirements(["onnx"], {"numpy": "2.9", "elsewhere": "5"}, distribution=Installed)
    assert {"numpy==2.9", "elsewhere==5"} <= set(found)


def test_what_is_neither_pinned_nor_installed_is_an_error(monkeypatch):
    monkeypatch.setitem(PACKAGES, "a", ("1", ["elsewhere"]))
    with pytest.raises(RegistryError, match=r"elsewhere is to be packed and is neither installed here nor in constraints\.txt"):
        pinned_requirements(["onnx"], {}, distribution=Installed)


def test_an_unknown_framework_is_an_error():
    with pytest.raises(RegistryError, match="framework 'mxnet'; there are onnx, sklearn, torch"):
        pinned_requirements(["mxnet"], {}, distribution=Installed)


def test_what_is_installed_here_has_no_training_framework():
    names = {text.split("==")[0] for text in pinned_requirements(["onnx"], {})}
    assert {"bentoml", "onnxruntime", "h2corn", "tritonclient", "psycopg-binary", "uvloop"} <= names
    assert not names & {"torch", "scikit-learn", "pandas", "skl2onnx", "pytest", "ekiben"}


def test_pins_are_read_with_normal_names(tmp_path):
    file = tmp_path / "constraints.txt"
    file.write_text("# versions\n\nPyYAML==6.0\nprometheus_client==0.2  # counts\ntorch==2.13.0+cpu\n")
    assert read_pins(file) == {"pyyaml": "6.0", "prometheus-client": "0.2", "torch": "2.13.0+cpu"}
    assert read_pins(tmp_path / "none.txt") == {}


@pytest.mark.parametrize("line", ["numpy>=2", "numpy==", "-r other.txt"])
def test_a_line_that_pins_nothing_is_an_error(tmp_path, line):
    file = tmp_path / "constraints.txt"
    file.write_text(f"a==1\n{line}\n")
    with pytest.raises(RegistryError, match=r"constraints\.txt, line 2: .* pins nothing"):
        read_pins(file)


def test_the_image_of_a_monitor_has_its_extra():
    assert set(pinned_requirements(["onnx"], {}, extras=["monitor"], distribution=Installed)) == {*BASE, "arrows==5"}


@pytest.mark.parametrize("extra", ["dev", "serve"])
def test_an_extra_that_no_image_has(extra):
    with pytest.raises(RegistryError, match=f"no extra '{extra}' of ekiben; there are monitor"):
        pinned_requirements(["onnx"], {}, extras=[extra], distribution=Installed)


def test_what_only_reads_the_log_is_not_in_the_image_that_serves():
    serving = {text.partition("==")[0] for text in pinned_requirements(["onnx"], {})}
    assert not serving & {"pyarrow", "duckdb", "scipy", "scikit-learn", "pandas"}
    assert "flatbuffers" in serving
