"""What a load test must keep, and what it did keep: the share of errors and the 95th percentile of latency, by kind of request."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from rich.table import Table


class Thresholds(msgspec.Struct, frozen=True):
    """The limits.

    Attributes:
        max_error_percent: Failed requests, percent of all.
        max_p95_ms: 95th percentile of the response time of all requests, failed ones too.
    """

    max_error_percent: float
    max_p95_ms: float


class Measured(msgspec.Struct, frozen=True):
    """What came of one kind of request.

    Attributes:
        name: The kind.
        requests: How many were sent and settled.
        failures: How many of them failed.
        p50_ms, p95_ms, p99_ms: Response times.
        rps: Requests a second.
    """

    name: str
    requests: int
    failures: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    rps: float

    @property
    def error_percent(self) -> float:
        """Failed requests, percent of all."""
        return 100 * self.failures / self.requests if self.requests else 0.0


def broken(measured: Measured, limits: Thresholds) -> list[str]:
    """What this kind of request breaks, in words; a kind that was never sent breaks everything, as it shows nothing."""
    if not measured.requests:
        return ["no requests"]
    found = []
    if measured.error_percent > limits.max_error_percent:
        found.append(f"errors {measured.error_percent:.2f} % > {limits.max_error_percent:g} %")
    if measured.p95_ms > limits.max_p95_ms:
        found.append(f"p95 {measured.p95_ms:.0f} ms > {limits.max_p95_ms:g} ms")
    return found


def are_kept(all_measured: Sequence[Measured], limits: Thresholds) -> bool:
    """Whether every kind of request keeps the limits; nothing measured keeps none."""
    return bool(all_measured) and not any(broken(measured, limits) for measured in all_measured)


def table(all_measured: Sequence[Measured], limits: Thresholds) -> Table:
    """Kind by kind what was found, and which limits it breaks."""
    title = f"thresholds: errors ≤ {limits.max_error_percent:g} %, p95 ≤ {limits.max_p95_ms:g} ms"
    made = Table(title=title, title_justify="left", title_style="bold")
    made.add_column("requests", no_wrap=True)
    for name in ("sent", "rps", "failed", "failed %", "p50 ms", "p95 ms", "p99 ms"):
        made.add_column(name, justify="right")
    made.add_column("kept")
    for m in all_measured:
        faults = broken(m, limits)
        verdict = f"[bold red]no: {'; '.join(faults)}[/]" if faults else "[green]yes[/]"
        figures = (f"{m.p50_ms:.0f}", f"{m.p95_ms:.0f}", f"{m.p99_ms:.0f}")
        made.add_row(m.name, f"{m.requests:,}", f"{m.rps:,.1f}", f"{m.failures:,}", f"{m.error_percent:.2f}", *figures, verdict)
    if not all_measured:
        made.add_row("-", "0", "0", "0", "-", "-", "-", "-", "[bold red]no: no requests[/]")
    return made
