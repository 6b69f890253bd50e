"""A real `bentoml serve` for tests: its own project folder, model store and port."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import httpx
import psutil

from ekiben.model import Artifact
from ekiben.model.spec import dump_spec

BENTOML = Path(sys.executable).with_name("bentoml")
SERVICE = 'from ekiben.serving import build_service\n\nsvc = build_service("models")\n'


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Project:
    """A folder that `bentoml serve` can serve, with a model store of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("EKIBEN_", "BENTOML_", "PROMETHEUS_"))},
            "BENTOML_HOME": str(root / "bentoml"),
            "EKIBEN_HOME": str(root / "home"),
            "BENTOML_DO_NOT_TRACK": "1",
        }
        (root / "bentoml").mkdir(parents=True)
        (root / "models").mkdir()
        (root / "service.py").write_text(SERVICE)

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a Python module in this project, for example ``run("ekiben", "models", "list")``."""
        return subprocess.run(
            [sys.executable, "-m", *command], cwd=self.root, env=self.env, capture_output=True, text=True, timeout=120, check=check
        )

    def register(self, *artifacts: Artifact, version: str) -> None:
        """Registers artifacts in this project's store, by a process of its own as BentoML reads its home once."""
        script = (
            "import sys, pathlib; from ekiben.registry import open_registry; from ekiben.settings import load_settings;"
            "r = open_registry(load_settings());"
            "[r.register(pathlib.Path(p), tag=t) for p, t in zip(sys.argv[1::2], sys.argv[2::2])]"
        )
        pairs = [text for a in artifacts for text in (str(a.path), f"{a.spec.name}:{version}")]
        subprocess.run([sys.executable, "-c", script, *pairs], env=self.env, check=True, timeout=120)
        for artifact in artifacts:
            folder = self.root / "models" / artifact.spec.name
            folder.mkdir(exist_ok=True)
            (folder / "model.yaml").write_text(dump_spec(artifact.spec))

    def stored(self, tag: str) -> Path:
        """The folder of a version in the store."""
        return self.root / "bentoml" / "models" / tag.replace(":", "/")


class Running:
    """`bentoml serve` of a project."""

    def __init__(self, project: Project, *, workers: int = 2, arguments: Sequence[str] = (), **env: str) -> None:
        self.project = project
        self.port = free_port()
        self.data_port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.data_url = f"http://127.0.0.1:{self.data_port}"
        self.log = project.root / f"serve-{self.port}.log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [str(BENTOML), "serve", "service:svc", "--host", "127.0.0.1", "--port", str(self.port), *arguments],
                cwd=project.root,
                env={
                    **project.env,
                    "EKIBEN_WORKERS": str(workers),
                    "EKIBEN_DRAIN_S": "0.5",
                    "EKIBEN_DATA_PORT": str(self.data_port),
                    **env,
                },
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait(self, path: str = "/readyz", *, status: int = 200, seconds: float = 60) -> httpx.Response:
        """Waits until a path answers with a status."""
        end = time.monotonic() + seconds
        last: object = None
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()
            try:
                last = httpx.get(self.url + path, timeout=5)
                if last.status_code == status:
                    return last
            except httpx.TransportError as e:
                last = e
            time.sleep(0.1)
        raise AssertionError(f"{path} did not answer {status} in {seconds} s; last: {last}\n{self.log.read_text()}")

    def workers(self) -> list[int]:
        """Process ids of the serving workers."""
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                if "_bentoml_impl.worker.service" in " ".join(child.cmdline()):
                    found.append(child.pid)
        return found

    def stop(self, *, seconds: float = 30) -> int:
        """SIGTERM, as an orchestrator does it; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(5)
                raise
        return self.process.returncode


def metric(text: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    total = 0.0
    for line in text.splitlines():
        if match := re.match(rf"^{name}(?:\{{(.*)\}})? (\S+)$", line):
            found = dict(re.findall(r'(\w+)="([^"]*)"', match[1] or ""))
            if all(found.get(key) == value for key, value in labels.items()):
                total += float(match[2])
    return total
