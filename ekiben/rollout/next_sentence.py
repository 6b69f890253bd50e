"""What happens next to a rollout, and when: one sentence for people."""

from __future__ import annotations

from collections.abc import Sequence

from ekiben.model.rollout_spec import PauseSpec, seconds
from ekiben.rollout.analysis import judge
from ekiben.rollout.loading import Loading
from ekiben.rollout.plan import analysis_of, describe_step, duration_text
from ekiben.rollout.reviewing import is_measured, of_stage
from ekiben.rollout.standing import Standing
from ekiben.state.measurements import Measurement
from ekiben.state.rollouts import Rollout


def next_sentence(
    at: Standing, *, loading: Loading, measurements: Sequence[Measurement], requests: int, controller: str | None, now: float
) -> str:
    """What happens next.

    Args:
        at: Where the rollout or experiment stands.
        loading: How far workers are with loading what it needs.
        measurements: Those of the stage.
        requests: The challenger's, in the stage.
        controller: Who carries rollouts out; None where nobody does.
        now: Seconds since the epoch.
    """
    return _obstacle(at.rollout, loading, controller) or _of_step(at, measurements, requests, now)


def following(rollout: Rollout) -> str:
    """What comes after the step that a rollout is in: ``setWeight: 50``, or the promotion."""
    later = rollout.plan.steps[rollout.step + 1 :]
    return describe_step(later[0]) if later else "promotion"


def _obstacle(rollout: Rollout, loading: Loading, controller: str | None) -> str:
    """Why no step goes on by itself now; empty where one does."""
    said = ""
    if not rollout.is_active:
        said = "nothing: it is over"
    elif not loading.workers and not rollout.step_began:
        said = f"no server is running that serves {rollout.model}: start one"
    elif controller is None:
        said = "nobody carries it out: start a server or `ekiben controller`"
    elif rollout.status == "Paused":
        said = f"waits for a person: `ekiben rollout resume {rollout.model}`, or promote, or abort"
    elif not rollout.step_began:
        said = _lacking(rollout, loading)
    elif rollout.kind == "experiment":
        said = f"goes on until `ekiben experiment stop {rollout.model}`"
    return said


def _of_step(at: Standing, measurements: Sequence[Measurement], requests: int, now: float) -> str:
    rollout, step = at.rollout, at.current
    if step is None:
        return "now: promotion"
    if step.pause is None:
        return f"now: {describe_step(step)}"
    if step.pause.duration is None:
        return f"waits for approval: `ekiben rollout promote {rollout.model}`"
    left_s = _left_s(step.pause, rollout, now)
    if left_s > 0:
        return f"in {duration_text(max(1, round(left_s)))}: {following(rollout)}"
    return (_held(rollout, measurements, requests) if is_measured(at) else "") or f"now: {following(rollout)}"


def _left_s(pause: PauseSpec, rollout: Rollout, now: float) -> float:
    return rollout.step_began + seconds(pause.duration or 0) - now


def _held(rollout: Rollout, measurements: Sequence[Measurement], requests: int) -> str:
    """What holds a rollout whose pause is over; empty where nothing does."""
    metrics, so_far = analysis_of(rollout.plan), of_stage(rollout, measurements)
    measured = {m.metric for m in so_far}
    needed = max((metric.min_requests for metric in metrics if not metric.dry_run), default=0)
    if requests < needed:
        return f"waits for {needed - requests} more requests to the challenger ({requests} of {needed})"
    if not measured:
        return "waits for the first measurement"
    verdict = judge(metrics, so_far, [metric.name for metric in metrics if metric.name not in measured])
    return "" if verdict.outcome == "Successful" else f"waits: {verdict.message}"


def _lacking(rollout: Rollout, loading: Loading) -> str:
    if not loading.lacking:
        return "now: it begins"
    version, n = next(iter(loading.lacking.items()))
    return f"waits for {rollout.model}:{version} to be loaded on {n} of {loading.workers} worker{'' if loading.workers == 1 else 's'}"
