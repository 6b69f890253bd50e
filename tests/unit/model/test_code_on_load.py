import msgspec
import pytest
from pickled import make_pickled

from ekiben.errors import UntrustedVersion
from ekiben.model import ModelFile, Predictor
from ekiben.model.code_on_load import code_on_load, refuse_code


@pytest.mark.parametrize(
    ("framework", "file", "runs"),
    [
        ("onnx", "model.onnx", False),
        ("sklearn", "model.skops", False),
        ("sklearn", "model.joblib", True),
        ("sklearn", "model.pkl", True),
        ("sklearn", "model.onnx", True),  # what is not read as skops is given to joblib, whatever it is called
        ("sklearn", "model.skops.bak", True),
        ("torch", "model.pt2", True),
        ("torch", "model.skops", True),
    ],
)
def test_who_runs_code(framework, file, runs):
    assert (code_on_load(ModelFile(framework=framework, file=file)) is not None) is runs


def test_the_refusal_says_what_would_be_right(tiny_artifact):
    refuse_code(tiny_artifact.manifest, "tiny:1")
    with pytest.raises(UntrustedVersion, match=r"pick:1 is not loaded: model.pkl is a pickle.*EKIBEN_TRUST_PICKLE=pick:1"):
        refuse_code(msgspec.structs.replace(tiny_artifact.manifest, model=ModelFile(framework="sklearn", file="model.pkl")), "pick:1")


@pytest.mark.parametrize("check", [True, False])
def test_a_predictor_is_not_opened_of_a_pickle_that_nobody_trusts(tmp_path, check):
    line_pickle = make_pickled(tmp_path / "line", tmp_path / "trace")
    with pytest.raises(UntrustedVersion, match="line is not loaded"):
        Predictor.open(line_pickle.path, check=check)
    assert not line_pickle.trace.exists()
    assert Predictor.open(line_pickle.path, check=check, trusted=True).predict([[2.0]])[0]["prediction"] == pytest.approx(5.0)
    assert line_pickle.trace.exists()
