import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from ekiben.errors import RuntimeUnavailable, SigningError
from ekiben.registry.signing_keys import key_id_of, make_keys, public_pem, read_private_key, read_trusted_keys


def test_a_pair_fits_and_nobody_else_reads_the_private_half(tmp_path):
    private, public = make_keys("ann@example.org", tmp_path)
    assert (private.name, public.name) == ("ann@example.org.private.pem", "ann@example.org.pem")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    (trusted,) = read_trusted_keys(public)
    key = read_private_key(private)
    assert trusted.name == "ann@example.org"
    assert trusted.key_id == key_id_of(key.public_key())
    assert trusted.key_id.startswith(trusted.short_id)
    trusted.key.verify(key.sign(b"x"), b"x")


def test_a_passphrase_is_needed_where_there_is_one(tmp_path):
    private, _ = make_keys("ann", tmp_path, passphrase=b"open sesame")
    assert b"ENCRYPTED" in private.read_bytes()
    read_private_key(private, b"open sesame")
    with pytest.raises(SigningError, match="the passphrase is another"):
        read_private_key(private, b"sesame")
    with pytest.raises(SigningError, match=r"needs its passphrase.*EKIBEN_SIGNING_PASSPHRASE_FILE"):
        read_private_key(private)
    plain, _ = make_keys("bob", tmp_path)
    with pytest.raises(SigningError, match="needs no passphrase"):
        read_private_key(plain, b"open sesame")


def test_keys_are_never_overwritten(tmp_path):
    private, public = make_keys("ann", tmp_path)
    before = private.read_bytes()
    with pytest.raises(SigningError, match="is there already"):
        make_keys("ann", tmp_path)
    private.unlink()
    with pytest.raises(SigningError, match=r"ann.pem is there already"):
        make_keys("ann", tmp_path)
    assert before
    assert not private.exists()
    assert public.exists()


@pytest.mark.parametrize("name", ["", "../ann", "a b", "-a", "a\nb", "a" * 101])
def test_a_name_is_a_plain_word(tmp_path, name):
    with pytest.raises(SigningError, match="cannot name a key"):
        make_keys(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(SigningError, match="cannot be written: No such file"):
        make_keys("ann", tmp_path / "none")


def test_a_bundle_names_its_keys_by_the_line_above(tmp_path):
    first, second, third = (public_pem(ed25519.Ed25519PrivateKey.generate().public_key()).decode() for _ in range(3))
    bundle = tmp_path / "team.pem"
    bundle.write_text(f"who may sign\n\n# ann \n{first}\nbob\n\n{second}{third}{first}")
    assert [key.name for key in read_trusted_keys(bundle)] == ["team", "bob", "team"]  # ann's stands there twice: the last counts
    bundle.write_text(f"# ann\n{first}bob\n{second}")
    assert [key.name for key in read_trusted_keys(bundle)] == ["ann", "bob"]


def test_a_folder_has_one_key_a_file(tmp_path):
    for name in ("bob", "ann"):
        make_keys(name, tmp_path)[0].unlink()
    (tmp_path / "notes.txt").write_text("not read")
    assert [key.name for key in read_trusted_keys(tmp_path)] == ["ann", "bob"]


def test_a_private_key_has_no_place_among_the_trusted(tmp_path):
    make_keys("ann", tmp_path)
    with pytest.raises(SigningError, match="has a PRIVATE KEY; only public keys belong there"):
        read_trusted_keys(tmp_path)


def test_another_algorithm_is_refused(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "ec.pem").write_bytes(public_pem(key.public_key()))
    with pytest.raises(SigningError, match="public key of another kind; it must be Ed25519"):
        read_trusted_keys(tmp_path / "ec.pem")
    pem, form, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "ec.private.pem").write_bytes(key.private_bytes(pem, form, plain))
    with pytest.raises(SigningError, match="a key of another kind; it must be Ed25519"):
        read_private_key(tmp_path / "ec.private.pem")


def test_what_is_no_key(tmp_path):
    file = tmp_path / "a.pem"
    file.write_text("-----BEGIN PUBLIC KEY-----\nhush\n-----END PUBLIC KEY-----\n")
    with pytest.raises(SigningError, match="public key that cannot be read"):
        read_trusted_keys(file)
    file.write_text("hush, this is secret")
    with pytest.raises(SigningError, match="has no PEM block"):
        read_trusted_keys(file)
    with pytest.raises(SigningError, match="gives no private key") as refused:
        read_private_key(file)
    assert "hush" not in str(refused.value)
    with pytest.raises(SigningError, match="cannot be read: No such file"):
        read_trusted_keys(tmp_path / "none.pem")
    with pytest.raises(SigningError, match="cannot be read: No such file"):
        read_private_key(tmp_path / "none.pem")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SigningError, match=r"has no file \*.pem"):
        read_trusted_keys(tmp_path / "empty")


def test_without_cryptography_the_message_says_what_to_install(tmp_path, monkeypatch):
    make_keys("ann", tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "cryptography.hazmat.primitives.asymmetric", None)
    with pytest.raises(RuntimeUnavailable, match=r"pip install 'ekiben\[serve\]'"):
        read_trusted_keys(tmp_path / "ann.pem")
