"""Counting: what clients saw beside what the log and the ground truth hold."""

from __future__ import annotations

from collections import Counter
from typing import Any

from load_tests.demo.project import Project
from load_tests.demo.record import Counts, Rows
from load_tests.demo.replay import Replay

_BY_MONTH = "SELECT substr(request_id, 1, 2) AS month, version, arm, count(*) AS rows FROM {view} GROUP BY ALL ORDER BY ALL"
_ANSWERS = "SELECT request_id, version, arm, count(*) AS rows FROM predictions GROUP BY ALL"
_TRUTHS = "SELECT (SELECT count(*) FROM ground_truth) AS kept, (SELECT count(actual) FROM joined) AS labelled"


async def rows_by_month(project: Project) -> list[Rows]:
    """The log's rows by month, version and arm; the answers first, then what shadows computed beside."""
    found: list[Any] = []
    for view in ("predictions", "shadows"):
        found += await project.ask("log", "query", _BY_MONTH.format(view=view))
    return [Rows(month=int(row["month"]), version=row["version"], arm=row["arm"], rows=row["rows"]) for row in found]


async def count(project: Project, replay: Replay) -> Counts:
    """Counts everything.

    Args:
        project: Whose log it is.
        replay: What clients saw.
    """
    logged = await project.ask("log", "query", _ANSWERS)
    (shadows,) = await project.ask("log", "query", "SELECT count(*) AS rows FROM shadows")
    (truths,) = await project.ask("log", "query", _TRUTHS)
    given = Counter((a.request_id, a.version, a.arm) for a in replay.answers)
    kept = Counter({(row["request_id"], row["version"], row["arm"]): row["rows"] for row in logged})
    heard = {a.request_id for a in replay.answers}
    return Counts(
        asked=len(replay.answers) + len(replay.failures),
        answered=len(replay.answers),
        failures=len(replay.failures),
        lost=len(replay.lost),
        logged=kept.total(),
        missing=(given - kept).total(),
        doubled=sum(rows - 1 for rows in kept.values() if rows > 1),
        unheard=sum(rows for (request_id, _, _), rows in kept.items() if request_id not in heard),
        shadowed=shadows["rows"],
        truths=replay.truths.counts.flights,
        reports=replay.truths.counts.reports,
        truths_kept=truths["kept"],
        labelled=truths["labelled"],
    )
