"""How long a check of drift takes: ``python -m load_tests.drift_speed --rows 1000000 --columns 20``.

Three of five columns are numbers, two are categories; the profile is that of 100,000 rows. The time is the best of three.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ekiben.model.spec import CardSpec, InputSpec, ModelSpec
from ekiben.monitoring.drift import DriftReport, drift_of
from ekiben.monitoring.reference import distributions_of

_REFERENCE_ROWS = 100_000
_CATEGORIES = 100


def timed(rows: int, columns: int) -> tuple[float, DriftReport]:
    """Seconds that a check of so many rows and inputs takes, and what it found."""
    inputs = tuple(InputSpec(name=f"x{n}", type="string" if _is_text(n) else "float") for n in range(columns))
    spec = ModelSpec(name="speed", task="regression", inputs=inputs, card=CardSpec(owner="load tests"))
    described = distributions_of(_table(spec, _REFERENCE_ROWS, seed=0), spec)
    profile = {
        "rows": _REFERENCE_ROWS,
        "inputs": {name: distribution for (kind, name), distribution in described.items() if kind == "input"},
        "outputs": {name: distribution for (kind, name), distribution in described.items() if kind == "score"},
    }
    table, took_s = _table(spec, rows, seed=1), []
    for _ in range(3):
        began = time.perf_counter()
        report = drift_of(table, spec, profile)
        took_s.append(time.perf_counter() - began)
    return min(took_s), report


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=20)
    chosen = parser.parse_args(arguments)
    took_s, report = timed(chosen.rows, chosen.columns)
    print(f"{chosen.rows} rows of {chosen.columns} inputs and a score: {took_s:.3f} s; {report.summary}")


def _is_text(n: int) -> bool:
    return n % 5 in (1, 3)


def _table(spec: ModelSpec, rows: int, *, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    names = pa.array([f"c{n}" for n in range(_CATEGORIES)])
    columns = [
        names.take(pa.array(rng.integers(0, _CATEGORIES, rows))) if _is_text(n) else pa.array(rng.normal(size=rows).astype(np.float32))
        for n in range(len(spec.inputs))
    ]
    features = pa.StructArray.from_arrays(columns, [item.name for item in spec.inputs])
    outputs = pa.StructArray.from_arrays([pa.array(rng.normal(size=rows))], ["prediction"])
    return pa.table({"features": features, "outputs": outputs})


if __name__ == "__main__":
    main()
