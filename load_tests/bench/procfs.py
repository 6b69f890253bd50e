"""CPU time as Linux counts it: of a set of processes, of our own children, of the whole machine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

PROC: Final = Path("/proc")


class CpuTimes(msgspec.Struct, frozen=True):
    """CPU seconds used up to now.

    Attributes:
        server: By the server's processes.
        client: By the load generators: those that have ended, and those under way that were named.
        machine: By all processes of the machine.
        capacity: CPU seconds the machine has had, idle ones counted.
    """

    server: float
    client: float
    machine: float
    capacity: float


class CpuUse(msgspec.Struct, frozen=True):
    """What a load cost.

    Attributes:
        server_us_per_request: Server CPU, microseconds an answered request.
        server_cores: Cores the server kept busy.
        client_cores: Cores the load generator kept busy.
        noise_percent: CPU used by anything else, percent of the whole machine.
    """

    server_us_per_request: float
    server_cores: float
    client_cores: float
    noise_percent: float


def read_cpu_times(pids: Iterable[int], proc: Path = PROC, *, clients: Iterable[int] = ()) -> CpuTimes:
    """Reads the clocks; a process that has ended counts nothing.

    Args:
        pids: The server's processes.
        proc: Where Linux shows its processes.
        clients: Load generators that are under way.
    """
    machine, capacity = _machine_seconds(proc)
    times = os.times()
    server, client = (sum(_process_seconds(pid, proc) for pid in of) for of in (pids, clients))
    return CpuTimes(server, client + times.children_user + times.children_system, machine, capacity)


def cpu_use(before: CpuTimes, after: CpuTimes, answered: int, cores: int) -> CpuUse:
    """What happened between two readings.

    Args:
        before: The first reading.
        after: The second one.
        answered: Requests answered in between.
        cores: Cores of the machine.
    """
    server = after.server - before.server
    client = after.client - before.client
    capacity = max(after.capacity - before.capacity, 1e-9)
    elapsed = capacity / cores
    noise = (after.machine - before.machine) - server - client
    return CpuUse(
        server_us_per_request=round(server / max(answered, 1) * 1e6, 1),
        server_cores=round(server / elapsed, 2),
        client_cores=round(client / elapsed, 2),
        noise_percent=round(max(0.0, 100 * noise / capacity), 1),
    )


def marked_processes(marker: str, proc: Path = PROC) -> set[int]:
    """Ids of the processes that carry ``marker`` (``NAME=value``) in their environment, zombies left out."""
    wanted = marker.encode()
    found = set()
    for folder in proc.iterdir():
        if folder.name.isdigit():
            try:
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.add(int(folder.name))
            except OSError:
                continue
    return found


def _process_seconds(pid: int, proc: Path) -> float:
    try:
        text = (proc / str(pid) / "stat").read_text()
    except OSError:
        return 0.0
    # The name in parentheses may hold spaces; utime and stime are fields 14 and 15 of the line.
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _machine_seconds(proc: Path) -> tuple[float, float]:
    with (proc / "stat").open() as f:
        fields = [int(field) for field in f.readline().split()[1:]]
    # user nice system idle iowait irq softirq steal; what follows (guests) is counted in user already.
    total = sum(fields[:8])
    idle = fields[3] + fields[4]
    return (total - idle) / os.sysconf("SC_CLK_TCK"), total / os.sysconf("SC_CLK_TCK")
