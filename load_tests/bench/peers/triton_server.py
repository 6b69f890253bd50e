"""Starts Triton Inference Server (the program that PyTriton's package brings) on a model repository that it writes.

The model runs in Triton's Python backend, one process an instance, behind the dynamic batcher. Runs in an environment of its own, so
it imports nothing of the project. Reads ``BENCH_NAME``, ``BENCH_WORKERS``, ``BENCH_FEATURES``, ``BENCH_CLASSES``, ``BENCH_PORT``,
``BENCH_GRPC_PORT`` and ``BENCH_FOLDER``; the model reads ``BENCH_MODEL``.
"""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

CONFIG = """
name: "{name}"
backend: "python"
max_batch_size: 128
input [ {{ name: "x", data_type: TYPE_FP32, dims: [ {features} ] }} ]
output [ {{ name: "y", data_type: TYPE_FP32, dims: [ {classes} ] }} ]
dynamic_batching {{ max_queue_delay_microseconds: 500 }}
instance_group [ {{ kind: KIND_CPU, count: {workers} }} ]
"""


def write_repository(folder: Path) -> Path:
    """A repository with the one model; gives its folder."""
    name = os.environ["BENCH_NAME"]
    version = folder / "repository" / name / "1"
    version.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("triton_model.py"), version / "model.py")
    config = CONFIG.format(
        name=name, features=os.environ["BENCH_FEATURES"], classes=os.environ["BENCH_CLASSES"], workers=os.environ["BENCH_WORKERS"]
    )
    (version.parent / "config.pbtxt").write_text(config)
    return version.parents[1]


def copy_backend(folder: Path, triton: Path) -> Path:
    """Triton's Python backend with the stub of this Python's version beside it; gives the folder of backends."""
    backends = folder / "backends"
    shutil.copytree(triton / "backends" / "python", backends / "python")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copy(triton / "python_backend_stubs" / version / "triton_python_backend_stub", backends / "python")
    return backends


if __name__ == "__main__":
    site = Path(sysconfig.get_paths()["purelib"])
    triton = site / "pytriton" / "tritonserver"
    folder = Path(os.environ["BENCH_FOLDER"]) / f"triton-{os.environ['BENCH_NAME']}-{os.environ['BENCH_WORKERS']}"
    shutil.rmtree(folder, ignore_errors=True)
    options = {
        "model-repository": write_repository(folder),
        "backend-directory": copy_backend(folder, triton),
        "http-address": "127.0.0.1",
        "http-port": os.environ["BENCH_PORT"],
        "http-thread-count": 1,
        "grpc-address": "127.0.0.1",
        "grpc-port": os.environ["BENCH_GRPC_PORT"],
        "allow-metrics": "false",
        "log-info": "false",
        "exit-timeout-secs": 5,
        "backend-config": "python,shm-default-byte-size=16777216",
    }
    # The stub takes its interpreter from the PATH.
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    os.environ["LD_LIBRARY_PATH"] = str(site / "nvidia_pytriton.libs")
    program = str(triton / "bin" / "tritonserver")
    os.execv(program, [program, *(f"--{name}={value}" for name, value in options.items())])  # noqa: S606  no shell is wanted
