"""What the demo wrote down: plain values, as its JSON has them and its tables, charts and page are made of them."""

from __future__ import annotations

import calendar
from typing import Any

import msgspec

METRICS: tuple[str, ...] = ("roc_auc", "f1", "brier")


class Quality(msgspec.Struct, kw_only=True):
    """How good the answers of a version to an arm were in a month.

    Attributes:
        version, arm: Whose; ``shadow`` for answers that went nowhere.
        predictions: Rows answered.
        labelled: Those whose truth is known.
        metrics: Name → value and its interval at 95 %: ``[value, low, high]``, null where too little is known for one.
    """

    version: str
    arm: str
    predictions: int
    labelled: int
    metrics: dict[str, tuple[float, float | None, float | None]]


class Drift(msgspec.Struct, kw_only=True):
    """How far a version's data were from its training data in a month.

    Attributes:
        rows: How many were looked at.
        outcome: ok, bad, or unknown.
        summary: A sentence.
        psi: Column → population stability index.
        drifted: The columns that drifted and count.
        ignored: The columns that drifted and do not.
    """

    version: str
    rows: int
    outcome: str
    summary: str
    psi: dict[str, float] = {}
    drifted: list[str] = []
    ignored: list[str] = []


class Month(msgspec.Struct, kw_only=True):
    """A month of the replay.

    Attributes:
        month: 1 to 12.
        since, until: It was replayed in [since, until), seconds since the epoch.
        asked: Flights.
        failures, lost: Requests that failed; connections that broke, whose flights were asked again.
        p95_ms: 95th percentile of the answers' latency, milliseconds.
        verdict: What the month's quality check said of the champion: ok, bad or unknown.
        said: The same as a sentence.
    """

    month: int
    since: float
    until: float
    asked: int
    failures: int
    lost: int
    p95_ms: float
    verdict: str = "unknown"
    said: str = ""
    drift: list[Drift] = []
    quality: list[Quality] = []

    @property
    def name(self) -> str:
        """Its English name."""
        return calendar.month_name[self.month]


class Counts(msgspec.Struct, kw_only=True):
    """What was counted over all months.

    Attributes:
        asked, answered, failures: Flights.
        lost: Connections that broke before the answer.
        logged: Rows of the log that somebody was answered by.
        missing: Flights that were answered and are not in the log, or not as they were answered.
        doubled: Rows that are in the log more than once.
        unheard: Rows of the log whose answer did not arrive, because its connection broke.
        shadowed: Rows that a shadow computed beside.
        truths: Different rows whose truth was reported.
        reports: Reports of them, the repeated ones too.
        truths_kept: Truths that are kept.
        labelled: Rows of the log with a truth.
    """

    asked: int
    answered: int
    failures: int
    lost: int
    logged: int
    missing: int
    doubled: int
    unheard: int
    shadowed: int
    truths: int
    reports: int
    truths_kept: int
    labelled: int


class Promise(msgspec.Struct, kw_only=True):
    """What must hold.

    Attributes:
        text: What.
        holds: Whether it does.
        found: What was found.
    """

    text: str
    holds: bool
    found: str


class Rows(msgspec.Struct, kw_only=True):
    """Rows that were answered, or computed by a shadow.

    Attributes:
        month: 1 to 12.
    """

    month: int
    version: str
    arm: str
    rows: int


class Record(msgspec.Struct, kw_only=True):
    """All of it.

    Attributes:
        form: whole or short.
        began: Seconds since the epoch.
        took_s: How long all of it took.
        champion, bad: Versions: the first one, and the one that must not get through.
        killed: The worker that was killed, its process id.
        killed_at: When, seconds since the epoch.
        months: What was replayed.
        rows: The log's rows by month, version and arm, shadows' too.
        versions: What is in the store at the end, as `ekiben models list` says it.
        events: What happened, as `ekiben rollout history` says it.
        counts, promises: As they are called.
    """

    form: str
    began: float
    took_s: float
    champion: str
    bad: str
    killed: int
    killed_at: float
    months: list[Month]
    rows: list[Rows]
    versions: list[dict[str, Any]]
    events: list[dict[str, Any]]
    counts: Counts
    promises: list[Promise]

    @property
    def kept_all(self) -> bool:
        """Whether every promise holds."""
        return all(promise.holds for promise in self.promises)

    def month_at(self, time_s: float) -> str:
        """When that was in the year that is replayed: ``June``, or ``after June``."""
        name = "before"
        for month in self.months:
            if time_s < month.since:
                break
            name = month.name if time_s < month.until else f"after {month.name}"
        return name
