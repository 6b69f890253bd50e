"""What a fitted scikit-learn estimator knows of itself; other frameworks' models say it in their graph."""

from __future__ import annotations

from typing import Any

import msgspec

from ekiben.model.runtimes import Runtime


class EstimatorFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What an estimator was fitted on.

    Attributes:
        columns: The names of the table's columns; empty when it was fitted on a matrix.
        width: How many columns; None when it does not say.
        classes: The classes in the order of the probabilities; empty for what is no classifier, or one of several targets.
        is_regressor: Whether it is a regressor.
    """

    columns: tuple[str, ...] = ()
    width: int | None = None
    classes: tuple[str, ...] = ()
    is_regressor: bool = False


def estimator_facts(runtime: Runtime) -> EstimatorFacts:
    """The facts of the estimator inside a runtime; none where there is no estimator."""
    estimator = getattr(runtime, "_estimator", None)
    if estimator is None:
        return EstimatorFacts()
    from sklearn.base import is_regressor  # noqa: PLC0415  imported by the runtime already

    classes: Any = getattr(estimator, "classes_", ())
    return EstimatorFacts(
        columns=tuple(str(name) for name in getattr(estimator, "feature_names_in_", ())),
        width=getattr(estimator, "n_features_in_", None),
        classes=() if isinstance(classes, list) else tuple(str(c) for c in classes),
        is_regressor=bool(is_regressor(estimator)),
    )
