"""Starts MLServer on a folder of settings that it writes: adaptive batching on, metrics off.

Runs in an environment of its own, so it imports nothing of the project. Reads ``BENCH_NAME``, ``BENCH_WORKERS``, ``BENCH_PORT``,
``BENCH_GRPC_PORT`` and ``BENCH_FOLDER``; the runtime reads ``BENCH_MODEL``.
"""

import json
import os
import socket
import sys
from pathlib import Path


def free_port() -> int:
    """A port that nothing listens on now: MLServer opens its metrics' one even where there are none."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
    return port


if __name__ == "__main__":
    workers = int(os.environ["BENCH_WORKERS"])
    folder = Path(os.environ["BENCH_FOLDER"]) / f"mlserver-{os.environ['BENCH_NAME']}-{workers}"
    folder.mkdir(exist_ok=True)
    settings = {
        "debug": False,
        "host": "127.0.0.1",
        "http_port": int(os.environ["BENCH_PORT"]),
        "grpc_port": int(os.environ["BENCH_GRPC_PORT"]),
        "metrics_port": free_port(),
        "metrics_endpoint": None,
        # One model process is fastest inside the server's own.
        "parallel_workers": 0 if workers == 1 else workers,
    }
    model = {"name": os.environ["BENCH_NAME"], "implementation": "mlserver_runtime.Bench", "max_batch_size": 128, "max_batch_time": 0.001}
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    mlserver = str(Path(sys.executable).parent / "mlserver")
    os.chdir(folder)
    os.execv(mlserver, [mlserver, "start", str(folder)])  # noqa: S606  no shell is wanted
