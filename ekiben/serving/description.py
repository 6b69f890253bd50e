"""What the server and its models are, in the terms of the Open Inference Protocol, whatever carries it."""

from __future__ import annotations

from typing import Any, Final

from ekiben import __version__
from ekiben.serving.datatypes import input_metadata, output_metadata
from ekiben.serving.host import Host
from ekiben.serving.loaded_version import LoadedVersion

EXTENSIONS: Final = (
    "classification",
    "model_repository",
    "model_repository(unload_dependents)",
    "model_configuration",
    "binary_tensor_data",
    "statistics",
)
"""Extensions of the protocol that work here, by the names that Triton's documentation gives them."""


def server_metadata() -> dict[str, Any]:
    """The server's name, version and extensions."""
    return {"name": "ekiben", "version": __version__, "extensions": list(EXTENSIONS)}


def model_metadata(host: Host, served: LoadedVersion) -> dict[str, Any]:
    """A model's loaded versions, its inputs and its outputs; -1 is a dimension that varies.

    A model without a batch dimension has its tensors without the rows' one.
    """
    inputs = [input_metadata(item) for item in served.spec.inputs]
    outputs = output_metadata(served.predictor)
    if not served.spec.batching.enabled:
        for tensor in (*inputs, *outputs):
            tensor["shape"] = tensor["shape"][1:]
    return {
        "name": served.model,
        "versions": sorted(v for m, v in host.snapshot.loaded if m == served.model),
        "platform": platform_of(served),
        "inputs": inputs,
        "outputs": outputs,
    }


def platform_of(served: LoadedVersion) -> str:
    """What runs a version: its framework, in Ekiben."""
    return f"{served.manifest.model.framework}_ekiben"
