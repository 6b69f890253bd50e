"""What an experiment has shown so far: each arm's metric, and each other arm's difference from the first.

Users are assigned by their routing key, so the key is the unit: a user's rows are first averaged (of F1, precision, recall and
RMSE, which are no averages, their influences are added), and what is compared is the arms' mean users. The intervals and
p-values hold however often one looks, see `ekiben.rollout.intervals`: one may stop as soon as they say something.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec
import numpy as np

from ekiben.errors import RolloutRefused
from ekiben.model.metric_checks import QUALITY_BY_TASK, default_quality, is_worse
from ekiben.model.spec import ModelSpec
from ekiben.rollout.experiment import OUTCOME
from ekiben.rollout.experiment_view import Comparison, ExperimentArm, Split
from ekiben.rollout.intervals import mean_interval, mean_p_value
from ekiben.rollout.quality import Numbers, error_of, quality_of, row_of
from ekiben.rollout.split import split_of
from ekiben.rollout.views import Interval
from ekiben.state.routes import Arm
from ekiben.state.truth import Exposure, Truth

ALPHA: Final = 0.05
"""How often, at most, arms that do not differ are ever told apart, all comparisons of an experiment together."""

FEWEST_USERS: Final = 50
"""Users of each arm whose truth is known, below which no verdict is given: the intervals are asymptotic."""

METHOD: Final = (
    "asymptotic confidence sequences over users (Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, Annals of Statistics 2024), valid at every "
    "look; several arms by Bonferroni; split by the Dirichlet-multinomial test (Lindon, Malek, NeurIPS 2022)"
)

_PRIOR_USERS: Final = 100
_NO_AVERAGE: Final = ("f1", "precision", "recall", "rmse")

Joined = Sequence[tuple[Exposure, Truth]]


class Sample(msgspec.Struct, frozen=True):
    """The users of an arm.

    Attributes:
        value: The metric; NaN where it is not defined.
        error: Its standard error.
        n: Users.
        counted: Of them, as many as the metric rests on: of F1, precision and recall, rows of the class that has the fewest.
    """

    value: float
    error: float
    n: int
    counted: int

    def variance(self) -> float:
        """That of one user."""
        return self.error**2 * self.n


class Difference(msgspec.Struct, frozen=True):
    """One arm's metric less another's.

    Attributes:
        value, low, high: With its interval.
        p_value: Anytime-valid.
    """

    value: float
    low: float
    high: float
    p_value: float


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """What an experiment has shown; see `ExperimentView`."""

    arms: tuple[ExperimentArm, ...]
    comparisons: tuple[Comparison, ...]
    split: Split
    conclusion: str


def checked_metric(metric: str, spec: ModelSpec) -> str:
    """The metric to compare; where none is given the model's own, or the outcome of a model that has none.

    Raises:
        RolloutRefused: The model's task has no such metric.
    """
    known = (*QUALITY_BY_TASK[spec.task], OUTCOME)
    if not metric:
        return spec.quality.metric if spec.quality is not None else default_quality(spec.task) or OUTCOME
    if metric not in known:
        raise RolloutRefused(f"{metric!r} is no metric of a {spec.task} model; there are {', '.join(known)}")
    return metric


def analysed(
    arms: Sequence[Arm],
    weights: Mapping[str, float],
    *,
    metric: str,
    spec: ModelSpec,
    exposed: Mapping[tuple[str, str], tuple[int, int]],
    joined: Joined,
) -> Results:
    """What an experiment has shown.

    Args:
        arms: The arms; the others are compared with the first.
        weights: Arm → its percentage.
        metric: What is compared.
        spec: What the model answers.
        exposed: (version, arm) → rows answered, and different routing keys among them.
        joined: Answers whose truth is known.
    """
    views: list[ExperimentArm] = []
    samples: list[Sample | None] = []
    for arm in arms:
        own = [(e, t) for e, t in joined if (e.arm, e.version) == (arm.name, arm.version)]
        sample, known_rows = sample_of(metric, own, spec.labels)
        rows, users = exposed.get((arm.version, arm.name), (0, 0))
        views.append(
            ExperimentArm(
                name=arm.name,
                version=arm.version,
                weight=weights[arm.name],
                rows=rows,
                users=users,
                known_rows=known_rows,
                known_users=sample.n if sample else 0,
                coverage=known_rows / rows if rows else None,
                value=_interval(sample),
            )
        )
        samples.append(sample)
    alpha = ALPHA / (len(arms) - 1)
    comparisons = tuple(
        _compared(metric, (mine.name, one), (views[0].name, samples[0]), alpha) for mine, one in zip(views[1:], samples[1:], strict=True)
    )
    split = split_of({view.name: view.users for view in views}, weights)
    return Results(arms=tuple(views), comparisons=comparisons, split=split, conclusion=_conclusion(comparisons, split))


def sample_of(metric: str, joined: Joined, labels: Sequence[str]) -> tuple[Sample | None, int]:
    """The users of one arm, None without any, and how many rows are known.

    Args:
        metric: One of `QualitySpec`'s, or ``outcome``.
        joined: The arm's answers whose truth is known.
        labels: The model's classes.
    """
    if metric == OUTCOME:
        known = [(e.key, t.outcome) for e, t in joined if t.outcome is not None]
        if not known:
            return None, 0
        numbers = np.array([outcome for _, outcome in known], np.float64)
        return _averaged(numbers, [key for key, _ in known], float(np.abs(numbers - numbers.mean()).max())), len(known)
    rows = [(e.key, row) for e, t in joined if (row := row_of(e, t, labels)) is not None]
    if not rows:
        return None, 0
    keys, quality = [key for key, _ in rows], quality_of(metric, [row for _, row in rows], labels)
    if metric in _NO_AVERAGE:
        error, n = error_of(quality.moves, keys, quality.largest)
        return Sample(quality.value, error, n, min(n, quality.counted)), len(rows)
    return _averaged(quality.value + quality.moves, keys, quality.largest), len(rows)


def difference_of(mine: Sample, theirs: Sample, alpha: float) -> Difference:
    """The difference of two arms.

    Under random assignment the arms' means less each other are, up to what vanishes, a mean over all users of both, to which
    each contributes his deviation over his arm's share; so `mean_interval` holds for it with the number of both. A small arm
    that has not met anything rare yet seems to have no variance: each arm is given as many as `_PRIOR_USERS` users of the variance
    of both together, where that is larger. Without them 90 to 10 splits of rare events are told apart in every third experiment.

    Args:
        mine: The arm.
        theirs: What it is compared with.
        alpha: How often, at most, two that do not differ are ever told apart.
    """
    n = mine.n + theirs.n
    together = (mine.variance() * mine.n + theirs.variance() * theirs.n) / n
    error = math.sqrt(sum(_steadied(sample, together) / sample.n for sample in (mine, theirs)))
    value = mine.value - theirs.value
    return Difference(value, *mean_interval(value, error, n, alpha), mean_p_value(value, error, n, alpha))


def _steadied(sample: Sample, together: float) -> float:
    own = sample.variance()
    return (sample.n * own + _PRIOR_USERS * max(own, together)) / (sample.n + _PRIOR_USERS)


def _averaged(numbers: Numbers, keys: Sequence[str], largest: float) -> Sample:
    """The mean user of a metric that is the mean of rows.

    Args:
        numbers: ``[n]`` the metric of each row; of a mean, the mean plus how much the row moves it.
        keys: The routing key of each.
        largest: How much one more row might move the mean, about.
    """
    users, of_row = np.unique(np.asarray(keys), return_inverse=True)
    means: Numbers = np.bincount(of_row, weights=numbers) / np.bincount(of_row)
    value = float(means.mean())
    error, n = error_of(means - value, users.tolist(), largest)
    return Sample(value, error, n, n)


def _interval(sample: Sample | None) -> Interval:
    if sample is None or math.isnan(sample.value):
        return Interval()
    return Interval(sample.value, *mean_interval(sample.value, sample.error, sample.n, ALPHA))


def _compared(metric: str, one: tuple[str, Sample | None], first: tuple[str, Sample | None], alpha: float) -> Comparison:
    """An arm, by its name and users, against the first."""
    (arm, mine), (against, theirs) = one, first
    if mine is None or theirs is None or min(mine.n, theirs.n) < FEWEST_USERS:
        name, n = min(((name, sample.n if sample else 0) for name, sample in (first, one)), key=lambda found: found[1])
        message = f"too few users to judge: {name} has {n} of {FEWEST_USERS} with ground truth"
        return Comparison(arm=arm, against=against, alpha=alpha, message=message)
    if math.isnan(mine.value) or math.isnan(theirs.value):
        message = f"{metric} is not defined: no row was predicted as, or is, a class that it counts"
        return Comparison(arm=arm, against=against, alpha=alpha, message=message)
    if min(mine.counted, theirs.counted) < FEWEST_USERS:
        name, n = min((against, theirs.counted), (arm, mine.counted), key=lambda found: found[1])
        message = f"too few rows to judge: {metric} of {name} rests on {n} of {FEWEST_USERS}"
        return Comparison(arm=arm, against=against, alpha=alpha, message=message)
    found = difference_of(mine, theirs, alpha)
    verdict: Literal["better", "worse", "undecided"] = "undecided"
    if found.p_value <= alpha:
        verdict = "worse" if is_worse(metric, found.value) else "better"
    numbers = f"{metric} {found.value:+.3g} ({found.low:+.3g} to {found.high:+.3g}), p = {found.p_value:.2g} (of {alpha:.2g})"
    said = f"is {verdict} than" if verdict != "undecided" else "cannot be told apart yet from"
    return Comparison(
        arm=arm,
        against=against,
        difference=Interval(found.value, found.low, found.high),
        p_value=found.p_value,
        alpha=alpha,
        verdict=verdict,
        message=f"{arm} {said} {against}: {numbers}",
    )


def _conclusion(comparisons: Sequence[Comparison], split: Split) -> str:
    """Which arm is better, and whether one may stop now: a sentence."""
    if not split.is_right:
        return "decide nothing yet: the users are not split as they should be, and the arms' users may differ"
    decided = [c for c in comparisons if c.verdict != "undecided"]
    messages = "; ".join(c.message for c in comparisons)
    if len(decided) == len(comparisons):
        return f"{messages}; you may stop now"
    if decided:
        return f"{messages}; what is decided may be acted on now, the rest needs more users"
    return f"{messages}; go on, or stop without a winner"
