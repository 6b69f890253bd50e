import numpy as np
import pytest

from ekiben.errors import ArtifactError, InvalidRows, PredictionFailed
from ekiben.model import CardSpec, InputSpec, ModelSpec, OutputSpec, Predictor
from ekiben.model.probe import PROBE_ROWS, probe, same_shapes
from ekiben.model.runtimes.base import Runtime, TensorInfo


class Made(Runtime):
    """Computes what a test says; ``calls`` are the numbers of rows of its runs."""

    def __init__(self, function, shape=(3,)):
        self.inputs = (TensorInfo("x", "float32", (None, *(None if d == -1 else d for d in shape))),)
        self.outputs = (TensorInfo("y", "float32", (None,)),)
        self.function = function
        self.calls = []

    def run(self, feeds, outputs):
        self.calls.append(len(feeds["x"]))
        made = self.function(feeds["x"])
        return {name: made[name] if isinstance(made, dict) else made for name in outputs}


def predictor_of(function, shape=(3,), outputs=("y",)):
    runtime = Made(function, shape)
    runtime.outputs = tuple(TensorInfo(name, "float32", (None,)) for name in outputs)
    spec = ModelSpec(
        name="m",
        task="tensor",
        inputs=(InputSpec(name="x", type="tensor", dtype="float32", shape=shape),),
        outputs=tuple(OutputSpec(name=name, dtype="float32") for name in outputs),
        card=CardSpec(owner="o"),
    )
    return Predictor(spec, runtime)


def test_a_given_spec_is_run_on_the_sample_or_on_made_up_rows(tiny_predictor, tiny_rows):
    assert probe(tiny_predictor, tiny_rows(100)).rows == tiny_rows(PROBE_ROWS)
    made_up = probe(tiny_predictor, None)
    assert len(made_up.rows) == PROBE_ROWS
    assert all(-10 <= row["d"] <= 10 for row in made_up.rows)
    assert made_up.dependence == "none"


def test_a_row_of_the_sample_that_breaks_a_rule_is_named(tiny_predictor, tiny_rows):
    with pytest.raises(InvalidRows, match="row 1, field 'd'"):
        probe(tiny_predictor, [tiny_rows(1)[0], {**tiny_rows(1)[0], "d": 11.0}])


def test_batches_of_several_sizes_are_run():
    predictor = predictor_of(lambda x: x * 2)
    probe(predictor, None)
    assert {1, PROBE_ROWS} < set(predictor.runtime.calls)
    assert len(set(predictor.runtime.calls)) >= 3


@pytest.mark.parametrize(
    ("function", "dependence"),
    [
        (lambda x: x * 2, "none"),
        (lambda x: x - x.mean(0), "strong"),
        (lambda x: np.cumsum(x, axis=0), "strong"),
        (lambda x: np.sort(x, axis=0), "strong"),
        (lambda x: x[::-1], "strong"),
        (lambda x: x @ x.T, "strong"),  # another shape beside others
        (lambda x: np.round(x / np.abs(x).max() * 127) / 127 * np.abs(x).max(), "slight"),
        (lambda x: x * 1e6 + np.float32(len(x) * 1e-2), "none"),  # the last bits of large numbers
        (lambda x: x.astype(np.float16) * (1 + len(x) * np.float16(5e-5)), "none"),  # the last bit of half precision
        (lambda x: np.full_like(x, np.nan), "none"),
        (lambda x: (x > 0) if len(x) > 1 else (x > 99), "strong"),
        (np.zeros_like, "none"),
    ],
)
def test_how_much_rows_depend_on_those_beside_them(function, dependence):
    assert probe(predictor_of(function), None).dependence == dependence


def test_a_label_that_changes_with_slightly_different_scores_is_slight_too():
    def quantized(x):
        scale = np.abs(x).max() / 127
        scores = (np.round(x / scale) * scale).astype(np.float32)
        return {"scores": scores, "label": (scores[:, 0] * 1e4).astype(np.int64)}

    assert probe(predictor_of(quantized, outputs=("scores", "label")), None).dependence == "slight"


def test_a_label_that_changes_beside_equal_scores_is_strong():
    def odd(x):
        return {"scores": x, "label": np.full(len(x), len(x))}

    assert probe(predictor_of(odd, outputs=("scores", "label")), None).dependence == "strong"


def test_random_outputs_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ArtifactError, match="gives other outputs each time it is run on the same row"):
        probe(predictor_of(lambda x: x + rng.normal(size=x.shape)), None)


def test_arrays_inside_arrays_are_compared():
    def ragged(x):
        made = np.empty(len(x), object)
        for n, row in enumerate(x):
            made[n] = row[: 1 + (row[0] > 0)]
        return made

    seen = probe(predictor_of(ragged), None)
    assert {row.size for row in seen.runs[0].arrays["y"]} == {1, 2}
    assert seen.dependence == "none"


def test_rows_too_large_for_memory_are_not_made_up():
    predictor = predictor_of(lambda x: x.reshape(len(x), -1)[:, :1], shape=(-1, -1, -1))
    seen = probe(predictor, None)
    assert len(seen.rows) == PROBE_ROWS

    large = predictor_of(lambda x: x.reshape(len(x), -1)[:, :1], shape=(400, 500))
    assert 4 <= len(probe(large, None).rows) <= 10


def test_only_sizes_that_fit_memory_are_tried():
    sizes = set()

    def picky(x):
        sizes.add(x[0].size)
        raise PredictionFailed("too small")

    with pytest.raises(ArtifactError, match=r"m: the model fails on made-up rows; give a sample of real ones \(--sample\): too small"):
        probe(predictor_of(picky, shape=(-1, -1, -1)), None)
    assert sizes == {3**3, 8**3, 32**3, 64**3}  # and not 224³


def test_the_rows_that_fit_one_request_are_those_shaped_as_the_first():
    signature = predictor_of(lambda x: x, shape=(-1,)).signature
    assert same_shapes(signature, [[1.0], [1.0, 2.0], [3.0]]) == [[1.0], [3.0]]
