"""Ed25519 keys in PEM files: a private one to sign with, and the public ones that are trusted.

A private key is PKCS#8 (RFC 5958), with a passphrase where one is given; a public one is SubjectPublicKeyInfo (RFC 5280, RFC 8410).
What stands above a public key in its file is its owner's name: text outside of the blocks explains them (RFC 7468, section 5.2).
No other algorithm is read, so nobody can have a weaker one tried.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ekiben.errors import RuntimeUnavailable, SigningError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_BLOCK: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,99}")
_MAX_BYTES: Final = 1 << 20
_PUBLIC: Final = "PUBLIC KEY"
_SHOWN_DIGITS: Final = 16


class TrustedKey(msgspec.Struct, frozen=True):
    """A public key that is trusted.

    Attributes:
        name: Whose it is, as the file says.
        key_id: SHA-256 of its SubjectPublicKeyInfo, hexadecimal.
        key: The key, an ``Ed25519PublicKey``.
    """

    name: str
    key_id: str
    key: Any

    @property
    def short_id(self) -> str:
        """The beginning of its id, for people."""
        return self.key_id[:_SHOWN_DIGITS]


def make_keys(name: str, folder: Path, *, passphrase: bytes | None = None) -> tuple[Path, Path]:
    """Makes a pair of keys: ``NAME.private.pem``, readable by its owner alone, and ``NAME.pem`` for those who are to trust it.

    Args:
        name: Whose they are; stands in the public file.
        folder: Where the files go.
        passphrase: What the private key is encrypted with; None leaves it as it is.

    Returns:
        The private and the public file.

    Raises:
        SigningError: The name cannot be one, or a file is there already or cannot be written.
        RuntimeUnavailable: The package cryptography is not installed.
    """
    if not _NAME.fullmatch(name):
        raise SigningError(f"{name!r} cannot name a key; it may have letters, digits and . _ @ - and must begin with a letter or digit")
    private = _ed25519().Ed25519PrivateKey.generate()
    files = folder / f"{name}.private.pem", folder / f"{name}.pem"
    for file in files:
        if file.exists():
            raise SigningError(f"{file} is there already; a key is never overwritten, give another name")
    try:
        _write(files[0], private_pem(private, passphrase), mode=0o600)
        _write(files[1], f"{name}\n".encode() + public_pem(private.public_key()), mode=0o644)
    except OSError as e:
        raise SigningError(f"{e.filename or folder} cannot be written: {e.strerror or e}") from e
    return files


def private_pem(key: Ed25519PrivateKey, passphrase: bytes | None = None) -> bytes:
    """A private key as a PEM block."""
    from cryptography.hazmat.primitives import serialization as s  # noqa: PLC0415  with the key, it is loaded already

    encryption = s.BestAvailableEncryption(passphrase) if passphrase else s.NoEncryption()
    return key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, encryption)


def public_pem(key: Ed25519PublicKey) -> bytes:
    """A public key as a PEM block."""
    from cryptography.hazmat.primitives import serialization as s  # noqa: PLC0415  as above

    return key.public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)


def key_id_of(key: Ed25519PublicKey) -> str:
    """SHA-256 of a key's SubjectPublicKeyInfo, hexadecimal."""
    from hashlib import sha256  # noqa: PLC0415  as above

    from cryptography.hazmat.primitives import serialization as s  # noqa: PLC0415

    return sha256(key.public_bytes(s.Encoding.DER, s.PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def read_private_key(file: Path, passphrase: bytes | None = None) -> Ed25519PrivateKey:
    """Reads a private key.

    Raises:
        SigningError: The file cannot be read, has no Ed25519 key, or the passphrase is missing, wrong or not needed.
        RuntimeUnavailable: The package cryptography is not installed.
    """
    ed25519 = _ed25519()
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  as above
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        key = load_pem_private_key(_read(file).encode(), passphrase)
    except TypeError:
        need = "needs no passphrase" if passphrase else "needs its passphrase, in a file that EKIBEN_SIGNING_PASSPHRASE_FILE names"
        raise SigningError(f"the private key in {file} {need}") from None
    except (ValueError, UnsupportedAlgorithm):
        # NOTE: what the parser says may quote the file, and the file is a secret.
        what = "the passphrase is another, or " if passphrase else ""
        raise SigningError(f"{file} gives no private key: {what}it is no PEM file as `ekiben models keygen` makes them") from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise SigningError(f"{file} has a key of another kind; it must be Ed25519, as `ekiben models keygen` makes them")
    return key  # type: ignore[no-any-return]  # the module is looked up when it is needed


def read_trusted_keys(place: Path) -> tuple[TrustedKey, ...]:
    """Reads the public keys of a PEM file, or of the ``.pem`` files of a folder.

    A key is named by the last line above it, else by its file.

    Raises:
        SigningError: Something in there is no Ed25519 public key, or there is none at all. One bad key makes all unusable: who
            misspelt one would otherwise trust fewer than they think, or nobody.
        RuntimeUnavailable: The package cryptography is not installed.
    """
    files = sorted(place.glob("*.pem")) if place.is_dir() else [place]
    found = {key.key_id: key for file in files for key in _keys_of(file)}
    if not found:
        what = "has no file *.pem" if place.is_dir() else "has no PEM block"
        raise SigningError(f"{place} {what}; it must hold the public keys of those who may sign, see `ekiben models keygen`")
    return tuple(found.values())


def _keys_of(file: Path) -> Iterable[TrustedKey]:
    ed25519 = _ed25519()
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  as above
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

    text, end = _read(file), 0
    for block in _BLOCK.finditer(text):
        if block[1] != _PUBLIC:
            raise SigningError(f"{file} has a {block[1]}; only public keys belong there, the private one stays with its owner")
        above = [line.strip("# \t\r") for line in text[end : block.start()].splitlines()]
        end = block.end()
        try:
            key = load_pem_public_key(block[0].encode())
        except (ValueError, UnsupportedAlgorithm) as e:
            raise SigningError(f"{file} has a public key that cannot be read: {e}") from e
        if not isinstance(key, ed25519.Ed25519PublicKey):
            raise SigningError(f"{file} has a public key of another kind; it must be Ed25519, as `ekiben models keygen` makes them")
        name = next((line for line in reversed(above) if line), file.stem)
        yield TrustedKey(name, key_id_of(key), key)


def _read(file: Path) -> str:
    try:
        with file.open("rb") as f:
            return f.read(_MAX_BYTES).decode("ascii", errors="replace")
    except OSError as e:
        raise SigningError(f"{file} cannot be read: {e.strerror or e}") from e


def _write(file: Path, content: bytes, *, mode: int) -> None:
    """Makes a file that nobody else could open for a moment, and that was not there before."""
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as f:
        f.write(content)


def _ed25519() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415  only who signs or checks needs it
    except ImportError as e:
        raise RuntimeUnavailable(f"signatures need cryptography, which cannot be imported here ({e}); pip install 'ekiben[serve]'") from e
    return ed25519
