import json
import signal

import pytest
from click.testing import CliRunner
from unit.load_tests.demo.told import answers, record

from load_tests.demo import __main__ as command
from load_tests.demo.project import CommandFailed


class Played:
    """A story that is over at once."""

    told = record()
    error = None

    def __init__(self, scenario, form, project, audience):
        self.form, self.answers = form, answers()

    async def play(self):
        if self.error is not None:
            raise self.error
        return self.told


@pytest.fixture
def run(tmp_path, monkeypatch):
    def ran(*words, told=None, error=None):
        monkeypatch.setattr(command, "Story", type("Story", (Played,), {"told": told or record(), "error": error}))
        return CliRunner().invoke(command.main, ["--report", str(tmp_path / "report"), *words])

    return ran


def test_it_plays_and_writes_everything(run, tmp_path):
    done = run("--short", "--json", str(tmp_path / "demo.json"))
    assert done.exit_code == 0, done.output
    assert "every promise held" in done.output
    assert json.loads((tmp_path / "demo.json").read_text())["form"] == "short"
    assert (tmp_path / "report" / "index.html").exists()


def test_a_broken_promise_is_exit_code_1(run):
    told = record()
    told.promises[0].holds = False
    assert run(told=told).exit_code == 1


def test_what_cannot_go_on_is_said(run):
    done = run(error=CommandFailed("ekiben models list ended with 1: no store"))
    assert done.exit_code == 2
    assert "no store" in done.output


def test_ctrl_c_ends_it(run):
    before = signal.getsignal(signal.SIGTERM)
    done = run(error=KeyboardInterrupt())
    assert done.exit_code == 130
    assert "nothing is left running" in done.output
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_folder_to_work_in_stays(run, tmp_path):
    (tmp_path / "work").mkdir()
    run("--work", str(tmp_path / "work"))
    assert (tmp_path / "work" / "models" / "flight_delay" / "model.yaml").exists()
