"""What a model is. Light: importing it loads numpy and msgspec, a framework only when a model needs it."""

from ekiben.model.artifact import Artifact, Manifest, ModelFile, Provenance, read_artifact
from ekiben.model.outputs import Outputs
from ekiben.model.predictor import Predictor
from ekiben.model.signature import Batch, Signature
from ekiben.model.spec import CardSpec, InputSpec, ModelSpec, OutputSpec, load_spec

__all__ = [
    "Artifact",
    "Batch",
    "CardSpec",
    "InputSpec",
    "Manifest",
    "ModelFile",
    "ModelSpec",
    "OutputSpec",
    "Outputs",
    "Predictor",
    "Provenance",
    "Signature",
    "load_spec",
    "read_artifact",
]
