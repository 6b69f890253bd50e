"""scikit-learn: any estimator or Pipeline, saved with joblib or skops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import sklearn
from sklearn.base import BaseEstimator, is_classifier
from threadpoolctl import ThreadpoolController

from ekiben.errors import ArtifactError, PredictionFailed
from ekiben.model.runtimes.base import Runtime, TensorInfo

Array = npt.NDArray[Any]

_TRUSTED: Final = ("sklearn", "numpy", "scipy")
# Parts of the trusted packages that exist to run code, read pickles, open files or ask servers, under whatever name they are reached.
_DISTRUSTED: Final = (
    "numpy.testing", "numpy.f2py", "numpy.distutils", "numpy.ctypeslib", "numpy.lib", "numpy.load", "numpy.save", "numpy.savez",
    "numpy.savez_compressed", "numpy.savetxt", "numpy.loadtxt", "numpy.genfromtxt", "numpy.fromfile", "numpy.fromregex", "numpy.memmap",
    "numpy.rec.fromfile", "numpy.ndarray.tofile", "numpy.ndarray.dump", "numpy.show_config",
    "scipy.io", "scipy.datasets", "scipy.test", "sklearn.datasets", "sklearn.utils._testing", "sklearn.utils.estimator_checks",
)  # fmt: skip
_TABLE: Final = (None, None)


class SklearnRuntime(Runtime):
    """A fitted estimator, on one thread.

    What it gives, in this order, computed only when asked for:

    * a classifier: ``probabilities`` ``[n, classes]`` in the order of ``classes_``, and ``prediction`` ``[n]``. Without
      ``predict_proba`` the probabilities are 1 for the predicted class and 0 for the others: decision values are no
      probabilities, and a softmax would not make them such;
    * a classifier of several targets: ``prediction`` ``[n, targets]``, then ``probabilities_0``, ``probabilities_1`` …;
    * a regressor, clusterer or outlier detector: ``prediction``, ``[n]`` or ``[n, targets]``;
    * a transformer: ``transformed``.

    NOTE: a .joblib or .pkl file runs code when it is loaded. Load only files that you made, or use skops.

    Args:
        file: A ``.skops`` file, or one that joblib reads.

    Raises:
        ArtifactError: The file cannot be read, needs a type that is not trusted, or holds nothing that predicts.
    """

    def __init__(self, file: Path) -> None:
        self._estimator = _load_skops(file) if file.suffix == ".skops" else _load_joblib(file)
        for estimator in _estimators(self._estimator):
            if getattr(estimator, "n_jobs", None) not in (None, 1):
                estimator.set_params(n_jobs=1)
        names = getattr(self._estimator, "feature_names_in_", None)
        self._columns = None if names is None else [str(name) for name in names]
        self.wants_frame = self._columns is not None
        self.inputs = ()
        self._compute = _outputs_of(self._estimator, file)
        self.outputs = tuple(info for info, _ in self._compute.values())
        # NOTE: made once, as it looks through all loaded libraries; its limit holds for the thread that sets it.
        self._threads = ThreadpoolController()

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Computes with the estimator.

        Raises:
            PredictionFailed: The estimator failed.
        """
        try:
            with self._threads.limit(limits=1):
                table = feeds["matrix"] if self._columns is None else self._frame(feeds, self._columns)
                return {name: _dense(self._compute[name][1](table)) for name in outputs}
        except PredictionFailed:
            raise
        except Exception as e:  # NOTE: an estimator raises what it likes
            raise PredictionFailed(f"scikit-learn {sklearn.__version__} failed: {type(e).__name__}: {e}") from e

    @staticmethod
    def _frame(feeds: Mapping[str, Array], columns: list[str]) -> Any:
        import pandas as pd  # noqa: PLC0415  slow to import, and only a model fitted on a table needs it

        missing = [name for name in columns if name not in feeds]
        if missing:
            raise PredictionFailed(f"the estimator was fitted with a column {missing[0]!r}; the model's inputs are {', '.join(feeds)}")
        return pd.DataFrame({name: feeds[name] for name in columns}, copy=False)


Compute = Callable[[Any], Any]


def _outputs_of(estimator: Any, file: Path) -> dict[str, tuple[TensorInfo, Compute]]:
    """Name → what it is, and the method that computes it."""
    if not hasattr(estimator, "predict"):
        if hasattr(estimator, "transform"):
            return {"transformed": (TensorInfo("transformed", "float64", _TABLE), estimator.transform)}
        raise ArtifactError(
            f"{file.name} holds a {type(estimator).__name__}, which has neither predict nor transform; save a fitted estimator or Pipeline"
        )
    if not _classifies(estimator):
        return {"prediction": (TensorInfo("prediction", "float64", (None,)), estimator.predict)}
    classes = getattr(estimator, "classes_", None)
    if classes is None:
        raise ArtifactError(f"{file.name} holds a {type(estimator).__name__} without classes_; fit it before you save it")
    prediction = (TensorInfo("prediction", "object", (None,)), estimator.predict)
    if isinstance(classes, list):
        several = {"prediction": prediction}
        if hasattr(estimator, "predict_proba"):
            for n, own in enumerate(classes):
                name = f"probabilities_{n}"
                several[name] = (TensorInfo(name, "float64", (None, len(own))), lambda table, n=n: estimator.predict_proba(table)[n])
        return several
    compute = estimator.predict_proba if hasattr(estimator, "predict_proba") else _one_hot(estimator, np.asarray(classes))
    return {"probabilities": (TensorInfo("probabilities", "float64", (None, len(classes))), compute), "prediction": prediction}


def _classifies(estimator: Any) -> bool:
    # An estimator of another library may follow scikit-learn's conventions and not inherit from its classes.
    return is_classifier(estimator) if isinstance(estimator, BaseEstimator) else hasattr(estimator, "predict_proba")


def _one_hot(estimator: Any, classes: Array) -> Compute:
    return lambda table: (np.asarray(estimator.predict(table)).reshape(-1, 1) == classes).astype(np.float64)


def _dense(value: Any) -> Array:
    """Arrays of sparse matrices and tables too."""
    return np.asarray(value.toarray() if hasattr(value, "toarray") else value)


def _estimators(root: Any) -> Iterator[Any]:
    """The estimator and all fitted estimators inside it, each once: steps, members of ensembles, searched models."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        found = waiting.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        if isinstance(found, BaseEstimator):
            yield found
            waiting += vars(found).values()
        elif isinstance(found, list | tuple):
            waiting += found
        elif isinstance(found, dict):
            waiting += found.values()
        elif isinstance(found, np.ndarray) and found.dtype.kind == "O":
            waiting += found.reshape(-1).tolist()


def _load_joblib(file: Path) -> Any:
    import joblib  # noqa: PLC0415  a skops file needs none of it

    try:
        return joblib.load(file)
    except Exception as e:  # NOTE: unpickling raises anything
        raise ArtifactError(
            f"{file.name}: scikit-learn {sklearn.__version__} cannot load it: {type(e).__name__}: {e}; "
            "it loads with the package versions it was saved with"
        ) from e


def _load_skops(file: Path) -> Any:
    import skops.io  # noqa: PLC0415  only .skops files need it

    try:
        untrusted = skops.io.get_untrusted_types(file=file)
    except Exception as e:  # NOTE: a broken zip file, JSON or schema
        raise ArtifactError(f"{file.name}: not readable as a skops file: {type(e).__name__}: {e}") from e
    unknown = [name for name in untrusted if not _is_trusted(name)]
    if unknown:
        raise ArtifactError(
            f"{file.name}: it needs {', '.join(unknown)}, which {'are' if len(unknown) > 1 else 'is'} not of {', '.join(_TRUSTED)}, "
            "or opens files or runs code; "
            "look at what it does, then save the model with joblib, or without it"
        )
    try:
        return skops.io.load(file, trusted=untrusted)
    except Exception as e:  # NOTE: as above
        raise ArtifactError(f"{file.name}: skops cannot load it: {type(e).__name__}: {e}") from e


def _is_trusted(name: str) -> bool:
    """Types and functions of the packages a model is made of; of the builtins the types only, as eval is one of them."""
    package, _, rest = name.partition(".")
    if package == "builtins":
        import builtins  # noqa: PLC0415  to look the name up

        return isinstance(getattr(builtins, rest, None), type)
    if package not in _TRUSTED or _is_listed(name):
        return False
    found = _named(name)
    if found is None or isinstance(found, ModuleType):
        return False
    # What is meant may have other names, in private modules or where it was imported to, and says where it is at home.
    module = getattr(found, "__module__", None) or package
    home = f"{module}.{getattr(found, '__qualname__', '')}"
    return module.partition(".")[0] in _TRUSTED and not _is_listed(home) and not any(found is _named(odd) for odd in _DISTRUSTED)


def _is_listed(name: str) -> bool:
    return any(name == odd or name.startswith(f"{odd}.") for odd in _DISTRUSTED)


def _named(name: str) -> Any:
    """What a dotted name of a trusted package means, None where it means nothing."""
    from importlib import import_module  # noqa: PLC0415  only .skops files with more than skops' own types need it

    path, _, rest = name.rpartition(".")
    try:
        return getattr(import_module(path), rest)
    except ImportError:
        return getattr(_named(path), rest, None) if "." in path else None
    except AttributeError:
        return None
