"""Gradient-boosted trees on a flight's features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from training.exports import save_sklearn, sklearn_to_onnx
from training.job import Trained

Array = npt.NDArray[Any]

_TREES_A_TIME: Final = 10
_THREADS: Final = 1


def fit_trees(features: Array, late: Array, *, parameters: Mapping[str, Any], seed: int, advance: Callable[[int], None]) -> Trained:
    """Fits the trees.

    What would make the ONNX export differ is left out: no scaling before trees (their float32 thresholds would land on
    the other side of values), no native categorical features (the converter gets them wrong without an error).
    Categories come as codes.

    Args:
        features: float32 ``[n, features]``; NaN where a value is missing.
        late: ``[n]`` 0 or 1.
        parameters: ``trees``, how many to grow; the others are scikit-learn's.
        seed: Equal seeds, equal trees.
        advance: Told how many trees were grown.
    """
    trees, chosen = parameters["trees"], {name: value for name, value in parameters.items() if name != "trees"}
    boosting = HistGradientBoostingClassifier(**chosen, early_stopping=False, warm_start=True, random_state=seed)
    # A pipeline of one: a step put before the trees is then saved, exported and compared with them.
    pipeline = Pipeline([("trees", boosting)])
    # One thread: the training shares its machine, and threads that wait for each other cost more than they save here.
    with threadpool_limits(_THREADS):
        for grown in range(0, trees, _TREES_A_TIME):
            more = min(_TREES_A_TIME, trees - grown)
            boosting.set_params(max_iter=grown + more)
            pipeline.fit(features, late)
            advance(more)
    boosting.set_params(warm_start=False)
    columns = features.shape[1]
    return Trained(
        save=lambda folder: save_sklearn(pipeline, folder),
        export=lambda folder: sklearn_to_onnx(pipeline, folder, name="features", columns=columns),
    )
