"""A version's configuration in the terms of Triton's ``ModelConfig`` message."""

from __future__ import annotations

from typing import Any

from ekiben.serving.datatypes import input_metadata, output_metadata
from ekiben.serving.description import platform_of
from ekiben.serving.loaded_version import LoadedVersion

_US = 1000
"""Microseconds in a millisecond."""


def model_config(served: LoadedVersion) -> dict[str, Any]:
    """The configuration, as the JSON form of the message: enums by name, 64-bit integers as numbers.

    Dimensions are those of one row where the model takes batches (``max_batch_size`` above 0), and then a scalar has none;
    where it takes none they are the whole tensor's.

    The protocol names versions by numbers and ours are no numbers: which are served is ``version_policy``'s ``specific``
    without a list, and in the model's metadata. There is one instance in each worker.
    """
    spec = served.spec
    batching = spec.batching
    config: dict[str, Any] = {
        "name": served.model,
        "platform": platform_of(served),
        "backend": "ekiben",
        "version_policy": {"specific": {"versions": []}},
        "max_batch_size": batching.max_batch_size if batching.enabled else 0,
        "input": [_tensor(input_metadata(item)) for item in spec.inputs],
        "output": [_tensor(item) for item in output_metadata(served.predictor)],
        "instance_group": [
            {"name": served.model, "kind": "KIND_CPU" if served.predictor.runtime.device == "CPU" else "KIND_GPU", "count": 1}
        ],
        "parameters": {
            name: {"string_value": text}
            for name, text in (("version", served.version), ("task", spec.task), ("framework", served.manifest.model.framework))
        },
    }
    if batching.enabled:
        config["dynamic_batching"] = {
            "max_queue_delay_microseconds": int(batching.max_queue_delay_ms * _US),
            "default_queue_policy": {
                "timeout_action": "REJECT",
                "default_timeout_microseconds": int(spec.timeout_ms * _US),
                "allow_timeout_override": True,
            },
        }
    return config


def _tensor(metadata: dict[str, Any]) -> dict[str, Any]:
    datatype = metadata["datatype"]
    return {
        "name": metadata["name"],
        "data_type": "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}",
        "dims": metadata["shape"][1:],  # the first is the rows', which the metadata leaves out of a model without it, too
    }
