import pytest

from ekiben.errors import RegistryError
from ekiben.registry.packed_aliases import PackedAliases, bento_folder, packed_aliases
from ekiben.state import MemoryAliases

PACKED = {"tiny": {"champion": "1", "challenger": "2"}}
STORE = {("tiny", "1"), ("tiny", "2"), ("tiny", "3"), ("plane", "7")}


@pytest.fixture
def live():
    return MemoryAliases()


@pytest.fixture
def aliases(live):
    return PackedAliases(live, PACKED, lambda model, version: (model, version) in STORE)


def test_without_a_control_database_the_bentos_are_in_force(aliases, live):
    assert aliases.get("tiny") == PACKED["tiny"]
    assert aliases.get("plane") == {}
    assert aliases.all() == PACKED
    assert (aliases.generation(), live.all()) == (0, {})


def test_what_was_promoted_here_stays_so(aliases, live):
    live.set("tiny", "champion", "3")
    assert aliases.get("tiny") == {"champion": "3"}
    assert aliases.all() == {"tiny": {"champion": "3"}}
    assert aliases.generation() == 1


def test_a_champion_that_this_bento_does_not_bring_is_not_the_champion(aliases, live):
    live.set("tiny", "champion", "0")
    live.set("tiny", "challenger", "3")
    live.set("tiny", "former", "0")
    assert aliases.get("tiny") == {"champion": "1", "challenger": "3", "former": "0"}


def test_other_models_are_the_databases(aliases, live):
    live.set("plane", "champion", "7")
    assert aliases.all() == {"plane": {"champion": "7"}, **PACKED}


def test_the_first_change_writes_down_what_the_bento_says(aliases, live):
    assert aliases.set("tiny", "challenger", "3")
    assert live.get("tiny") == {"champion": "1", "challenger": "3"} == aliases.get("tiny")
    assert not aliases.set("tiny", "champion", "2", replace=False)
    assert aliases.remove("tiny", "challenger")
    assert aliases.get("tiny") == {"champion": "1"}
    assert not aliases.remove("tiny", "challenger")


def test_a_challenger_of_the_bento_can_be_taken_away(aliases, live):
    assert aliases.remove("tiny", "challenger")
    assert aliases.get("tiny") == {"champion": "1"} == live.get("tiny")


def test_what_the_store_lacks_was_never_there(live):
    aliases = PackedAliases(live, PACKED, lambda model, version: False)
    assert aliases.get("tiny") == {}
    assert aliases.all() == {}


def test_the_labels_of_a_bento_are_found_from_it_and_from_its_source(tmp_path):
    bento = tmp_path / "bento"
    (bento / "src").mkdir(parents=True)
    assert bento_folder(bento / "src") is None
    (bento / "bento.yaml").write_text("labels:\n  project: ekiben\n  champion.tiny: '20'\n  challenger.tiny: 21\n")
    assert bento_folder(bento / "src") == bento == bento_folder(bento)
    assert packed_aliases(bento) == {"tiny": {"champion": "20", "challenger": "21"}}


@pytest.mark.parametrize("text", ["", "[]", "labels:", "labels: [a]", "labels:\n  project: ekiben\n"])
def test_a_bento_without_our_labels_has_no_aliases(tmp_path, text):
    (tmp_path / "bento.yaml").write_text(text)
    assert packed_aliases(tmp_path) == {}


@pytest.mark.parametrize("content", [b"labels: [", b"\xff"])
def test_a_bento_that_cannot_be_read_is_an_error(tmp_path, content):
    (tmp_path / "bento.yaml").write_bytes(content)
    with pytest.raises(RegistryError, match="nobody knows which version is champion"):
        packed_aliases(tmp_path)
