from __future__ import annotations

import sys

import pytest

from ekiben.errors import ArtifactError, RuntimeUnavailable
from ekiben.model.runtimes import FRAMEWORKS, open_runtime


def test_each_framework_opens_its_own_files(tiny_onnx):
    assert type(open_runtime("onnx", tiny_onnx)).__name__ == FRAMEWORKS["onnx"]


def test_an_unknown_framework_lists_those_there_are(tiny_onnx):
    with pytest.raises(ArtifactError, match="no runtime for framework 'jax'; there are onnx, sklearn, torch"):
        open_runtime("jax", tiny_onnx)


@pytest.mark.parametrize(("framework", "module", "package"), [("sklearn", "sklearn", "scikit-learn"), ("torch", "torch", "torch")])
def test_a_framework_that_is_not_installed_is_named(monkeypatch, tiny_onnx, framework, module, package):
    for name in [n for n in sys.modules if n == module or n.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, f"ekiben.model.runtimes.{framework}", raising=False)
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(RuntimeUnavailable, match=rf"tiny\.onnx needs {package}, which cannot be imported here"):
        open_runtime(framework, tiny_onnx)


def test_providers_reach_the_session(tiny_onnx):
    assert open_runtime("onnx", tiny_onnx, providers=("CPUExecutionProvider",)).device == "CPU"
