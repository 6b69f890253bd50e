import base64
import json

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ekiben.errors import ChecksumMismatch, SigningError
from ekiben.model.artifact import read_artifact
from ekiben.registry.signing import PAYLOAD_TYPE, PREDICATE_TYPE, STATEMENT_TYPE, examine, pae, sign
from ekiben.registry.signing_keys import TrustedKey, key_id_of

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
AT = "2026-05-01T12:00:00+00:00"
TAG = "flight_delay:1"


def trusted(key, name="ann"):
    return TrustedKey(name, key_id_of(key.public_key()), key.public_key())


ANN = trusted(KEY)


@pytest.fixture
def artifact(make_artifact):
    return read_artifact(make_artifact())


@pytest.fixture
def signed(artifact):
    sign(artifact, TAG, KEY, signed_at=AT)
    return artifact


def envelope_of(artifact, key=KEY):
    return artifact.path / "signatures" / f"{key_id_of(key.public_key())[:16]}.dsse.json"


def statement(artifact, **changes):
    plain = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": TAG, "digest": {"sha256": artifact.digest}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {"signed_at": AT},
    }
    return plain | changes


def put(artifact, payload, *, payload_type=PAYLOAD_TYPE, key=KEY, over=None):
    """An envelope over anything, rightly signed."""
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    signature = {"sig": base64.b64encode(key.sign(pae(over or payload_type, raw))).decode(), "keyid": key_id_of(key.public_key())}
    file = envelope_of(artifact, key)
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"payload": base64.b64encode(raw).decode(), "payloadType": payload_type, "signatures": [signature]}))


def problem(artifact, tag=TAG, keys=(ANN,)):
    (found,) = examine(read_artifact(artifact.path), tag, keys)
    return found.problem


def test_the_encoding_is_that_of_the_specification():
    # The example of DSSE's protocol.
    assert pae("http://example.com/HelloWorld", b"hello world") == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


@given(st.text(), st.binary(), st.text(), st.binary())
def test_no_two_documents_are_encoded_alike(kind, payload, other_kind, other):
    assert (pae(kind, payload) == pae(other_kind, other)) == ((kind, payload) == (other_kind, other))


def test_a_signature_says_who_and_when(signed):
    (found,) = examine(read_artifact(signed.path), TAG, [trusted(OTHER, "bob"), ANN])
    assert (found.signer, found.key_id, found.signed_at, found.problem) == ("ann", ANN.key_id, AT, "")
    assert found.file == envelope_of(signed).name


def test_it_is_an_in_toto_statement_in_a_dsse_envelope(signed):
    envelope = json.loads(envelope_of(signed).read_text())
    assert set(envelope) == {"payload", "payloadType", "signatures"}
    assert json.loads(base64.b64decode(envelope["payload"])) == statement(signed)
    KEY.public_key().verify(
        base64.b64decode(envelope["signatures"][0]["sig"]), pae(envelope["payloadType"], base64.b64decode(envelope["payload"]))
    )


def test_signatures_change_no_checksum_and_other_files_still_do(signed):
    signed.verify()
    for name in ("signatures/a.txt", "signatures/deep/a.dsse.json", "a.dsse.json"):
        file = signed.path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("x")
        with pytest.raises(ChecksumMismatch, match="does not belong to it"):
            signed.verify()
        file.unlink()


def test_several_sign_and_each_has_one_signature(signed):
    sign(signed, TAG, OTHER, signed_at=AT)
    sign(signed, TAG, KEY, signed_at="2026-06-01T00:00:00+00:00")
    found = examine(signed, TAG, [ANN, trusted(OTHER, "bob")])
    assert sorted((s.signer, s.signed_at, s.problem) for s in found) == [("ann", "2026-06-01T00:00:00+00:00", ""), ("bob", AT, "")]
    assert [s.problem for s in examine(signed, TAG, [])] == ["its signer is not trusted here"] * 2


def test_what_is_broken_is_not_signed(artifact):
    (artifact.path / "model.onnx").write_bytes(b"another")
    with pytest.raises(ChecksumMismatch):
        sign(artifact, TAG, KEY, signed_at=AT)
    assert examine(artifact, TAG, [ANN]) == []


def test_a_store_that_cannot_be_written(artifact):
    (artifact.path.parent / "blocked").write_text("")
    blocked = msgspec.structs.replace(artifact)
    (artifact.path / "signatures").mkdir()
    envelope_of(artifact).mkdir()
    with pytest.raises(SigningError, match="cannot be written"):
        sign(blocked, TAG, KEY, signed_at=AT)


def test_it_fits_no_other_model_version_or_manifest(signed, make_artifact):
    assert problem(signed) == ""
    assert problem(signed, "flight_delay:2") == f"it is of {TAG}"
    assert problem(signed, "digits:1") == f"it is of {TAG}"
    other = read_artifact(make_artifact(created="2026-02-01T00:00:00+00:00"))
    (other.path / "signatures").mkdir()
    envelope_of(other).write_bytes(envelope_of(signed).read_bytes())
    assert problem(other) == "artifact.json is not the one that was signed"


def test_every_byte_of_the_manifest_counts(signed):
    file = signed.path / "artifact.json"
    raw = file.read_bytes()
    file.write_bytes(raw.replace(b'"rmse":1.5', b'"rmse":1.4'))
    assert problem(signed) == "artifact.json is not the one that was signed"
    file.write_bytes(raw + b"\n")
    assert problem(signed) == "artifact.json is not the one that was signed"
    file.write_bytes(raw)
    assert problem(signed) == ""


def test_no_byte_of_the_envelope_can_be_flipped_unseen(signed):
    file = envelope_of(signed)
    raw = file.read_bytes()
    key_id = ANN.key_id.encode()
    hints = set(range(raw.index(key_id), raw.index(key_id) + len(key_id)))  # proves nothing, so it may say anything
    for place in range(len(raw) - 1):
        for flipped in (raw[place] ^ 1, raw[place] ^ 0x20):
            file.write_bytes(raw[:place] + bytes([flipped]) + raw[place + 1 :])
            (found,) = examine(signed, TAG, [ANN])
            assert found.problem or place in hints or b"keyid" in raw[place - 6 : place + 6], f"byte {place} of {raw!r}"


@pytest.mark.parametrize(
    ("payload", "kind", "why"),
    [
        (b"not JSON", PAYLOAD_TYPE, "what was signed is no statement"),
        ({"hello": "world"}, PAYLOAD_TYPE, "what was signed is no statement"),
        ({}, "text/plain", "it is over a text/plain, not over"),
    ],
)
def test_what_else_a_trusted_key_signed_does_not_count(artifact, payload, kind, why):
    put(artifact, payload, payload_type=kind)
    assert why in problem(artifact)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"_type": "https://in-toto.io/Statement/v0.1"}, "a statement of another kind"),
        ({"predicateType": "https://slsa.dev/provenance/v1"}, "another kind, https://slsa.dev/provenance/v1"),
        ({"subject": []}, "about 0 things"),
        ({"subject": [{"name": TAG, "digest": {"sha256": "00"}}]}, "is not the one that was signed"),
        ({"subject": [{"name": TAG, "digest": {"sha1": "00"}}]}, "is not the one that was signed"),
    ],
)
def test_statements_that_do_not_vouch_for_the_version(artifact, changes, why):
    put(artifact, statement(artifact, **changes))
    assert why in problem(artifact)
    put(artifact, statement(artifact))
    assert problem(artifact) == ""


def test_the_type_is_part_of_what_is_signed(artifact):
    put(artifact, statement(artifact), over="text/plain")
    assert problem(artifact) == "it was changed after it was signed"


def test_the_id_of_a_key_proves_nothing(artifact):
    put(artifact, statement(artifact), key=OTHER)
    file = envelope_of(artifact, OTHER)
    file.write_text(file.read_text().replace(key_id_of(OTHER.public_key()), ANN.key_id))
    assert problem(artifact) == "it was changed after it was signed"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b'{"payload": "AA==", "payloadType": "x", "signatures": []}',
        b'{"payload": "A*", "payloadType": "x", "signatures": [{"sig": "AA=="}]}',
        b" " * 70_000,
    ],
)
def test_what_is_no_envelope(artifact, raw):
    envelope_of(artifact).parent.mkdir()
    envelope_of(artifact).write_bytes(raw)
    assert problem(artifact).startswith("it cannot be read: ")


def test_a_signature_that_is_no_base64(artifact):
    put(artifact, statement(artifact))
    file = envelope_of(artifact)
    envelope = json.loads(file.read_text())
    envelope["signatures"] = [{"sig": "no*base64"}]
    file.write_text(json.dumps(envelope))
    assert problem(artifact) == "its signer is not trusted here"
