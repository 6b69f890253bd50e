"""Whom to believe before a version is loaded: the one place where that is decided.

* Where trusted signers are named, a version that none of them has signed is not loaded, whatever it is.
* Where they are not, a version whose model runs code when it is loaded is not loaded either, unless it is named as trusted. A good
  signature says the same, so signed pickles need no naming.
"""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING

from ekiben.errors import ArtifactError, SigningError, UntrustedVersion
from ekiben.model.artifact import SIGNATURES, Artifact, ModelFile, read_artifact
from ekiben.model.code_on_load import code_on_load, refuse_code

if TYPE_CHECKING:
    from ekiben.model.predictor import Predictor
    from ekiben.registry.signing import Signature
    from ekiben.registry.store import Version
    from ekiben.settings import Settings

_SHOWN_PROBLEMS = 3


class LoadPolicy:
    """Decides which versions may be loaded.

    Args:
        signers: File or folder of the public keys that count, read anew for each version so that a key that was added or taken away
            counts from the next one on; None asks for no signatures.
        pickle: Whether models may run code when they are loaded: all, none, or those of these tags.
    """

    def __init__(self, signers: Path | None = None, *, pickle: bool | Container[str] = False) -> None:
        self._signers = signers
        self._pickle = pickle

    @classmethod
    def of(cls, settings: Settings) -> LoadPolicy:
        """The policy that the settings describe."""
        return cls(settings.trusted_signers, pickle=settings.trust_pickle)

    @property
    def asks_for_signatures(self) -> bool:
        """Whether trusted signers are named."""
        return self._signers is not None

    def admit(self, version: Version) -> Artifact:
        """Reads a version's manifest and says whether the version may be loaded. Nothing of it is run.

        Its other files are not compared with their checksums here; loading does that.

        Raises:
            UntrustedVersion: It may not.
            ArtifactError: It cannot be read.
        """
        return self.admit_folder(version.path, version.tag)

    def admit_folder(self, folder: Path, tag: str) -> Artifact:
        """As `admit`, of a folder that is said to hold the version ``tag``.

        Raises:
            UntrustedVersion: It may not be loaded.
            ArtifactError: It cannot be read.
        """
        artifact = read_artifact(folder)
        if self._signers is not None:
            self._refuse_unsigned(artifact, tag)
        elif not self._trusts_code_of(tag):
            refuse_code(artifact.manifest, tag)
        return artifact

    def admit_file(self, model: ModelFile, tag: str | None) -> None:
        """Says whether a model file that is to become a version may be opened for that.

        Args:
            model: Its framework, and the file as the user named it.
            tag: The version's tag; None where it is not known yet.

        Raises:
            UntrustedVersion: It may not.
        """
        why = code_on_load(model)
        if why and not self._trusts_code_of(tag or ""):
            raise UntrustedVersion(
                f"{model.file} is not opened: {why}; save the model as ONNX or skops, or, where you know who made it, "
                "say so with EKIBEN_TRUST_PICKLE=on"
            )

    def open(self, version: Version, *, providers: tuple[str, ...] = ()) -> Predictor:
        """Loads a version that may be loaded, and checks it: checksums first, then golden rows.

        Args:
            version: The version.
            providers: ONNX Runtime's execution providers to prefer.

        Raises:
            UntrustedVersion: It may not be loaded. Nothing of it was run.
            ArtifactError: It is refused; the message says why.
        """
        from ekiben.model.predictor import Predictor  # noqa: PLC0415  who lists versions loads none

        return Predictor.checked(self.admit(version), providers=providers, trusted=True)

    def signatures(self, artifact: Artifact, tag: str) -> list[Signature]:
        """What the signatures beside a version are worth; without trusted signers, none of them counts.

        Raises:
            SigningError: The trusted keys cannot be read.
            RuntimeUnavailable: The package cryptography is not installed.
        """
        if self._signers is None and not (artifact.path / SIGNATURES).is_dir():
            return []
        from ekiben.registry.signing import examine  # noqa: PLC0415  most versions have no signature
        from ekiben.registry.signing_keys import read_trusted_keys  # noqa: PLC0415

        return examine(artifact, tag, read_trusted_keys(self._signers) if self._signers is not None else ())

    def _trusts_code_of(self, tag: str) -> bool:
        return self._pickle if isinstance(self._pickle, bool) else tag in self._pickle

    def _refuse_unsigned(self, artifact: Artifact, tag: str) -> None:
        try:
            found = self.signatures(artifact, tag)
        except (SigningError, ArtifactError) as e:
            raise UntrustedVersion(f"{tag} is not loaded, as nobody can tell who signed it: {e}") from e
        if any(not signature.problem for signature in found):
            return
        what = "; ".join(f"{s.file}: {s.problem}" for s in found[:_SHOWN_PROBLEMS]) or "it has no signature"
        raise UntrustedVersion(
            f"{tag} is not loaded: none of EKIBEN_TRUSTED_SIGNERS has signed it ({what}); "
            f"have one of them say `ekiben models sign {tag} --key PRIVATE.pem`"
        )
