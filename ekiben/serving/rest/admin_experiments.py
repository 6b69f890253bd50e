"""The admin API's rows about experiments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec

from ekiben.rollout.experiment_view import ExperimentOperations, ExperimentView
from ekiben.serving.rest.admin_route import AdminRoute, Asked, Body, Name, Text, Word

ExperimentsFor = Callable[[str], ExperimentOperations]

_MOST_ARMS: Final = 20
Weight = Annotated[float, msgspec.Meta(gt=0, le=100)]


class ExperimentStart(Body, frozen=True, kw_only=True):
    """What an experiment is started with.

    Attributes:
        model: The model.
        arms: Arm → its version: a version, ``latest`` or an alias.
        weights: Percent of the users, an arm each; left out, all of them are shared equally.
        metric: What is compared; left out, the model's own.
    """

    model: Name
    arms: Annotated[dict[Word, Word], msgspec.Meta(min_length=2, max_length=_MOST_ARMS)]
    weights: Annotated[tuple[Weight, ...], msgspec.Meta(max_length=_MOST_ARMS)] | None = None
    metric: Annotated[str, msgspec.Meta(pattern="^[a-z0-9_]{0,40}$")] = ""


class ExperimentStop(Body, frozen=True, kw_only=True):
    """How an experiment is stopped.

    Attributes:
        promote: The arm whose version becomes the champion.
        reason: Why, for the events.
    """

    promote: Word | None = None
    reason: Text = ""


def experiment_routes(experiments_for: ExperimentsFor) -> tuple[AdminRoute, ...]:
    """The rows.

    Args:
        experiments_for: Who asks → what answers about experiments, for them.
    """

    def start(asked: Asked) -> Any:
        given: ExperimentStart = asked.body
        return experiments_for(asked.who).start(given.model, given.arms, weights=given.weights, metric=given.metric)

    def status(asked: Asked) -> Any:
        return experiments_for(asked.who).status(asked.path["experiment"])

    def stop(asked: Asked) -> Any:
        given: ExperimentStop = asked.body
        return experiments_for(asked.who).stop(asked.path["model"], promote=given.promote, reason=given.reason)

    return (
        AdminRoute(
            method="POST",
            path="/experiments",
            name="startExperiment",
            summary="Starts an experiment: arms that stand side by side, each with its share of the users.",
            handler=start,
            answer=ExperimentView,
            status=201,
            body=ExperimentStart,
            example={"model": "flight_delay", "arms": {"old": "v1", "new": "v2"}, "weights": [50, 50], "metric": "f1"},
        ),
        AdminRoute(
            method="GET",
            path="/experiments/{experiment}",
            name="getExperiment",
            summary="The latest experiment of a model, or the one with the id: its arms, their differences, and what they say.",
            handler=status,
            answer=ExperimentView,
        ),
        AdminRoute(
            method="POST",
            path="/experiments/{model}/stop",
            name="stopExperiment",
            summary="Stops the experiment of a model, and makes an arm's version the champion if one is named.",
            handler=stop,
            answer=ExperimentView,
            body=ExperimentStop,
            example={"promote": "new", "reason": "better by 3 points"},
        ),
    )
