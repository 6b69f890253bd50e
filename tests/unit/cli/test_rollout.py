import getpass
import json
import socket

import click
import msgspec
import pytest
import yaml
from unit.admin_world import KEY, SERVER, World, installed, run

from ekiben.cli import main
from ekiben.model.rollout_spec import PlanSpec
from ekiben.rollout.plan import default_plan
from ekiben.rollout.views import StatusView

PLAN = "steps:\n- setWeight: 5\n- pause: until approved\n"


@pytest.fixture
def world(tmp_path, tiny_artifact, monkeypatch):
    world = World(tmp_path, tiny_artifact)
    installed(world, monkeypatch)
    return world


@pytest.fixture(params=[(), ("--server", SERVER, "--key-file", "key"), ("--server", SERVER, "--key", KEY)], ids=["here", "key-file", "key"])
def where(request):
    return request.param


def test_start_prints_what_will_happen_and_how_to_watch(world):
    (world.key_file.parent / "plan.yaml").write_text(PLAN)
    out = run("rollout", "start", "tiny", "--to", "2", "--plan", "plan.yaml").stdout.splitlines()
    assert out == [
        "tiny-1: tiny goes from 1 to 2:",
        "  1. setWeight: 5",
        "  2. pause: until approved",
        out[3],
        "watch it: ekiben rollout status tiny --watch",
        "stop it: ekiben rollout abort tiny",
    ]
    assert out[3].startswith("next: ")
    assert world.control.rollouts.get("tiny-1").created_by == f"{getpass.getuser()}@{socket.gethostname()}"


def test_through_a_server_the_hint_says_so_and_has_no_key(world):
    out = run("rollout", "start", "tiny", "--to", "2", "--server", SERVER, "--key", KEY).stdout
    assert f"watch it: ekiben rollout status tiny --server {SERVER} --key-file FILE --watch" in out
    assert KEY not in out


def test_every_command_here_and_through_a_server(world, where):
    view = msgspec.json.decode(run("rollout", "start", "tiny", "--to", "tiny:2", "--json", *where).stdout, type=StatusView)
    assert view.id == "tiny-1"
    assert run("rollout", "pause", "tiny", *where).stdout.splitlines()[0].startswith("tiny-1 is Paused: paused by ")
    assert json.loads(run("rollout", "status", "--json", *where).stdout)[0]["status"] == "Paused"
    assert run("rollout", "resume", "tiny", *where).stdout.splitlines()[0] == "tiny-1 is Progressing"
    world.loads()
    assert "next: " in run("rollout", "promote", "tiny", *where).stdout
    shown = run("rollout", "status", "tiny", *where).stdout
    assert "tiny: 1 → 2" in shown
    assert ["✓", "shadow:", "100", "%", "done"] in [line.split()[:5] for line in shown.splitlines()]
    assert json.loads(run("rollout", "promote", "tiny", "--full", "--json", *where).stdout)["status"] == "Completed"
    listed = run("rollout", "list", *where).stdout.splitlines()
    assert listed[0].split()[:3] == ["ID", "VERSIONS", "STATUS"]
    assert listed[1].split()[:5] == ["tiny-1", "1", "→", "2", "Completed"]
    assert "running servers follow within a second" in run("rollback", "tiny", *where).stdout
    assert world.control.aliases.get("tiny")["champion"] == "1"
    history = run("rollout", "history", "tiny", "--limit", "2", *where).stdout.splitlines()
    assert len(history) == 3
    assert json.loads(run("rollout", "history", "tiny", "--json", *where).stdout)[0]["kind"] == "started"
    plan = msgspec.convert(yaml.safe_load(run("rollout", "plan", "tiny", *where).stdout), PlanSpec)
    assert plan == default_plan()


def test_abort_and_list(world):
    run("rollout", "start", "tiny", "--to", "2")
    assert run("rollout", "abort", "tiny", "--reason", "complaints").stdout == "tiny-1 is Aborted: complaints\n"
    run("rollout", "start", "tiny", "--to", "3")
    assert [r["id"] for r in json.loads(run("rollout", "list", "--json").stdout)] == ["tiny-2", "tiny-1"]
    assert [r["id"] for r in json.loads(run("rollout", "list", "tiny", "--active", "--json").stdout)] == ["tiny-2"]
    assert len(json.loads(run("rollout", "list", "--limit", "1", "--json").stdout)) == 1


def test_where_there_is_nothing_it_says_what_to_do(world):
    assert run("rollout", "status").stdout == "no rollout is active; `ekiben rollout list` shows those that ended\n"
    assert run("rollout", "list").stdout == "there are no rollouts; `ekiben rollout start NAME --to VERSION` starts one\n"
    assert run("rollout", "history", "tiny").stdout == "nothing happened to tiny yet\n"
    assert json.loads(run("rollout", "status", "--json").stdout) == []
    assert "give a NAME to watch" in run("rollout", "status", "--watch", code=2).stderr


def test_status_of_all_shows_each(world):
    run("rollout", "start", "tiny", "--to", "2")
    assert "tiny-1" in run("rollout", "status").stdout


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("rollout", "status", "tiny"), "there is no rollout 'tiny'"),
        (("rollout", "start", "tiny", "--to", "9"), "tiny has no version or alias '9'"),
        (("rollout", "start", "tiny", "--to", "1"), "champion already"),
        (("rollout", "start", "tiny", "--to", "2", "--plan", "none.yaml"), "none.yaml"),
        (("rollout", "promote", "tiny"), "no active rollout"),
        (("rollback", "tiny"), "no former champion"),
        (("rollout", "list", "--server", "server", "--key", KEY), "http"),
        (("rollout", "list", "--server", SERVER, "--key", "another-key-of-the-tests"), "not that of this server"),
    ],
)
def test_errors_are_one_line(world, monkeypatch, arguments, error):
    if "server" in arguments:
        monkeypatch.undo()
    done = run(*arguments, code=1)
    assert error in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("reason", "code"), [("promote", 0), ("abort", 3)])
def test_watch_ends_with_the_rollout(world, monkeypatch, where, reason, code):
    def while_it_waits(seconds):
        world.loads() if reason == "promote" else None
        operations = world.operations_for("kim@desk")
        operations.promote("tiny", full=True) if reason == "promote" else operations.abort("tiny")

    monkeypatch.setattr("time.sleep", while_it_waits)
    lines = run("rollout", "start", "tiny", "--to", "2", "--watch", *where, code=code).stdout.splitlines()
    assert "Progressing" in lines[0]
    assert ("Completed" if code == 0 else "Aborted") in lines[-1]
    again = run("rollout", "status", "tiny", "--watch", "--json", *where, code=code).stdout.splitlines()
    assert len(again) == 1
    assert json.loads(again[0])["id"] == "tiny-1"
    assert run("rollout", "status", "tiny", *where).exit_code == 0  # only --watch says how it ended


def test_watch_stays_with_the_rollout_it_began_with(world, monkeypatch):
    run("rollout", "start", "tiny", "--to", "2")

    def meanwhile(seconds):
        operations = world.operations_for("kim@desk")
        operations.abort("tiny")
        operations.start("tiny", "3")

    monkeypatch.setattr("time.sleep", meanwhile)
    assert "Aborted" in run("rollout", "status", "--watch", code=3).stdout


def test_plans(world):
    assert msgspec.convert(yaml.safe_load(run("rollout", "plan").stdout), PlanSpec) == default_plan()
    assert msgspec.json.decode(run("rollout", "plan", "tiny", "--json").stdout, type=PlanSpec) == default_plan()
    file = world.key_file.parent / "plan.yaml"
    file.write_text(PLAN)
    shown = run("rollout", "plan", "--plan", file).stdout
    assert yaml.safe_load(shown)["steps"] == [{"setWeight": 5}, {"pause": {}}]
    file.write_text(shown)
    assert run("rollout", "plan", "tiny", "--plan", file).stdout == shown
    file.write_text("steps:\n- setWeight: 500\n")
    assert "steps[0].setWeight" in run("rollout", "plan", "--plan", file, code=1).stderr


def commands(group):
    for command in group.commands.values():
        yield from commands(command) if isinstance(command, click.Group) else [command]


def test_every_command_takes_json_and_a_server():
    for command in [*commands(main.commands["rollout"]), main.commands["rollback"]]:
        options = {option for parameter in command.params for option in parameter.opts}
        assert {"--json", "--server", "--key", "--key-file"} <= options
        assert command.help
