"""What the demo plays: which months, how fast, and when what goes wrong."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import yaml

from training.datasets import WEATHER

MODEL: Final = "flight_delay"
LAST_MONTH: Final = 12
TRAINING: Final = "load_tests.demo.retraining"
PAUSE_S: Final = 4.0
"""What the end of a month takes, about: late truths, the log, the checks."""


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """What is played.

    Attributes:
        first_month: The first month that is played, 1 to 12; the champion knows January to April.
        last_month: The month that is played at least, 1 to 12; where a version is on trial then, it goes on until that has ended.
        flights: Flights a month, drawn evenly.
        month_s: How long a month takes, seconds.
        bad_month, bad_at: When the bad version is put on trial: the month, and which share of it has passed.
        kill_month, kill_at: When a worker is killed.
        own_month: At the end of which month the demo has the model trained anew, where nothing called for it until then.
        seed: Draws the flights, the late and the repeated truths.
    """

    first_month: int = 5
    last_month: int
    flights: int
    month_s: float
    bad_month: int = 5
    bad_at: float = 0.2
    kill_month: int = 6
    kill_at: float = 0.5
    own_month: int = 7
    seed: int = 2013


WHOLE: Final = Scenario(last_month=LAST_MONTH, flights=3600, month_s=15.0)
SHORT: Final = Scenario(first_month=6, last_month=7, flights=3000, month_s=10.0, bad_month=6, bad_at=0.1, kill_at=0.6)


def model_settings(scenario: Scenario) -> dict[str, Any]:
    """What the demo's model.yaml says beside what the project's says: the same words, with times that fit a month of seconds."""
    pause = {"pause": "3s"}
    return {
        # The server, its users, training and checks share two cores here: an answer may take its time, and none may fail.
        "timeout_ms": 10_000,
        "latency_budget_ms": 1000,
        "quality": {"metric": "brier", "threshold": 0.17},
        "rollout": {
            "steps": [{"shadow": {}}, pause, {"setWeight": 5}, pause, {"setWeight": 50}, pause, {"setWeight": 100}, pause],
            "analysis": {
                "interval": "1s",
                "minRequests": 30,
                "metrics": [
                    # Wide enough that some seconds say whether they are kept.
                    {"name": "errorRate", "max": 0.2},
                    {"name": "invalidRate", "max": 0.2},
                    {"name": "latencyP95", "maxRatio": 10.0},
                    # In a bad month no version keeps the threshold: what counts is that it is no worse than the champion.
                    {"name": "quality", "max": 0.25},
                    {"name": "agreement"},
                ],
            },
        },
        "monitor": {
            # A check looks at a month, when the demo asks for it.
            "every_predictions": 1_000_000,
            "every": "1d",
            "truth_within": f"{(scenario.month_s + PAUSE_S) / 2:g}s",
            # Weather follows the seasons, and four months do not know them all: what matters is whether the answers move.
            "drift": {"ignore": list(WEATHER)},
            "alerts": [{"when": "quality", "severity": "critical"}, {"when": "score_drift"}],
            "retrain": {
                "enabled": True,
                "module": TRAINING,
                "window": "1h",
                "at_most_every": f"{3 * (scenario.month_s + PAUSE_S):g}s",
            },
        },
    }


def with_settings(model_yaml: str, scenario: Scenario) -> str:
    """The text of a model.yaml with the demo's settings in it."""
    return yaml.safe_dump({**yaml.safe_load(model_yaml), **model_settings(scenario)}, sort_keys=False, allow_unicode=True)
