import numpy as np
import pytest

from load_tests.bench import graphs
from load_tests.bench.heats import most_different_row
from load_tests.bench.models import ROWS_SENT, make_models


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return make_models(tmp_path_factory.mktemp("onnx"), ["tabular", "mlp", "wide", "heavy"])


@pytest.mark.parametrize(("name", "features", "classes"), [("tabular", 30, 2), ("mlp", 784, 10), ("wide", 784, 10), ("heavy", 30, 2)])
def test_models_take_and_give_what_they_must(models, name, features, classes):
    model = models[name]

    assert (len(model.rows), model.features, model.classes) == (ROWS_SENT, features, classes)
    session = graphs.open_session(model.file)
    assert [i.name for i in session.get_inputs()] == ["x"]
    assert [o.name for o in session.get_outputs()] == ["y"]
    if classes == 2:
        assert np.sum(model.answers, axis=1) == pytest.approx(np.ones(ROWS_SENT), abs=1e-4)


@pytest.mark.parametrize("name", ["tabular", "mlp", "wide", "heavy"])
def test_a_batch_gives_each_row_what_it_gets_alone(models, name):
    model = models[name]
    session = graphs.open_session(model.file)

    alone = [session.run(["y"], {"x": np.asarray([row], np.float32)})[0][0] for row in model.rows[:6]]

    assert np.asarray(model.answers[:6]) == pytest.approx(np.asarray(alone), abs=1e-4)


@pytest.mark.parametrize("name", ["tabular", "mlp", "wide", "heavy"])
def test_two_rows_can_be_told_apart_by_their_answers(models, name):
    model = models[name]
    other = most_different_row(model.answers)

    assert max(abs(a - b) for a, b in zip(model.answers[0], model.answers[other], strict=True)) > 0.05


def test_rows_of_the_mlp_have_four_decimals(models):
    assert all(round(value, 4) == value for value in models["mlp"].rows[0])


def test_the_same_seed_gives_the_same_model():
    assert graphs.perceptron().SerializeToString() == graphs.perceptron().SerializeToString()
    assert graphs.matmul_chain(4).SerializeToString() == graphs.matmul_chain(4).SerializeToString()


def test_a_longer_run_needs_more_layers_within_bounds():
    assert graphs.layers_for(0.0) == 4
    assert graphs.layers_for(1e6) == 400
