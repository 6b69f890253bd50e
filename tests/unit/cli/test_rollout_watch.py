import io
import json

import msgspec
import pytest

from ekiben.cli.rollout_watch import watch
from ekiben.errors import StateError, UnknownRollout
from ekiben.rollout.views import StatusView

VIEW = StatusView(
    id="tiny-3",
    model="tiny",
    kind="rollout",
    champion="1",
    challenger="2",
    status="Progressing",
    message="",
    created=1.0,
    created_by="kim",
    ended=0.0,
    now=2.0,
    paused=False,
    step=0,
    steps=(),
    arms=(),
    next="in 9 s: x",
)


def but(**changes):
    return msgspec.structs.replace(VIEW, **changes)


ENDED = but(status="Completed", ended=9.0, next="")


def watched(*answers, as_json=False):
    """Watches what is answered, one after the other; returns the exit code and how often it slept."""
    left, slept = list(answers), []

    def ask():
        answer = left.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    code = watch(ask, as_json=as_json, sleep=slept.append, again="ekiben rollout status tiny --watch")
    assert left == []
    return code, slept


@pytest.mark.parametrize(("status", "code"), [("Completed", 0), ("RolledBack", 3), ("Aborted", 3)])
def test_the_exit_code_says_how_it_ended(status, code, capsys):
    assert watched(VIEW, but(status=status, ended=9.0)) == (code, [0.5])
    assert status in capsys.readouterr().out.splitlines()[-1]


def test_one_that_ended_is_shown_once(capsys):
    assert watched(ENDED) == (0, [])
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_line_for_each_change_and_none_without(capsys):
    watched(VIEW, but(now=3.0, next="in 8 s: x"), but(status="Paused"), but(status="Paused", now=4.0), ENDED)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[1].split(";")[0] for line in lines] == ["Progressing", "Paused", "Completed"]


def test_json_lines(capsys):
    watched(VIEW, VIEW, StateError("away"), ENDED, as_json=True)
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["Progressing", "Completed"]


def test_a_database_that_is_away_is_waited_for(capsys):
    assert watched(VIEW, StateError("the database is away"), StateError("the database is away"), VIEW, ENDED)[0] == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[1] == "waits: the database is away"


def test_one_that_is_away_from_the_beginning_is_an_error():
    with pytest.raises(StateError):
        watched(StateError("away"))
    with pytest.raises(UnknownRollout):
        watched(VIEW, UnknownRollout("gone"))


def test_ctrl_c_leaves_cleanly(capsys):
    assert watched(VIEW, KeyboardInterrupt())[0] == 130
    assert capsys.readouterr().err == "it goes on; `ekiben rollout status tiny --watch` shows it again\n"


def test_a_live_view_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr("sys.stdout", terminal)
    assert watched(VIEW, StateError("away"), ENDED)[0] == 0
    text = terminal.getvalue()
    assert "Progressing" in text
    assert "waits: away" in text
    assert "Completed" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor comes back


def test_ctrl_c_gives_the_terminal_back(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr("sys.stdout", terminal)
    assert watched(VIEW, KeyboardInterrupt())[0] == 130
    assert "\x1b[?25h" in terminal.getvalue()
