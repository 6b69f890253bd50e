"""From a version in the store to a predictor that was checked and is warm. All of it is fit for a thread."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ekiben.model.artifact import Manifest
from ekiben.model.predictor import Predictor
from ekiben.registry import LoadPolicy, Version
from ekiben.serving.cost_model import CostModel

_WARM_SIZES = (1, 2, 8, 32)
_WARM_RUNS = 3
_WARM_LIMIT_S = 0.5


def load_checked(stored: Version, providers: tuple[str, ...], policy: LoadPolicy) -> tuple[Predictor, Manifest, CostModel]:
    """Loads a version that the policy lets be loaded, checks it (checksums, golden rows) and warms it.

    Raises:
        ArtifactError: It is refused; the message says why.
    """
    artifact = policy.admit(stored)
    predictor = Predictor.checked(artifact, providers=providers, trusted=True)
    return predictor, artifact.manifest, warm(predictor, artifact.golden_rows().rows)


def warm(predictor: Predictor, rows: Sequence[Any]) -> CostModel:
    """Runs batches of several sizes made of the rows given, so that no request pays for first runs; times them."""
    cost = CostModel()
    largest = predictor.spec.batching.max_batch_size
    parsed = predictor.signature.parse_rows(list(rows))
    if not predictor.signature.fixed_shapes:
        parsed = parsed[:1]
    for size in sorted({min(s, largest) for s in (*_WARM_SIZES, largest)}) if parsed else ():
        if cost.seconds(size) > _WARM_LIMIT_S:
            break
        payload = [parsed[n % len(parsed)] for n in range(size)]
        seconds = []
        for _ in range(_WARM_RUNS):
            started = time.monotonic()
            batch = predictor.signature.batch(payload)
            predictor.signature.check(batch)
            predictor.run(batch)
            seconds.append(time.monotonic() - started)
        cost.observe(size, min(seconds))
    return cost
