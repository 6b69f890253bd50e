"""Whether what a rollout needs is in the memory of every worker, as the workers say themselves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from ekiben.state.control import Control
from ekiben.state.rollouts import Rollout
from ekiben.state.workers import WorkerState

ALIVE_S: Final = 5.0
"""A worker that has said nothing for so many seconds is taken for dead; it speaks once a second."""

_STALE_S: Final = 5.0
"""So long after a rollout began, what a worker says of it is no longer of an earlier attempt."""


class Loading(msgspec.Struct, frozen=True):
    """How far workers are with loading.

    Attributes:
        workers: How many serve the model.
        lacking: Version → on how many of them it is not loaded; those loaded everywhere are left out.
        problems: Version → why a worker cannot load it.
    """

    workers: int
    lacking: dict[str, int]
    problems: dict[str, str]

    @property
    def is_done(self) -> bool:
        """Whether there are workers, and all of them have everything."""
        return self.workers > 0 and not self.lacking


def versions_of(rollout: Rollout) -> tuple[str, ...]:
    """The versions that must be loaded before anybody is sent to them."""
    return (rollout.challenger,) if rollout.kind == "rollout" else tuple(dict.fromkeys(arm.version for arm in rollout.arms))


def loading_of(control: Control, rollout: Rollout) -> Loading:
    """How far the workers that are alive are with loading what a rollout or experiment needs.

    Raises:
        StateError: The control database cannot be read.
    """
    generation = control.generation()
    serving = serving_workers(control.workers.alive(ALIVE_S), rollout.model)
    # A worker that has not seen this rollout yet may still say why an earlier attempt of the same version failed.
    heard = [w for w in serving if w.follows(generation) or w.seen_at >= rollout.created + _STALE_S]
    versions = versions_of(rollout)
    lacking = {version: sum(version not in worker.versions.get(rollout.model, ()) for worker in serving) for version in versions}
    found = [(version, worker.problems.get(f"{rollout.model}:{version}")) for version in versions for worker in heard]
    return Loading(
        workers=len(serving),
        lacking={version: n for version, n in lacking.items() if n},
        problems={version: why for version, why in found if why is not None},
    )


def broken_on(control: Control, rollout: Rollout) -> dict[str, str]:
    """Worker → why the challenger counts as broken in it, of the workers that are alive and follow this rollout.

    Raises:
        StateError: The control database cannot be read.
    """
    generation = control.generation()
    tag = f"{rollout.model}:{rollout.challenger}"
    serving = serving_workers(control.workers.alive(ALIVE_S), rollout.model)
    return {worker.id: worker.broken[tag] for worker in serving if tag in worker.broken and worker.follows(generation)}


def serving_workers(workers: Iterable[WorkerState], model: str) -> list[WorkerState]:
    """Those that serve a model."""
    return [worker for worker in workers if model in worker.models]
