"""What every training run does with its model: train → evaluate → export → check → register.

A script says what is its own in a `Job`: the data, the split, how to fit. Everything else happens here, once. Nothing
reaches the model store before the last step, which either happens whole or not at all.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ekiben.errors import ArtifactError, EkibenError, VersionExists
from ekiben.model import Batch, Provenance, load_spec
from ekiben.model.artifact import CARD
from ekiben.model.build import build_artifact
from ekiben.registry import Registry, Version
from ekiben.registry.provenance import framework_versions, git_commit, now
from ekiben.registry.reference import parse_tag
from training.choice import checked_batch, choose
from training.job import Job
from training.metrics import measure
from training.outcome import Outcome
from training.progress import Steps

Array = npt.NDArray[Any]

GOLDEN_ROWS = 64
REFERENCE_ROWS = 20_000


class NotGoodEnough(EkibenError):
    """The trained model misses what its job promises; nothing was registered."""


def run(job: Job, registry: Registry, steps: Steps, *, tag: str | None = None, if_missing: bool = False) -> Outcome:
    """Trains a model and registers it.

    Args:
        job: What to train.
        registry: Where the version goes.
        steps: Where progress is shown.
        tag: ``name:version``; None has a version made from the time.
        if_missing: Trains nothing when a version made by the same recipe is registered and its files are intact.

    Raises:
        VersionExists: The tag is taken; found out before the training.
        NotGoodEnough: A metric is below its floor.
        DataError: The data break the model's signature, or are too few.
        EkibenError: The spec, the artifact or the store refuses.
    """
    spec = load_spec(job.folder / "model.yaml")
    recipe = job.recipe()
    if if_missing:
        found = _registered(registry, spec.name, recipe, steps)
        if found is not None:
            return Outcome.of(found, reused=True)
    _refuse_taken(registry, spec.name, tag)
    rows = checked_batch(spec, job.split.test)
    checked_batch(spec, job.split.train)
    started = time.monotonic()
    with steps.step(f"Train on {job.split.train.n:,} rows", total=job.rounds) as step:
        trained = job.fit(job.split.train, step)
    training_s = time.monotonic() - started
    with tempfile.TemporaryDirectory(prefix="ekiben-training-") as work:
        choice = choose(job, spec, trained, Path(work), steps)
        with steps.step(f"Evaluate on {rows.n:,} held-out rows") as step:
            metrics = measure(job.split.test.target, choice.predictor.run(rows))
            _refuse_below(job.floors, metrics, spec.name)
            step.tell(", ".join(f"{name} {value:.4g}" for name, value in list(metrics.items())[:2]))
        with steps.step("Register") as step:
            build_artifact(
                Path(work) / "artifact",
                spec=spec,
                model=choice.model,
                files=choice.files,
                provenance=_provenance(job, recipe, training_s),
                golden_rows=_plain_rows(rows.take(_spread(rows.n, GOLDEN_ROWS))),
                reference=job.split.train.thin(REFERENCE_ROWS).columns,
                features=job.features,
                card=job.folder / CARD,
                metrics=metrics,
                threshold=choice.threshold,
                parity=choice.parity,
            )
            version = registry.register(Path(work) / "artifact", tag=tag)
            step.tell(f"{version.tag} {', '.join(version.aliases)}".rstrip())
    return Outcome.of(version)


def _registered(registry: Registry, model: str, recipe: str, steps: Steps) -> Version | None:
    found = registry.find(model, recipe)
    if found is None:
        return None
    try:
        found.artifact().verify()
    except ArtifactError as e:
        steps.note(f"{found.tag} was made by the same recipe, and cannot be trusted: {e}")
        return None
    return found


def _refuse_taken(registry: Registry, model: str, tag: str | None) -> None:
    if tag is not None and parse_tag(tag, model) in {v.version for v in registry.versions(model)}:
        raise VersionExists(f"{tag} exists already; a version never changes, give another tag")


def _refuse_below(floors: Mapping[str, float], metrics: Mapping[str, float], model: str) -> None:
    for name, floor in floors.items():
        if metrics[name] < floor:
            raise NotGoodEnough(f"{model}: {name} is {metrics[name]:.4f} on the held-out rows, and {floor:g} is the least; not registered")


def _provenance(job: Job, recipe: str, training_s: float) -> Provenance:
    split = job.split
    counts = {"train_rows": split.train.n, "validation_rows": split.validation.n if split.validation else 0, "test_rows": split.test.n}
    return Provenance(
        created=now(),
        git_commit=git_commit(job.folder),
        frameworks=framework_versions(*job.packages),
        data={"name": job.data.name, **job.data.window, "rows": job.data.n, **counts, "fingerprint": job.data.fingerprint()},
        parameters=dict(job.parameters),
        training_s=round(training_s, 3),
        recipe=recipe,
    )


def _spread(n: int, wanted: int) -> Array:
    return np.linspace(0, n - 1, min(n, wanted)).astype(np.int64)


def _plain_rows(batch: Batch) -> list[dict[str, Any]]:
    """Rows as a client would write them: 39.02, not the float32 next to it, 39.02000045776367."""
    columns = {}
    for name, column in batch.columns.items():
        is_single = column.dtype == np.float32
        columns[name] = column.astype(str).astype(np.float64).tolist() if is_single else column.tolist()
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
