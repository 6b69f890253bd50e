"""``ekiben models verify``, ``keygen`` and ``sign``: whether a version is what it was, and who vouches for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ekiben.cli.printing import json_option, print_error, print_json, print_note
from ekiben.errors import EkibenError, SigningError

if TYPE_CHECKING:
    from ekiben.registry import LoadPolicy, Registry
    from ekiben.settings import Settings

_SHOWN_DIGITS = 16
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("references", metavar="NAME-or-TAG...", nargs=-1, required=True)
@click.option(
    "--signers",
    type=click.Path(path_type=Path, exists=True),
    help="File or folder of public keys, one of which must have signed; EKIBEN_TRUSTED_SIGNERS when left out.",
)
@json_option
def verify(references: tuple[str, ...], *, signers: Path | None, as_json: bool) -> None:
    """Check versions: who signed them, every file against its checksum, then the golden rows against their outputs."""
    from ekiben.registry import LoadPolicy, open_registry  # noqa: PLC0415  commands import what they need when they run
    from ekiben.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    registry = open_registry(settings)
    policy = LoadPolicy(signers, pickle=settings.trust_pickle) if signers is not None else registry.policy
    verdicts: list[dict[str, Any]] = []
    for reference in references:
        try:
            verdicts.append(_verdict(registry, policy, reference, settings.onnx_providers))
        except EkibenError as e:
            verdicts.append({"tag": reference, "ok": False, "error": str(e)})
            print_error(EkibenError(f"{reference}: {e}"))
        else:
            if not as_json:
                _print_verdict(verdicts[-1], asked=policy.asks_for_signatures)
    if as_json:
        print_json(verdicts)
    if not all(verdict["ok"] for verdict in verdicts):
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("name", default="signer")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False, exists=True), default=Path(), help="Where the files go.")
@click.option("--passphrase-file", type=_FILE, help="File with a passphrase; EKIBEN_SIGNING_PASSPHRASE_FILE when left out.")
@json_option
def keygen(name: str, *, folder: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Make a pair of Ed25519 keys: NAME.private.pem to sign with, NAME.pem for those who are to trust it."""
    from ekiben.registry.signing_keys import make_keys, read_trusted_keys  # noqa: PLC0415
    from ekiben.settings import load_settings  # noqa: PLC0415

    private, public = make_keys(name, folder, passphrase=_passphrase(load_settings(), passphrase_file))
    (key,) = read_trusted_keys(public)
    if as_json:
        print_json({"name": name, "private": str(private), "public": str(public), "key_id": key.key_id})
    else:
        click.echo(
            f"{private} signs: keep it to yourself\n{public} is to be trusted: give it to EKIBEN_TRUSTED_SIGNERS (key {key.short_id})"
        )


@click.command()
@click.argument("references", metavar="NAME-or-TAG...", nargs=-1, required=True)
@click.option("--key", required=True, type=_FILE, help="The private key, PEM: `ekiben models keygen` makes one.")
@click.option("--passphrase-file", type=_FILE, help="File with its passphrase; EKIBEN_SIGNING_PASSPHRASE_FILE when left out.")
@json_option
def sign(references: tuple[str, ...], *, key: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Sign versions: say that they are what they should be. Their files are compared with their checksums; none is run."""
    from datetime import UTC, datetime  # noqa: PLC0415

    from ekiben.registry import open_registry  # noqa: PLC0415
    from ekiben.registry.signing import sign as sign_version  # noqa: PLC0415
    from ekiben.registry.signing_keys import key_id_of, read_private_key  # noqa: PLC0415
    from ekiben.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    registry = open_registry(settings)
    private = read_private_key(key, _passphrase(settings, passphrase_file))
    key_id = key_id_of(private.public_key())
    done: list[dict[str, Any]] = []
    for reference in references:
        version = registry.resolve(reference)
        signed_at = datetime.now(UTC).isoformat(timespec="seconds")
        file = sign_version(version.artifact(), version.tag, private, signed_at=signed_at)
        done.append({"tag": version.tag, "key_id": key_id, "signed_at": signed_at, "file": str(file)})
        if not as_json:
            click.echo(f"{version.tag} is signed with the key {key_id[:_SHOWN_DIGITS]}")
    if as_json:
        print_json(done)


def _verdict(registry: Registry, policy: LoadPolicy, reference: str, providers: tuple[str, ...]) -> dict[str, Any]:
    import msgspec  # noqa: PLC0415

    version = registry.resolve(reference)
    policy.open(version, providers=providers)
    artifact = version.artifact()
    return {
        "tag": version.tag,
        "ok": True,
        "files": len(artifact.manifest.checksums) + 1,
        "golden_rows": len(artifact.golden_rows().rows),
        "signatures": msgspec.to_builtins(policy.signatures(artifact, version.tag)),
    }


def _print_verdict(verdict: dict[str, Any], *, asked: bool) -> None:
    click.echo(f"{verdict['tag']} is sound: {verdict['files']} files, {verdict['golden_rows']} golden rows")
    found = verdict["signatures"]
    if found and not asked:
        print_note(f"{verdict['tag']} has {len(found)} signature(s) that nobody checked; --signers says who is trusted")
        return
    for signature in found:
        if signature["problem"]:
            click.echo(f"  {signature['file']} does not count: {signature['problem']}")
        else:
            click.echo(f"  signed by {signature['signer']} (key {signature['key_id'][:_SHOWN_DIGITS]}) at {signature['signed_at']}")


def _passphrase(settings: Settings, file: Path | None) -> bytes | None:
    """What the file holds, without the end of its line; None where there is no such file to read."""
    chosen = file or settings.signing_passphrase_file
    if chosen is None:
        return None
    try:
        found = chosen.read_bytes().rstrip(b"\r\n")
    except OSError as e:
        raise SigningError(f"{chosen} cannot be read: {e.strerror or e}") from e
    if not found:
        raise SigningError(f"{chosen} is empty; it must hold the passphrase of the private key")
    return found
