import asyncio
import time

import pytest

from ekiben.model.spec import load_spec
from load_tests.demo.project import CommandFailed, Project
from load_tests.demo.scenario import SHORT


@pytest.fixture
def project(tmp_path):
    (tmp_path / "p").mkdir()
    return Project(tmp_path / "p", SHORT, environ={"PATH": "/usr/bin:/bin", "EKIBEN_HOME": "/elsewhere", "HOME": str(tmp_path)})


def test_it_has_its_own_models_training_and_stores(project):
    assert load_spec(project.root / "models" / "flight_delay" / "model.yaml").monitor.retrain.enabled
    assert (project.root / "training" / "flight_delay.py").exists()
    assert (project.root / "service.py").exists()
    assert project.environ["EKIBEN_HOME"] == str(project.home)
    assert project.environ["BENTOML_HOME"].startswith(str(project.root))


def test_its_own_training_code_is_the_one_that_is_run(project):
    (project.root / "where.py").write_text("import training.command as c; print(c.MODELS)")
    assert asyncio.run(project.run("where")).strip() == str(project.root / "models")


def test_commands_answer_in_json(project):
    assert asyncio.run(project.ask("models", "list")) == []


def test_a_command_that_fails_says_why(project):
    with pytest.raises(CommandFailed, match="nonsense"):
        asyncio.run(project.run("ekiben", "nonsense"))


def test_a_command_that_is_left_behind_is_ended(project):
    (project.root / "slow.py").write_text(
        "import pathlib, time; pathlib.Path('begun').touch(); time.sleep(60); pathlib.Path('done').touch()"
    )

    async def leave():
        task = asyncio.create_task(project.run("slow"))
        while not (project.root / "begun").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    began = time.monotonic()
    asyncio.run(leave())
    assert time.monotonic() - began < 30
    assert not (project.root / "done").exists()
