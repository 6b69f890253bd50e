"""Requests while two versions answer: who answers what, over every transport."""

from __future__ import annotations

import asyncio
import json

import msgspec
import numpy as np
import pytest
from unit.serving.grpc.calling import Client, matrix, typed
from unit.serving.inprocess import Serving

from ekiben.errors import NotReady, PredictionFailed, QueueFull
from ekiben.model import InputSpec
from ekiben.model.rollout_spec import RoutingSpec
from ekiben.rollout.router import hash_of, seed_of
from ekiben.serving.arm_record import Sample
from ekiben.serving.grpc.status import Code
from ekiben.state.routes import SLOTS, Arm, HeaderCondition, HeaderRule, Shadow, SlotRange
from ekiben.state.windows import Window

SALT = "1.plane"
TRIAL = {"rollout": "plane-1", "salt": SALT, "arms": (Arm("challenger", "2"),)}
ALL = (SlotRange(0, 10_000, "challenger"),)
HALF = (SlotRange(0, 5000, "challenger"),)
ROW = [1, 2, 3]
V1, V2, NATIVE = "/v1/models/plane:predict", "/v2/models/plane/infer", "/plane"
ROUTING = RoutingSpec(header="X-User-Id", query="user", input="x")


def is_first_half(key: str) -> bool:
    return hash_of(seed_of(SALT), key) % SLOTS < 5000


# Keys of either half.
CHALLENGED, CHAMPIONED = (next(str(n) for n in range(100) if is_first_half(str(n)) is half) for half in (True, False))


@pytest.fixture
def plane(start, registry, plane_artifact, another) -> Serving:
    """plane in the versions 1, the champion, and 2; users are known by a header, a parameter or the input x."""
    registry.register(another(plane_artifact, "1", routing=ROUTING).path, tag="plane:1")
    registry.register(another(plane_artifact, "2", routing=ROUTING).path, tag="plane:2")
    return start("plane")


@pytest.fixture
def challenger(plane):
    """A route that sends everything to the challenger."""
    plane.route("plane", **TRIAL, slots=ALL)
    return plane.server.host.snapshot.loaded["plane", "2"]


def v1(serving, row=ROW, *, query="", **headers):
    return serving.post(V1 + query, json={"instances": [row]}, headers=headers)


def v2(serving, row=ROW, *, query="", **headers):
    inputs = [{"name": "m", "datatype": "FP32", "shape": [1, 3], "data": row}]
    return serving.post(V2 + query, json={"inputs": inputs}, headers=headers)


def native(serving, row=ROW, *, query="", **headers):
    return serving.post(NATIVE + query, json={"instances": [row]}, headers=headers)


def grpc(serving, row=ROW, **headers):
    return Client(serving).unary("/inference.GRPCInferenceService/ModelInfer", matrix(row), **{k: v.encode() for k, v in headers.items()})


def arm(answer) -> tuple[str, str]:
    """Version and arm that an answer says."""
    if hasattr(answer, "status_code"):
        assert answer.status_code == 200, answer.text
        return answer.headers["x-model-version"], answer.headers["x-model-arm"]
    assert answer.code is Code.OK, answer.message
    return answer.headers[b"x-model-version"].decode(), answer.headers[b"x-model-arm"].decode()


def window(serving, version: str, name: str) -> Window:
    """All that happened so far; by way of the recorder, which takes what there is at moments of its own."""
    serving.thread.run(serving.server.recorder.write())
    return serving.control.windows.sum("plane", 0, 1e12).get((version, name), Window())


# who answers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_route_the_champion_answers(plane):
    for ask in (v1, v2, native, grpc):
        assert arm(ask(plane)) == ("1", "champion")


@pytest.mark.parametrize("ask", [v1, v2, native, grpc])
@pytest.mark.parametrize(("key", "expected"), [(CHALLENGED, ("2", "challenger")), (CHAMPIONED, ("1", "champion"))])
def test_a_routing_key_decides_whatever_else_is_there(plane, ask, key, expected):
    plane.route("plane", **TRIAL, slots=HALF)
    other = CHAMPIONED if key == CHALLENGED else CHALLENGED
    named = {"x_routing_key": key, "x_user_id": other} if ask is grpc else {"x-routing-key": key, "x-user-id": other}
    assert arm(ask(plane, [float(other), 2, 3], **named)) == expected
    for _ in range(3):
        assert arm(ask(plane, **named)) == expected


@pytest.mark.parametrize("ask", [v1, v2, native, grpc])
@pytest.mark.parametrize(("key", "expected"), [(CHALLENGED, ("2", "challenger")), (CHAMPIONED, ("1", "champion"))])
def test_then_the_models_header_the_query_and_the_input(plane, ask, key, expected):
    plane.route("plane", **TRIAL, slots=HALF)
    other = CHAMPIONED if key == CHALLENGED else CHALLENGED
    name = "x_user_id" if ask is grpc else "X-User-ID"
    assert arm(ask(plane, [float(other), 2, 3], **{name: key})) == expected
    if ask is not grpc:
        assert arm(ask(plane, [float(other), 2, 3], query=f"?user={key}&user={other}")) == expected
        assert arm(ask(plane, query=f"?user={other}", **{name: key})) == expected
    assert arm(ask(plane, [float(key), 2, 3])) == expected


def test_the_request_id_decides_where_nothing_else_does(start, registry, plane_artifact, another):
    registry.register(plane_artifact.path, tag="plane:1")
    registry.register(another(plane_artifact, "2").path, tag="plane:2")
    serving = start("plane")
    serving.route("plane", **TRIAL, slots=HALF)
    for n in range(10):
        expected = ("2", "challenger") if is_first_half(f"r-{n}") else ("1", "champion")
        assert arm(v1(serving, **{"x-request-id": f"r-{n}"})) == expected
        assert arm(grpc(serving, x_request_id=f"r-{n}")) == expected
        by_body = serving.post(V1, json={"instances": [ROW], "id": f"r-{n}"}, headers={"x-request-id": "another"})
        assert arm(by_body) == expected


def test_two_servers_answer_a_user_alike(plane, registry, tmp_path):
    plane.route("plane", **TRIAL, slots=HALF)
    second = Serving(registry, ["plane"], thread=plane.thread, home=tmp_path, control=plane.control).start()
    try:
        found = {key: arm(v1(plane, **{"x-routing-key": key})) for key in map(str, range(40))}
        assert len(set(found.values())) == 2
        assert found == {key: arm(v1(second, **{"x-routing-key": key})) for key in found}
        assert found == {key: arm(grpc(second, x_routing_key=key)) for key in found}
    finally:
        second.stop()


def test_a_body_says_who_answered_too(plane, challenger):
    assert v1(plane).json()["model_version"] == "2"
    assert v2(plane).json()["model_version"] == "2"
    assert grpc(plane).headers[b"x-model-arm"] == b"challenger"


@pytest.mark.parametrize(("version", "path"), [("1", "/v1/models/plane/versions/1:predict"), ("2", "/v1/models/plane/versions/2:predict")])
def test_a_version_in_the_path_is_that_version_whatever_the_route(plane, challenger, version, path):
    answer = plane.post(path, json={"instances": [ROW]}, headers={"x-routing-key": CHALLENGED})
    assert arm(answer) == (version, "pinned")
    message = matrix(ROW, model_version=version)
    reply = Client(plane).unary("/inference.GRPCInferenceService/ModelInfer", message)
    assert arm(reply) == (version, "pinned")
    assert window(plane, version, "pinned").ok == 2


def test_a_header_rule_comes_before_any_weight(plane):
    conditions = (HeaderCondition("x-beta", "regex", "y|yes"), HeaderCondition("x-region", "prefix", "eu-"))
    plane.route("plane", **TRIAL, rules=(HeaderRule("beta", "challenger", conditions),))
    assert arm(v1(plane, **{"x-beta": "yes", "x-region": "eu-west", "x-routing-key": CHAMPIONED})) == ("2", "challenger")
    assert arm(grpc(plane, x_beta="y", x_region="eu-")) == ("2", "challenger")
    assert arm(v1(plane, **{"x-beta": "yes"})) == ("1", "champion")
    assert arm(v1(plane, **{"x-beta": "yes!", "x-region": "eu-west"})) == ("1", "champion")


def test_a_weight_that_grows_takes_no_user_back(plane):
    met: set[str] = set()
    for stop in (500, 2000, 5000, 10_000):
        plane.route("plane", **TRIAL, slots=(SlotRange(0, stop, "challenger"),))
        now = {key for key in map(str, range(30)) if arm(v1(plane, **{"x-routing-key": key}))[1] == "challenger"}
        assert met <= now
        met = now
    assert len(met) == 30


def test_an_arm_that_is_not_loaded_is_answered_by_the_champion(plane):
    plane.route("plane", rollout="plane-1", salt=SALT, arms=(Arm("challenger", "9"),), slots=ALL)
    assert arm(v1(plane)) == ("1", "champion")


def test_the_typed_way_in_is_routed_too(plane, challenger):
    assert plane.thread.run(plane.server.predict("plane", [ROW])) == [{"prediction": 14.5}]
    assert window(plane, "2", "challenger").ok == 1


def test_who_answered_is_said_on_errors_too(plane, challenger):
    for content in (b"{", json.dumps({"instances": [[1, 2]]})):
        answer = plane.post(V1, content=content, headers={"x-routing-key": CHALLENGED})
        assert answer.status_code in (400, 422)
        assert (answer.headers["x-model-version"], answer.headers["x-model-arm"]) == ("2", "challenger")
    reply = Client(plane).unary("/inference.GRPCInferenceService/ModelInfer", typed("plane", x=("FP32", [1.0])), x_routing_key=b"k")
    assert reply.code is Code.INVALID_ARGUMENT
    assert (reply.headers[b"x-model-version"], reply.headers[b"x-model-arm"]) == (b"2", b"challenger")
    assert window(plane, "2", "challenger").invalid == 3


def test_streams_say_it_in_each_answer(plane):
    plane.route("plane", **TRIAL, slots=HALF)
    requests = [matrix([float(key), 2, 3]) for key in (CHALLENGED, CHAMPIONED, CHALLENGED)]
    _, answers = Client(plane).stream(requests)
    found = [(a.infer_response.model_version, a.infer_response.parameters["model_arm"].string_param) for a in answers]
    assert found == [("2", "challenger"), ("1", "champion"), ("2", "challenger")]


# where an arm fails ──────────────────────────────────────────────────────────────────────────────────────────────────


def fails(served, error: Exception) -> None:
    """Has a version's model fail on whatever comes."""

    def run(*_):
        raise error

    served.predictor.runtime.run = run


def refuses(served, refusal: NotReady) -> None:
    """Has a version's queue be full."""

    def admit(deadline):
        raise refusal

    served.batcher.admit = admit


@pytest.mark.parametrize("ask", [v1, v2, native, grpc])
def test_where_the_challengers_model_fails_the_champion_answers(plane, challenger, ask):
    fails(challenger, RuntimeError("broken"))
    answer = ask(plane)
    assert arm(answer) == ("1", "fallback")
    trial = window(plane, "2", "challenger")
    assert (trial.ok, trial.errors, trial.fallbacks, trial.invalid) == (0, {"PredictionFailed": 1}, 1, 0)
    # The answer counts for nobody on trial.
    assert window(plane, "1", "fallback").ok == 1
    assert window(plane, "1", "champion").requests == 0
    assert plane.metric("ekiben_fallbacks_total", version="2", arm="challenger") == 1


@pytest.mark.parametrize("with_key", [True, False], ids=["by the head", "by the body"])
@pytest.mark.parametrize(("refusal", "name"), [(QueueFull("full", 3.0), "QueueFull"), (NotReady("is being unloaded"), "NotReady")])
def test_where_the_challengers_queue_is_full_the_champion_answers(plane, challenger, refusal, name, with_key):
    refuses(challenger, refusal)
    headers = {"x-routing-key": "anybody"} if with_key else {}
    for ask in (v1, v2):
        assert arm(ask(plane, **headers)) == ("1", "fallback")
    trial = window(plane, "2", "challenger")
    assert (trial.errors, trial.fallbacks) == ({name: 2}, 2)
    assert window(plane, "1", "fallback").ok == 2
    assert window(plane, "1", "champion").requests == 0


def test_where_the_champions_queue_is_full_too_nobody_answers(plane, challenger):
    refuses(challenger, QueueFull("full", 3.0))
    refuses(plane.server.host.find("plane", None), QueueFull("full too", 7.0))
    answer = v1(plane, **{"x-routing-key": "anybody"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")
    assert window(plane, "1", "fallback").errors == {"QueueFull": 1}


def test_a_full_queue_of_the_champion_does_not_refuse_the_challengers_users(plane, challenger):
    refuses(plane.server.host.find("plane", None), QueueFull("full", 3.0))
    assert arm(v1(plane, **{"x-routing-key": "anybody"})) == ("2", "challenger")


def test_rows_that_only_the_challenger_refuses_are_answered_by_the_champion(start, registry, plane_artifact, another):
    x, y, z = plane_artifact.spec.inputs
    registry.register(plane_artifact.path, tag="plane:1")
    registry.register(another(plane_artifact, "2", inputs=(msgspec.structs.replace(x, max=5.0), y, z)).path, tag="plane:2")
    serving = start("plane")
    serving.route("plane", **TRIAL, slots=ALL)
    assert arm(v1(serving, [6, 0, 0])) == ("1", "fallback")
    assert arm(v1(serving, [5, 0, 0])) == ("2", "challenger")
    trial = window(serving, "2", "challenger")
    assert (trial.ok, trial.invalid, trial.fallbacks, trial.errors) == (1, 1, 1, {})


def test_rows_that_both_refuse_are_the_clients_fault(plane, challenger):
    answer = v1(plane, [1e40, 0, 0])
    assert answer.status_code == 422
    assert answer.headers["x-model-arm"] == "fallback"
    assert (window(plane, "2", "challenger").invalid, window(plane, "1", "fallback").invalid) == (1, 1)


def test_what_is_wrong_with_the_request_itself_falls_back_to_nobody(plane, challenger):
    assert plane.post(V1, json={"instances": []}).status_code == 400
    assert v1(plane, ["a", 2, 3], **{"x-routing-key": "k"}).headers["x-model-arm"] == "challenger"
    assert window(plane, "1", "fallback").invalid == 0


def test_when_the_time_is_over_there_is_no_second_try(plane, challenger):
    fails(challenger, RuntimeError("broken"))
    served = plane.server.plane
    call = served.admit("plane", None, received=0.0, timeout_ms=None, headers={b"x-routing-key": b"k"})
    call.deadline = 0.0
    assert not served._falls_back(call)
    assert plane.record("plane", "2", "challenger")._taken.fallbacks == 0


def test_an_experiments_arms_stand_alone(plane):
    plane.route("plane", rollout="plane-2", salt=SALT, arms=(Arm("blue", "2"),), slots=(SlotRange(0, 10_000, "blue"),), fallback=False)
    served = plane.server.host.snapshot.loaded["plane", "2"]
    assert arm(v1(plane)) == ("2", "blue")
    for headers in ({}, {"x-routing-key": "k"}):
        admit = served.batcher.admit
        refuses(served, QueueFull("full", 3.0))
        answer = v1(plane, **headers)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
        served.batcher.admit = admit
    fails(served, RuntimeError("broken"))
    answer = v1(plane)
    assert (answer.status_code, answer.headers["x-model-arm"]) == (500, "blue")
    found = window(plane, "2", "blue")
    assert (found.ok, found.errors, found.fallbacks) == (1, {"QueueFull": 2, "PredictionFailed": 1}, 0)


def test_an_arm_of_the_champions_own_version_has_nobody_to_fall_back_to(plane):
    plane.route("plane", rollout="plane-1", salt=SALT, arms=(Arm("challenger", "1"),), slots=ALL)
    fails(plane.server.host.find("plane", None), RuntimeError("broken"))
    answer = v1(plane)
    assert (answer.status_code, answer.headers["x-model-arm"]) == (500, "challenger")
    assert window(plane, "1", "challenger").fallbacks == 0


@pytest.mark.parametrize("path", ["/v1/models/plane/versions/2:predict", V1], ids=["pinned", "champion"])
def test_pinned_versions_and_the_champion_have_no_fallback(plane, path):
    plane.route("plane", **TRIAL)
    for version in ("1", "2"):
        fails(plane.server.host.snapshot.loaded["plane", version], RuntimeError("broken"))
    assert plane.post(path, json={"instances": [ROW]}).status_code == 500
    assert window(plane, "2", "pinned").fallbacks == window(plane, "1", "champion").fallbacks == 0


def test_requests_of_a_batch_fall_back_each_by_itself(plane, challenger):
    run = challenger.predictor.runtime.run

    def failing(feeds, outputs):
        if (next(iter(feeds.values())) == 7).any():
            raise RuntimeError("poisoned")
        return run(feeds, outputs)

    challenger.predictor.runtime.run = failing

    async def together():
        return await asyncio.gather(*(plane.server.predict("plane", [[x, 0, 0]]) for x in (1, 7, 3)))

    assert [rows[0]["prediction"] for rows in plane.thread.run(together())] == [1.5, 7.5, 3.5]
    trial = window(plane, "2", "challenger")
    assert (trial.ok, trial.errors, trial.fallbacks) == (2, {"PredictionFailed": 1}, 1)


# arms that do not fit ────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_arm_that_does_not_fit_is_a_problem_and_gets_no_traffic(start, registry, plane_artifact, another):
    registry.register(plane_artifact.path, tag="plane:1")
    inputs = (*plane_artifact.spec.inputs[:2], InputSpec(name="w", type="float", dtype="float32"))
    registry.register(another(plane_artifact, "2", inputs=inputs).path, tag="plane:2")
    serving = start("plane")
    serving.route("plane", **TRIAL, slots=ALL, shadows=(Shadow("2"),))
    assert arm(v1(serving)) == ("1", "champion")
    problem = serving.server.host.say("w").problems["plane:2"]
    assert "it has an input 'w' more" in problem
    assert serving.get("/readyz").status_code == 200
    # Who wants it names it.
    answer = serving.post("/v1/models/plane/versions/2:predict", json={"instances": [{"x": 1, "y": 2, "w": 3}]})
    assert arm(answer) == ("2", "pinned")


# exposures ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def written(serving):
    serving.thread.run(serving.server.recorder.write())
    return sorted(serving.control.truths._exposures.values(), key=lambda e: (e.request_id, e.row))


def test_answers_are_exposed_with_their_ids_keys_and_predictions_while_a_rollout_runs(plane):
    v1(plane, **{"x-request-id": "before"})
    plane.route("plane", **TRIAL, slots=HALF)
    plane.post(V1, json={"instances": [ROW, [0, 0, 0]]}, headers={"x-request-id": "r-1", "x-routing-key": CHALLENGED})
    v2(plane, [float(CHAMPIONED), 0, 0], **{"x-request-id": "r-2"})
    grpc(plane, x_request_id="r-3", x_user_id=CHALLENGED)
    plane.post("/v1/models/plane/versions/2:predict", json={"instances": [ROW]}, headers={"x-request-id": "pinned"})
    plane.route("plane", arms=TRIAL["arms"])
    v1(plane, **{"x-request-id": "after"})
    exposures = written(plane)
    expected = [
        ("r-1", 0, "2", "challenger", CHALLENGED, 14.5),
        ("r-1", 1, "2", "challenger", CHALLENGED, 0.5),
        ("r-2", 0, "1", "champion", CHAMPIONED, float(CHAMPIONED) + 0.5),
        ("r-3", 0, "2", "challenger", CHALLENGED, 14.5),
    ]
    assert [(e.request_id, e.row, e.version, e.arm, e.key, e.prediction) for e in exposures] == expected
    assert all(e.model == "plane" and e.time > 1e9 and e.score is None for e in exposures)


def test_what_the_champion_answered_for_another_arm_is_exposed_as_nobodys(plane, challenger):
    fails(challenger, PredictionFailed("broken"))
    assert arm(v1(plane)) == ("1", "fallback")
    assert written(plane) == []


def test_a_shadows_answers_are_exposed_beside_the_champions(plane, eventually):
    plane.route("plane", **TRIAL, shadows=(Shadow("2"),))
    assert arm(v1(plane, **{"x-request-id": "r-1"})) == ("1", "champion")
    eventually(lambda: plane.metric("ekiben_shadow_rows_total", version="2", result="agreed") == 1)
    found = [(e.request_id, e.version, e.arm, e.prediction) for e in written(plane)]
    assert sorted(found) == [("r-1", "1", "champion", 14.5), ("r-1", "2", "shadow", 14.5)]
    sums = plane.control.windows.sum("plane", 0, 1e12)
    assert (sums["2", "shadow"].compared, sums["2", "shadow"].agreed, sums["1", "champion"].ok) == (1, 1, 1)


@pytest.mark.parametrize("is_split", [True, False])
def test_of_many_requests_a_sample_of_the_users_is_exposed_in_every_arm(plane, monkeypatch, is_split):
    monkeypatch.setattr(Sample, "follow", lambda *_: None)  # a busy second was before, and this one never ends
    plane.route("plane", **TRIAL, slots=HALF if is_split else ())
    plane.server.host.snapshot.ways["plane"].record.sample.below = 1 << 63
    asked = [(f"r-{n}", str(n % 20)) for n in range(60)]
    for request_id, key in asked:
        v1(plane, **{"x-request-id": request_id, "x-routing-key": key})
    exposures = written(plane)
    # Where there is nothing to split nobody looks for a key, and each request is its own user.
    hashes = {r: hash_of(seed_of(SALT), key) if is_split else hash_of(0, r) for r, key in asked}
    kept = {r for r, key_hash in hashes.items() if key_hash < 1 << 63}
    assert 10 < len(kept) < 50
    assert {e.request_id for e in exposures} == kept
    assert {e.arm for e in exposures} == ({"challenger", "champion"} if is_split else {"champion"})


def test_every_arm_has_its_window(plane):
    plane.route("plane", **TRIAL, slots=HALF)
    for n in range(20):
        v1(plane, **{"x-routing-key": str(n)})
    plane.thread.run(plane.server.recorder.write())
    sums = plane.control.windows.sum("plane", 0, 1e12)
    expected = sum(is_first_half(str(n)) for n in range(20))
    assert sums["2", "challenger"].ok == expected
    assert sums["1", "champion"].ok == 20 - expected
    assert sums["2", "challenger"].scores.n == expected
    assert np.isclose(sums["2", "challenger"].scores.mean, 14.5)
