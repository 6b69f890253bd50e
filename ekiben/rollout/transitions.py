"""What happens to a rollout, beside its steps: each function makes the one `Change` that does it, and does nothing itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from ekiben.model.rollout_spec import seconds
from ekiben.registry.reference import CHALLENGER, CHAMPION
from ekiben.rollout.plan import describe_step, duration_text
from ekiben.rollout.router import CHALLENGER_ARM
from ekiben.rollout.standing import Standing
from ekiben.rollout.steps import begun, waits
from ekiben.state.events import Event
from ekiben.state.measurements import Measurement
from ekiben.state.rollouts import Change, Rollout, StepRecord
from ekiben.state.routes import Arm, Kept, Route

CONTROLLER: Final = "controller"
"""Who it is in events when nobody asked."""

PREVIOUS: Final = "previous"
"""The alias of the champion before the present one."""


def waiting_route(rollout: Rollout, former: Route | None) -> Route:
    """The route of a rollout or experiment that waits: its versions are loaded everywhere, and nobody is sent to them yet."""
    number = rollout.id.rpartition("-")[2]
    is_rollout = rollout.kind == "rollout"
    return Route(
        rollout=rollout.id,
        salt=f"{number}.{rollout.model}",
        arms=(Arm(CHALLENGER_ARM, rollout.challenger),) if is_rollout else rollout.arms,
        kept=former.kept if former else (),
        fallback=is_rollout,
    )


def started(rollout: Rollout, former: Route | None) -> Change:
    """Begins a rollout: the aliases say who is who, and the challenger is to be loaded everywhere.

    Args:
        rollout: As it is to be, of revision 0.
        former: The model's route until now.
    """
    steps = ", ".join(describe_step(step) for step in rollout.plan.steps)
    message = f"{rollout.model}:{rollout.champion} is to be followed by {rollout.challenger}: {steps}"
    details = {"champion": rollout.champion, "challenger": rollout.challenger}
    return Change(
        model=rollout.model,
        rollout=rollout,
        events=(_event(rollout, "started", message, details, who=rollout.created_by, now=rollout.created),),
        route=waiting_route(rollout, former),
        aliases={CHAMPION: rollout.champion, CHALLENGER: rollout.challenger},
    )


def rerouted(at: Standing) -> Change:
    """Gives a rollout that waits its route back, which something else has overwritten."""
    return Change(model=at.rollout.model, rollout=at.rollout, route=waiting_route(at.rollout, at.route))


def loaded(at: Standing, now: float, n_workers: int) -> Change:
    """The challenger is in the memory of every worker: the first step begins."""
    after, opened = begun(msgspec.structs.replace(at.rollout, message=""), now)
    where = f"{n_workers} worker{'' if n_workers == 1 else 's'}"
    message = f"{after.model}:{after.challenger} is loaded on {where}"
    event = _event(after, "loaded", message, {"workers": n_workers}, now=now)
    waiting = waits(after, opened, now, who=CONTROLLER)
    return Change(model=after.model, rollout=after, steps=(opened,) if opened else (), events=(event, *waiting))


def paused(rollout: Rollout, now: float, *, who: str, why: str, measurements: Sequence[Measurement] = ()) -> Change:
    """Stops a rollout where it stands, until it is resumed.

    Args:
        rollout: One that is progressing.
        now: Seconds since the epoch.
        who: Who pauses it.
        why: The reason, a sentence.
        measurements: What was just measured.
    """
    after = msgspec.structs.replace(rollout, status="Paused", message=why, paused_at=now)
    event = _event(rollout, "paused", why, _evidence(measurements), who=who, now=now)
    return Change(model=rollout.model, rollout=after, events=(event,), measurements=tuple(measurements))


def resumed(rollout: Rollout, now: float, *, who: str, is_judged_anew: bool) -> Change:
    """Goes on where a rollout was paused; the time in between does not count.

    Args:
        rollout: One that is paused.
        now: Seconds since the epoch.
        who: Who resumes it.
        is_judged_anew: Whether what was measured in this stage is left aside, since it is what paused the rollout.
    """
    after = msgspec.structs.replace(
        rollout,
        status="Progressing",
        message="",
        paused_at=0.0,
        step_began=rollout.step_began + (now - max(rollout.paused_at, rollout.step_began) if rollout.step_began else 0.0),
        stage_began=now if is_judged_anew else rollout.stage_began,
    )
    anew = "; what was measured before in this stage no longer counts" if is_judged_anew else ""
    message = f"resumed after {duration_text(round(now - rollout.paused_at))}{anew}"
    return Change(model=rollout.model, rollout=after, events=(_event(rollout, "resumed", message, who=who, now=now),))


def withdrawn(
    at: Standing,
    now: float,
    *,
    who: str,
    status: Literal["RolledBack", "Aborted"],
    why: str,
    deciding: Sequence[Measurement] = (),
    measurements: Sequence[Measurement] = (),
    events: Sequence[Event] = (),
) -> Change:
    """Takes all traffic from the challenger (or from an experiment's arms).

    The challenger stays loaded for inspection, as long as its alias names it.

    Args:
        at: Where it stands.
        now: Seconds since the epoch.
        who: Who ends it.
        status: RolledBack by the controller, Aborted by a person.
        why: The reason, a sentence.
        deciding: The measurements that decided.
        measurements: What was just measured.
        events: What led to it.
    """
    kind = "rolled-back" if status == "RolledBack" else "aborted"
    after = msgspec.structs.replace(at.rollout, status=status, message=why, ended=now, paused_at=0.0)
    record = at.record
    return Change(
        model=after.model,
        rollout=after,
        steps=(msgspec.structs.replace(record, ended=now, outcome=kind),) if record else (),
        events=(*events, _event(after, kind, why, _evidence(deciding), who=who, now=now)),
        measurements=tuple(measurements),
        route=_kept_alone(at.route.kept),
    )


def champion_changed(at: Standing, champion: str | None, now: float) -> Change:
    """Ends a rollout whose champion was changed by somebody else; the new champion stays."""
    became = f"{champion} was made champion" if champion else "the champion's alias was taken away"
    why = f"{became} while {at.rollout.challenger} was compared with {at.rollout.champion}"
    change = withdrawn(at, now, who=CONTROLLER, status="Aborted", why=why)
    if champion != at.rollout.challenger:
        return change
    return msgspec.structs.replace(change, aliases={CHALLENGER: None})


def promoted(at: Standing, now: float, *, who: str) -> Change:
    """Makes the challenger champion and ends the rollout; steps not yet done are skipped."""
    rollout, steps = at.rollout, at.rollout.plan.steps
    delay_s = seconds(rollout.plan.scale_down_delay_seconds)
    kept = [k for k in at.route.kept if k.until > now and k.version not in (rollout.champion, rollout.challenger)]
    kept += [Kept(rollout.champion, now + delay_s)] if delay_s else []
    skipped = tuple(
        StepRecord(rollout=rollout.id, step=n, what=describe_step(steps[n]), began=now, ended=now, outcome="skipped")
        for n in range(rollout.step, len(steps))
    )
    if skipped and at.record:
        skipped = (msgspec.structs.replace(at.record, ended=now, outcome="skipped"), *skipped[1:])
    after = msgspec.structs.replace(rollout, status="Completed", message="", step=len(steps), step_began=now, ended=now, paused_at=0.0)
    message = f"{rollout.model}:{rollout.challenger} is champion, in place of {rollout.champion}"
    details = {"champion": rollout.challenger, "previous": rollout.champion, "skipped_steps": len(skipped)}
    return Change(
        model=rollout.model,
        rollout=after,
        steps=skipped,
        events=(_event(rollout, "promoted", message, details, who=who, now=now),),
        route=_kept_alone(kept),
        aliases={CHAMPION: rollout.challenger, PREVIOUS: rollout.champion, CHALLENGER: None},
    )


def gone_back(model: str, *, champion: str, to: str, previous: str | None, route: Route | None, now: float, who: str) -> Change:
    """Makes a version champion again, with no rollout active; the one it replaces stays loaded for inspection.

    Args:
        model: The model.
        champion: The champion until now.
        to: The champion from now on.
        previous: What the alias ``previous`` names; it is taken away where that is ``to``, as there is no way further back.
        route: The model's route until now.
        now: Seconds since the epoch.
        who: Who asks for it.
    """
    kept = tuple(k for k in route.kept if k.until > now and k.version not in (champion, to)) if route else ()
    message = f"{model} went back from {champion} to {to}"
    details = {"champion": to, "was": champion}
    return Change(
        model=model,
        events=(Event(time=now, who=who, model=model, kind="rolled-back", message=message, details=details),),
        route=_kept_alone(kept),
        aliases={CHAMPION: to, CHALLENGER: champion, **({PREVIOUS: None} if previous == to else {})},
    )


def kept_over(route: Route, now: float) -> Route | None:
    """The route without the versions that were kept long enough; None where nothing is left of it."""
    left = msgspec.structs.replace(route, kept=tuple(k for k in route.kept if k.until > now))
    return None if left == Route() else left


def _kept_alone(kept: Sequence[Kept]) -> Route | None:
    """The route of a model whose champion answers everything."""
    return Route(kept=tuple(kept)) if kept else None


def _event(rollout: Rollout, kind: str, message: str, details: dict[str, Any] | None = None, *, who: str = CONTROLLER, now: float) -> Event:
    return Event(time=now, who=who, model=rollout.model, rollout=rollout.id, kind=kind, message=message, details=details or {})


def _evidence(measurements: Sequence[Measurement]) -> dict[str, Any]:
    return {"measurements": msgspec.to_builtins(list(measurements))} if measurements else {}
