"""Which task a model has, judged by what it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from ekiben.errors import ArtifactError
from ekiben.model.estimator_facts import EstimatorFacts
from ekiben.model.outputs import Outputs
from ekiben.model.spec import OutputSpec, Task

_LABEL_DTYPES: Final = ("int64", "int32", "string", "bool")
_REGRESSORS: Final = frozenset({"variable"})  # the output of every regressor that skl2onnx converts
_BINARY: Final = 2
_SLACK: Final = 1e-2
_TIE: Final = 1e-4
Array = npt.NDArray[Any]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a spec that speaks of outputs.

    Attributes:
        bound: Output of the spec → output of the graph.
    """

    task: Task
    outputs: tuple[OutputSpec, ...] = ()
    labels: tuple[str, ...] = ()
    bound: dict[str, str] = {}
    notes: tuple[str, ...] = ()


def infer_outputs(
    name: str,
    facts: EstimatorFacts,
    given: Sequence[OutputSpec],
    run: Outputs,
    *,
    task: Task | None,
    labels: Sequence[str],
    keys: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Outcome:
    """Judges a model's outputs.

    A label a row beside a probability a class is a classifier, as scikit-learn's converters make them, as long as the label
    follows from the probabilities; what a framework says of itself (``classes``, ``is_regressor``) counts; anything else is a
    tensor model, unless the caller says what it is.

    Args:
        name: Name of the model, for messages.
        facts: What an estimator says of itself.
        given: Its outputs as they came out, shapes those of one row.
        run: What came out for some rows.
        task: What the caller says it is.
        labels: The classes the caller gives.
        keys: Output that was a map → its keys, which are the classes of what is in it.

    Raises:
        ArtifactError: The caller's task or labels do not go with the outputs.
    """
    label, scores = _label_and_scores(given)
    if task in ("binary_classification", "multiclass_classification") or labels:
        if task in ("regression", "tensor"):
            raise ArtifactError(f"{name}: a {task} model has no labels; leave out --labels, or --task")
        scores = scores or _scores_by_name(name, given)
        return _classifier(name, facts, label, scores, run, task=task, labels=labels, keys=keys)
    if task is None and (scores is not None or facts.classes):
        scores = scores or _scores_by_name(name, given)
        found = run.arrays[scores.name]
        is_named = bool(facts.classes) or (label is not None and "label" in label.name)
        if is_named or (label is not None and _are_probabilities(found)):
            doubt = _doubt(label, scores, run)
            if not doubt:
                return _classifier(name, facts, label, scores, run, task=None, labels=(), keys=keys)
            return Outcome(task="tensor", outputs=tuple(given), notes=(f"{doubt}: both are answered as the tensors they are",))
    is_regressor = (facts.is_regressor or given[0].name in _REGRESSORS) and len(given) == 1 and given[0].shape in ((), (1,))
    if task == "regression" or (task is None and is_regressor):
        return _regressor(name, given)
    return Outcome(task="tensor", outputs=tuple(given))


def _label_and_scores(given: Sequence[OutputSpec]) -> tuple[OutputSpec | None, OutputSpec | None]:
    """The output with one label a row and that with one score a class, of a model with just these two."""
    if len(given) != 2:  # noqa: PLR2004  a pair
        return None, None
    labels = [o for o in given if o.dtype in _LABEL_DTYPES and o.shape in ((), (1,))]
    scores = [o for o in given if o.dtype in ("float32", "float64") and len(o.shape) == 1 and o.shape[0] > 0]
    return (labels[0], scores[0]) if len(labels) == 1 and len(scores) == 1 else (None, None)


def _scores_by_name(name: str, given: Sequence[OutputSpec]) -> OutputSpec:
    able = [o for o in given if o.dtype in ("float16", "float32", "float64") and (o.shape == () or (len(o.shape) == 1 and o.shape[0] > 0))]
    if not able:
        raise ArtifactError(f"{name}: a classifier gives one probability a class; the model gives {_described(given)}")
    return next((o for o in able if "prob" in o.name), able[0])


def _classifier(
    name: str,
    facts: EstimatorFacts,
    label: OutputSpec | None,
    scores: OutputSpec,
    run: Outputs,
    *,
    task: Task | None,
    labels: Sequence[str],
    keys: Mapping[str, Sequence[str]],
) -> Outcome:
    found = run.arrays[scores.name]
    width = found.shape[1] if found.ndim > 1 else 1
    classes = width if width > 1 else _BINARY
    known = next((k for k in (facts.classes, keys.get(scores.name, ())) if len(k) == classes), ())
    notes: tuple[str, ...] = ()
    if labels:
        chosen = tuple(labels)
        if len(chosen) != classes:
            raise ArtifactError(f"{name}: {len(chosen)} labels are given ({', '.join(chosen)}); the model has {classes} classes")
    elif known:
        chosen = tuple(str(c) for c in known)
    else:
        chosen, notes = _labels_seen(label, scores, run, classes)
    is_probable = _are_probabilities(found)
    # Two scores that are no probabilities have no threshold at 0.5; the higher one decides, as with any number of classes.
    kind: Task = "binary_classification" if classes == _BINARY and (is_probable or width == 1) else "multiclass_classification"
    if task is not None and task != kind and classes != _BINARY:
        raise ArtifactError(f"{name}: the model has {classes} classes; its task is {kind}, not {task}")
    doubt = _doubt(label, scores, run, is_binary=(task or kind) == "binary_classification")
    if doubt:
        raise ArtifactError(f"{name}: {doubt}; leave out --labels and --task, and both are answered as the tensors they are")
    if not is_probable:
        notes += (f"the scores in {scores.name!r} are no probabilities (they do not sum to 1); confidence will be such a score",)
    return Outcome(task=task or kind, labels=chosen, bound={"probabilities": scores.name}, notes=notes)


def _are_probabilities(scores: Array) -> bool:
    """Whether ``[rows, classes]`` numbers, or ``[rows]`` numbers of one class, may be probabilities."""
    totals = scores.sum(axis=1) if scores.ndim > 1 and scores.shape[1] > 1 else np.ones(1)
    within = bool(((scores >= -_SLACK) & (scores <= 1 + _SLACK)).all())
    return within and bool(np.allclose(totals, 1, atol=_SLACK))


def _decided(scores: Array, *, is_binary: bool) -> tuple[Array, Array]:
    """Which class each row's scores speak for, ``[rows]``, and whether they do so clearly: a tie may go either way."""
    if scores.ndim == 1 or scores.shape[1] == 1 or is_binary:
        positive = scores.reshape(len(scores), -1)[:, -1].astype(np.float64)
        return (positive >= 0.5).astype(np.intp), np.abs(positive - 0.5) > _TIE  # noqa: PLR2004  the threshold
    best = np.partition(scores.astype(np.float64), -2, axis=1)[:, -2:]
    return scores.argmax(axis=1), best[:, 1] - best[:, 0] > _TIE


def _pairs(label: OutputSpec, scores: OutputSpec, run: Outputs, *, is_binary: bool) -> set[tuple[int, str]]:
    """Each class that clear scores spoke for, with the label the model gave beside them."""
    index, is_clear = _decided(run.arrays[scores.name], is_binary=is_binary)
    texts = [str(v) for v in run.arrays[label.name].reshape(-1).tolist()]
    return {(n, text) for n, text, clear in zip(index.tolist(), texts, is_clear.tolist(), strict=True) if clear}


def _doubt(label: OutputSpec | None, scores: OutputSpec, run: Outputs, *, is_binary: bool | None = None) -> str:
    """Why the label cannot be made of the scores, in words; empty where it can, or nothing is known."""
    if label is None:
        return ""
    found = run.arrays[scores.name]
    if is_binary is None:
        is_binary = found.ndim > 1 and found.shape[1] == _BINARY and _are_probabilities(found)
    pairs = _pairs(label, scores, run, is_binary=is_binary)
    is_one_to_one = len(pairs) == len({n for n, _ in pairs}) == len({text for _, text in pairs})
    is_score = (found.ndim == 1 or found.shape[1] == 1) and not _are_probabilities(found)
    if is_one_to_one and not is_score:
        return ""
    return f"the model's {label.name!r} does not follow from its {scores.name!r}, as that of a classifier does from probabilities"


def _labels_seen(label: OutputSpec | None, scores: OutputSpec, run: Outputs, classes: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes' names, read off the rows: the label the model gives is that of its highest score."""
    numbered = tuple(str(n) for n in range(classes))
    if label is None:
        return numbered, ("the classes are called 0, 1, …; name them with --labels or in model.yaml",)
    seen = dict(_pairs(label, scores, run, is_binary=False))
    if all(numbered[n] == text for n, text in seen.items()):
        return numbered, ()
    if len(seen) == classes:
        return tuple(seen[n] for n in range(classes)), ()
    shown = ", ".join(sorted(seen.values()))
    return numbered, (f"the model has its own names for classes ({shown} were seen); give all, in its order, with --labels",)


def _regressor(name: str, given: Sequence[OutputSpec]) -> Outcome:
    able = [o for o in given if o.dtype.startswith(("float", "int")) and o.shape in ((), (1,))]
    if not able:
        raise ArtifactError(f"{name}: a regressor gives one number a row; the model gives {_described(given)}")
    return Outcome(task="regression", bound={"prediction": able[0].name})


def _described(given: Sequence[OutputSpec]) -> str:
    return ", ".join(f"{o.name!r} ({o.dtype} {list(o.shape)})" for o in given)
