import io

from rich.console import Console

from load_tests.bench.contestants import PEERS
from load_tests.bench.procfs import CpuUse
from load_tests.bench.promises import judge
from load_tests.bench.protocols import PROTOCOLS
from load_tests.bench.raw_session import RawSpeed
from load_tests.bench.report import NAMES, PROTOCOL_NAMES, counted, promise_table, quiet_rounds, tables
from load_tests.bench.results import Failure, Load, LoadRecord, OverloadRecord, Promise, RawRecord, Results, ShadowRecord


def _cpu(noise=0.0):
    return CpuUse(server_us_per_request=77.4, server_cores=1, client_cores=0.2, noise_percent=noise)


def _record(peer, rps, *, round_=0, connections=32, noise=0.0, errors=None, protocol="rest"):
    load = Load(seconds=5, answered=int(rps * 5), rps=rps, p50_ms=2.345, p99_ms=9, max_ms=20, errors=errors or {})
    case = {"peer": peer, "model": "tabular", "workers": 1, "connections": connections, "protocol": protocol}
    return LoadRecord(**case, round=round_, load=load, cpu=_cpu(noise))


def _text(printed):
    out = io.StringIO()
    console = Console(file=out, width=200)
    for table in printed:
        console.print(table)
    return out.getvalue()


def _line(text, beginning):
    return next(line for line in text.splitlines() if beginning in line)


def test_a_whole_run_in_tables():
    results = Results(
        started="",
        machine={},
        options={},
        loads=[
            _record("ekiben", 12000), _record("ekiben", 14000, round_=1), _record("ekiben", 16000, round_=2),
            _record("bentoml", 800, errors={"503": 1200}), _record("ekiben", 3000, connections=1),
        ],
        raw=[RawRecord(model="tabular", round=0, speed=RawSpeed(rows_per_s={1: 1e5, 8: 5e5, 32: 9e5, 128: 1e6}, run_p50_ms=0.0071))],
        overloads=[
            OverloadRecord(
                peer="ekiben", workers=1, round=0, times_capacity=4.0, capacity_rps=249.0, rate=996.0, deadline_ms=250.0, scheduled=4980,
                goodput_rps=240.0, accepted=0, p50_ms=None, p99_ms=None, statuses={"503": 3988}, without_retry_after=7, late_ms=1.2,
                cpu=_cpu(),
            )
        ],
        failures=[Failure(peer="fastapi", model="tabular", workers=1, round=0, problem="ServerFailed: no good answer")],
    )  # fmt: skip

    text = _text(tables(results, judge(results)))

    assert text.index("tabular, 1 connection\n".strip()) < text.index("tabular, 32 connections")
    ours = _line(text[text.index("32 connections") :], "Ekiben")
    assert all(figure in ours for figure in ("14,000", "2.35", "9.00", "77", "3/3"))
    assert "503: 1,200" in _line(text, "BentoML batchable")
    assert all(figure in text for figure in ("1,000,000", "0.007", "503: 3,988 (7 without Retry-After)", "no good answer"))


def test_each_protocol_of_a_server_has_its_own_line():
    loads = [_record("ekiben", 12000), _record("ekiben", 17000, protocol="grpc"), _record("triton", 15000, protocol="v2-json")]
    loads.append(_record("ekiben", 19000, protocol="data-v2-binary"))
    results = Results(started="", machine={}, options={}, loads=loads)

    text = _text(tables(results, []))

    assert "17,000" in _line(text, "Ekiben, gRPC")
    assert "19,000" in _line(text, "Ekiben, data port, V2 binary")
    assert "15,000" in _line(text, "Triton, V2 JSON")
    assert "12,000" in _line(text, "Ekiben  ")


def test_routes_stand_beside_what_the_same_server_does_without():
    turns = [
        _record("ekiben", 10000), _record("ekiben-routed", 9800), _record("ekiben-aa", 9000),
        _record("ekiben-split", 7000, errors={"503": 3}),
        _record("ekiben-routed", 9800), _record("ekiben", 10000), _record("ekiben", 5000, connections=64),
    ]  # fmt: skip

    text = _text(tables(Results(started="", machine={}, options={}, routed=turns), []))

    without, routed, aa, split = (_line(text, name) for name in ("Ekiben  ", "Ekiben, router", "Ekiben, A/A split", "Ekiben, split"))
    assert all(figure in without for figure in ("10,000", " - ", "2/2"))
    assert all(figure in routed for figure in ("9,800", "98.0", "2/2"))
    assert all(figure in aa for figure in ("9,000", "90.0", "1/1"))
    assert all(figure in split for figure in ("7,000", "70.0", "1/1", "503: 3"))
    assert "5,000" in text


def test_a_shadow_stands_beside_what_the_same_server_does_without():
    def turn(side, p99_ms, computed=None, noise=0.0):
        return ShadowRecord(
            side=side, model="mlp", round=0, capacity_rps=3000, rate=900, scheduled=900, p50_ms=1.25, p99_ms=p99_ms,
            statuses={"200": 890, "503": 10}, late_ms=4, cpu=_cpu(noise), computed_percent=computed,
        )  # fmt: skip

    turns = [turn("ekiben", 2.0), turn("ekiben-shadow", 3.3, 97.6), turn("ekiben", 99.0, noise=16)]

    text = _text(tables(Results(started="", machine={}, options={}, shadows=turns), []))

    without, shadowed = _line(text, "Ekiben  "), _line(text, "Ekiben, shadow")
    assert all(figure in without for figure in ("mlp", "3,000", "900", "1.25", "2.00", " - ", "1/2", "200: 1,780, 503: 20"))
    assert all(figure in shadowed for figure in ("3.30", "97.6", "1/1"))


def test_every_peer_and_protocol_has_a_name_for_people():
    assert set(NAMES) == set(PEERS)
    assert set(PROTOCOL_NAMES) == set(PROTOCOLS)


def test_verdicts_are_plain():
    def promise(found, *, at_most=False):
        return Promise(promise="p", where="w", found=found, target=0.3, unit="ms", at_most=at_most)

    text = _text([promise_table([promise(0.31), promise(0.31, at_most=True), promise(None)])])
    rows = [line for line in text.splitlines() if " p " in line]

    assert [row.split()[-2] for row in rows] == ["yes", "no", "measured"]
    assert "0.31 ms" in rows[0]
    assert "≤ 0.3 ms" in rows[1]


def test_quiet_rounds_are_used_where_there_are_any():
    quiet, noisy = _record("ekiben", 1), _record("ekiben", 2, noise=16)

    assert quiet_rounds([noisy, quiet]) == [quiet]
    assert quiet_rounds([noisy]) == [noisy]


def test_errors_by_status():
    assert counted({"503": 1234, "timeout": 1}) == "503: 1,234, timeout: 1"
    assert counted({}) == "-"
