"""The report of the demo in a folder: charts, one page, and which flight was answered by whom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from load_tests.demo.charts import draw_activity, draw_drift, draw_quality
from load_tests.demo.page import page
from load_tests.demo.record import Record
from load_tests.demo.replay import Answer

ANSWERS: Final = "answers.json"
RECORD: Final = "demo.json"
PAGE: Final = "index.html"


def write_report(record: Record, answers: Sequence[Answer], folder: Path) -> None:
    """Writes it; what a former run left there is replaced.

    Args:
        record: What was found.
        answers: All flights that were answered.
        folder: Where to; it is made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draw_activity(record, answers, folder / "activity.png")
    draw_quality(record, folder / "quality.png")
    draw_drift(record, folder / "drift.png")
    (folder / RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1))
    (folder / ANSWERS).write_bytes(msgspec.json.encode(list(answers)))
    (folder / PAGE).write_text(page(record), encoding="utf-8")
