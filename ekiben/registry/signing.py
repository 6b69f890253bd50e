"""Signatures of versions: made, kept beside the version, and examined.

What is signed is the manifest, which has the checksum of every other file; so one signature covers the model, features.py, the
golden rows and the spec. It is a statement in in-toto's form (https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md)
about ``name:version`` and the manifest's SHA-256, in a DSSE envelope
(https://github.com/secure-systems-lab/dsse/blob/master/protocol.md), by Ed25519 (RFC 8032). As the statement names model and
version, it fits no other; and what DSSE signs names the payload's type, so that no other kind of document can be passed off as one.

A signer has one signature a version, ``signatures/<beginning of the key's id>.dsse.json``, and goes wherever the folder goes: into a
Bento, an image, a copy.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from ekiben.errors import SigningError
from ekiben.model.artifact import MANIFEST, SIGNATURE_SUFFIX, SIGNATURES, Artifact
from ekiben.registry.signing_keys import TrustedKey, key_id_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "urn:ekiben:signed-version:v1"
_MAX_BYTES: Final = 64 * 1024
_MAX_SIGNATURES: Final = 100
_ID_DIGITS: Final = 16


class Subject(msgspec.Struct, frozen=True):
    """What a statement is about: ``name:version``, and the SHA-256 of its manifest."""

    name: str
    digest: dict[str, str]


class Predicate(msgspec.Struct, frozen=True):
    """What is said of it: when it was signed, UTC, ISO 8601, by the signer's clock."""

    signed_at: str


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """An in-toto statement."""

    type: str = msgspec.field(name="_type")
    subject: list[Subject]
    predicate_type: str = msgspec.field(name="predicateType")
    predicate: Predicate


class EnvelopeSignature(msgspec.Struct, frozen=True):
    """One signature in an envelope; the id is a hint and proves nothing."""

    sig: str
    keyid: str = ""


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """A DSSE envelope."""

    payload: str
    payload_type: str = msgspec.field(name="payloadType")
    signatures: list[EnvelopeSignature]


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """A signature that was found beside a version, and what it is worth.

    Attributes:
        file: Its file.
        signer: Name of the trusted key that made it; empty where none did.
        key_id: The key's id; where no trusted key made it, the one it claims.
        signed_at: When it was made, UTC; empty where no trusted key made it.
        problem: Why it does not count; empty where it does.
    """

    file: str
    signer: str = ""
    key_id: str = ""
    signed_at: str = ""
    problem: str = ""


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: what is really signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(artifact: Artifact, tag: str, key: Ed25519PrivateKey, *, signed_at: str) -> Path:
    """Signs a version and puts the signature beside it, in place of an earlier one by the same key.

    Args:
        artifact: The version; its files are compared with their checksums first.
        tag: ``name:version``, as the store has it.
        key: The private key.
        signed_at: The time now, UTC, ISO 8601.

    Returns:
        The signature's file.

    Raises:
        ChecksumMismatch: A file is not the one the version was made with.
        SigningError: The signature cannot be written.
    """
    artifact.verify()
    statement = Statement(
        type=STATEMENT_TYPE,
        subject=[Subject(tag, {"sha256": artifact.digest})],
        predicate_type=PREDICATE_TYPE,
        predicate=Predicate(signed_at),
    )
    payload = msgspec.json.encode(statement)
    key_id = key_id_of(key.public_key())
    signature = EnvelopeSignature(base64.b64encode(key.sign(pae(PAYLOAD_TYPE, payload))).decode(), key_id)
    envelope = Envelope(payload=base64.b64encode(payload).decode(), payload_type=PAYLOAD_TYPE, signatures=[signature])
    target = artifact.path / SIGNATURES / f"{key_id[:_ID_DIGITS]}{SIGNATURE_SUFFIX}"
    try:
        target.parent.mkdir(exist_ok=True)
        # Whole or not at all; and not in the version's folder, where a file left behind would make it unsound.
        with tempfile.TemporaryDirectory(prefix=".signing-", dir=artifact.path.parent) as making:
            made = Path(making) / target.name
            made.write_bytes(msgspec.json.encode(envelope) + b"\n")
            made.chmod(0o644)
            made.replace(target)
    except OSError as e:
        raise SigningError(f"{target} cannot be written: {e.strerror or e}") from e
    return target


def examine(artifact: Artifact, tag: str, trusted: Sequence[TrustedKey]) -> list[Signature]:
    """What the signatures beside a version are worth, in the order of their files.

    Args:
        artifact: The version.
        tag: ``name:version``, as the store has it.
        trusted: The keys that count.
    """
    folder = artifact.path / SIGNATURES
    files = sorted(folder.glob(f"*{SIGNATURE_SUFFIX}")) if folder.is_dir() else []
    return [_examined(file, artifact.digest, tag, trusted) for file in files[:_MAX_SIGNATURES]]


def _examined(file: Path, digest: str, tag: str, trusted: Sequence[TrustedKey]) -> Signature:
    try:
        envelope, payload = _opened(file)
    except (OSError, ValueError) as e:  # msgspec's and base64's errors are ValueErrors
        return Signature(file=file.name, problem=f"it cannot be read: {e}")
    claimed = envelope.signatures[0].keyid
    if envelope.payload_type != PAYLOAD_TYPE:
        return Signature(file=file.name, key_id=claimed, problem=f"it is over a {envelope.payload_type}, not over {PAYLOAD_TYPE}")
    signed = pae(envelope.payload_type, payload)
    maker = next((key for key in trusted for signature in envelope.signatures if _is_made_by(key, signature, signed)), None)
    if maker is None:
        known = any(key.key_id == claimed for key in trusted)
        why = "it was changed after it was signed" if known else "its signer is not trusted here"
        return Signature(file=file.name, key_id=claimed, problem=why)
    try:
        statement = msgspec.json.decode(payload, type=Statement)
    except msgspec.MsgspecError as e:
        return Signature(file=file.name, signer=maker.name, key_id=maker.key_id, problem=f"what was signed is no statement: {e}")
    return Signature(
        file=file.name, signer=maker.name, key_id=maker.key_id, signed_at=statement.predicate.signed_at,
        problem=_misfit(statement, digest, tag),
    )  # fmt: skip


def _opened(file: Path) -> tuple[Envelope, bytes]:
    with file.open("rb") as f:
        raw = f.read(_MAX_BYTES + 1)
    if len(raw) > _MAX_BYTES:
        raise ValueError(f"it is larger than {_MAX_BYTES} bytes")
    envelope = msgspec.json.decode(raw, type=Envelope)
    if not envelope.signatures:
        raise ValueError("it has no signature")
    return envelope, _unbase64(envelope.payload)


def _is_made_by(trusted: TrustedKey, signature: EnvelopeSignature, signed: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  with the key, it is loaded already

    try:
        trusted.key.verify(_unbase64(signature.sig), signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def _unbase64(text: str) -> bytes:
    """The bytes, of the one text that stands for them: what was changed is refused though it would read the same."""
    raw = base64.b64decode(text, validate=True)
    if base64.b64encode(raw).decode() != text:
        raise ValueError("its base64 is not as it is written")
    return raw


def _misfit(statement: Statement, digest: str, tag: str) -> str:
    """Why a statement that somebody trusted has signed does not vouch for this version; empty where it does."""
    if (statement.type, statement.predicate_type) != (STATEMENT_TYPE, PREDICATE_TYPE):
        return f"it is a statement of another kind, {statement.predicate_type}"
    if len(statement.subject) != 1:
        return f"it is about {len(statement.subject)} things, not one"
    (subject,) = statement.subject
    if subject.name != tag:
        return f"it is of {subject.name}"
    if subject.digest != {"sha256": digest}:
        return f"{MANIFEST} is not the one that was signed"
    return ""
