"""Windows in the control database."""

from __future__ import annotations

import math
import random
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from threading import Lock
from typing import Any, Final

import msgspec
from sqlalchemy import Row, delete, func, select

from ekiben.errors import StateError
from ekiben.state.database import Database
from ekiben.state.schema import WINDOWS
from ekiben.state.upsert import upsert
from ekiben.state.windows import Window, WindowKey, Windows, summed, summed_by_second

_SPAN_S: Final = 60
_SPANS_AT_ONCE: Final = 10
_SPANS_KEPT: Final = 3000  # some two KiB each
_STAMPS: Final = 2**31
_FOREVER: Final = 2**53
_PRUNING_S: Final = 60.0

_Mark = tuple[int, int]
_Sums = dict[tuple[str, str], Window]


class SqlWindows(Windows):
    """Windows in the control database, shared by all processes that use it.

    Who asks for the windows since a stage began asks again every few seconds, and nearly all of them are those of before. So
    the sums of whole minutes are remembered, each with a mark: how many windows the minute had, and the sum of their stamps. A
    window gets a stamp at random each time it is written, so that a late, replaced or pruned one changes the mark, and the
    minute is read anew. (Two changes that leave the mark as it was are as likely as two equal ones of 2**31 numbers.)

    Args:
        database: The control database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._spans = _Spans()

    def add(self, worker: str, windows: Sequence[tuple[WindowKey, Window]]) -> None:
        """See `Windows`."""
        if not windows:
            return
        rows = [{**_key(key), "worker": worker, "stamp": random.randrange(_STAMPS), "window": _encoded(w)} for key, w in windows]  # noqa: S311
        with self._database.writing(durable=False) as connection:
            upsert(connection, WINDOWS, rows)

    def sum(self, model: str, since: float, until: float) -> _Sums:
        """See `Windows`."""
        start, stop = _whole(since), _whole(until)
        first, last = -(-start // _SPAN_S) * _SPAN_S, stop // _SPAN_S * _SPAN_S
        if first >= last:
            return summed(self._windows(model, start, stop))
        return summed([*self._windows(model, start, first), *self._remembered(model, first, last), *self._windows(model, last, stop)])

    def by_second(self, model: str, since: float, until: float) -> dict[int, _Sums]:
        """See `Windows`."""
        return summed_by_second(self._windows(model, _whole(since), _whole(until)))

    def prune(self, before: float) -> int:
        """See `Windows`."""
        with self._database.writing(durable=False, limit_s=_PRUNING_S) as connection:
            return connection.execute(delete(WINDOWS).where(WINDOWS.c.second < _whole(before))).rowcount

    def _remembered(self, model: str, start: int, stop: int) -> list[tuple[WindowKey, Window]]:
        """The sums of whole spans, those that did not change from memory."""
        span = WINDOWS.c.second // _SPAN_S
        query = select(span.label("span"), func.count().label("n"), func.sum(WINDOWS.c.stamp).label("stamps")).group_by(span)
        marks = {int(row.span): (int(row.n), int(row.stamps)) for row in self._database.read(_within(query, model, start, stop))}
        found: list[tuple[WindowKey, Window]] = []
        changed = []
        for number, mark in sorted(marks.items()):
            sums = self._spans.get(model, number, mark)
            if sums is None:
                changed.append(number)
            else:
                found += sums
        for begin, end in _runs(changed):
            found += self._read(model, begin, end)
        return found

    def _read(self, model: str, begin: int, end: int) -> Iterator[tuple[WindowKey, Window]]:
        """The sums of the spans from begin to end (exclusive), which are remembered from now on."""
        rows = self._rows(model, begin * _SPAN_S, end * _SPAN_S)
        for number, of_span in groupby(rows, key=lambda row: int(row.second // _SPAN_S)):
            windows = list(of_span)
            sums = [(WindowKey(model, *arm, number * _SPAN_S), window) for arm, window in summed([_window(row) for row in windows]).items()]
            self._spans.put(model, number, (len(windows), sum(row.stamp for row in windows)), sums)
            yield from sums

    def _windows(self, model: str, start: int, stop: int) -> list[tuple[WindowKey, Window]]:
        return [_window(row) for row in self._rows(model, start, stop)] if start < stop else []

    def _rows(self, model: str, start: int, stop: int) -> Sequence[Row[Any]]:
        return self._database.read(_within(select(WINDOWS), model, start, stop).order_by(WINDOWS.c.second))


class _Spans:
    """Sums of spans, those that were asked for most recently."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int], tuple[_Mark, list[tuple[WindowKey, bytes]]]] = OrderedDict()
        self._lock = Lock()

    def get(self, model: str, number: int, mark: _Mark) -> list[tuple[WindowKey, Window]] | None:
        """A span's sums, if they are those that the mark is of."""
        with self._lock:
            kept = self._kept.get((model, number))
            if kept is None or kept[0] != mark:
                return None
            self._kept.move_to_end((model, number))
        return [(key, _decoded(window)) for key, window in kept[1]]

    def put(self, model: str, number: int, mark: _Mark, sums: list[tuple[WindowKey, Window]]) -> None:
        """Keeps a span's sums, encoded: a histogram's dictionaries take ten times as much."""
        with self._lock:
            self._kept[model, number] = (mark, [(key, _encoded(window)) for key, window in sums])
            self._kept.move_to_end((model, number))
            if len(self._kept) > _SPANS_KEPT:
                self._kept.popitem(last=False)


def _within(query: Any, model: str, start: int, stop: int) -> Any:
    return query.where(WINDOWS.c.model == model, WINDOWS.c.second >= start, WINDOWS.c.second < stop)


def _runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Sorted numbers as ranges (exclusive) of ones that follow each other, none too long."""
    begin = end = None
    for number in numbers:
        if begin is not None and end is not None and (number > end or end - begin == _SPANS_AT_ONCE):
            yield begin, end
            begin = None
        begin, end = (number if begin is None else begin), number + 1
    if begin is not None and end is not None:
        yield begin, end


def _whole(time: float) -> int:
    """The first whole second that is not before."""
    return math.ceil(min(max(time, -_FOREVER), _FOREVER))


def _key(key: WindowKey) -> dict[str, Any]:
    return {"model": key.model, "version": key.version, "arm": key.arm, "second": key.second}


def _window(row: Row[Any]) -> tuple[WindowKey, Window]:
    return WindowKey(row.model, row.version, row.arm, row.second), _decoded(row.window)


def _encoded(window: Window) -> bytes:
    # MessagePack keeps infinities, which JSON would make null of.
    return msgspec.msgpack.encode(window)


def _decoded(window: bytes) -> Window:
    try:
        return msgspec.msgpack.decode(window, type=Window)
    except msgspec.MsgspecError as e:
        raise StateError(
            f"the control database has a window that cannot be read: {e}; a newer Ekiben may have written it, which can"
        ) from e
