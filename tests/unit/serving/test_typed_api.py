import asyncio
from types import SimpleNamespace

import bentoml
import pydantic
import pytest

from ekiben.errors import DeadlineExceeded, InvalidRequest, InvalidRows, QueueFull, RequestError, RowError, UnknownModel
from ekiben.model import CardSpec, InputSpec, ModelSpec, OutputSpec
from ekiben.serving.typed_api import api_name, make_service_class, prediction_model, row_model

CARD = CardSpec(owner="tests", why_this_model="it is small")
ODD_NAMES = (
    "input.1", "x:0", "class", "json", "copy", "schema", "model_dump", "model_x", "_private", "__init__", "input_0", "input_1", "a b", "é",
    "",
)  # fmt: skip


def spec_of(*inputs, name="odd", task="regression", **kw):
    return ModelSpec(name=name, task=task, inputs=inputs, card=CARD, **kw)


def properties(model):
    return model.model_json_schema()["properties"]


# rows ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("item", "good", "bad"),
    [
        (InputSpec(name="x", type="bool"), [True, False], [None, [1]]),
        (InputSpec(name="x", type="int", min=1, max=9), [1, 9], [0, 10, 1.5, None]),
        (InputSpec(name="x", type="float", min=-1), [-1, 0.5, 3], [-2, "a", None]),
        (InputSpec(name="x", type="float", nullable=True), [None, 1.5], ["a"]),
        (InputSpec(name="x", type="string"), ["a", ""], [None, 5]),
        (InputSpec(name="x", type="string", categories=("a", "b")), ["a", "b"], ["c", None]),
        (InputSpec(name="x", type="string", categories=("a", "b"), nullable=True), ["a", None], ["c"]),
        (InputSpec(name="x", type="string", categories=("a", "b"), unknown="allow"), ["a", "c"], [None]),
        (InputSpec(name="x", type="tensor", dtype="float32", shape=(2, 2)), [[[1, 2], [3, 4]]], [[1, 2], 5, [[None]]]),
        (InputSpec(name="x", type="tensor", dtype="float32", shape=(2,), nullable=True), [[1, None]], [None, ["a"]]),
        (InputSpec(name="x", type="tensor", dtype="uint8", shape=(-1,)), [[1, 2], []], [[1.5], "a"]),
        (InputSpec(name="x", type="tensor", dtype="bool", shape=(1,)), [[True]], [True]),
        (InputSpec(name="x", type="tensor", dtype="string", shape=(1,)), [["a"]], [[5]]),
        (InputSpec(name="x", type="tensor", dtype="float64", shape=()), [1.5], [[1.5]]),
    ],
)
def test_a_field_takes_what_the_input_takes(item, good, bad):
    model = row_model(spec_of(item))
    for value in good:
        assert model.model_validate({"x": value}).model_dump(by_alias=True) == {"x": value}
    for value in bad:
        with pytest.raises(pydantic.ValidationError):
            model.model_validate({"x": value})
    with pytest.raises(pydantic.ValidationError, match=r"[Ee]xtra"):
        model.model_validate({"x": good[0], "y": 1})


def test_nullable_scalars_may_be_left_out_and_tensors_may_not():
    row = row_model(spec_of(InputSpec(name="x", type="int", nullable=True)))
    assert row.model_validate({}).model_dump(by_alias=True) == {"x": None}
    for item in (InputSpec(name="x", type="int"), InputSpec(name="x", type="tensor", dtype="float32", shape=(1,), nullable=True)):
        with pytest.raises(pydantic.ValidationError, match="required"):
            row_model(spec_of(item)).model_validate({})


def test_any_name_is_a_field_under_its_own_name():
    model = row_model(spec_of(*(InputSpec(name=name, type="float") for name in ODD_NAMES)))
    row = {name: float(n) for n, name in enumerate(ODD_NAMES)}
    assert model.model_validate(row).model_dump(by_alias=True) == row
    assert list(properties(model)) == list(ODD_NAMES)
    assert set(model.model_json_schema()["required"]) == set(ODD_NAMES)


def test_the_schema_says_what_the_spec_says():
    item = InputSpec(name="speed", type="float", min=0, max=100, description="Wind", unit="m/s")
    found = properties(row_model(spec_of(item, InputSpec(name="carrier", type="string", categories=("AA", "UA")))))
    assert found["speed"].items() >= {"type": "number", "minimum": 0, "maximum": 100, "description": "Wind [m/s]"}.items()
    assert found["carrier"]["enum"] == ["AA", "UA"]
    assert row_model(spec_of(item, name="flight-delay_x")).__name__ == "FlightDelayXRow"


# predictions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_classifiers_prediction(tiny_spec, tiny_predictor, tiny_rows):
    model = prediction_model(tiny_spec)
    for element in tiny_predictor.predict(tiny_rows(3)):
        assert model.model_validate(element).model_dump() == element
    assert properties(model)["prediction"]["enum"] == ["no", "yes"]
    assert properties(model)["confidence"].items() >= {"minimum": 0, "maximum": 1}.items()
    # The last bit of a float32, or a NaN, is no reason to fail an answer.
    for share in (1.0000001, float("nan")):
        model.model_validate({"prediction": "yes", "confidence": share, "probabilities": {"no": 0.0, "yes": share}})


def test_the_predictions_of_the_other_tasks(grid_artifact):
    regression = prediction_model(spec_of(InputSpec(name="x", type="float")))
    assert regression.model_validate({"prediction": 1.5}).model_dump() == {"prediction": 1.5}
    assert regression.model_validate({"prediction": [1.5, 2.5]}).model_dump() == {"prediction": [1.5, 2.5]}
    outputs = (OutputSpec(name="out.1", dtype="float32", description="First"), OutputSpec(name="json", dtype="string"))
    tensors = prediction_model(spec_of(InputSpec(name="x", type="float"), task="tensor", outputs=outputs))
    assert tensors.model_validate({"out.1": [1], "json": "a"}).model_dump() == {"out.1": [1], "json": "a"}
    assert properties(tensors)["out.1"]["description"] == "First"


# the service class ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_method_for_each_model_and_hooks_that_no_model_can_replace(tiny_spec):
    x = InputSpec(name="x", type="float")
    names = ("start", "stop", "a-b", "a_b", "tiny")
    service = make_service_class([spec_of(x, name=name, description=f"About {name}") for name in names])
    routes = {name: getattr(service, name).route for name in ("start", "stop", "a_b", "a_b_", "tiny")}
    assert routes == {"start": "/start", "stop": "/stop", "a_b": "/a-b", "a_b_": "/a_b", "tiny": "/tiny"}
    assert service._start.__bentoml_startup_hook__
    assert service._stop.__bentoml_shutdown_hook__
    assert "- **a-b** (regression): About a-b" in service.__doc__
    assert "it is small" in make_service_class([spec_of(x)]).__doc__
    assert api_name("a-b") == "a_b"


class Answering:
    """A server that answers or fails as told, and keeps what it was asked."""

    def __init__(self, error=None):
        self.error = error
        self.asked = []
        self.life = []

    async def predict(self, model, instances):
        self.asked.append((model, instances))
        if self.error is not None:
            raise self.error
        return [{"prediction": 1.0} for _ in instances]

    async def start(self):
        self.life.append("start")

    async def stop(self):
        self.life.append("stop")


def instance_with(server, *specs):
    instance = make_service_class(list(specs))()
    instance.bento_service = SimpleNamespace(server=server)
    return instance


def test_an_endpoint_hands_rows_over_as_they_are_named():
    spec = spec_of(InputSpec(name="input.1", type="float", nullable=True), InputSpec(name="json", type="int"))
    server = Answering()
    instance = instance_with(server, spec)
    row = row_model(spec).model_validate({"json": 5})
    assert asyncio.run(type(instance).odd.func(instance, instances=[row, {"json": 6}])) == [{"prediction": 1.0}] * 2
    assert server.asked == [("odd", [{"input.1": None, "json": 5}, {"json": 6}])]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidRequest("no"), 400),
        (UnknownModel("no"), 404),
        (InvalidRows([RowError(0, "x", 1, "rule")]), 422),
        (QueueFull("no"), 503),
        (DeadlineExceeded("no"), 504),
        (RequestError("no"), 500),
    ],
)
def test_an_error_keeps_its_status_and_message(error, status):
    instance = instance_with(Answering(error), spec_of(InputSpec(name="x", type="float")))
    with pytest.raises(bentoml.exceptions.BentoMLException) as raised:
        asyncio.run(type(instance).odd.func(instance, instances=[]))
    assert raised.value.error_code == status
    assert str(raised.value) == str(error)


def test_the_hooks_start_and_stop_the_server():
    server = Answering()
    instance = instance_with(server, spec_of(InputSpec(name="x", type="float")))
    asyncio.run(instance._start())
    asyncio.run(instance._stop())
    assert server.life == ["start", "stop"]
