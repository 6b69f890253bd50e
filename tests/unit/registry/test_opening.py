from ekiben.registry import BentoRegistry, open_registry
from ekiben.settings import load_settings
from ekiben.state import MemoryAliases
from ekiben.state.sql_aliases import SqlAliases
from ekiben.state.sql_loads import SqlLoads


def test_the_settings_decide_where_aliases_are(tmp_path, make_artifact, monkeypatch):
    from bentoml._internal.configuration.containers import BentoMLContainer

    with BentoMLContainer.bentoml_home.patch(str(tmp_path / "bentoml")):
        registry = open_registry(load_settings({"EKIBEN_HOME": str(tmp_path / "home")}))
        assert isinstance(registry, BentoRegistry)
        assert isinstance(registry.aliases, SqlAliases)
        assert isinstance(registry.loads, SqlLoads)
        assert (registry.loads.all(), registry.aliases.generation(), registry.loads.generation()) == ({}, 0, 0)
        assert registry.versions() == []
        assert not (tmp_path / "home").exists()
        registry.register(make_artifact(), tag="flight_delay:1")
        assert registry.resolve("flight_delay@champion").path == tmp_path / "bentoml" / "models" / "flight_delay" / "1"
    assert (tmp_path / "home" / "control.db").is_file()


def test_in_a_bento_the_aliases_are_its_own_and_so_are_models_that_it_brings(tmp_path, make_artifact):
    bento = tmp_path / "bento"
    (bento / "src").mkdir(parents=True)
    (bento / "bento.yaml").write_text("labels: {champion.flight_delay: '1', challenger.flight_delay: '2'}")
    settings = load_settings({"EKIBEN_HOME": str(tmp_path / "home")})
    elsewhere = BentoRegistry(MemoryAliases(), home=bento)
    elsewhere.register(make_artifact(), tag="flight_delay:1")
    elsewhere.register(make_artifact(created="2026-02-01T00:00:00.000000+00:00"), tag="flight_delay:2")
    registry = open_registry(settings, bento / "src")
    assert registry.resolve("flight_delay").path == bento / "models" / "flight_delay" / "1"
    assert registry.resolve("flight_delay@challenger").version == "2"
    assert not (tmp_path / "home").exists()
    registry.set_alias("flight_delay", "champion", "2")
    assert open_registry(settings, bento).resolve("flight_delay").version == "2"


def test_a_bento_without_models_of_its_own_is_served_from_bentomls_store(tmp_path):
    (tmp_path / "bento.yaml").write_text("labels: {champion.flight_delay: '1'}")
    (tmp_path / "models").mkdir()
    registry = open_registry(load_settings({"EKIBEN_HOME": str(tmp_path / "home")}), tmp_path)
    assert isinstance(registry, BentoRegistry)
    assert registry._home is None
