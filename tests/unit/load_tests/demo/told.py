"""A small record of a demo, for what shows one."""

from load_tests.demo.promises import promises_of
from load_tests.demo.record import Counts, Drift, Month, Quality, Record, Rows
from load_tests.demo.replay import Answer


def quality(version="v1", arm="champion", *, predictions=100, labelled=98, **metrics) -> Quality:
    found = metrics or {"roc_auc": (0.7, 0.68, 0.72), "f1": (0.5, None, None), "brier": (0.15, 0.14, 0.16)}
    return Quality(version=version, arm=arm, predictions=predictions, labelled=labelled, metrics=found)


def month(number=5, *, since=100.0, until=110.0, **more) -> Month:
    drift = Drift(
        version="v1", rows=100, outcome="bad", summary="1 of 2 columns drifted", psi={"temp": 2.0, "score": 0.1}, drifted=["temp"]
    )
    given = {"quality": [quality()], "drift": [drift], "verdict": "ok", "said": "brier is fine"} | more
    return Month(month=number, since=since, until=until, asked=100, failures=0, lost=0, p95_ms=3.2, **given)


def counts(**more) -> Counts:
    given = {"asked": 100, "answered": 100, "failures": 0, "lost": 0, "logged": 100, "missing": 0, "doubled": 0, "unheard": 0}
    given |= {"shadowed": 10, "truths": 98, "reports": 103, "truths_kept": 98, "labelled": 98}
    return Counts(**(given | more))


def event(kind, message="", *, rollout="", who="controller", time=101.0, number=1):
    return {"id": number, "time": time, "who": who, "model": "flight_delay", "rollout": rollout, "kind": kind, "message": message}


EVENTS = [
    event("started", "flight_delay:v1 is to be followed by opposite: shadow", rollout="r-1", who="ann@desk", time=101.0),
    event("pause-over", "is over", rollout="r-1"),
    event("rolled-back", "quality Failed: <worse>", rollout="r-1", time=104.0),
    event("alert", "quality fires", who="monitor", time=105.0, number=7),
    event("retrain_started", "because the quality is bad", who="monitor", time=106.0),
    event("retrain_finished", "v2 is better", who="monitor", time=107.0),
    event("started", "flight_delay:v1 is to be followed by v2: shadow", rollout="r-2", who="monitor", time=107.5),
    event("promoted", "v2 is champion", rollout="r-2", time=109.0),
]


def promised(**more):
    given = {"counts": counts(), "months": [month()], "events": EVENTS, "bad": "opposite", "workers": 2}
    return promises_of(**(given | more))


def record(**more) -> Record:
    given = {
        "form": "short",
        "began": 90.0,
        "took_s": 30.0,
        "champion": "v1",
        "bad": "opposite",
        "killed": 4711,
        "killed_at": 104.5,
        "months": [month(), month(6, since=112.0, until=120.0)],
        "rows": [Rows(month=5, version="v1", arm="champion", rows=100)],
        "versions": [{"version": "v1"}],
        "events": EVENTS,
        "counts": counts(),
        "promises": promised(),
    }
    return Record(**(given | more))


def answers(n=20):
    arms = ("champion", "challenger")
    return [Answer(f"05-{i:05}-1", 5, i, f"v{1 + i % 2}", arms[i % 2], 100 + i / 2, 0.004, i % 10 != 0) for i in range(n)]
