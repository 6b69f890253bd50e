"""The tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rich.table import Table

from load_tests.bench.figures import median, summed
from load_tests.bench.protocols import DATA, GRPC, REST, V2_BINARY, V2_JSON
from load_tests.bench.raw_session import BATCHES
from load_tests.bench.results import QUIET_PERCENT, Failure, LoadRecord, OverloadRecord, Promise, RawRecord, Results, ShadowRecord
from load_tests.bench.routing_promises import over_plain, rate
from load_tests.bench.sides import A_A, CACHED, GUARDED, PLAIN, ROUTED, SHADOWED, SPLIT, UNLOGGED

NAMES: Final = {
    PLAIN: "Ekiben",
    ROUTED: "Ekiben, router",
    A_A: "Ekiben, A/A split",
    SPLIT: "Ekiben, split",
    SHADOWED: "Ekiben, shadow",
    CACHED: "Ekiben, cache",
    UNLOGGED: "Ekiben, no log",
    GUARDED: "Ekiben, guards on",
    "bentoml": "BentoML batchable",
    "fastapi": "FastAPI + ONNX",
    "litserve": "LitServe",
    "mlserver": "MLServer",
    "kserve": "KServe SDK",
    "triton": "Triton",
    "onnx-ceiling": "unbatched ceiling",
    "echo": "echo ceiling",
    "grpc-echo": "grpc.aio echo",
    "raw": "raw session",
}
PROTOCOL_NAMES: Final = {
    REST: "",
    V2_JSON: ", V2 JSON",
    V2_BINARY: ", V2 binary",
    GRPC: ", gRPC",
    DATA + REST: ", data port",
    DATA + V2_JSON: ", data port, V2 JSON",
    DATA + V2_BINARY: ", data port, V2 binary",
}
_LEAST_WIDTH: Final = 6
_VERDICTS: Final = {True: "[green]yes[/]", False: "[bold red]no[/]", None: "[dim]not measured[/]"}


def tables(results: Results, promises: list[Promise]) -> list[Table]:
    """All tables of a run, the promises last."""
    made = [_load_table(model, connections, rows_each, results.loads) for model, connections, rows_each in _cases(results.loads)]
    if results.raw:
        made.append(_raw_table(results.raw))
    if results.overloads:
        made.append(_overload_table(results.overloads))
    if results.routed:
        made.append(_sides_table(f"{results.routed[0].model}, a route and none, in turns under one load", results.routed))
    if results.shadows:
        made.append(_shadow_table(results.shadows))
    for model in dict.fromkeys(r.model for r in results.twins):
        chosen = [r for r in results.twins if r.model == model]
        made.append(_sides_table(f"{model}, served several times by one server, asked in turns", chosen))
    for percent in dict.fromkeys(r.repeats_percent for r in results.cached):
        chosen = [r for r in results.cached if r.repeats_percent == percent]
        made.append(_sides_table(f"{chosen[0].model}, {percent} % of the requests repeat: a cache and none, in turns", chosen))
    if results.failures:
        made.append(_failure_table(results.failures))
    made.append(promise_table(promises))
    return made


def promise_table(promises: list[Promise]) -> Table:
    """Promise by promise: found, target, reached."""
    table = _table("What is promised", "promise", "where", numbers=("found", "target"), last="reached")
    for p in promises:
        sign = "≤" if p.at_most else "≥"
        found = "-" if p.found is None else _figure(p.found, p.unit)
        table.add_row(p.promise, p.where, found, f"{sign} {_figure(p.target, p.unit)}", _VERDICTS[p.is_reached])
    return table


def quiet_rounds(records: list[LoadRecord]) -> list[LoadRecord]:
    """The rounds in which nothing else used much of the machine; all of them, where none was quiet."""
    return [r for r in records if r.is_quiet] or records


def counted(errors: dict[str, int]) -> str:
    """Errors by status, as ``503: 12, timeout: 1``; a dash for none."""
    return ", ".join(f"{kind}: {count:,}" for kind, count in errors.items()) or "-"


def _cases(loads: list[LoadRecord]) -> list[tuple[str, int, int]]:
    order = list(dict.fromkeys(r.model for r in loads))
    return sorted({(r.model, r.connections, r.rows_each) for r in loads}, key=lambda case: (order.index(case[0]), case[2], case[1]))


def _load_table(model: str, connections: int, rows_each: int, loads: list[LoadRecord]) -> Table:
    title = f"{model}, {connections} connection{'' if connections == 1 else 's'}" + (
        f", {rows_each} rows a request" if rows_each > 1 else ""
    )
    numbers = ("workers", "rps", "p50 ms", "p99 ms", "CPU µs/request", "noise %", "rounds")
    table = _table(title, "server", numbers=numbers, last="errors by status")
    chosen = [r for r in loads if r.model == model and r.connections == connections and r.rows_each == rows_each]
    for workers in sorted({r.workers for r in chosen}):
        for peer, protocol in dict.fromkeys((r.peer, r.protocol) for r in chosen if r.workers == workers):
            every = [r for r in chosen if (r.workers, r.peer, r.protocol) == (workers, peer, protocol)]
            used = quiet_rounds(every)
            table.add_row(
                NAMES[peer] + PROTOCOL_NAMES[protocol],
                str(workers),
                f"{median(r.load.rps for r in used):,.0f}",
                f"{median(r.load.p50_ms for r in used):.2f}",
                f"{median(r.load.p99_ms for r in used):.2f}",
                f"{median(r.cpu.server_us_per_request for r in used):,.0f}",
                _noise([r.cpu.noise_percent for r in used]),
                f"{len(used)}/{len(every)}",
                counted(summed(r.load.errors for r in every)),
            )
        table.add_section()
    return table


def _raw_table(records: list[RawRecord]) -> Table:
    table = _table("raw session, one thread: rows/s by batch size", "model", numbers=(*map(str, BATCHES), "one row, p50 ms"))
    for model in dict.fromkeys(r.model for r in records):
        speeds = [r.speed for r in records if r.model == model]
        rates = [f"{median(s.rows_per_s[batch] for s in speeds):,.0f}" for batch in BATCHES]
        table.add_row(model, *rates, f"{median(s.run_p50_ms for s in speeds):.3f}")
    return table


def _overload_table(records: list[OverloadRecord]) -> Table:
    title = f"heavy, open loop, deadline {records[0].deadline_ms:g} ms; goodput: 200 in time; p50, p99: of all 200s"
    numbers = (
        "workers",
        "times",
        "capacity rps",
        "sent rps",
        "goodput rps",
        "p50 ms",
        "p99 ms",
        "CPU µs each",
        "noise %",
        "sent late ms",
    )
    table = _table(title, "server", numbers=numbers, last="answers by status")
    cases = dict.fromkeys((r.workers, r.peer, r.times_capacity) for r in records)
    for workers, peer, times in sorted(cases, key=lambda case: (case[0], list(NAMES).index(case[1]), case[2])):
        chosen = [r for r in records if (r.workers, r.peer, r.times_capacity) == (workers, peer, times)]
        lost = sum(r.without_retry_after for r in chosen)
        statuses = counted(summed(r.statuses for r in chosen)) + (f" ({lost:,} without Retry-After)" if lost else "")
        table.add_row(
            NAMES[peer],
            str(workers),
            f"{times:g}",
            *(f"{median(values):,.0f}" for values in ([r.capacity_rps for r in chosen], [r.rate for r in chosen])),
            f"{median(r.goodput_rps for r in chosen):,.0f}",
            _milliseconds(r.p50_ms for r in chosen),
            _milliseconds(r.p99_ms for r in chosen),
            f"{median(r.cpu.server_us_per_request for r in chosen):,.0f}",
            _noise([r.cpu.noise_percent for r in chosen]),
            f"{max(r.late_ms for r in chosen):.0f}",
            statuses,
        )
    return table


def _sides_table(what: str, records: list[LoadRecord]) -> Table:
    title = f"{what}; errors: of all turns"
    numbers = ("workers", "connections", "rps", "of that without %", "p50 ms", "p99 ms", "CPU µs/request", "noise %", "turns")
    table = _table(title, "server", numbers=numbers, last="errors by status")
    for workers, connections in sorted({(r.workers, r.connections) for r in records}):
        here = [r for r in records if (r.workers, r.connections) == (workers, connections)]
        for side in dict.fromkeys(r.peer for r in here):
            every = [r for r in here if r.peer == side]
            used = quiet_rounds(every)
            ratio = None if side == PLAIN else over_plain(here, side, (workers, connections))
            table.add_row(
                NAMES[side],
                str(workers),
                str(connections),
                f"{rate(used) or 0:,.0f}",
                "-" if ratio is None else f"{ratio * 100:.1f}",
                f"{median(r.load.p50_ms for r in used):.2f}",
                f"{median(r.load.p99_ms for r in used):.2f}",
                f"{median(r.cpu.server_us_per_request for r in used):,.0f}",
                _noise([r.cpu.noise_percent for r in used]),
                f"{len(used)}/{len(every)}",
                counted(summed(r.load.errors for r in every)),
            )
        table.add_section()
    return table


def _shadow_table(records: list[ShadowRecord]) -> Table:
    numbers = (
        "capacity rps",
        "sent rps",
        "p50 ms",
        "p99 ms",
        "shadow's rows %",
        "CPU µs/request",
        "noise %",
        "sent late ms",
        "turns",
    )
    table = _table(
        "open loop, 1 worker, without a shadow and with one, in turns", "server", "model", numbers=numbers, last="answers by status"
    )
    for model, side in dict.fromkeys((r.model, r.side) for r in records):
        every = [r for r in records if (r.model, r.side) == (model, side)]
        used = [r for r in every if r.is_quiet] or every
        computed = [r.computed_percent for r in used if r.computed_percent is not None]
        table.add_row(
            NAMES[side],
            model,
            *(f"{median(values):,.0f}" for values in ([r.capacity_rps for r in used], [r.rate for r in used])),
            f"{median(r.p50_ms for r in used):.2f}",
            f"{median(r.p99_ms for r in used):.2f}",
            f"{median(computed):.1f}" if computed else "-",
            f"{median(r.cpu.server_us_per_request for r in used):,.0f}",
            _noise([r.cpu.noise_percent for r in used]),
            f"{max(r.late_ms for r in every):.0f}",
            f"{len(used)}/{len(every)}",
            counted(summed(r.statuses for r in every)),
        )
    return table


def _failure_table(failures: list[Failure]) -> Table:
    table = _table("Failed", "server", "model", numbers=("workers", "round"), last="problem")
    for f in failures:
        table.add_row(NAMES[f.peer], f.model, str(f.workers), str(f.round + 1), f.problem)
    return table


def _table(title: str, *texts: str, numbers: tuple[str, ...] = (), last: str | None = None) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for name in texts:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", min_width=_LEAST_WIDTH)
    if last is not None:
        table.add_column(last)
    return table


def _milliseconds(values: Iterable[float | None]) -> str:
    there = [value for value in values if value is not None]
    return f"{median(there):,.1f}" if there else "-"


def _noise(values: list[float]) -> str:
    noise = median(values)
    return f"{noise:.0f}" if noise <= QUIET_PERCENT else f"[yellow]{noise:.0f}[/]"


def _figure(value: float, unit: str) -> str:
    if not unit:
        return f"{value:,.0f}"
    return f"{value:,.3g} {unit}" if unit == "ms" else f"{value:,.2f} {unit}" if unit == "x" else f"{value:,.1f} {unit}"
