import json

import pytest
from click.testing import CliRunner

from ekiben.cli import main
from ekiben.cli.experiment import _watch
from ekiben.errors import StateError
from ekiben.registry import FolderRegistry
from ekiben.rollout.experiment import begin
from ekiben.rollout.experiment_operations import Experiments
from ekiben.state import memory_control
from ekiben.state.truth import Exposure, Truth

NOW = 1_800_000_000.0
ARMS = ["--arm", "old=1", "--arm", "new=2"]


@pytest.fixture
def control(monkeypatch):
    """The control database that commands open."""
    control = memory_control()
    monkeypatch.setattr("ekiben.state.opening.open_control", lambda settings: control)
    return control


@pytest.fixture(autouse=True)
def registry(tmp_path, monkeypatch, tiny_artifact, control):
    """The store that commands open, with two versions of the model tiny."""
    found = FolderRegistry(tmp_path / "store", control.aliases)
    for version in ("1", "2"):
        found.register(tiny_artifact.path, tag=f"tiny:{version}")
    monkeypatch.setattr("ekiben.registry.open_registry", lambda settings: found)
    return found


def run(*arguments):
    return CliRunner().invoke(main, ["experiment", *arguments])


def let_in(control, *, right=()):
    """Lets the users in, and has so many of a hundred of each arm be answered right."""
    (experiment,) = control.rollouts.find(active=True)
    control.rollouts.commit(begin(experiment, control.routes.get("tiny"), experiment.created))
    for arm, n_right in zip(experiment.arms, right, strict=False):
        for i in range(100):
            request = f"{arm.name}{i}"
            control.truths.expose([
                Exposure(
                    model="tiny", request_id=request, row=0, version=arm.version, arm=arm.name, key=request, time=experiment.created,
                    prediction="yes", score=0.9,
                )
            ])  # fmt: skip
            truth = Truth(model="tiny", request_id=request, row=0, time=NOW, actual="yes" if i < n_right else "no")
            control.truths.report([truth])


def test_from_its_start_to_its_end(control):
    done = run("start", "tiny", *ARMS, "--metric", "accuracy")
    assert done.exit_code == 0, done.output
    assert "tiny-1" in done.stdout
    assert "nobody carries it out" in done.stdout
    assert "`ekiben experiment status tiny --watch` follows it" in done.stdout
    assert "DIFFERENCE" not in done.stdout

    let_in(control, right=(40, 80))
    shown = run("status", "tiny").stdout
    cells = [line.split() for line in shown.splitlines() if line.startswith("new ")]
    assert cells[0][:8] == ["new", "2", "50", "%", "100", "100", "100", "100"]
    assert (cells[1][:3], cells[1][-1]) == (["new", "old", "+0.4"], "better")
    assert "new is better than old" in shown
    assert "Waudby-Smith" in shown

    done = run("stop", "tiny", "--promote", "new", "--reason", "clear")
    assert "Completed: stopped: clear; new (2) is champion" in done.stdout
    assert control.aliases.get("tiny")["champion"] == "2"


def test_what_was_asked_for_is_kept(control):
    done = run("start", "tiny", *ARMS, "--weights", "10,20.5", "--metric", "outcome", "--json")
    view = json.loads(done.stdout)
    assert [(a["name"], a["version"], a["weight"]) for a in view["arms"]] == [("old", "1", 10.0), ("new", "2", 20.5)]
    assert view["metric"] == "outcome"
    assert "@" in view["created_by"]
    assert json.loads(run("status", "tiny-1", "--json").stdout)["id"] == "tiny-1"
    assert json.loads(run("stop", "tiny", "--json").stdout)["status"] == "Completed"


def test_a_split_that_is_wrong_is_a_warning(control):
    run("start", "tiny", *ARMS, "--weights", "90,10")
    let_in(control, right=(50, 50))
    shown = run("status", "tiny").stdout
    assert "WARNING" in shown
    assert "decide nothing yet" in shown


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--arm", "old"], "'old'; it must be ARM=VERSION"),
        (["--arm", "=1"], "must be ARM=VERSION"),
        (["--arm", "a=1", "--arm", "a=2"], "--arm a is given twice"),
        ([*ARMS, "--weights", "50;50"], "'50;50'; it must be a percentage for each arm"),
        ([], "Missing option '--arm'"),
    ],
)
def test_wrong_usage(control, arguments, problem):
    done = run("start", "tiny", *arguments)
    assert (done.exit_code, problem in done.stderr) == (2, True), done.stderr


def test_what_is_refused_ends_with_a_line(control):
    done = run("start", "tiny", "--arm", "a=1")
    assert done.exit_code == 1
    assert "error: an experiment compares two arms or more" in done.stderr
    assert run("status", "tiny").exit_code == 1


class Sleeper:
    """Does something at each sleep."""

    def __init__(self, *steps):
        self.steps = list(steps)

    def __call__(self, seconds):
        step = self.steps.pop(0)
        step()


@pytest.fixture
def sleeps(monkeypatch):
    return lambda *steps: monkeypatch.setattr("time.sleep", Sleeper(*steps))


def nothing():
    pass


def test_a_line_for_each_change_until_it_ends(control, sleeps):
    run("start", "tiny", *ARMS)
    sleeps(nothing, lambda: let_in(control), nothing, lambda: run("stop", "tiny"))
    done = run("status", "tiny", "--watch")
    assert done.exit_code == 0
    first, second, third = done.stdout.splitlines()
    assert first == "tiny-1: Progressing; nobody carries it out: start a server or `ekiben controller`"
    assert second.startswith("tiny-1: Progressing; too few users to judge: old has 0 of 50 with ground truth; go on")
    assert third.startswith("tiny-1: Completed")


def test_json_lines(control, sleeps):
    run("start", "tiny", *ARMS)
    sleeps(lambda: run("stop", "tiny"))
    done = run("status", "tiny", "--watch", "--json")
    assert [json.loads(line)["status"] for line in done.stdout.splitlines()] == ["Progressing", "Completed"]


def test_ctrl_c_is_clean(control, sleeps):
    def interrupt():
        raise KeyboardInterrupt

    run("start", "tiny", *ARMS)
    sleeps(interrupt)
    done = run("status", "tiny", "--watch")
    assert (done.exit_code, len(done.stdout.splitlines())) == (130, 1)


def test_a_database_that_is_away_is_waited_for(control, sleeps, monkeypatch):
    def away(*_):
        raise StateError("the disk is on fire")

    run("start", "tiny", *ARMS)
    get = control.rollouts.get

    def back():
        monkeypatch.setattr(control.rollouts, "get", get)
        run("stop", "tiny")

    sleeps(lambda: monkeypatch.setattr(control.rollouts, "get", away), back)
    done = run("status", "tiny", "--watch")
    assert done.exit_code == 0
    assert done.stderr == "waits: the disk is on fire\n"
    monkeypatch.setattr(control.rollouts, "get", away)
    assert run("status", "tiny", "--watch").exit_code == 1


def test_on_a_terminal_it_is_shown_anew(control, registry, sleeps, monkeypatch, capsys):
    run("start", "tiny", *ARMS)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    sleeps(nothing, lambda: run("stop", "tiny"))
    assert _watch(Experiments(control, registry, who="x", wall=lambda: NOW), "tiny", as_json=False) == 0
    assert capsys.readouterr().out.count("method") == 3
