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
A_A: Final = "ekiben-aa"
SPLIT: Final = "ekiben-split"
SHADOWED: Final = "ekiben-shadow"
CACHED: Final = "ekiben-cached"
UNLOGGED: Final = "ekiben-unlogged"
GUARDED: Final = "ekiben-guarded"
SIDES: Final = (ROUTED, A_A, SPLIT, SHADOWED, CACHED, UNLOGGED, GUARDED)
IN_CLOSED_LOOP: Final = (ROUTED, A_A, SPLIT)
"""Those that are measured at full load; a shadow is the first thing that is left out there, and would show nothing."""

ROUTED_MODEL: Final = "tabular"
TWIN_MODELS: Final = ("tabular", "mlp")
"""What is served with and without the inference log and the guards."""

SHADOWED_MODELS: Final = ("tabular", "mlp")
CACHED_MODEL: Final = "heavy"
"""A row takes it milliseconds: a cache is for such models."""

SHARE_OF_CAPACITY: Final = 0.1
"""The rate at which a shadow is measured: a worker, its shadow and the load generator have room on two cores."""

CHAMPION_VERSION: Final = "bench"
SECOND_VERSION: Final = "bench-2"
CACHED_VERSION: Final = "bench-cached"
"""Of the same files as the champion, and with a cache."""

_RULE: Final = HeaderRule("beta", CHALLENGER_ARM, (HeaderCondition("x-beta", "exact", "on"),))
"""A rule that no request of the benchmark fits: every request is looked at, and none is decided by it."""


class OnTrial(msgspec.Struct, frozen=True):
    """What a side's route has beside the champion.

    Attributes:
        version: The version.
        arm: Its arm, as windows name it.
        percent: The share of the users that meet it; of a shadow, of the rows that it gets.
    """

    version: str
    arm: str
    percent: float


def on_trial(side: str) -> OnTrial | None:
    """What is on trial on a side; None on the plain one."""
    return {
        ROUTED: OnTrial(CHAMPION_VERSION, CHALLENGER_ARM, 100.0),
        A_A: OnTrial(CHAMPION_VERSION, CHALLENGER_ARM, 50.0),
        SPLIT: OnTrial(SECOND_VERSION, CHALLENGER_ARM, 50.0),
        SHADOWED: OnTrial(SECOND_VERSION, SHADOW, 100.0),
        CACHED: OnTrial(CACHED_VERSION, CHALLENGER_ARM, 100.0),
    }.get(side)


def route_of(side: str, model: str) -> Route | None:
    """A side's route; None for the plain one.

    The routed side is the router alone: every request is looked at, its key hashed, and another arm answers it, which is the same
    version, so batches are as full as without and hold one arm. The A/A split has both arms of one version in one batch, the split
    two versions and two batches. On the cached side a version that remembers its answers gives all of them. All belong to a rollout, so
    that their answers are kept to be joined with ground truth.

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
    return reallocated(route, {trial.arm: trial.percent})


def there_and_back(sides: Sequence[str]) -> tuple[str, ...]:
    """The order in which sides take turns: a machine that gets slower by and by does so for the first and the others alike."""
    return (*sides, *reversed(sides[:-1]))


def to_and_fro(sides: Sequence[str], passes: int) -> tuple[str, ...]:
    """So many passes through the sides, every second one backwards: an even number of passes hides a trend of the machine from all.

    Args:
        sides: The sides.
        passes: How many turns each has.
    """
    return tuple(side for n in range(passes) for side in (sides if n % 2 == 0 else reversed(sides)))
