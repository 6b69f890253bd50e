"""What the demo promises, and whether it held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from load_tests.demo.record import Counts, Month, Promise

Event = Mapping[str, Any]

WORKERS: Final = 2
_ENDS: Final = ("promoted", "rolled-back", "aborted")
_CONTROLLER: Final = "controller"


def promises_of(
    *,
    counts: Counts,
    months: Sequence[Month],
    events: Sequence[Event],
    bad: str,
    workers: int,
    refused: Sequence[str] = (),
    untold: int = 0,
) -> list[Promise]:
    """All promises, each with what was found.

    Args:
        counts: What was counted.
        months: What was replayed.
        events: What happened, the oldest first.
        bad: The version that must not get through.
        workers: How many serve at the end.
        refused: Reports of ground truth that were refused.
        untold: Alerts that the webhook did not get.
    """
    return [
        _promise("No request fails", counts.failures == 0, f"{counts.failures} of {counts.asked:,}; {counts.lost} asked twice"),
        _promise(
            "Every answer is in the log, once, as it was given",
            counts.missing == counts.doubled == 0 and counts.logged == counts.answered + counts.unheard,
            f"{counts.logged:,} rows; {counts.missing} missing, {counts.doubled} twice, {counts.unheard} that did not arrive",
        ),
        _promise(
            "Every truth is kept, once, whenever and how often it came",
            not refused and counts.truths_kept == counts.truths == counts.labelled,
            f"{counts.reports:,} reports of {counts.truths:,} rows; {counts.truths_kept:,} are kept, {counts.labelled:,} joined"
            + (f"; refused: {refused[0]}" if refused else ""),
        ),
        _figures(counts, months),
        _bad(events, bad),
        _promise("A worker that is killed is replaced", workers == WORKERS, f"{workers} of {WORKERS} serve at the end"),
        _retrained(events, bad),
        _alerts(events, untold),
    ]


def _promise(text: str, holds: bool, found: str) -> Promise:  # noqa: FBT001  what is asked
    return Promise(text=text, holds=holds, found=found)


def _figures(counts: Counts, months: Sequence[Month]) -> Promise:
    """Whether the figures by month are made of all rows."""
    found = sum(q.predictions for month in months for q in month.quality if q.arm != "shadow")
    labelled = sum(q.labelled for month in months for q in month.quality if q.arm != "shadow")
    holds = (found, labelled) == (counts.logged, counts.labelled)
    return _promise("The figures are made of all rows", holds, f"{found:,} of {counts.logged:,}, {labelled:,} with their truth")


def _bad(events: Sequence[Event], bad: str) -> Promise:
    text = "A bad version is rolled back by itself"
    ids = [e["rollout"] for e in events if e["kind"] == "started" and e["message"].find(bad) >= 0 and e.get("rollout")]
    if not ids:
        return _promise(text, holds=False, found="it was never put on trial")
    mine = [e for e in events if e.get("rollout") == ids[0]]
    end = next((e for e in mine if e["kind"] in _ENDS), None)
    if end is None:
        return _promise(text, holds=False, found="it is still on trial")
    took_s = end["time"] - mine[0]["time"]
    holds = end["kind"] == "rolled-back" and end["who"] == _CONTROLLER
    return _promise(text, holds, f"{end['kind']} after {took_s:.0f} s: {end['message']}")


def _alerts(events: Sequence[Event], untold: int) -> Promise:
    alerts = [e for e in events if e["kind"] == "alert"]
    return _promise("Who is to be told is told", untold == 0, f"{len(alerts) - untold} of {len(alerts)} alerts reached the webhook")


def _retrained(events: Sequence[Event], bad: str) -> Promise:
    """Whether a version that was trained anew was judged: by the comparison before its rollout, or by the rollout."""
    text = "A version that was trained anew is judged by itself"
    rejected = [e for e in events if e["kind"] == "retrain_rejected"]
    trials = [e["rollout"] for e in events if e["kind"] == "started" and e.get("rollout") and bad not in e["message"]]
    ends = [e for e in events if e.get("rollout") in trials and e["kind"] in _ENDS]
    failed = [e for e in events if e["kind"] == "retrain_failed"]
    if failed:
        return _promise(text, holds=False, found=failed[0]["message"])
    by_itself = [*rejected, *(e for e in ends if e["who"] == _CONTROLLER)]
    if not by_itself:
        return _promise(text, holds=False, found=ends[0]["message"] if ends else "none was")
    said = [f"{e['kind'].removeprefix('retrain_')}: {e['message']}" for e in sorted(by_itself, key=lambda e: e["time"])]
    return _promise(text, holds=len(ends) == len([e for e in ends if e["who"] == _CONTROLLER]), found="; ".join(said))
