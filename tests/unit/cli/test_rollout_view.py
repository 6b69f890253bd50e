import io
import time

import msgspec
import pytest

from ekiben.cli.rollout_view import lasted, line, print_status, sections, state_of
from ekiben.rollout.views import ArmView, Interval, ShadowView, StatusView, StepView, WorkerView
from ekiben.state.measurements import Measurement

BEGAN = 1_700_000_000.0
VIEW = StatusView(
    id="tiny-3",
    model="tiny",
    kind="rollout",
    champion="1",
    challenger="2",
    status="Progressing",
    message="",
    created=BEGAN,
    created_by="kim@desk",
    ended=0.0,
    now=BEGAN + 90,
    paused=False,
    step=1,
    steps=(
        StepView(index=0, what="setWeight: 5", state="done", began=BEGAN, ended=BEGAN + 0.2),
        StepView(index=1, what="pause: 10m", state="current", began=BEGAN + 0.2),
        StepView(index=2, what="setWeight: 100", state="to come"),
    ),
    arms=(
        ArmView(arm="champion", version="1", weight=95, requests=950, requests_per_s=9.5, p50_s=0.0021, p95_s=Interval(0.004)),
        ArmView(
            arm="challenger",
            version="2",
            weight=5,
            requests=50,
            errors=3,
            error_rate=Interval(0.06, 0.013, 0.2),
            errors_by_kind={"QueueFull": 1, "PredictionFailed": 2},
            p95_s=Interval(0.005, 0.0041, 0.009),
        ),
    ),
    measurements=(
        Measurement(
            rollout="tiny-3",
            step=0,
            metric="errorRate",
            time=BEGAN + 80,
            outcome="Failed",
            message="6 % fail",
            value=0.06,
            n=50,
            limit=0.05,
        ),
        Measurement(
            rollout="tiny-3",
            step=0,
            metric="drift",
            time=BEGAN + 80,
            outcome="Successful",
            message="alike",
            value=0.1,
            low=0.05,
            high=0.2,
            champion_value=0.2,
            n=50,
            dry_run=True,
        ),
    ),
    next="in 8 m 30 s: setWeight: 100",
    workers=(
        WorkerView(id="a:1:0", follows=True, in_force_s=0.4, loaded=("1", "2")),
        WorkerView(id="b:2:0", follows=False, loaded=("1",), problems=("tiny:2 is broken",)),
    ),
    controller="a:1",
)
SHADOW = ShadowView(
    version="2",
    rate=0.5,
    compared=400,
    dropped=7,
    agreement=Interval(0.99, 0.98, 0.999),
    mean_difference=0.01,
    p95_difference=0.04,
    errors=2,
    p95_compute_s=0.002,
    champion_p95_compute_s=0.001,
)


@pytest.fixture(autouse=True)
def _utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def but(**changes):
    return msgspec.structs.replace(VIEW, **changes)


def cells(view):
    return {section.headings[:2]: section.rows for section in reversed(list(sections(view)))}


def test_the_head():
    head = dict(cells(VIEW)[()])
    assert head == {
        "rollout": "tiny-3",
        "versions": "tiny: 1 → 2",
        "status": "Progressing",
        "next": "in 8 m 30 s: setWeight: 100",
        "started": "2023-11-14 22:13:20 by kim@desk",
        "controller": "a:1",
        "workers": "1 of 2 follow; in force 0.4 s after the change",
    }
    ended = dict(cells(but(ended=BEGAN + 3700, status="RolledBack", message="worse", controller=None, workers=(), next=""))[()])
    assert ended["ended"] == "2023-11-14 23:15:00, after 1 h 1 m"
    assert ended["status"] == "RolledBack: worse"
    assert ended["workers"] == "none"
    assert "controller" not in ended
    assert dict(cells(but(controller=None))[()])["controller"] == "none"
    experiment = but(challenger="", workers=(WorkerView(id="w", follows=True),))
    assert dict(cells(experiment)[()])["versions"] == "tiny: 1"
    assert dict(cells(experiment)[()])["workers"] == "1 of 1 follow"


def test_the_steps_with_the_current_one_marked():
    assert cells(VIEW)["", "STEP"] == [
        ("✓", "setWeight: 5", "done", "22:13:20", "0.2 s"),
        ("▶", "pause: 10m", "current", "22:13:20", "1 m 30 s"),
        ("", "setWeight: 100", "to come", "", ""),
    ]


def test_the_arms():
    assert cells(VIEW)["ARM", "VERSION"] == [
        ("champion", "1", "95 %", "9.5", "950", "0", "", "2.1 ms", "4 ms"),
        ("challenger", "2", "5 %", "0", "50", "3", "6 % (1.3 to 20)", "", "5 ms (4.1 to 9)"),
    ]
    assert cells(VIEW)["ARM", "ERROR"] == [("challenger", "PredictionFailed", "2"), ("challenger", "QueueFull", "1")]
    assert ("ARM", "ERROR") not in cells(but(arms=VIEW.arms[:1]))


def test_the_measurements():
    assert cells(VIEW)["METRIC", "OUTCOME"] == [
        ("errorRate", "Failed", "0.06", "", "0.05", "50"),
        ("drift (dry run)", "Successful", "0.1 (0.05 to 0.2)", "0.2", "", "50"),
    ]


def test_why_a_measurement_is_not_successful():
    assert [s.rows for s in sections(VIEW) if not s.headings][1:] == [[("errorRate", "6 % fail")]]
    assert [s.rows for s in sections(but(measurements=VIEW.measurements[1:])) if not s.headings][1:] == []


def test_the_shadow():
    [shadow] = [section for section in sections(but(shadow=SHADOW)) if section.title]
    assert shadow.title == "shadow 2"
    assert dict(shadow.rows) == {
        "rate": "50 %",
        "rows": "400 compared, 7 left out",
        "agreement": "99 % (98 to 99.9)",
        "difference": "0.01 on average, 95 % below 0.04",
        "errors": "2",
        "p95 of a batch": "2 ms (champion 1 ms)",
    }
    [bare] = [s for s in sections(but(shadow=ShadowView(version="2", rate=1, mean_difference=0.5, p95_compute_s=0.1))) if s.title]
    assert dict(bare.rows)["difference"] == "0.5 on average"
    assert dict(bare.rows)["p95 of a batch"] == "100 ms"
    [none] = [s for s in sections(but(shadow=ShadowView(version="2", rate=1))) if s.title]
    assert dict(none.rows) == {"rate": "100 %", "rows": "0 compared, 0 left out"}


def test_only_workers_that_lag_or_have_problems_are_listed():
    assert cells(VIEW)["WORKER", "FOLLOWS"] == [("b:2:0", "not yet", "1", "tiny:2 is broken")]
    assert ("WORKER", "FOLLOWS") not in cells(but(workers=VIEW.workers[:1]))
    many = tuple(WorkerView(id=f"w{n}", follows=False) for n in range(50))
    assert len(cells(but(workers=many))["WORKER", "FOLLOWS"]) == 8


def test_what_is_not_there_has_no_table():
    bare = but(steps=(), arms=(), measurements=(), workers=())
    assert list(cells(bare)) == [()]


def test_the_line():
    assert line(VIEW) == (
        "22:14:50  Progressing; step 2 of 3, pause: 10m; champion 95 %, challenger 5 %; errorRate Failed, drift Successful; "
        "next: in 8 m 30 s: setWeight: 100"
    )
    assert line(but(status="Aborted", message="complaints", steps=(), arms=(), measurements=(), next="")) == "22:14:50  Aborted; complaints"


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "Paused"},
        {"message": "why"},
        {"step": 2},
        {"next": "waits for approval"},
        {"measurements": VIEW.measurements[:1]},
        {"arms": VIEW.arms[:1]},
    ],
)
def test_a_change_is_seen(changes):
    assert state_of(but(**changes)) != state_of(VIEW)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("in 8 m 30 s: setWeight: 100", "in 8 m 29 s: setWeight: 100"),
        ("in 10 s: setWeight: 100", "in 9.5 s: setWeight: 100"),
        ("waits for 37 more requests to the challenger (13 of 50)", "waits for 36 more requests to the challenger (14 of 50)"),
    ],
)
def test_numbers_that_always_move_are_no_change(one, two):
    assert state_of(but(next=one)) == state_of(but(next=two, now=BEGAN + 91))


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0.0 s"), (0.44, "0.4 s"), (59.4, "59 s"), (60, "1 m"), (3661, "1 h 1 m"), (86400 * 2 + 3600, "2 d 1 h")]
)
def test_durations(seconds, text):
    assert lasted(seconds) == text


def test_plain_into_a_file(capsys):
    print_status(but(shadow=SHADOW))
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "shadow 2" in out
    assert all(line == line.rstrip() for line in out.splitlines())


def test_with_colours_on_a_terminal(capsys, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr("sys.stdout", terminal)
    print_status(VIEW)
    text = terminal.getvalue()
    assert "\x1b[1;31mFailed" in text
    assert "\x1b[32mSuccessful" in text
