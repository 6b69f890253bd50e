import json
import stat
from pathlib import Path

import joblib
import pytest
from click.testing import CliRunner
from pickled import make_pickled
from sklearn.linear_model import LinearRegression

from ekiben.cli import main
from ekiben.registry import open_registry
from ekiben.settings import load_settings


@pytest.fixture
def run():
    def invoke(*arguments, code=0, **kwargs):
        done = CliRunner().invoke(main, [str(a) for a in arguments], **kwargs)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == code, done.output
        return done

    return invoke


@pytest.fixture(autouse=True)
def registry(tmp_path, monkeypatch):
    from bentoml._internal.configuration.containers import BentoMLContainer

    for name in ("EKIBEN_TRUSTED_SIGNERS", "EKIBEN_TRUST_PICKLE", "EKIBEN_SIGNING_PASSPHRASE_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EKIBEN_HOME", str(tmp_path / "home"))
    (tmp_path / "store").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    BentoMLContainer.model_store_dir.set(str(tmp_path / "store"))
    yield open_registry(load_settings())
    BentoMLContainer.model_store_dir.reset()


@pytest.fixture
def tiny(registry, tiny_artifact):
    return registry.register(tiny_artifact.path, tag="tiny:1")


@pytest.fixture
def line(registry, tmp_path):
    pickled = make_pickled(tmp_path / "line", tmp_path / "trace")
    registry.register(pickled.path, tag="line:1")
    return pickled


def test_make_keys_sign_and_verify(tiny, run):
    made = run("models", "keygen", "ann").stdout
    assert "ann.private.pem signs: keep it to yourself" in made
    assert stat.S_IMODE(Path("ann.private.pem").stat().st_mode) == 0o600
    signed = json.loads(run("models", "sign", "tiny", "--key", "ann.private.pem", "--json").stdout)
    assert [(s["tag"], Path(s["file"]).parent.name) for s in signed] == [("tiny:1", "signatures")]
    assert "tiny:1 is signed with the key" in run("models", "sign", "tiny:1", "--key", "ann.private.pem").stdout
    shown = run("models", "verify", "tiny", "--signers", "ann.pem").stdout
    assert f"  signed by ann (key {signed[0]['key_id'][:16]}) at 20" in shown
    (verdict,) = json.loads(run("models", "verify", "tiny", "--signers", "ann.pem", "--json").stdout)
    assert (verdict["ok"], verdict["signatures"][0]["signer"]) == (True, "ann")
    assert "1 signature(s) that nobody checked" in run("models", "verify", "tiny").stderr


def test_verify_refuses_what_nobody_trusted_signed(tiny, run, monkeypatch):
    for name in ("ann", "bob"):
        run("models", "keygen", name)
    run("models", "sign", "tiny", "--key", "bob.private.pem")
    assert "none of EKIBEN_TRUSTED_SIGNERS has signed it" in run("models", "verify", "tiny", "--signers", "ann.pem", code=1).stderr
    run("models", "sign", "tiny", "--key", "ann.private.pem")
    shown = run("models", "verify", "tiny", "--signers", "ann.pem").stdout
    assert "signed by ann" in shown
    assert "does not count: its signer is not trusted here" in shown
    monkeypatch.setenv("EKIBEN_TRUSTED_SIGNERS", "bob.pem")
    assert "signed by bob" in run("models", "verify", "tiny").stdout


def test_predict_asks_for_signatures_too(tiny, run, monkeypatch):
    run("models", "keygen", "ann")
    row = '[{"a": 1, "b": 2, "c": null, "d": -3}]'
    run("predict", "tiny", "-", input=row)
    monkeypatch.setenv("EKIBEN_TRUSTED_SIGNERS", "ann.pem")
    assert "tiny:1 is not loaded" in run("predict", "tiny", "-", input=row, code=1).stderr
    run("models", "sign", "tiny", "--key", "ann.private.pem")
    run("predict", "tiny", "-", input=row)


def test_a_passphrase_comes_from_a_file(tiny, run, monkeypatch):
    Path("pass").write_text("open sesame\n")
    found = json.loads(run("models", "keygen", "ann", "--passphrase-file", "pass", "--json").stdout)
    assert "ENCRYPTED" in Path(found["private"]).read_text()
    assert "needs its passphrase" in run("models", "sign", "tiny", "--key", "ann.private.pem", code=1).stderr
    monkeypatch.setenv("EKIBEN_SIGNING_PASSPHRASE_FILE", "pass")
    run("models", "sign", "tiny", "--key", "ann.private.pem")
    Path("pass").write_text("\n")
    assert "pass is empty" in run("models", "sign", "tiny", "--key", "ann.private.pem", code=1).stderr
    assert "cannot be read" in run("models", "keygen", "bob", "--passphrase-file", "none", code=1).stderr


def test_nothing_of_an_untrusted_pickle_is_run(line, run, monkeypatch):
    refusals = [
        run("models", "verify", "line", code=1).stderr,
        run("predict", "line", "-", input="[[2]]", code=1).stderr,
        run("models", "add", "again", "--sklearn", line.path / "model.joblib", code=1).stderr,
    ]
    assert all("model.joblib is a pickle" in refusal for refusal in refusals)
    run("models", "show", "line")
    run("models", "keygen")
    run("models", "sign", "line", "--key", "signer.private.pem")
    assert not line.trace.exists()
    monkeypatch.setenv("EKIBEN_TRUST_PICKLE", "line:1")
    assert "5" in run("predict", "line", "-", input="[[2]]").stdout
    assert line.trace.exists()


def test_a_pickle_is_added_where_its_maker_is_trusted(run, monkeypatch):
    joblib.dump(LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0]), "line.joblib")
    assert "EKIBEN_TRUST_PICKLE=on" in run("models", "add", "line", "--sklearn", "line.joblib", code=1).stderr
    assert not Path("models").exists()
    monkeypatch.setenv("EKIBEN_TRUST_PICKLE", "on")
    run("models", "add", "line", "--sklearn", "line.joblib")


def test_bentoml_gives_only_what_may_be_loaded(line, tiny, run, monkeypatch):
    import bentoml
    from bentoml._internal.models import ModelStore

    from ekiben.errors import UntrustedVersion
    from ekiben.registry.bento import load_model

    store = ModelStore(tiny.path.parents[1])
    with pytest.raises(UntrustedVersion, match="line:1 is not loaded"):
        load_model(bentoml.models.get("line:1", _model_store=store))
    assert not line.trace.exists()
    load_model(bentoml.models.get("tiny:1", _model_store=store))
    run("models", "keygen", "ann")
    monkeypatch.setenv("EKIBEN_TRUSTED_SIGNERS", "ann.pem")
    with pytest.raises(UntrustedVersion, match="tiny:1 is not loaded"):
        load_model(bentoml.models.get("tiny:1", _model_store=store))


def test_a_signature_travels_with_an_exported_model(tiny, run, tmp_path):
    import bentoml
    from bentoml._internal.models import ModelStore

    run("models", "keygen", "ann")
    run("models", "sign", "tiny", "--key", "ann.private.pem")
    bentoml.models.export_model("tiny:1", str(tmp_path / "tiny.bentomodel"), _model_store=ModelStore(tiny.path.parents[1]))
    (tmp_path / "other").mkdir()
    bentoml.models.import_model(str(tmp_path / "tiny.bentomodel"), _model_store=ModelStore(tmp_path / "other"))
    from ekiben.registry import LoadPolicy

    LoadPolicy(Path("ann.pem")).admit_folder(tmp_path / "other" / "tiny" / "1", "tiny:1")
