import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from ekiben.registry import slimming
from ekiben.registry.slimming import cut_symbols, slim

FILES = (
    "numpy/core/tests/test_core.py",
    "numpy/test/data.bin",
    "numpy/testing/__init__.py",
    "numpy/contest.py",
    "numpy/__init__.pyi",
    "numpy/include/numpy.h",
    "numpy/lib/libnpymath.a",
    "numpy/f2py/__init__.py",
    "sqlalchemy/testing/__init__.py",
    "uvloop/loop.pyx",
    "uvloop/loop.pyc",
    "onnxruntime/capi/libonnxruntime.so.1.30.0",
    "onnxruntime/capi/_pybind_state.py",
    "onnxruntime/tools/convert.py",
    "onnxruntime/ThirdPartyNotices.txt",
    "botocore/data/s3/2006-03-01/service-2.json.gz",
    "botocore/data/s3control/2018-08-20/service-2.json.gz",
    "botocore/data/ec2/2016-11-15/service-2.json.gz",
    "botocore/data/endpoints.json",
    "botocore/data/partitions.json",
    "pyarrow/libarrow.so.2300",
    "pyarrow/libarrow_flight.so.2300",
    "pyarrow/_s3fs.cpython-311-x86_64-linux-gnu.so",
    "a.dist-info/METADATA",
)
STAY = {
    "numpy/testing/__init__.py",
    "numpy/f2py/__init__.py",  # scipy imports all that numpy names
    "numpy/contest.py",
    "uvloop/loop.pyc",
    "onnxruntime/capi/_pybind_state.py",
    "onnxruntime/ThirdPartyNotices.txt",
    "botocore/data/s3/2006-03-01/service-2.json.gz",
    "botocore/data/endpoints.json",
    "botocore/data/partitions.json",
    "pyarrow/libarrow.so.2300",
    "a.dist-info/METADATA",
}


@pytest.fixture
def packages(tmp_path):
    folder = tmp_path / "lib/python3.11/site-packages"
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * 1000)
    return folder


def left(packages):
    return {path.relative_to(packages).as_posix() for path in packages.rglob("*") if path.is_file()}


def test_what_nobody_reads_goes_and_nothing_else(packages):
    assert slim(packages) == 1000 * (len(FILES) - len(STAY))
    assert left(packages) == STAY
    assert slim(packages) == 0


def test_who_brings_boto3_may_ask_any_service(packages):
    (packages / "boto3").mkdir()
    slim(packages)
    assert left(packages) == STAY | {name for name in FILES if name.startswith("botocore/")}


def test_every_cut_has_a_reason():
    assert all(cut.why for cut in slimming.CUTS)


def test_a_link_is_not_followed(packages, tmp_path):
    (tmp_path / "elsewhere/tests").mkdir(parents=True)
    (tmp_path / "elsewhere/x.h").touch()
    (packages / "linked").symlink_to(tmp_path / "elsewhere")
    (packages / "tests").symlink_to(tmp_path / "elsewhere")
    (packages / "lib.so.1").symlink_to("pyarrow/libarrow.so.2300")
    slim(packages)
    assert (tmp_path / "elsewhere/tests").is_dir()
    assert (tmp_path / "elsewhere/x.h").is_file()
    assert not (packages / "tests").exists()
    assert (packages / "lib.so.1").is_symlink()


def test_it_runs_by_itself_with_python_alone(packages):
    done = subprocess.run(
        [sys.executable, "-I", "-S", slimming.__file__, str(packages.parents[2])], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.endswith("MB that nobody reads who serves are gone\n")
    assert left(packages) == STAY


@pytest.mark.skipif(sys.platform != "linux", reason="ELF is Linux's")
def test_a_shared_object_without_its_symbols_works_as_before(tmp_path):
    shutil.copytree(Path(msgspec.__file__).parent, tmp_path / "msgspec", ignore=shutil.ignore_patterns("__pycache__"))
    (made,) = (tmp_path / "msgspec").glob("_core*.so")
    with made.open("ab") as file:
        file.write(b"1" * 4096)
    made.chmod(0o755)
    cached = tmp_path / "cached.so"
    os.link(made, cached)
    before = made.stat()
    cut_symbols(made)
    assert made.stat().st_size <= before.st_size - 4096
    assert made.stat().st_mode == before.st_mode
    assert cached.stat().st_size == before.st_size, "the installer's cache has it as it was"
    header = made.read_bytes()[:64]
    assert (struct.unpack_from("<Q", header, 40), struct.unpack_from("<HH", header, 60)) == ((0,), (0, 0))
    use = "import msgspec; print(msgspec._core.__file__, msgspec.json.decode(b'[1]', type=list[int]))"
    done = subprocess.run(
        [sys.executable, "-c", use],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, f"{made} [1]"), done.stderr
    whole = made.read_bytes()
    cut_symbols(made)
    assert made.read_bytes() == whole


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"\x7fELF\x01\x01" + bytes(100), b"INPUT(-lfoo)\n" * 9])
def test_what_is_no_elf_for_64_bits_stays_as_it_is(tmp_path, content):
    file = tmp_path / "x.so"
    file.write_bytes(content)
    cut_symbols(file)
    assert file.read_bytes() == content
    assert list(Path(tmp_path).iterdir()) == [file]
