"""The admin API's rows about rollouts, routes and events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from ekiben.model.rollout_spec import PlanSpec
from ekiben.rollout.interface import RolloutOperations
from ekiben.rollout.plan import plan_from_builtins, whole_plan
from ekiben.rollout.views import RollbackView, StatusView
from ekiben.serving.rest.admin_route import AdminRoute, Asked, Body, Name, Query, Reference, Text
from ekiben.state.events import Event
from ekiben.state.rollouts import Rollout
from ekiben.state.routes import Route

OperationsFor = Callable[[str], RolloutOperations]
"""Who asks → what answers them."""

Limit = Annotated[int, msgspec.Meta(ge=1, le=1000, description="The most that are answered, the latest of them.")]
Plan = Annotated[Any, msgspec.Meta(extra_json_schema={"anyOf": [{"$ref": "#/components/schemas/PlanSpec"}, {"type": "null"}]})]


class Which(Query, frozen=True):
    """Which rollouts.

    Attributes:
        model: Those of a model.
        active: Those that are active, or are not.
    """

    model: Name | None = None
    active: bool | None = None
    limit: Limit = 100


class Since(Query, frozen=True):
    """Which events.

    Attributes:
        after: Those numbered above this.
    """

    after: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0
    limit: Limit = 100


class PlanFor(Query, frozen=True):
    """For which version.

    Attributes:
        to: The version, ``latest`` or an alias; left out, the latest.
    """

    to: Reference | None = None


class Start(Body, frozen=True):
    """A rollout to start.

    Attributes:
        model: The model.
        to: The version, ``latest`` or an alias.
        plan: The plan, as in a file of its own, its shorthands included; left out, that of ``model.yaml``, or the default plan.
    """

    model: Name
    to: Reference
    plan: Plan = None


class Promote(Body, frozen=True):
    """How far.

    Attributes:
        full: Past all steps: the challenger becomes champion at once.
    """

    full: bool = False


class Abort(Body, frozen=True):
    """Why."""

    reason: Text = ""


class Rollback(Body, frozen=True):
    """Where to.

    Attributes:
        to: The version; left out, the former champion.
    """

    to: Reference | None = None


class _Handlers:
    def __init__(self, operations_for: OperationsFor) -> None:
        self._for = operations_for

    def rollouts(self, asked: Asked) -> list[Rollout]:
        return self._for(asked.who).rollouts(model=asked.query.model, active=asked.query.active, limit=asked.query.limit)

    def start(self, asked: Asked) -> StatusView:
        body: Start = asked.body
        plan = None if body.plan is None else whole_plan(plan_from_builtins(body.plan, file="plan"))
        return self._for(asked.who).start(body.model, body.to, plan=plan)

    def status(self, asked: Asked) -> StatusView:
        return self._for(asked.who).status(asked.path["rollout"])

    def promote(self, asked: Asked) -> StatusView:
        return self._for(asked.who).promote(asked.path["model"], full=asked.body.full)

    def pause(self, asked: Asked) -> StatusView:
        return self._for(asked.who).pause(asked.path["model"])

    def resume(self, asked: Asked) -> StatusView:
        return self._for(asked.who).resume(asked.path["model"])

    def abort(self, asked: Asked) -> StatusView:
        return self._for(asked.who).abort(asked.path["model"], reason=asked.body.reason)

    def rollback(self, asked: Asked) -> StatusView | RollbackView:
        return self._for(asked.who).rollback(asked.path["model"], to=asked.body.to)

    def events(self, asked: Asked) -> list[Event]:
        return self._for(asked.who).history(asked.path["model"], after=asked.query.after, limit=asked.query.limit)

    def route(self, asked: Asked) -> Route:
        return self._for(asked.who).route(asked.path["model"])

    def plan(self, asked: Asked) -> PlanSpec:
        return self._for(asked.who).plan(asked.path["model"], to=asked.query.to)


_EXAMPLE_PLAN = {"steps": [{"setWeight": 5}, {"pause": {"duration": "10m"}}, {"setWeight": 100}, {"pause": {}}]}


def rollout_routes(operations_for: OperationsFor) -> list[AdminRoute]:
    """The rows.

    Args:
        operations_for: Who asks → what answers them.
    """
    do = _Handlers(operations_for)
    return [
        _get("/rollouts", "listRollouts", "Rollouts and experiments, the latest first.", do.rollouts, list[Rollout], query=Which),
        AdminRoute(
            method="POST",
            path="/rollouts",
            name="startRollout",
            summary="Starts a rollout of a model to a version.",
            handler=do.start,
            answer=StatusView,
            status=201,
            body=Start,
            example={"model": "flight_delay", "to": "v2", "plan": _EXAMPLE_PLAN},
        ),
        _get("/rollouts/{rollout}", "getRollout", "The rollout with an id, or the latest of a model.", do.status, StatusView),
        _act("promote", "Goes on to the next step without waiting, or makes the challenger champion at once.", do.promote, Promote, {}),
        _act("pause", "Stops where it stands; a challenger that fails is rolled back nevertheless.", do.pause, None, None),
        _act("resume", "Goes on where it was paused.", do.resume, None, None),
        _act("abort", "Ends it: the champion answers everything.", do.abort, Abort, {"reason": "complaints"}),
        AdminRoute(
            method="POST",
            path="/models/{model}/rollback",
            name="rollBack",
            summary="Aborts the active rollout; where none is, makes a former champion the champion again.",
            handler=do.rollback,
            answer=(StatusView, RollbackView),
            body=Rollback,
            example={"to": "v1"},
        ),
        _get("/models/{model}/events", "listEvents", "What happened to a model, the oldest first.", do.events, list[Event], query=Since),
        _get("/models/{model}/route", "getRoute", "Which versions answer which requests, where the champion does not.", do.route, Route),
        _get("/models/{model}/plan", "getPlan", "The plan that a rollout would have.", do.plan, PlanSpec, query=PlanFor),
    ]


def _get(
    path: str, name: str, summary: str, handler: Callable[[Asked], Any], answer: Any, *, query: type[Query] | None = None
) -> AdminRoute:  # fmt: skip
    return AdminRoute(method="GET", path=path, name=name, summary=summary, handler=handler, answer=answer, query=query)


def _act(verb: str, summary: str, handler: Callable[[Asked], Any], body: type[Body] | None, example: dict[str, Any] | None) -> AdminRoute:
    return AdminRoute(
        method="POST",
        path=f"/rollouts/{{model}}/{verb}",
        name=f"{verb}Rollout",
        summary=summary,
        handler=handler,
        answer=StatusView,
        body=body,
        example=example,
    )
