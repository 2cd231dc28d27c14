"""Reading ticks in a link: every one behind a cursor, pages of history.

The API copies from a whole second on and oldest first, several ticks may share a millisecond, and real repeats occur:
so known ticks are skipped by their number within the millisecond, never by value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker_adapter.api_failure import ApiFailure, last_failure
from broker_adapter.link_messages import (
    PIPE_CODES,
    PollTicks,
    ReadTicks,
    SymbolTicks,
    TickCursor,
    TickPage,
    TicksPolled,
)

COPY_TICKS_ALL = -1
_LARGEST_COPY = 1 << 20
_EARLIEST_S = 1  # 0 is undefined in the API

Records = NDArray[np.void]


class TickReader:
    """Remembers, for each symbol, the latest tick seen, so that a symbol without news costs one look."""

    def __init__(self, api: Any) -> None:
        self._api = api
        self._seen: dict[str, tuple[Any, ...]] = {}

    def poll(self, command: PollTicks) -> TicksPolled:
        """Look at every symbol, copy from those with news.

        Raises:
            ApiFailure: The connection to the terminal is broken.
        """
        news: list[SymbolTicks] = []
        left = command.total
        for index, cursor in enumerate(command.cursors):
            if left <= 0:
                return TicksPolled(tuple(news), deferred=index < len(command.cursors))
            found = self._poll_symbol(cursor, command.sweep, min(command.limit, left))
            if found is not None:
                news.append(found)
                left -= len(found.records) // 60
        return TicksPolled(tuple(news))

    def _poll_symbol(self, cursor: TickCursor, sweep: bool, limit: int) -> SymbolTicks | None:
        tick = self._api.symbol_info_tick(cursor.symbol)
        if tick is None:
            failure = last_failure(self._api)
            return SymbolTicks(cursor, b"", 0, code=failure.code, text=failure.text) if sweep else None
        latest = tuple(tick)
        newest_msc = int(tick.time_msc)
        if newest_msc == 0 or (not sweep and self._seen.get(cursor.symbol) == latest):
            return None
        try:
            if cursor.time_msc == 0:
                return _newest(self._api, cursor.symbol, newest_msc)
            records, more = _copy_behind(self._api, cursor, limit)
        except ApiFailure as failure:
            if failure.code in PIPE_CODES:
                raise
            return SymbolTicks(cursor, b"", newest_msc, code=failure.code, text=failure.text)
        if not more:
            self._seen[cursor.symbol] = latest
        if not len(records.new) and not sweep:
            return None
        return SymbolTicks(records.cursor, records.new.tobytes(), newest_msc, more=more)

    def read(self, command: ReadTicks) -> TickPage:
        """Return a page of history.

        Raises:
            ApiFailure: The terminal refused.
        """
        count = command.limit + command.skip + 64
        while True:
            records = copy_ticks(self._api, command.symbol, command.from_msc // 1000, count)
            times = records["time_msc"]
            first = int(np.searchsorted(times, command.from_msc, "left"))
            start = min(first + command.skip, len(records))
            if len(records) < count or len(records) - start > command.limit or count >= _LARGEST_COPY:
                break
            count *= 2
        within = int(np.searchsorted(times, command.to_msc, "right"))
        end = max(start, min(start + command.limit, within))
        page = records[start:end]
        if not len(page):
            return TickPage(b"", False, command.to_msc + 1, 0)
        last = int(times[end - 1])
        next_skip = end - int(np.searchsorted(times, last, "left"))
        return TickPage(page.tobytes(), end < within, last, next_skip)


def _newest(api: Any, symbol: str, newest_msc: int) -> SymbolTicks | None:
    """Return the newest tick with the cursor behind it; None if the terminal's history does not have it yet."""
    second_msc = newest_msc - newest_msc % 1000
    behind, more = _copy_behind(api, TickCursor(symbol, second_msc, 0, 0), _LARGEST_COPY // 16)
    if more or not len(behind.new):
        return None
    return SymbolTicks(behind.cursor, behind.new[-1:].tobytes(), newest_msc)


class _Behind:
    __slots__ = ("cursor", "new")

    def __init__(self, new: Records, cursor: TickCursor) -> None:
        self.new = new
        self.cursor = cursor


def _copy_behind(api: Any, cursor: TickCursor, limit: int) -> tuple[_Behind, bool]:
    """Return at most `limit` ticks behind `cursor`, and whether there may be more."""
    count = limit + cursor.taken_in_second
    while True:
        records = copy_ticks(api, cursor.symbol, cursor.time_msc // 1000, count)
        times = records["time_msc"]
        start = _first_unknown(times, cursor)
        new_count = len(records) - start
        # All of it known although as much came as was asked for: that second holds more than was thought.
        if new_count or len(records) < count or count >= _LARGEST_COPY:
            break
        count *= 2
    end = start + min(new_count, limit)
    more = new_count > limit or len(records) >= count
    if end == start:
        return _Behind(records[:0], cursor), False
    last = int(times[end - 1])
    known = times[:end]
    return _Behind(
        records[start:end],
        TickCursor(
            cursor.symbol,
            last,
            end - int(np.searchsorted(known, last, "left")),
            end - int(np.searchsorted(known, last - last % 1000, "left")),
        ),
    ), more


def _first_unknown(times: NDArray[np.int64], cursor: TickCursor) -> int:
    same_first = int(np.searchsorted(times, cursor.time_msc, "left"))
    same_end = int(np.searchsorted(times, cursor.time_msc, "right"))
    return min(same_first + cursor.taken, same_end)


def copy_ticks(api: Any, symbol: str, from_s: int, count: int) -> Records:
    """Return up to `count` ticks from the server second `from_s` on, in order of time.

    Raises:
        ApiFailure: The terminal refused.
    """
    records = api.copy_ticks_from(symbol, max(_EARLIEST_S, from_s), count, COPY_TICKS_ALL)
    if records is None:
        raise last_failure(api)
    times = records["time_msc"]
    if len(times) > 1 and bool(np.any(times[1:] < times[:-1])):
        records = records[np.argsort(times, kind="stable")]
    found: Records = records
    return found
