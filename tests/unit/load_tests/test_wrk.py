import os
import stat

import pytest

from load_tests.bench.wrk import WrkFailed, ensure_wrk, parse_result, run_wrk

OUTPUT = """Running 2s test @ http://127.0.0.1:1/
  1 threads and 32 connections
RESULT duration_us=2000000 p50_us=811 p99_us=4200 max_us=9000 connect=1 read=0 write=0 timeout=2 status_503=30 status_200=2000
"""


def _program(folder, name, script):
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


def test_only_answers_with_200_count_and_the_others_are_errors_by_status():
    load = parse_result(OUTPUT)

    assert (load.answered, load.rps, load.seconds) == (2000, 1000.0, 2.0)
    assert (load.p50_ms, load.p99_ms, load.max_ms) == (0.811, 4.2, 9.0)
    assert load.errors == {"503": 30, "connect": 1, "timeout": 2}


def test_a_load_without_any_answer_has_no_rps_and_says_so():
    load = parse_result("RESULT duration_us=1000000 p50_us=0 p99_us=0 max_us=0 connect=32 read=0 write=0 timeout=0")

    assert (load.answered, load.rps, load.errors) == (0, 0.0, {"connect": 32})


def test_output_without_a_result_is_an_error_that_shows_it():
    with pytest.raises(WrkFailed, match="unable to connect"):
        parse_result("unable to connect to 127.0.0.1:1 Connection refused")


def test_the_load_is_bounded_in_time_and_headers_reach_the_script(tmp_path):
    wrk = _program(tmp_path, "wrk", f'echo "$@" > {tmp_path}/arguments; echo "{OUTPUT.splitlines()[2]}"')

    load = run_wrk(str(wrk), "http://127.0.0.1:1/x", tmp_path / "b", connections=8, seconds=0.2, headers={"X-Request-Timeout-Ms": "250"})

    assert load.answered == 2000
    arguments = (tmp_path / "arguments").read_text().split()
    assert {"-t1", "-c8", "-d1s"} <= set(arguments)
    assert arguments[arguments.index("--") :] == ["--", str(tmp_path / "b"), "X-Request-Timeout-Ms:250"]


def test_wrk_that_ends_badly_is_an_error(tmp_path):
    wrk = _program(tmp_path, "wrk", "echo no such host >&2; exit 1")

    with pytest.raises(WrkFailed, match="code 1: no such host"):
        run_wrk(str(wrk), "http://127.0.0.1:1/x", tmp_path / "b", connections=1, seconds=1)


def test_wrk_is_found_on_the_path(tmp_path, monkeypatch):
    wrk = _program(tmp_path, "wrk", "")
    monkeypatch.setenv("PATH", str(tmp_path))

    assert ensure_wrk() == str(wrk)


def test_a_missing_wrk_is_installed_with_apt_get(tmp_path, monkeypatch):
    _program(tmp_path, "sudo", 'shift; exec "$@"')
    _program(tmp_path, "apt-get", f'case "$*" in *install*wrk) printf "#!/bin/sh\\n" > {tmp_path}/wrk; /bin/chmod +x {tmp_path}/wrk;; esac')
    monkeypatch.setenv("PATH", str(tmp_path))

    assert ensure_wrk() == str(tmp_path / "wrk")


@pytest.mark.parametrize(
    ("script", "why"),
    [("echo E: no permission >&2; exit 100", "no permission"), ("exit 0", "not on the PATH")],
)
def test_where_installing_fails_the_error_says_what_to_do(tmp_path, monkeypatch, script, why):
    _program(tmp_path, "sudo", 'shift 1; exec "$@"')
    _program(tmp_path, "apt-get", script)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(WrkFailed, match=rf"{why}.*install it \(Debian"):
        ensure_wrk()


def test_a_system_without_apt_get_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "PATH", str(tmp_path))

    with pytest.raises(WrkFailed, match="no apt-get; install it"):
        ensure_wrk()
