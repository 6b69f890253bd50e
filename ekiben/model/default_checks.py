"""What ``breaker.default`` must not say: it has to be an answer that the model could give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ekiben.model.guard_checks import Contradiction
from ekiben.model.guard_spec import BreakerSpec

_DECIMALS = 4


class Output(Protocol):
    """An output of a tensor model."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def dtype(self) -> str:
        """Its numpy dtype, or ``string``."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one row; -1 stands for what varies."""


def default_contradictions(breaker: BreakerSpec, task: str, labels: Sequence[str], outputs: Sequence[Output]) -> list[Contradiction]:
    """What is wrong with the answer that is given in a broken version's place.

    Args:
        breaker: The breaker.
        task: What the model does.
        labels: Of a classifier.
        outputs: Of a tensor model.
    """
    default = breaker.default
    if default is None:
        return []
    if task == "tensor":
        found = _of_tensors(default, outputs)
    elif task == "regression":
        found = _of_regression(default)
    else:
        found = _of_classifier(default, labels)
    return [(f"breaker.default{field}", problem, right) for field, problem, right in found]


def _of_classifier(default: Mapping[str, Any], labels: Sequence[str]) -> Iterator[Contradiction]:
    yield from _unknown(default, ("prediction", "probabilities"))
    if default.get("prediction") not in labels:
        yield ".prediction", f"is {default.get('prediction')!r}", f"must be one of the labels: {', '.join(labels)}"
    given = default.get("probabilities")
    if given is None:
        return
    right = "give a probability from 0 to 1 for each label, 1 together, or leave probabilities out"
    if not isinstance(given, dict) or given.keys() != set(labels) or not all(_is_number(p) and 0 <= p <= 1 for p in given.values()):
        yield ".probabilities", f"is {given!r}", right
    elif round(sum(given.values()), _DECIMALS) != 1:
        yield ".probabilities", f"is {sum(given.values()):g} together", right


def _of_regression(default: Mapping[str, Any]) -> Iterator[Contradiction]:
    yield from _unknown(default, ("prediction",))
    if not _is_number(default.get("prediction")):
        yield ".prediction", f"is {default.get('prediction')!r}", "must be a finite number"


def _of_tensors(default: Mapping[str, Any], outputs: Sequence[Output]) -> Iterator[Contradiction]:
    yield from _unknown(default, [output.name for output in outputs])
    for output in outputs:
        right = f"must be one row of it: {output.dtype} of the shape {list(output.shape)}"
        if output.name not in default:
            yield f".{output.name}", "is missing", right
            continue
        try:
            array = np.array(default[output.name], "object" if output.dtype == "string" else output.dtype)
        except (TypeError, ValueError, OverflowError):
            yield f".{output.name}", "is no tensor of its type", right
            continue
        is_text = output.dtype == "string"
        if array.ndim != len(output.shape) or any(d not in (-1, n) for d, n in zip(output.shape, array.shape, strict=True)):
            yield f".{output.name}", f"has the shape {list(array.shape)}", right
        elif is_text and not all(isinstance(text, str) for text in array.flat):
            yield f".{output.name}", "holds something else than text", right


def _unknown(default: Mapping[str, Any], known: Sequence[str]) -> Iterator[Contradiction]:
    for name in default:
        if name not in known:
            yield f".{name}", "is no output that can be given", f"there are {', '.join(known)}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))
