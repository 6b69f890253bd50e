import os
import stat

import pytest

from load_tests.bench.programs import LoadGeneratorMissing, ensure_program


def _program(folder, name, script):
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


def test_wrk_is_found_on_the_path(tmp_path, monkeypatch):
    wrk = _program(tmp_path, "wrk", "")
    monkeypatch.setenv("PATH", str(tmp_path))

    assert ensure_program("wrk") == str(wrk)


def test_a_missing_wrk_is_installed_with_apt_get(tmp_path, monkeypatch):
    _program(tmp_path, "sudo", 'shift; exec "$@"')
    _program(tmp_path, "apt-get", f'case "$*" in *install*wrk) printf "#!/bin/sh\\n" > {tmp_path}/wrk; /bin/chmod +x {tmp_path}/wrk;; esac')
    monkeypatch.setenv("PATH", str(tmp_path))

    assert ensure_program("wrk") == str(tmp_path / "wrk")


@pytest.mark.parametrize(
    ("script", "why"),
    [("echo E: no permission >&2; exit 100", "no permission"), ("exit 0", "not on the PATH")],
)
def test_where_installing_fails_the_error_says_what_to_do(tmp_path, monkeypatch, script, why):
    _program(tmp_path, "sudo", 'shift 1; exec "$@"')
    _program(tmp_path, "apt-get", script)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(LoadGeneratorMissing, match=rf"{why}.*install it \(Debian"):
        ensure_program("wrk")


def test_a_system_without_apt_get_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "PATH", str(tmp_path))

    with pytest.raises(LoadGeneratorMissing, match="no apt-get; install it"):
        ensure_program("wrk")


def test_the_package_has_another_name_than_its_program(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(LoadGeneratorMissing, match=r"h2load is not installed.*apt-get install nghttp2-client.*brew install nghttp2"):
        ensure_program("h2load")
