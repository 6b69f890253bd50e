import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from ekiben.errors import StateError
from ekiben.state import migrations
from ekiben.state.database import Database
from ekiben.state.schema import HEAD


@pytest.fixture
def scripts():
    config = Config()
    config.set_main_option("script_location", migrations.__path__[0])
    return ScriptDirectory.from_config(config)


def test_the_schema_knows_the_newest_revision_and_revisions_compare_as_text(scripts):
    revisions = [script.revision for script in scripts.walk_revisions()]
    assert scripts.get_heads() == [HEAD]
    assert revisions == sorted(revisions, reverse=True)
    assert all(len(revision) == 4 for revision in revisions)


def test_no_revision_has_a_way_down(scripts):
    for script in scripts.walk_revisions():
        with pytest.raises(StateError, match="an older Ekiben uses it as it is"):
            script.module.downgrade()


def test_a_folder_with_a_percent_sign_is_migrated(tmp_path):
    database = Database(f"sqlite:///{tmp_path / '100% mine' / 'control.db'}")
    assert database.upgrade()
    assert (tmp_path / "100% mine" / "control.db").is_file()
    database.close()
