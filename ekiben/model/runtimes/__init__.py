"""One file a framework; each is imported when a model needs it and not before."""

from ekiben.model.runtimes.base import Runtime, TensorInfo
from ekiben.model.runtimes.opening import FRAMEWORKS, open_runtime

__all__ = ["FRAMEWORKS", "Runtime", "TensorInfo", "open_runtime"]
