import asyncio

from load_tests.demo.counting import count, rows_by_month
from load_tests.demo.replay import Answer, Replay


class Log:
    """Answers queries as the log would."""

    def __init__(self, *rows):
        self.rows = rows

    async def ask(self, *words):
        sql = words[-1]
        if "substr" in sql:
            return [{"month": "05", "version": "v1", "arm": "shadow" if "shadows" in sql else "champion", "rows": 3}]
        if "shadows" in sql:
            return [{"rows": 4}]
        if "ground_truth" in sql:
            return [{"kept": 2, "labelled": 1}]
        return [dict(zip(("request_id", "version", "arm", "rows"), row, strict=True)) for row in self.rows]


async def counted(*rows):
    replay = Replay("http://nowhere", seed=1)
    replay.answers += [Answer(f"r{i}", 5, i, "v1", "champion", 0.0, 0.0, is_reported=True) for i in range(3)]
    replay.failures.append("r9: 500")
    replay.lost.append("r8")
    replay.truths.add("r1", "late", 0.0)
    return await count(Log(*rows), replay)


def test_what_is_missing_twice_or_unheard_is_counted():
    found = asyncio.run(
        counted(("r0", "v1", "champion", 1), ("r1", "v1", "champion", 2), ("r8", "v1", "champion", 1), ("r2", "v2", "champion", 1))
    )
    assert (found.asked, found.answered, found.failures, found.lost) == (4, 3, 1, 1)
    assert (found.logged, found.missing, found.doubled, found.unheard) == (5, 1, 1, 1)
    assert (found.truths, found.truths_kept, found.labelled, found.shadowed) == (1, 2, 1, 4)


def test_rows_by_month_have_answers_and_shadows():
    assert [(r.month, r.arm, r.rows) for r in asyncio.run(rows_by_month(Log()))] == [(5, "champion", 3), (5, "shadow", 3)]
