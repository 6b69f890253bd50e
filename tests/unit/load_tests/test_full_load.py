import pytest
from unit.load_tests.routed_world import World

from ekiben.state.control import memory_control
from ekiben.state.histogram import Histogram
from ekiben.state.windows import Window
from load_tests.bench import full_load
from load_tests.bench.contestants import Contestant, Workplace
from load_tests.bench.full_load import FullLoad, Turn, check_counts, check_share, turn_record, windows_of
from load_tests.bench.heats import Heat
from load_tests.bench.models import BenchModel
from load_tests.bench.procfs import CpuTimes
from load_tests.bench.programs import LoadGeneratorFailed
from load_tests.bench.protocols import own_json
from load_tests.bench.results import Load
from load_tests.bench.route_switch import RouteNotFollowed, RouteSwitch
from load_tests.bench.servers import ServerFailed
from load_tests.bench.sides import CHAMPION_VERSION, SECOND_VERSION

MODEL = BenchModel(name="tabular", file="", task="tensor", rows=[[1.0], [2.0]], answers=[[1.0], [2.0]], decimals=1)
PROTOCOL = own_json(lambda _model: "/predict", lambda rows: rows[0], lambda answer: answer)
EKIBEN = Contestant(name="ekiben", command=lambda _start: [], environ=lambda _start: {}, protocols=(PROTOCOL,))
CHAMPION, TWIN, SECOND = (CHAMPION_VERSION, "champion"), (CHAMPION_VERSION, "challenger"), (SECOND_VERSION, "challenger")
CALM = CpuTimes(0, 0, 0, 0)


class Server:
    """Uses a quarter of a core while time passes, and its client an eighth."""

    def __init__(self, world):
        self.world, self.heat, self.server = world, Heat(EKIBEN, MODEL, 2, 3), self
        self.ends_at = float("inf")
        self.read = []

    def url(self, protocol):
        return f"http://here{protocol.path(MODEL)}"

    def cpu_times(self, *, clients=()):
        self.read.append((self.world.now, tuple(clients)))
        now = self.world.now
        return CpuTimes(server=now / 4, client=now / 8, machine=now / 2, capacity=now * 2)

    def check_alive(self):
        if self.world.now > self.ends_at:
            raise ServerFailed("the server ended")


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """Measures sides in a world of its own; gives the records, the world, the server, and what was said."""

    def run(*sides, seconds=2, change=lambda _world, _server: None, **world_is):
        control = memory_control()
        world = World(control, workers=2, **world_is)
        server, said = Server(world), []
        change(world, server)
        monkeypatch.setattr(full_load, "LastingLoad", world.begin)
        monkeypatch.setattr(full_load.os, "cpu_count", lambda: 2)
        place = Workplace(folder=tmp_path, pythons={}, ekiben_models={})
        clocks = {"wall": world.wall, "sleep": world.sleep}
        loaded = FullLoad(place=place, control=control, wrk="wrk", seconds=seconds, say=said.append, **clocks)
        with RouteSwitch(control, "tabular", 2, sleep=world.sleep) as switch:
            records = loaded.measure(server, switch, ("ekiben", *sides), 8)
        return records, world, server, said

    return run


def test_sides_take_turns_under_one_load(measure):
    records, world, _, said = measure("ekiben-routed", "ekiben-split", rates={"ekiben-routed": 90, "ekiben-split": 80})

    there = ["ekiben", "ekiben-routed", "ekiben-split"]
    assert [r.peer for r in records] == [*there, *reversed(there)]
    assert [r.load.rps for r in records] == [100, 90, 80, 80, 90, 100], "only seconds in which a side was in force all along count"
    assert {(r.model, r.workers, r.connections, r.round, r.load.seconds) for r in records} == {("tabular", 2, 8, 3, 3)}
    assert [(load.url, load.connections, load.is_under_way) for load in world.loads] == [("http://here/predict", 8, False)]
    assert said == [
        "ekiben · tabular · 2 workers · 8 connections: 100 rps",
        "ekiben-routed · tabular · 2 workers · 8 connections: 90 rps",
        "ekiben-split · tabular · 2 workers · 8 connections: 80 rps",
    ]


def test_the_sides_have_twice_the_time_of_other_loads(measure):
    for seconds, turns in ((1, 2), (5, 2), (10, 4), (16, 6)):
        records, world, _, _ = measure("ekiben-routed", seconds=seconds)

        assert [sum(r.peer == side for r in records) for side in ("ekiben", "ekiben-routed")] == [turns, turns]
        assert 2 * turns * 3 < world.now - world.started < 2 * turns * 5 + 6


def test_cpu_is_that_of_the_seconds_that_count_and_the_load_generator_is_no_noise(measure):
    records, world, server, _ = measure("ekiben-routed")

    assert [at % 1 for at, _ in server.read] == [0] * 8
    assert [after - before for (before, _), (after, _) in zip(server.read[::2], server.read[1::2], strict=True)] == [3] * 4
    assert {clients for _, clients in server.read} == {(world.loads[0].pid,)}
    cpu = records[0].cpu
    assert (cpu.server_us_per_request, cpu.server_cores, cpu.client_cores) == (2500.0, 0.25, 0.12)
    assert cpu.noise_percent == pytest.approx(6.2, abs=0.1), "an eighth of a core of two"


def test_errors_are_said_and_counted_once(measure):
    def fail(world, _server):
        world.errors = {"503": 1200, "timeout": 1}

    records, _, _, said = measure("ekiben-aa", change=fail)

    assert [r.load.errors for r in records] == [{"503": 1200, "timeout": 1}, {}, {}, {}]
    assert said[-1] == "tabular · 2 workers · 8 connections: not answered well: 503: 1,200, timeout: 1"


@pytest.mark.parametrize(
    ("shares", "problem"),
    [
        ({"ekiben-routed": 94}, "ekiben-routed: 94.0 % of the requests went to the arm on trial; it must be 100 %"),
        ({"ekiben-aa": 44}, "ekiben-aa: 44.0 % of the requests went to the arm on trial; it must be 50 %"),
        ({"ekiben-aa": 56}, "ekiben-aa: 56.0 %"),
        ({"ekiben-split": 0}, "ekiben-split: 0.0 %"),
        ({"ekiben": 10}, "ekiben: 90.0 % of the requests went to the champion; it must be 100 %"),
    ],
)
def test_a_route_that_is_not_followed_is_no_measurement(measure, shares, problem):
    with pytest.raises(RouteNotFollowed, match=problem):
        measure("ekiben-routed", "ekiben-aa", "ekiben-split", shares=shares)


@pytest.mark.parametrize("percent", [94, 106])
def test_what_the_server_counted_must_be_what_the_load_generator_got(measure, percent):
    def miscount(world, _server):
        world.counted_percent = percent

    with pytest.raises(LoadGeneratorFailed, match=r"wrk got .* answers and the server's windows have .* same within 5 %"):
        measure("ekiben-routed", change=miscount)


def test_a_server_that_ends_and_a_load_that_does_not_last_are_failures(measure, monkeypatch):
    def end(world, server):
        server.ends_at = world.now + 8

    with pytest.raises(ServerFailed):
        measure("ekiben-routed", change=end)
    monkeypatch.setattr(full_load, "_TURN_AT_MOST_S", 1)
    with pytest.raises(LoadGeneratorFailed, match="its time is over"):
        measure("ekiben-routed")


def test_only_a_turns_own_seconds_are_its_windows():
    seen = {second: {CHAMPION: Window(ok=10**n), TWIN: Window(ok=1)} for n, second in enumerate(range(99, 105))}

    found = windows_of([Turn("ekiben", 100, CALM, CALM)], seen)
    assert {arm: window.ok for arm, window in found.items()} == {CHAMPION: 1110, TWIN: 3}

    both = windows_of([Turn("ekiben", 98, CALM, CALM), Turn("ekiben", 102, CALM, CALM)], seen)
    assert {arm: window.ok for arm, window in both.items()} == {CHAMPION: 111011, TWIN: 5}, "seconds without windows add nothing"


def test_a_turn_is_what_all_arms_did_together():
    fast, slow = Histogram.of([0.001] * 60), Histogram.of([0.1] * 40)
    seen = {7: {CHAMPION: Window(ok=60, latency=fast), SECOND: Window(ok=40, errors={"Timeout": 2}, latency=slow)}}

    record = turn_record(Turn("ekiben-split", 6, CALM, CALM), seen, heat=Heat(EKIBEN, MODEL, 1, 0), connections=64, cores=2)

    assert (record.load.answered, record.load.rps, record.load.seconds) == (100, 33.3, 3)
    assert record.load.p50_ms == pytest.approx(1.0, rel=0.05)
    assert record.load.p99_ms == record.load.max_ms == pytest.approx(100.0, rel=0.05)


def test_shares_are_of_all_requests_those_that_failed_too():
    check_share("ekiben-split", {CHAMPION: Window(ok=50), SECOND: Window(ok=10, errors={"Timeout": 40})})
    check_share("ekiben-aa", {CHAMPION: Window(ok=54), TWIN: Window(ok=46)})
    check_share("ekiben-routed", {CHAMPION: Window(ok=5), TWIN: Window(ok=95)})
    check_share("ekiben", {CHAMPION: Window(ok=10)})
    with pytest.raises(RouteNotFollowed):
        check_share("ekiben-aa", {CHAMPION: Window(ok=50), SECOND: Window(ok=50)})


def test_where_nothing_was_answered_nothing_was_measured():
    with pytest.raises(LoadGeneratorFailed, match="ekiben-aa: no request was answered in its turns"):
        check_share("ekiben-aa", {CHAMPION: Window(invalid=3)})


def test_all_arms_of_all_seconds_are_counted():
    whole = Load(seconds=2, answered=100, rps=50, p50_ms=1, p99_ms=1, max_ms=1, errors={})

    check_counts(whole, {1: {CHAMPION: Window(ok=50)}, 2: {CHAMPION: Window(ok=25), SECOND: Window(ok=20)}})
    with pytest.raises(LoadGeneratorFailed):
        check_counts(whole, {1: {CHAMPION: Window(ok=50)}, 2: {CHAMPION: Window(ok=25)}})
