import asyncio
import gzip
import json

import pytest

from ekiben.errors import (
    InvalidRequest,
    InvalidRows,
    MethodNotAllowed,
    NotReady,
    PayloadTooLarge,
    StateError,
    UnknownModel,
    UnsupportedMediaType,
)
from ekiben.serving.rest.ground_truth import MAX_ITEMS, GroundTruth
from ekiben.serving.rest.http import error_response
from ekiben.state.truth import Exposure, MemoryTruths, Truth

NOW = 1_800_000_000.0
PATH = "/v1/models/tiny/ground_truth"
ITEM = {"request_id": "r", "actual": "yes"}


class TroubledTruths(MemoryTruths):
    def report(self, truths):
        raise StateError("the disk is on fire")


@pytest.fixture
def truths():
    return MemoryTruths()


@pytest.fixture
def ask(truths, tiny_spec):
    def spec_of(model):
        if model != "tiny":
            raise UnknownModel(f"there is no model {model!r}")
        return tiny_spec

    def send(body, *, path=PATH, method="POST", headers=(), kept_in=truths, **options):
        route = GroundTruth(kept_in, spec_of, wall=lambda: NOW, **options)
        assert route.owns(path)

        async def receive():
            return {"type": "http.request", "body": body if isinstance(body, bytes) else json.dumps(body).encode()}

        response = asyncio.run(route.answer({"path": path, "method": method, "headers": list(dict(headers).items())}, receive))
        return response.status, json.loads(response.body)

    return send


def kept(truths):
    return sorted(truths._truths.values(), key=lambda t: (t.request_id, t.row))


def test_its_paths():
    assert GroundTruth.owns("/v1/models/a-b/ground_truth")
    for path in ("/v1/models/a/ground_truth/", "/v1/models/a/ground_truth\n", "/v1/models//ground_truth", "/v1/models/a/b/ground_truth"):
        assert not GroundTruth.owns(path)


@pytest.mark.parametrize("shape", [lambda item: item, lambda item: [item], lambda item: {"ground_truth": [item]}])
def test_the_three_shapes_of_a_body(ask, truths, shape):
    assert ask(shape(ITEM)) == (200, {"accepted": 1})
    assert kept(truths) == [Truth(model="tiny", request_id="r", row=0, time=NOW, actual="yes")]


def test_nothing_to_report_is_accepted(ask, truths):
    assert ask([]) == (200, {"accepted": 0})
    assert kept(truths) == []


def test_what_is_kept_is_said_and_what_is_not_is_not(ask):
    heard = []

    def kept_of(model, reports):
        heard.append((model, reports))

    ask([ITEM, ITEM | {"row": 1}], kept=kept_of)
    with pytest.raises(InvalidRows):
        ask({"request_id": "r"}, kept=kept_of)
    with pytest.raises(NotReady):
        ask(ITEM, kept=kept_of, kept_in=TroubledTruths())
    assert heard == [("tiny", 2)]


def test_the_same_report_twice_is_one_and_a_second_one_adds(ask, truths):
    for _ in range(2):
        assert ask([ITEM, ITEM | {"row": 1}]) == (200, {"accepted": 2})
    assert ask({"request_id": "r", "outcome": 3}) == (200, {"accepted": 1})
    assert [(t.row, t.actual, t.outcome) for t in kept(truths)] == [(0, "yes", 3.0), (1, "yes", None)]


@pytest.mark.parametrize("is_early", [True, False])
def test_truth_and_prediction_meet_whichever_comes_first(ask, truths, is_early):
    exposure = Exposure(model="tiny", request_id="r", row=0, version="1", arm="a", key="k", time=NOW - 9, prediction="no")
    if is_early:
        ask(ITEM)
    truths.expose([exposure])
    if not is_early:
        ask(ITEM)
    ((found, truth),) = truths.joined("tiny", NOW - 10, NOW)
    assert (found, truth.actual) == (exposure, "yes")


def test_of_a_bad_request_nothing_is_kept_and_each_fault_is_told(ask, truths):
    with pytest.raises(InvalidRows) as e:
        ask([ITEM, ITEM | {"actual": "maybe"}, {"actual": "yes"}])
    response = error_response(e.value)
    details = json.loads(response.body)["details"]
    assert (response.status, [(d["row"], d["field"]) for d in details]) == (422, [(1, "actual"), (2, "request_id")])
    assert kept(truths) == []


def test_a_body_may_be_compressed(ask, truths):
    assert ask(gzip.compress(json.dumps(ITEM).encode()), headers={b"content-encoding": b"gzip"}) == (200, {"accepted": 1})
    assert len(kept(truths)) == 1


@pytest.mark.parametrize(
    ("body", "options", "error", "message"),
    [
        (b"{", {}, InvalidRequest, "not JSON"),
        (b'"r"', {}, InvalidRequest, "no ground truth"),
        ({"ground_truth": {}}, {}, InvalidRequest, "no ground truth"),
        ({"ground_truth": [], "model": "x"}, {}, InvalidRequest, "'model'"),
        ([ITEM] * (MAX_ITEMS + 1), {}, PayloadTooLarge, "10001 items"),
        ([ITEM] * 10, {"max_body_bytes": 100}, PayloadTooLarge, "100 bytes"),
        (ITEM, {"method": "GET"}, MethodNotAllowed, "takes POST"),
        (ITEM, {"path": "/v1/models/ghost/ground_truth"}, UnknownModel, "ghost"),
        (ITEM, {"headers": {b"content-type": b"text/csv"}}, UnsupportedMediaType, "text/csv"),
    ],
)
def test_what_is_refused(ask, truths, body, options, error, message):
    with pytest.raises(error, match=message):
        ask(body, **options)
    assert kept(truths) == []


def test_what_cannot_be_kept_is_not_acknowledged(ask):
    with pytest.raises(NotReady, match="on fire") as e:
        ask(ITEM, kept_in=TroubledTruths())
    response = error_response(e.value)
    assert (response.status, dict(response.headers)[b"retry-after"]) == (503, b"2")
