"""Requests while a version counts as broken: who is refused, and what answers instead."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest
from unit.serving.grpc.calling import Client, matrix
from unit.serving.inprocess import Serving

from ekiben.errors import PredictionFailed, RequestError
from ekiben.model.guard_spec import BreakerSpec
from ekiben.rollout.router import hash_of, seed_of
from ekiben.serving.grpc.status import Code
from ekiben.state.routes import SLOTS, Arm, Kept, SlotRange

ROW = [1, 2, 3]
SALT = "1.plane"
CHALLENGED = next(str(n) for n in range(100) if hash_of(seed_of(SALT), str(n)) % SLOTS < 5000)
QUICK = {"min_requests": 5, "open_for": "60s"}
V1 = "/v1/models/plane:predict"


@pytest.fixture
def plane(start, registry, plane_artifact, another):
    """plane in the versions 1 and 2, with a breaker as told; version 1 is the champion."""

    def started(**breaker) -> Serving:
        spec = BreakerSpec(**{**QUICK, **breaker})
        for version in ("1", "2"):
            registry.register(another(plane_artifact, version, breaker=spec).path, tag=f"plane:{version}")
        return start("plane")

    return started


def served(serving, version="1"):
    return serving.server.host.snapshot.loaded["plane", version]


def fail(serving, version="1"):
    """Has a version fail until it counts as broken."""
    loaded = served(serving, version)
    run = loaded.predictor.run

    def failing(batch):
        raise PredictionFailed("it fails")

    loaded.predictor.run = failing
    while loaded.breaker.is_closed:
        assert serving.post(f"/v1/models/plane/versions/{version}:predict", json={"instances": [ROW]}).status_code == 500
    loaded.predictor.run = run


def ask(serving, rows=(ROW,), **headers):
    return serving.post(V1, json={"instances": list(rows)}, headers=headers)


def test_a_broken_champion_is_refused_on_every_port(plane):
    serving = plane()
    fail(serving)
    answer = ask(serving)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
    assert "5 of 5 requests failed within 10 s" in answer.json()["error"]
    called = Client(serving).unary("/inference.GRPCInferenceService/ModelInfer", matrix(ROW))
    assert called.code is Code.UNAVAILABLE
    assert serving.metric("ekiben_prediction_errors_total", arm="champion", error="CircuitOpen") == 2
    assert serving.metric("ekiben_breaker_state", model="plane", version="1") == 2
    ready = serving.get("/readyz")
    assert (ready.status_code, ready.json()["details"]) == (200, {"broken": {"plane:1": "5 of 5 requests failed within 10 s"}})


def test_after_a_while_requests_try_it(plane):
    serving = plane(open_for="0.05s", probes=2)
    fail(serving)
    serving.thread.run(asyncio.sleep(0.06))
    assert ask(serving, [["x"]]).status_code == 422, "which says nothing, and takes no place"
    assert serving.raw(V1, [{"type": "http.request", "body": b"{"}])[0] == 400
    assert serving.post("/v1/models/plane/versions/1:predict", json={"instances": [[1, 2, "x"]]}).status_code == 422
    assert [ask(serving).status_code for _ in range(3)] == [200, 200, 200]
    assert served(serving).breaker.is_closed
    serving.thread.run(serving.server.recorder.write())
    assert [e.kind for e in serving.control.events.find(model="plane")][-2:] == ["breaker-opened", "breaker-closed"]


def test_a_client_that_leaves_before_its_body_came_keeps_a_place_only_until_its_deadline(plane):
    serving = plane(open_for="0.05s", probes=1)
    fail(serving)
    serving.thread.run(asyncio.sleep(0.06))
    assert serving.raw(V1, [{"type": "http.disconnect"}], {b"x-request-timeout-ms": b"100"}) == (None, None)
    assert ask(serving).status_code == 503
    serving.thread.run(asyncio.sleep(0.11))
    assert ask(serving).status_code == 200


def test_the_default_answers_and_is_marked_and_logged(plane):
    serving = plane(fallback="default", default={"prediction": 9.5})
    fail(serving)
    rows = served(serving).record.log
    kept = []
    rows.append = kept.append
    answer = ask(serving, [ROW, ROW], **{"x-request-id": "r-1"})
    assert answer.status_code == 200
    assert answer.json()["predictions"] == [{"prediction": 9.5}] * 2
    assert (answer.headers["x-model-version"], answer.headers["x-model-arm"]) == ("1", "fallback")
    (logged,) = kept
    assert (logged.request_ids, logged.arms, logged.is_cached) == (["r-1"], ["fallback"], False)
    assert logged.outputs.arrays["prediction"].tolist() == [9.5, 9.5]
    assert serving.metric("ekiben_predictions_total", arm="fallback", status="ok") == 1
    assert serving.metric("ekiben_predicted_rows_total") == 0, "nothing was computed"
    called = Client(serving).unary("/inference.GRPCInferenceService/ModelInfer", matrix(ROW))
    assert called.code is Code.OK
    assert called.headers[b"x-model-arm"] == b"fallback"


def test_the_default_is_no_answer_to_bad_rows_or_to_who_names_the_version(plane):
    serving = plane(fallback="default", default={"prediction": 9.5})
    fail(serving)
    answer = ask(serving, [[1, 2, "x"]])
    assert answer.status_code == 422
    assert ask(serving, []).status_code == 400
    out_of_range = served(serving).predictor.signature.from_columns({n: np.array([np.inf], np.float32) for n in "xyz"})
    assert serving.thread.run(_code_of(serving, out_of_range)) == "InvalidRows"
    assert serving.post("/v1/models/plane/versions/1:predict", json={"instances": [ROW]}).status_code == 503


async def _code_of(serving, payload) -> str:
    plane = serving.server.plane
    call = plane.admit("plane", None, received=0.0, timeout_ms=1e9)
    plane.identify(call, "r", payload)
    call.deadline = 1e12
    try:
        await plane.infer(call, payload)
    except RequestError as e:
        return type(e).__name__
    return ""


def test_bad_rows_that_the_default_refuses_make_no_place_for_those_who_try_the_model(plane):
    serving = plane(fallback="default", default={"prediction": 9.5}, open_for="0.05s", probes=1)
    fail(serving)
    serving.thread.run(asyncio.sleep(0.06))
    breaker = served(serving).breaker
    serving.thread.call(lambda: breaker.admit(1e12))  # one is trying it
    out_of_range = served(serving).predictor.signature.from_columns({n: np.array([np.inf], np.float32) for n in "xyz"})
    assert serving.thread.run(_code_of(serving, out_of_range)) == "InvalidRows"
    assert ask(serving).headers["x-model-arm"] == "fallback"


def test_the_former_champion_answers(plane):
    serving = plane(fallback="previous")
    serving.control.aliases.set("plane", "previous", "2")
    serving.route("plane", kept=(Kept("2", 1e12),))
    fail(serving)
    answer = ask(serving)
    assert (answer.status_code, answer.headers["x-model-version"], answer.headers["x-model-arm"]) == (200, "2", "fallback")
    assert serving.metric("ekiben_fallbacks_total", version="1", arm="champion") == 1
    fail(serving, "2")
    assert ask(serving).status_code == 503, "when both are broken nothing is left"


def test_where_there_is_no_former_champion_it_is_refused(plane):
    serving = plane(fallback="previous")
    fail(serving)
    assert ask(serving).status_code == 503


def test_users_of_a_broken_challenger_get_the_champion(plane):
    serving = plane()
    arms = {"rollout": "plane-1", "salt": SALT, "arms": (Arm("challenger", "2"),), "slots": (SlotRange(0, 5000, "challenger"),)}
    serving.route("plane", **arms)
    key = {"x-routing-key": CHALLENGED}
    assert ask(serving, **key).headers["x-model-arm"] == "challenger"
    fail(serving, "2")
    answer = ask(serving, **key)
    assert (answer.status_code, answer.headers["x-model-version"], answer.headers["x-model-arm"]) == (200, "1", "fallback")
    assert serving.server.host.say("w").broken == {"plane:2": "4 of 5 requests failed within 10 s"}


@pytest.mark.parametrize("in_head", [True, False])
def test_when_champion_and_challenger_are_broken_the_default_answers_both(plane, in_head):
    serving = plane(fallback="default", default={"prediction": 9.5})
    arms = {"rollout": "plane-1", "salt": SALT, "arms": (Arm("challenger", "2"),), "slots": (SlotRange(0, 10_000, "challenger"),)}
    serving.route("plane", **arms)
    fail(serving, "1")
    headers = {"x-routing-key": CHALLENGED} if in_head else {}
    assert ask(serving, **headers).headers["x-model-arm"] == "challenger", "which is well"
    fail(serving, "2")
    answer = ask(serving, **headers)
    assert answer.json()["predictions"] == [{"prediction": 9.5}]
    assert answer.headers["x-model-arm"] == "fallback"


def test_a_challenger_that_fails_while_the_champion_is_broken_says_its_own_error(plane):
    serving = plane()
    arms = {"rollout": "plane-1", "salt": SALT, "arms": (Arm("challenger", "2"),), "slots": (SlotRange(0, 10_000, "challenger"),)}
    serving.route("plane", **arms)
    fail(serving, "1")

    def failing(batch):
        raise PredictionFailed("of its own")

    served(serving, "2").predictor.run = failing
    answer = ask(serving, **{"x-routing-key": CHALLENGED})
    assert answer.status_code == 500
    assert "of its own" in json.dumps(answer.json())


def test_a_version_that_is_unloaded_leaves_its_news_and_no_state(plane):
    serving = plane()
    fail(serving)
    serving.control.aliases.set("plane", "champion", "2")
    serving.thread.run(serving.server.host.refresh())
    for _ in range(200):
        if not serving.server.host.unloading and ("plane", "1") not in serving.server.host.snapshot.loaded:
            break
        serving.thread.run(asyncio.sleep(0.01))
    serving.thread.run(serving.server.recorder.write())
    assert "breaker-opened" in [e.kind for e in serving.control.events.find(model="plane")]
    assert serving.metric("ekiben_breaker_state", version="1") == 0
