"""The demo's own project: a temporary folder with its models, its training code, its stores, and the ``ekiben`` commands in it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

from load_tests.bench.servers import server_environ
from load_tests.demo.scenario import MODEL, Scenario, with_settings

REPOSITORY: Final = Path(__file__).resolve().parents[2]
_SHOWN: Final = 2000
_ENDS_S: Final = 5.0


class CommandFailed(Exception):
    """A command of the demo ended with an error."""


class Project:
    """A project that can be trained, served and asked.

    Args:
        root: Its folder, which must be empty.
        scenario: What its model's settings are made for.
        environ: The environment that is added to.
    """

    def __init__(self, root: Path, scenario: Scenario, *, environ: dict[str, str] | None = None) -> None:
        self.root = root
        self.home = root / "home"
        more = {"BENTOML_HOME": str(root / "bentoml"), "EKIBEN_HOME": str(self.home), "BENTOML_DO_NOT_TRACK": "1"}
        # The project's own copies come first: it is the working directory of all that is run in it.
        self.environ = server_environ({**more, "PYTHONPATH": str(REPOSITORY)}, dict(os.environ if environ is None else environ))
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / "training", root / "training", ignore=ignored)
        shutil.copytree(REPOSITORY / "models" / MODEL, root / "models" / MODEL, ignore=ignored)
        shutil.copy(REPOSITORY / "service.py", root / "service.py")
        (root / "bentoml").mkdir()
        spec = root / "models" / MODEL / "model.yaml"
        spec.write_text(with_settings(spec.read_text(encoding="utf-8"), scenario), encoding="utf-8")

    async def run(self, module: str, *words: str) -> str:
        """What a Python module prints that is run in this project.

        Raises:
            CommandFailed: It ended with an error; the message has what it said.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            *words,
            cwd=self.root,
            env=self.environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, errors = await process.communicate()
        finally:
            await _ended(process)
        if process.returncode != 0:
            said = (errors or out).decode(errors="replace").strip()[-_SHOWN:]
            raise CommandFailed(f"{' '.join([module, *words])} ended with {process.returncode}: {said}")
        return out.decode()

    async def ask(self, *words: str) -> Any:
        """What an ``ekiben`` command answers, as JSON.

        Raises:
            CommandFailed: As of `run`.
        """
        return msgspec.json.decode(await self.run("ekiben", *words, "--json"))


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Ends a process that is left behind, because this one was stopped."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _ENDS_S)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
