"""A log joined with ground truth, in memory: the twin of what reads both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

DAY_S = 86_400.0


class Logged:
    """Rows of one model, as the log joined with ground truth has them.

    Args:
        columns: Input → its values, missing ones null or NaN.
        actual: What was true; None where nobody said.
        times: Seconds since the epoch.
        ids: Request ids; left out, each row is a request of its own.
    """

    def __init__(self, columns: Mapping[str, Any], actual: Any, times: Any, *, ids: Any = None) -> None:
        made = {name: v if isinstance(v, pa.Array) else pa.array(v, from_pandas=True) for name, v in columns.items()}
        n = len(times)
        self.table = pa.table(
            {
                "request_id": pa.array([f"r{i}" for i in range(n)] if ids is None else ids),
                "row": pa.array(np.zeros(n, np.int32)),
                "time": pa.array(np.round(np.asarray(times) * 1e6).astype(np.int64)).cast(pa.timestamp("us", tz="UTC")),
                "features": pa.StructArray.from_arrays(list(made.values()), names=list(made)),
                "actual": pa.array(actual),
            }
        )
        self.asked: list[tuple[str, float, float]] = []

    def __call__(self, model: str, *, since: float, until: float) -> pa.Table:
        """See `ekiben.monitoring.training_window.LabelledRows`."""
        self.asked.append((model, since, until))
        time_s = self.table["time"].cast(pa.int64()).to_numpy() / 1e6
        return self.table.filter(pa.array((since <= time_s) & (time_s < until)))
