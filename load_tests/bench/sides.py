"""Sides: the routes that one running Ekiben is measured with, against itself without any.

Routes are put and taken away while the server runs, as a rollout does it. So both sides of a ratio are the same processes with
the same memory, and what differs is the route.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from ekiben.rollout.router import CHALLENGER_ARM, reallocated
from ekiben.state.routes import Arm, HeaderCondition, HeaderRule, Route, Shadow
from ekiben.state.windows import SHADOW

PLAIN: Final = "ekiben"
ROUTED: Final = "ekiben-routed"
SPLIT: Final = "ekiben-split"
SHADOWED: Final = "ekiben-shadow"
SIDES: Final = (ROUTED, SPLIT, SHADOWED)
IN_CLOSED_LOOP: Final = (ROUTED, SPLIT)
"""Those that are measured at full load; a shadow is the first thing that is left out there, and would show nothing."""

ROUTED_MODEL: Final = "tabular"
SHADOWED_MODELS: Final = ("tabular", "mlp")
SHARE_OF_CAPACITY: Final = 0.1
"""The rate at which a shadow is measured: a worker, its shadow and the load generator have room on two cores."""

CHAMPION_VERSION: Final = "bench"
SECOND_VERSION: Final = "bench-2"
ON_TRIAL_PERCENT: Final = 50.0
_RULE: Final = HeaderRule("beta", CHALLENGER_ARM, (HeaderCondition("x-beta", "exact", "on"),))
"""A rule that no request of the benchmark fits: every request is looked at, and none is decided by it."""


class OnTrial(msgspec.Struct, frozen=True):
    """What a side's route has beside the champion.

    Attributes:
        version: The version.
        arm: Its arm, as windows name it.
    """

    version: str
    arm: str


def on_trial(side: str) -> OnTrial | None:
    """What is on trial on a side; None on the plain one."""
    return {
        ROUTED: OnTrial(CHAMPION_VERSION, CHALLENGER_ARM),
        SPLIT: OnTrial(SECOND_VERSION, CHALLENGER_ARM),
        SHADOWED: OnTrial(SECOND_VERSION, SHADOW),
    }.get(side)


def route_of(side: str, model: str) -> Route | None:
    """A side's route; None for the plain one.

    The routed side splits the champion from itself: all that a route costs, and batches as full as without. Both it and the split
    belong to a rollout, so that their answers are kept to be joined with ground truth.

    Args:
        side: ``ekiben``, or one of `SIDES`.
        model: The model.
    """
    trial = on_trial(side)
    if trial is None:
        return None
    name = f"{model}-{side}"
    if side == SHADOWED:
        return Route(rollout=name, salt=name, arms=(Arm(CHALLENGER_ARM, trial.version),), shadows=(Shadow(trial.version),))
    route = Route(rollout=name, salt=name, arms=(Arm(trial.arm, trial.version),), rules=(_RULE,))
    return reallocated(route, {trial.arm: ON_TRIAL_PERCENT})


def there_and_back(sides: Sequence[str]) -> tuple[str, ...]:
    """The order in which sides take turns: a machine that gets slower by and by does so for the first and the others alike."""
    return (*sides, *reversed(sides[:-1]))
