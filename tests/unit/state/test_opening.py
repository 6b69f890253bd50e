import subprocess
import sys

import pytest

from ekiben.errors import StateError
from ekiben.settings import load_settings
from ekiben.state import memory_control
from ekiben.state.opening import open_control
from ekiben.state.rollouts import Change
from ekiben.state.routes import Route


def test_the_settings_decide_where_it_is_and_nothing_is_created(tmp_path):
    control = open_control(load_settings({"EKIBEN_HOME": str(tmp_path / "home")}))
    assert control.name == f"sqlite:///{tmp_path / 'home' / 'control.db'}"
    assert (control.generation(), control.aliases.all(), control.rollouts.find()) == ((0, 0, 0), {}, [])
    assert not (tmp_path / "home").exists()
    control.rollouts.commit(Change(model="m", route=Route(), aliases={"champion": "1"}))
    assert control.generation() == (1, 0, 1)
    assert open_control(load_settings({"EKIBEN_HOME": str(tmp_path / "home")})).aliases.get("m") == {"champion": "1"}


def test_a_password_is_not_in_its_name():
    control = open_control(load_settings({"EKIBEN_DATABASE_URL": "postgresql://me:secret@host/db"}))
    assert control.name == "postgresql+psycopg://me:***@host/db"


def test_a_url_of_no_use_is_refused():
    with pytest.raises(StateError, match="of a kind Ekiben does not use"):
        open_control(load_settings({"EKIBEN_DATABASE_URL": "mysql://host/db"}))


def test_the_generation_of_the_twin_is_that_of_its_parts():
    control = memory_control()
    control.loads.set("m", loaded=True)
    control.aliases.set("m", "champion", "1")
    control.rollouts.commit(Change(model="m", route=Route()))
    assert control.generation() == (1, 1, 1)


def test_importing_the_package_loads_no_sqlalchemy():
    script = "import sys; import ekiben.state, ekiben.state.opening; print(sorted({'sqlalchemy', 'alembic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
