"""A version as plain values: what ``--json`` prints, and what the tables are made of."""

from __future__ import annotations

from typing import Any

import msgspec

from ekiben.model import Artifact, InputSpec, ModelSpec
from ekiben.registry import Version


def summary(version: Version) -> dict[str, Any]:
    """What ``list`` says of a version."""
    manifest = version.artifact().manifest
    return {
        "tag": version.tag,
        "model": version.model,
        "version": version.version,
        "aliases": list(version.aliases),
        "task": manifest.spec.task,
        "framework": manifest.model.framework,
        "metrics": manifest.metrics,
        "created": version.created,
        "size_bytes": version.size_bytes,
        "path": str(version.path),
    }


def details(version: Version) -> dict[str, Any]:
    """What ``show`` says of a version: all of its manifest."""
    artifact: Artifact = version.artifact()
    manifest = artifact.manifest
    spec = manifest.spec
    return {
        **summary(version),
        "description": spec.description,
        "inputs": [_input(item) for item in spec.inputs],
        "outputs": outputs(spec),
        "labels": list(spec.labels),
        "threshold": manifest.threshold,
        "latency_budget_ms": spec.latency_budget_ms,
        "timeout_ms": spec.timeout_ms,
        "batching": {name: getattr(spec.batching, name) for name in spec.batching.__struct_fields__},
        "card": {name: getattr(spec.card, name) for name in spec.card.__struct_fields__},
        "provenance": {name: getattr(manifest.provenance, name) for name in manifest.provenance.__struct_fields__},
        "parity": manifest.parity,
        "features_fingerprint": manifest.features_fingerprint,
        "golden_rows": len(artifact.golden_rows().rows),
        "checksums": manifest.checksums,
    }


def outputs(spec: ModelSpec) -> list[dict[str, Any]]:
    """The outputs that each row is answered with; those of classifiers and regressors follow from the task."""
    if spec.is_classifier:
        return [
            {"name": "prediction", "type": "string"},
            {"name": "confidence", "type": "float"},
            {"name": "probabilities", "type": "tensor", "dtype": "float32", "shape": [len(spec.labels)]},
        ]
    if spec.task == "regression":
        return [{"name": "prediction", "type": "float"}]
    return [
        {"name": o.name, "type": "tensor", "dtype": o.dtype, "shape": list(o.shape)}
        | ({"description": o.description} if o.description else {})
        for o in spec.outputs
    ]


def _input(item: InputSpec) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(item)
    return plain


def type_of(item: dict[str, Any]) -> str:
    """The type of an input or output in words, ``float`` or ``float32 [3, any]``."""
    if item["type"] != "tensor":
        return str(item["type"])
    return f"{item['dtype']} [{', '.join('any' if d == -1 else str(d) for d in item['shape'])}]"
