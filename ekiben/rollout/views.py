"""What people and programs are shown of a rollout: plain values, the same for CLI, admin API and ``--json``."""

from __future__ import annotations

from typing import Literal

import msgspec

from ekiben.state.measurements import Measurement


class Interval(msgspec.Struct, frozen=True):
    """A value and the interval that holds the real one; None where nothing is known."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


class StepView(msgspec.Struct, frozen=True, kw_only=True):
    """A step of the plan.

    Attributes:
        what: As people read it: ``setWeight: 5``.
        state: Where it stands.
        began, ended: Seconds since the epoch; 0 for not yet.
    """

    index: int
    what: str
    state: Literal["done", "skipped", "current", "to come", "rolled-back", "aborted"]
    began: float = 0.0
    ended: float = 0.0


class ArmView(msgspec.Struct, frozen=True, kw_only=True):
    """An arm, in the stage that is going on.

    Attributes:
        arm, version: What answers.
        weight: Percent of the traffic it has.
        requests, errors, invalid, fallbacks: As in `Window`.
        requests_per_s: Over the last ten seconds.
        error_rate: Share of requests.
        p50_s, p95_s: Latency, seconds.
        errors_by_kind: Error → requests.
    """

    arm: str
    version: str
    weight: float
    requests: int = 0
    requests_per_s: float = 0.0
    errors: int = 0
    invalid: int = 0
    fallbacks: int = 0
    error_rate: Interval = Interval()
    p50_s: float | None = None
    p95_s: Interval = Interval()
    errors_by_kind: dict[str, int] = {}


class ShadowView(msgspec.Struct, frozen=True, kw_only=True):
    """The shadow, in the stage that is going on.

    Attributes:
        rate: Share of the champion's rows.
        compared, dropped: Rows.
        agreement: Share of compared rows with the same prediction.
        mean_difference, p95_difference: Of the scores, absolute.
        errors: Requests whose rows it failed on.
        p95_compute_s, champion_p95_compute_s: Seconds that batches took.
    """

    version: str
    rate: float
    compared: int = 0
    dropped: int = 0
    agreement: Interval = Interval()
    mean_difference: float | None = None
    p95_difference: float | None = None
    errors: int = 0
    p95_compute_s: float | None = None
    champion_p95_compute_s: float | None = None


class WorkerView(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that serves the model.

    Attributes:
        follows: Whether the latest change is in force in it.
        in_force_s: Seconds from the change to when it was in force; None where it is not, or nothing changed.
        loaded: The model's versions in its memory.
        problems: Why versions of the model are not.
    """

    id: str
    follows: bool
    in_force_s: float | None = None
    loaded: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


class StatusView(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout at one moment.

    Attributes:
        id, model, kind, champion, challenger, status, message, created, created_by, ended: As in `Rollout`.
        now: When it was looked at, seconds since the epoch.
        paused: Whether it waits for a person, or for what was paused to be resumed.
        step: Index of the step it is in.
        steps: All steps.
        arms: The champion first.
        shadow: The shadow, where there is one.
        measurements: The latest of each metric in this stage.
        next: What happens next, and when: a sentence.
        workers: The workers that serve the model.
        controller: Who carries it out; None where nobody does.
    """

    id: str
    model: str
    kind: str
    champion: str
    challenger: str
    status: str
    message: str
    created: float
    created_by: str
    ended: float
    now: float
    paused: bool
    step: int
    steps: tuple[StepView, ...]
    arms: tuple[ArmView, ...]
    shadow: ShadowView | None = None
    measurements: tuple[Measurement, ...] = ()
    next: str = ""
    workers: tuple[WorkerView, ...] = ()
    controller: str | None = None


class RollbackView(msgspec.Struct, frozen=True, kw_only=True):
    """A model that went back to a former champion, with no rollout active.

    Attributes:
        model: The model.
        champion: The version that answers from now on.
        was: The version that was champion until now; it stays loaded as ``challenger``, for inspection.
        message: What happened, a sentence.
    """

    model: str
    champion: str
    was: str
    message: str
