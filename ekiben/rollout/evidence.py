"""Evidence: what happened to challenger and champion in a stage, as an analysis looks at it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ekiben.model.rollout_spec import QualitySpec
from ekiben.model.spec import Task
from ekiben.state.checks import Check
from ekiben.state.truth import Exposure, Truth
from ekiben.state.windows import Window

_FEW = 50


class Evidence(msgspec.Struct, kw_only=True):
    """What an analysis looks at.

    Attributes:
        model: The model's name.
        champion_version, challenger_version: The versions that are compared.
        task, labels: As in the model's spec.
        quality: What good answers are; None takes F1, accuracy or MAE, by task.
        latency_budget_s: What users are promised, seconds; 0 where nothing is.
        is_shadow: Whether the challenger answers nobody in this stage.
        champion: The champion's requests of this stage.
        challenger: The challenger's requests of this stage; in a shadow stage, what the shadow computed.
        baseline: The champion's requests of before this stage. They stand in where the challenger has all the traffic.
        blocks: The challenger's requests of this stage, or of its last minutes, apart by time: seconds, or longer stretches. Empty
            where they are not known apart; each request then counts as independent of the others.
        checks: What the monitor found in this stage, of all versions, by time.
        joined: Rows of this rollout so far whose truth is known, of both versions, shadow and all.
    """

    model: str
    champion_version: str
    challenger_version: str
    task: Task
    labels: tuple[str, ...] = ()
    quality: QualitySpec | None = None
    latency_budget_s: float = 0.0
    is_shadow: bool = False
    champion: Window = msgspec.field(default_factory=Window)
    challenger: Window = msgspec.field(default_factory=Window)
    baseline: Window = msgspec.field(default_factory=Window)
    blocks: Sequence[Window] = ()
    joined: Sequence[tuple[Exposure, Truth]] = ()
    checks: Sequence[Check] = ()

    @property
    def is_alone(self) -> bool:
        """Whether the challenger has next to all traffic of this stage, so that the champion shows nothing in it.

        Only then do earlier requests of the champion stand in: what both suffered in this stage must not look like the
        challenger's fault because the champion did not suffer it before.
        """
        return not self.is_shadow and self.challenger.requests > _FEW * self.champion.requests

    @property
    def reference(self) -> Window:
        """The champion's requests to compare with: of this stage, or with the earlier ones where the challenger is alone."""
        return self.champion + self.baseline if self.is_alone else self.champion
