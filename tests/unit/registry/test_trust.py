import os
import shutil

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pickled import make_pickled

from ekiben.errors import ChecksumMismatch, GoldenRowsMismatch, UntrustedVersion
from ekiben.model import ModelFile
from ekiben.registry import FolderRegistry, LoadPolicy
from ekiben.registry.signing import sign
from ekiben.registry.signing_keys import public_pem
from ekiben.settings import load_settings
from ekiben.state.aliases import MemoryAliases

KEY = Ed25519PrivateKey.generate()
OTHER = Ed25519PrivateKey.generate()
AT = "2026-05-01T12:00:00+00:00"


@pytest.fixture
def registry(tmp_path):
    return FolderRegistry(tmp_path / "store", MemoryAliases())


@pytest.fixture
def signers(tmp_path):
    file = tmp_path / "signers.pem"
    file.write_bytes(b"ann\n" + public_pem(KEY.public_key()))
    return file


@pytest.fixture
def tiny(registry, tiny_artifact):
    return registry.register(tiny_artifact.path, tag="tiny:1")


@pytest.fixture
def line(registry, tmp_path):
    pickled = make_pickled(tmp_path / "line", tmp_path / "trace")
    return registry.register(pickled.path, tag="line:1")


def signed(version, key=KEY, tag=None):
    sign(version.artifact(), tag or version.tag, key, signed_at=AT)
    return version


def test_without_signers_nothing_is_asked_of_what_runs_no_code(tiny, tiny_rows):
    assert len(LoadPolicy().open(tiny).predict(tiny_rows(2))) == 2
    assert not LoadPolicy().asks_for_signatures


def test_a_pickle_is_not_read_unless_it_is_trusted(line, tmp_path):
    for policy in (LoadPolicy(), LoadPolicy(pickle=()), LoadPolicy(pickle=("line:2", "line"))):
        with pytest.raises(UntrustedVersion, match=r"line:1 is not loaded: model.joblib is a pickle"):
            policy.open(line)
        assert not (tmp_path / "trace").exists()
    for policy in (LoadPolicy(pickle=True), LoadPolicy(pickle=("line:1",))):
        assert policy.open(line).predict([[2.0]])[0]["prediction"] == pytest.approx(5.0)
        (tmp_path / "trace").unlink()


def test_a_good_signature_vouches_for_a_pickle_too(line, signers, tmp_path):
    policy = LoadPolicy(signers)
    with pytest.raises(UntrustedVersion, match=r"none of EKIBEN_TRUSTED_SIGNERS has signed it \(it has no signature\)"):
        policy.open(line)
    assert not (tmp_path / "trace").exists()
    assert policy.open(signed(line)).predict([[2.0]])[0]["prediction"] == pytest.approx(5.0)


def test_trust_in_pickles_is_no_signature(line, tiny, signers):
    for version in (line, tiny):
        with pytest.raises(UntrustedVersion, match="has no signature"):
            LoadPolicy(signers, pickle=True).open(version)


def test_only_trusted_signers_count(tiny, signers, tiny_rows):
    policy = LoadPolicy(signers)
    with pytest.raises(UntrustedVersion, match="its signer is not trusted here"):
        policy.open(signed(tiny, OTHER))
    assert policy.open(signed(tiny)).predict(tiny_rows(1))
    assert [s.signer for s in policy.signatures(tiny.artifact(), tiny.tag) if not s.problem] == ["ann"]


def test_a_key_that_is_taken_away_counts_no_longer(tiny, signers):
    policy = LoadPolicy(signers)
    policy.admit(signed(tiny))
    signers.write_bytes(public_pem(OTHER.public_key()))
    with pytest.raises(UntrustedVersion, match="its signer is not trusted here"):
        policy.admit(tiny)
    signers.write_text("nobody")
    with pytest.raises(UntrustedVersion, match=r"nobody can tell who signed it: .* has no PEM block"):
        policy.admit(tiny)
    signers.unlink()
    with pytest.raises(UntrustedVersion, match="cannot be read"):
        policy.admit(tiny)


@pytest.mark.parametrize("name", ["model.onnx", "golden.json", "profile.json", "artifact.json"])
def test_no_file_of_a_signed_version_can_be_changed(tiny, signers, name):
    policy = LoadPolicy(signers)
    policy.open(signed(tiny))
    file = tiny.path / name
    raw = file.read_bytes()
    place = raw.index(b"2026") + 3 if name == "artifact.json" else len(raw) // 2
    file.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
    with pytest.raises(UntrustedVersion if name == "artifact.json" else ChecksumMismatch):
        policy.open(tiny)


def test_no_file_can_be_changed_along_with_its_checksum(tiny, signers, plane_artifact):
    policy = LoadPolicy(signers)
    signed(tiny)
    for file in ("model.onnx", "artifact.json", "golden.json", "profile.json"):
        shutil.copyfile(plane_artifact.path / file, tiny.path / file)
    with pytest.raises(UntrustedVersion, match=r"artifact.json is not the one that was signed"):
        policy.open(tiny)


def test_a_signature_is_of_one_version_of_one_model(registry, tiny_artifact, tiny, signers):
    policy = LoadPolicy(signers)
    signed(tiny)
    second = registry.register(tiny_artifact.path, tag="tiny:2")
    shutil.copytree(tiny.path / "signatures", second.path / "signatures")
    with pytest.raises(UntrustedVersion, match="it is of tiny:1"):
        policy.open(second)
    policy.open(signed(second))


def test_signatures_go_where_the_folder_goes(tiny, signers, tmp_path):
    shutil.copytree(signed(tiny).path, tmp_path / "elsewhere" / "1")
    LoadPolicy(signers).admit_folder(tmp_path / "elsewhere" / "1", "tiny:1")


def test_the_golden_rows_are_still_replayed(tiny, signers):
    raw = (tiny.path / "golden.json").read_bytes()
    assert raw
    from ekiben.model.artifact import sha256_of

    (tiny.path / "golden.json").write_bytes(raw.replace(b'"yes"', b'"no"'))
    manifest = tiny.path / "artifact.json"
    manifest.write_bytes(
        manifest.read_bytes().replace(
            tiny.artifact().manifest.checksums["golden.json"].encode(), sha256_of(tiny.path / "golden.json").encode()
        )
    )
    with pytest.raises(GoldenRowsMismatch):
        LoadPolicy(signers).open(signed(tiny))


def test_files_that_are_to_become_versions():
    pickled, graph = ModelFile(framework="sklearn", file="a.joblib"), ModelFile(framework="onnx", file="a.onnx")
    LoadPolicy().admit_file(graph, None)
    for policy, tag in ((LoadPolicy(), None), (LoadPolicy(pickle=("a:1",)), None), (LoadPolicy(pickle=("a:1",)), "a:2")):
        with pytest.raises(UntrustedVersion, match=r"a.joblib is not opened: .*EKIBEN_TRUST_PICKLE=on"):
            policy.admit_file(pickled, tag)
    LoadPolicy(pickle=("a:1",)).admit_file(pickled, "a:1")
    LoadPolicy(pickle=True).admit_file(pickled, None)


def test_the_settings_make_it(signers, line, tiny):
    assert not LoadPolicy.of(load_settings({})).asks_for_signatures
    LoadPolicy.of(load_settings({"EKIBEN_TRUST_PICKLE": "line:1,other:2"})).admit(line)
    policy = LoadPolicy.of(load_settings({"EKIBEN_TRUSTED_SIGNERS": os.fspath(signers)}))
    assert policy.asks_for_signatures
    with pytest.raises(UntrustedVersion):
        policy.admit(tiny)


def test_without_signers_signatures_are_shown_and_do_not_count(tiny):
    assert LoadPolicy().signatures(tiny.artifact(), tiny.tag) == []
    (found,) = LoadPolicy().signatures(signed(tiny).artifact(), tiny.tag)
    assert found.problem == "its signer is not trusted here"
