"""Which task a model has, judged by what it gives."""

from __future__ import annotations

from collections.abc import Sequence
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
    name: str, facts: EstimatorFacts, given: Sequence[OutputSpec], run: Outputs, *, task: Task | None, labels: Sequence[str]
) -> Outcome:
    """Judges a model's outputs.

    A label a row beside a probability a class is a classifier, as scikit-learn's converters make them; what a framework
    says of itself (``classes``, ``is_regressor``) counts; anything else is a tensor model, unless the caller says what it is.

    Args:
        name: Name of the model, for messages.
        facts: What an estimator says of itself.
        given: Its outputs as they came out, shapes those of one row.
        run: What came out for some rows.
        task: What the caller says it is.
        labels: The classes the caller gives.

    Raises:
        ArtifactError: The caller's task or labels do not go with the outputs.
    """
    label, scores = _label_and_scores(given)
    is_classifier = task in ("binary_classification", "multiclass_classification") or bool(labels)
    if task is None and not labels:
        is_classifier = bool(facts.classes) or (
            label is not None and scores is not None and ("label" in label.name or _are_probabilities(run.arrays[scores.name]))
        )
    if is_classifier:
        if task in ("regression", "tensor"):
            raise ArtifactError(f"{name}: a {task} model has no labels; leave out --labels, or --task")
        return _classifier(name, facts, given, run, task=task, labels=labels)
    is_regressor = (facts.is_regressor or given[0].name in _REGRESSORS) and len(given) == 1 and given[0].shape in ((), (1,))
    if task == "regression" or (task is None and is_regressor):
        return _regressor(name, given)
    return Outcome(task="tensor", outputs=tuple(given))


def _label_and_scores(given: Sequence[OutputSpec]) -> tuple[OutputSpec | None, OutputSpec | None]:
    """The output with one label a row and that with one score a class, of a model with just these two."""
    if len(given) != 2:  # noqa: PLR2004  a pair
        return None, None
    labels = [o for o in given if o.dtype in _LABEL_DTYPES and o.shape in ((), (1,))]
    scores = [o for o in given if o.dtype in ("float32", "float64") and len(o.shape) == 1]
    return (labels[0], scores[0]) if len(labels) == 1 and len(scores) == 1 else (None, None)


def _classifier(
    name: str, facts: EstimatorFacts, given: Sequence[OutputSpec], run: Outputs, *, task: Task | None, labels: Sequence[str]
) -> Outcome:
    label, scores = _label_and_scores(given)
    if scores is None:
        able = [o for o in given if o.dtype in ("float16", "float32", "float64") and len(o.shape) <= 1]
        if not able:
            raise ArtifactError(f"{name}: a classifier gives one probability a class; the model gives {_described(given)}")
        scores = next((o for o in able if "prob" in o.name), able[0])
    found = run.arrays[scores.name]
    width = found.shape[1] if found.ndim > 1 else 1
    classes = width if width > 1 else _BINARY
    notes: tuple[str, ...] = ()
    if labels:
        chosen = tuple(labels)
        if len(chosen) != classes:
            raise ArtifactError(f"{name}: {len(chosen)} labels are given ({', '.join(chosen)}); the model has {classes} classes")
    elif len(facts.classes) == classes:
        chosen = tuple(str(c) for c in facts.classes)
    else:
        chosen, notes = _labels_seen(label, scores, run, classes)
    kind: Task = "binary_classification" if classes == _BINARY else "multiclass_classification"
    if task is not None and task != kind and not (task == "multiclass_classification" and classes == _BINARY):
        raise ArtifactError(f"{name}: the model has {classes} classes; its task is {kind}, not {task}")
    if not _are_probabilities(found):
        notes += (f"the scores in {scores.name!r} are no probabilities (they do not sum to 1); confidence will be such a score",)
    return Outcome(task=task or kind, labels=chosen, bound={"probabilities": scores.name}, notes=notes)


def _are_probabilities(scores: npt.NDArray[Any]) -> bool:
    """Whether ``[rows, classes]`` numbers, or ``[rows]`` numbers of one class, may be probabilities."""
    totals = scores.sum(axis=1) if scores.ndim > 1 and scores.shape[1] > 1 else np.ones(1)
    within = bool(((scores >= -_SLACK) & (scores <= 1 + _SLACK)).all())
    return within and bool(np.allclose(totals, 1, atol=_SLACK))


def _labels_seen(label: OutputSpec | None, scores: OutputSpec, run: Outputs, classes: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes' names, read off the rows: the label the model gives is that of its highest score."""
    numbered = tuple(str(n) for n in range(classes))
    if label is None:
        return numbered, ("the classes are called 0, 1, …; name them with --labels or in model.yaml",)
    highest = run.arrays[scores.name].argmax(axis=1).tolist()
    pairs = set(zip(highest, (str(v) for v in run.arrays[label.name].reshape(-1).tolist()), strict=True))
    seen = dict(pairs)
    if all(numbered[n] == text for n, text in pairs):
        return numbered, ()
    if len(pairs) == len(seen) == classes == len(set(seen.values())):
        return tuple(seen[n] for n in range(classes)), ()
    shown = ", ".join(sorted({text for _, text in pairs}))
    return numbered, (f"the model has its own names for classes ({shown} were seen); give all, in its order, with --labels",)


def _regressor(name: str, given: Sequence[OutputSpec]) -> Outcome:
    able = [o for o in given if o.dtype.startswith(("float", "int")) and o.shape in ((), (1,))]
    if not able:
        raise ArtifactError(f"{name}: a regressor gives one number a row; the model gives {_described(given)}")
    return Outcome(task="regression", bound={"prediction": able[0].name})


def _described(given: Sequence[OutputSpec]) -> str:
    return ", ".join(f"{o.name!r} ({o.dtype} {list(o.shape)})" for o in given)
