from __future__ import annotations

import json
import os
import signal
import sys
import threading

import pytest

from ekiben.errors import RetrainingError
from ekiben.monitoring.training_script import run_script


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Makes a module ``learn`` of lines, and runs it as a training script; what it tells is in ``told``."""
    monkeypatch.chdir(tmp_path)
    told: list[str] = []

    def run(*lines: str, module: str = "learn") -> str:
        (tmp_path / "learn.py").write_text("\n".join(["import json, os, sys, time", *lines]))
        return run_script(module, tmp_path / "rows.parquet", tell=told.append)

    run.told = told
    return run


def test_it_gets_the_rows_and_says_which_version_it_made(script, tmp_path):
    tag = script(
        "json.dump(sys.argv[1:], open('seen.json', 'w'))",
        "print('Reading', file=sys.stderr)",
        "print('', file=sys.stderr)",
        "print('Learning', file=sys.stderr)",
        "print(json.dumps({'tag': 'tiny:2', 'metrics': {}}))",
    )
    assert tag == "tiny:2"
    assert json.loads((tmp_path / "seen.json").read_text()) == ["--data", str(tmp_path / "rows.parquet"), "--json"]
    assert script.told == ["Reading", "Learning"]


def test_much_on_both_streams_blocks_nothing(script):
    assert script("print('x' * 500_000, file=sys.stderr)", "print(json.dumps({'tag': 'tiny:2', 'much': 'y' * 500_000}))") == "tiny:2"


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["sys.exit('Error: there are no late flights')"], "learn failed: there are no late flights"),
        (["raise ValueError('no')"], "learn failed: ValueError: no"),
        (["sys.exit(3)"], "learn failed: exit code 3, and it said nothing"),
        (["import a_package_that_there_is_not.part"], r"a_package_that_there_is_not is not installed; `pip install 'ekiben\[train\]'`"),
        (["sys.exit('Error: No such option: --data')"], "takes no --data FILE; docs/85-retraining.md"),
        (["print('done')"], "must print one JSON object with the version's tag; it printed 'done"),
        (["print(json.dumps({'version': '2'}))"], "must print one JSON object with the version's tag"),
    ],
)
def test_what_went_wrong_is_said(script, lines, why):
    with pytest.raises(RetrainingError, match=why):
        script(*lines)


@pytest.mark.parametrize("module", ["learn_not", "nowhere.learn"])
def test_a_module_that_there_is_not(script, module):
    with pytest.raises(RetrainingError, match=r"no such module; .*monitor\.retrain\.module"):
        script(module=module)


@pytest.mark.parametrize("stubborn", [False, True])
def test_it_ends_with_the_process_that_started_it(tmp_path, monkeypatch, stubborn):
    monkeypatch.setattr("ekiben.monitoring.training_script._STOP_S", 0.5)
    monkeypatch.chdir(tmp_path)
    ignoring = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" if stubborn else ""
    (tmp_path / "learn.py").write_text(
        f"{ignoring}import os, sys, time\nprint(os.getpid(), file=sys.stderr, flush=True)\ntime.sleep(600)\n"
    )
    pids: list[int] = []

    def told(line):
        pids.append(int(line))
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_script("learn", tmp_path / "rows.parquet", tell=told)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_the_same_python_runs_it(script):
    assert script("print(json.dumps({'tag': sys.executable}))") == sys.executable
