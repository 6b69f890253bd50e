"""What people and programs are shown of an experiment: plain values, the same for CLI, admin API and ``--json``."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from ekiben.rollout.views import Interval


class ExperimentArm(msgspec.Struct, frozen=True, kw_only=True):
    """An arm, since its users were let in.

    Attributes:
        name, version: What answers.
        weight: Percent of the users.
        rows: Rows it answered that are on record.
        users: Different routing keys among them.
        known_rows, known_users: Those whose ground truth (or outcome) is known.
        coverage: Share of its rows whose ground truth is known; None without rows.
        value: The metric, with the interval that holds the real one.
    """

    name: str
    version: str
    weight: float
    rows: int = 0
    users: int = 0
    known_rows: int = 0
    known_users: int = 0
    coverage: float | None = None
    value: Interval = Interval()


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """An arm against the first one.

    Attributes:
        arm, against: The two.
        difference: The arm's metric less the other's, with the interval that holds the real difference.
        p_value: Anytime-valid: of arms that do not differ, it ever falls to alpha or below with a probability of alpha at most.
        alpha: What it is held against; less where several arms are compared.
        verdict: What that says.
        message: The verdict, a sentence with the numbers.
    """

    arm: str
    against: str
    difference: Interval = Interval()
    p_value: float = 1.0
    alpha: float
    verdict: Literal["better", "worse", "undecided"] = "undecided"
    message: str


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the users were split as the weights say.

    Attributes:
        is_right: False where they were not: then something loses users of one arm, and no result can be trusted.
        p_value: Anytime-valid.
        alpha: What it is held against.
        message: What was found, a sentence.
    """

    is_right: bool = True
    p_value: float = 1.0
    alpha: float
    message: str


class ExperimentView(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment at one moment.

    Attributes:
        id, model, champion, status, message, created, created_by, ended: As in `Rollout`.
        now: When it was looked at, seconds since the epoch.
        began: When its users were let in, seconds since the epoch; 0 while it waits for its arms to be loaded.
        metric: What is compared.
        arms: The arms, in their order.
        comparisons: Each of the other arms against the first.
        split: Whether the users were split as they should be.
        conclusion: Which arm is better, and whether one may stop now: a sentence.
        method: How the intervals and p-values are made, with the source.
        next: What it waits for, a sentence; empty while it runs.
        controller: Who carries it out; None where nobody does.
    """

    id: str
    model: str
    champion: str
    status: str
    message: str
    created: float
    created_by: str
    ended: float
    now: float
    began: float
    metric: str
    arms: tuple[ExperimentArm, ...]
    comparisons: tuple[Comparison, ...]
    split: Split
    conclusion: str
    method: str
    next: str = ""
    controller: str | None = None


class ExperimentOperations(Protocol):
    """What can be done with the experiments of all models, here or through a server's admin API.

    Every method raises:

    - `UnknownRollout`: There is no such experiment.
    - `RolloutRefused`: What was asked cannot be; the message says what would be right.
    - `RolloutChanged`: Somebody else changed it meanwhile, or another one of the model is active.
    - `RegistryError`: There is no such model or version in the store.
    - `StateError`: The control database, or the server that was asked, does not answer.
    """

    def start(self, model: str, arms: dict[str, str], *, weights: tuple[float, ...] | None = None, metric: str = "") -> ExperimentView:
        """Starts an experiment.

        Args:
            model: The model.
            arms: Arm → its version (a version, ``latest`` or an alias), the first is what the others are compared with.
            weights: Percent of the users, an arm each; None shares all of them equally.
            metric: What is compared; empty takes the model's own, or the outcome where it has none.
        """

    def status(self, model_or_id: str) -> ExperimentView:
        """The latest experiment of a model, or the one with the id."""

    def stop(self, model: str, *, promote: str | None = None, reason: str = "") -> ExperimentView:
        """Stops the experiment of a model; ``promote`` names the arm whose version becomes the champion."""
