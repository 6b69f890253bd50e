"""Which versions run code of their own when they are loaded, and the refusal of those where nobody said to trust them.

| model | what reads it | code |
|---|---|---|
| ``onnx`` | ONNX Runtime | none: a graph and weights |
| ``sklearn``, ``.skops`` | skops, known types alone | none of its own: see `ekiben.model.runtimes.sklearn` |
| ``sklearn``, any other file | joblib | a pickle: whatever it says |
| ``torch``, ``.pt2`` | ``torch.export.load`` | pickles for what its safe reader refuses, and expressions that are evaluated |

PyTorch says of its own reader never to give it what comes from an untrusted source
(https://docs.pytorch.org/docs/stable/user_guide/torch_compiler/export/api_reference.html). features.py is code too, always: its
checksum, and a signature where those are asked for, say whose.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from ekiben.errors import UntrustedVersion
from ekiben.model.artifact import Manifest, ModelFile


def code_on_load(model: ModelFile) -> str | None:
    """Why loading a model runs code that its file holds; None where it does not."""
    if model.framework == "sklearn" and PurePosixPath(model.file).suffix != ".skops":
        return f"{model.file} is a pickle, which runs what code it likes when it is loaded"
    if model.framework == "torch":
        return f"{model.file} is read by torch.export.load, which can run code that the file holds"
    return None


def refuse_code(manifest: Manifest, tag: str) -> None:
    """Refuses a version whose model runs code when it is loaded.

    Args:
        manifest: The version's.
        tag: What it is called in the message.

    Raises:
        UntrustedVersion: It is one.
    """
    if why := code_on_load(manifest.model):
        raise UntrustedVersion(
            f"{tag} is not loaded: {why}, and nobody trusted has signed it; save the model as ONNX or skops, have it signed by one of "
            f"EKIBEN_TRUSTED_SIGNERS (`ekiben models sign`), or say that you trust it with EKIBEN_TRUST_PICKLE={tag} (`on` trusts all; "
            "in Python, Predictor.open(…, trusted=True))"
        )
