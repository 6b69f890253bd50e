import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from ekiben import __version__
from ekiben.cli import main
from ekiben.cli.printing import size


def test_help_and_version():
    runner = CliRunner()
    assert "predict" in runner.invoke(main, ["--help"]).output
    assert runner.invoke(main, ["--version"]).output.strip() == f"ekiben, version {__version__}"


def test_wrong_usage_exits_2():
    for arguments in (
        ["none"],
        ["models", "none"],
        ["models", "show"],
        ["models", "verify"],
        ["predict", "m"],
        ["models", "list", "--none"],
    ):
        assert CliRunner().invoke(main, arguments).exit_code == 2


def test_a_wrong_setting_exits_1_with_one_line():
    done = CliRunner().invoke(main, ["models", "list"], env={"EKIBEN_WORKERS": "many"})
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "error: EKIBEN_WORKERS is 'many'; it must be a number from 1 to 1024\n"


@pytest.mark.parametrize("arguments", ["['--help']", "['models', '--help']", "['models', 'schema']"])
def test_what_needs_no_framework_loads_none(arguments):
    script = (
        "import sys; from ekiben.cli import main\n"
        f"main({arguments}, standalone_mode=False)\n"
        "heavy = {'bentoml', 'sqlalchemy', 'onnxruntime', 'sklearn', 'torch', 'pandas', 'pyarrow'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(("missing", "arguments"), [("pyarrow", ["log", "status"]), ("duckdb", ["log", "query", "SELECT 1"])])
def test_what_the_extra_monitor_brings_is_said_where_it_is_missing(missing, arguments, tmp_path):
    script = f"import sys; sys.modules[{missing!r}] = None; from ekiben.cli import main; main({arguments})"
    env = {**os.environ, "EKIBEN_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        f"error: this needs {missing}, which is not installed here; pip install 'ekiben[monitor]'\n",
    )


def test_what_else_is_missing_is_an_error_with_its_traceback(monkeypatch):
    monkeypatch.setitem(sys.modules, "ekiben.monitoring.log_reader", None)
    done = CliRunner().invoke(main, ["log", "status"])
    assert isinstance(done.exception, ModuleNotFoundError)


def test_it_runs_as_a_module_too():
    done = subprocess.run([sys.executable, "-m", "ekiben", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith(__version__)


@pytest.mark.parametrize(
    ("n_bytes", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 * 2**40, "3.0 TiB"), (2**51, "2048.0 TiB")]
)
def test_sizes(n_bytes, text):
    assert size(n_bytes) == text
