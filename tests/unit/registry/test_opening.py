from ekiben.registry import BentoRegistry, open_registry
from ekiben.settings import load_settings
from ekiben.state.sql_aliases import SqlAliases


def test_the_settings_decide_where_aliases_are(tmp_path, make_artifact, monkeypatch):
    from bentoml._internal.configuration.containers import BentoMLContainer

    with BentoMLContainer.bentoml_home.patch(str(tmp_path / "bentoml")):
        registry = open_registry(load_settings({"EKIBEN_HOME": str(tmp_path / "home")}))
        assert isinstance(registry, BentoRegistry)
        assert isinstance(registry.aliases, SqlAliases)
        assert registry.versions() == []
        assert not (tmp_path / "home").exists()
        registry.register(make_artifact(), tag="flight_delay:1")
        assert registry.resolve("flight_delay@champion").path == tmp_path / "bentoml" / "models" / "flight_delay" / "1"
    assert (tmp_path / "home" / "control.db").is_file()
