"""The steps of a plan: what each does to the route, and the change that leads from one to the next."""

from __future__ import annotations

from typing import Literal

import msgspec

from ekiben.model.rollout_spec import HeaderMatch, HeaderRouteSpec, StepSpec, seconds
from ekiben.rollout.plan import describe_step
from ekiben.rollout.router import CHALLENGER_ARM, reallocated
from ekiben.rollout.standing import Standing
from ekiben.state.events import Event
from ekiben.state.rollouts import Change, Rollout, StepRecord
from ekiben.state.routes import HeaderCondition, HeaderRule, Route, Shadow


def routed(step: StepSpec, route: Route, challenger: str) -> Route:
    """The route after a step.

    ``setWeight`` ends the shadow: what answers users is compared by what happens to them. In the shadow the challenger answers
    nobody, whatever its weight was.
    """
    if step.set_weight is not None:
        return reallocated(msgspec.structs.replace(route, shadows=()), {CHALLENGER_ARM: step.set_weight})
    if step.shadow is not None:
        return msgspec.structs.replace(route, slots=(), shadows=(Shadow(challenger, step.shadow.rate),))
    if step.set_header_route is not None:
        return msgspec.structs.replace(route, rules=_ruled(route.rules, step.set_header_route))
    return route


def begun(rollout: Rollout, now: float) -> tuple[Rollout, StepRecord | None]:
    """The rollout in its step from now on, with the step's record; None where all steps are done."""
    steps = rollout.plan.steps
    record = None
    if rollout.step < len(steps):
        record = StepRecord(rollout=rollout.id, step=rollout.step, what=describe_step(steps[rollout.step]), began=now)
    return msgspec.structs.replace(rollout, step_began=now), record


def stepped(at: Standing, now: float, *, who: str, outcome: Literal["done", "skipped"] = "done") -> Change:
    """Does the step that the rollout is in, if it does anything, and goes on to the next.

    Args:
        at: Where it stands, in a step.
        now: Seconds since the epoch.
        who: Who has it go on.
        outcome: ``skipped`` for a pause that somebody cut short.
    """
    step, record, rollout = at.current, at.record, at.rollout
    assert step is not None
    assert record is not None
    route = routed(step, at.route, rollout.challenger)
    is_stage = step.set_weight is not None or step.shadow is not None
    left = msgspec.structs.replace(
        rollout,
        status="Progressing",
        message="",
        paused_at=0.0,
        step=rollout.step + 1,
        stage=rollout.step if is_stage else rollout.stage,
        stage_began=now if is_stage else rollout.stage_began,
    )
    after, opened = begun(left, now)
    return Change(
        model=rollout.model,
        rollout=after,
        steps=(msgspec.structs.replace(record, ended=now, outcome=outcome), *([opened] if opened else [])),
        events=(_step_event(at, now, who=who, outcome=outcome), *waits(after, opened, now, who=who)),
        route=msgspec.UNSET if route == at.route else route,
    )


def is_pause_over(rollout: Rollout, now: float) -> bool:
    """Whether the pause that the rollout is in has lasted as long as the plan says; never so for one until approved."""
    pause = rollout.plan.steps[rollout.step].pause
    return pause is not None and pause.duration is not None and now - rollout.step_began >= seconds(pause.duration)


def waits(rollout: Rollout, opened: StepRecord | None, now: float, *, who: str) -> tuple[Event, ...]:
    """The event that a person is waited for, where the step that begins is a pause until approved; else none."""
    if opened is None:
        return ()
    pause = rollout.plan.steps[opened.step].pause
    if pause is None or pause.duration is not None:
        return ()
    message = f"{rollout.model}:{rollout.challenger} waits for approval: `ekiben rollout promote {rollout.model}`"
    details = {"step": opened.step, "what": opened.what}
    return (Event(time=now, who=who, model=rollout.model, rollout=rollout.id, kind="waits", message=message, details=details),)


def _step_event(at: Standing, now: float, *, who: str, outcome: str) -> Event:
    rollout, step = at.rollout, at.current
    assert step is not None
    what, place = describe_step(step), f"step {rollout.step + 1} of {len(rollout.plan.steps)}"
    version = f"{rollout.model}:{rollout.challenger}"
    if step.pause is None:
        kind, message = "step", f"{version}: {what} ({place})"
    elif outcome == "skipped":
        kind, message = "skipped", f"{version}: {what} is cut short ({place})"
    elif step.pause.duration is None:
        kind, message = "approved", f"{version} is approved ({place})"
    else:
        kind, message = "pause-over", f"{version}: {what} is over ({place})"
    details = {"step": rollout.step, "what": what}
    return Event(time=now, who=who, model=rollout.model, rollout=rollout.id, kind=kind, message=message, details=details)


def _ruled(rules: tuple[HeaderRule, ...], wanted: HeaderRouteSpec) -> tuple[HeaderRule, ...]:
    """The rules with one of that name set, where it was or at the end; or taken away."""
    if not wanted.match:
        return tuple(rule for rule in rules if rule.name != wanted.name)
    made = HeaderRule(wanted.name, CHALLENGER_ARM, tuple(_condition(match) for match in wanted.match))
    if any(rule.name == made.name for rule in rules):
        return tuple(made if rule.name == made.name else rule for rule in rules)
    return (*rules, made)


def _condition(match: HeaderMatch) -> HeaderCondition:
    name, value = match.header_name.lower(), match.header_value
    if value.exact is not None:
        return HeaderCondition(name, "exact", value.exact)
    if value.prefix is not None:
        return HeaderCondition(name, "prefix", value.prefix)
    return HeaderCondition(name, "regex", value.regex or "")
