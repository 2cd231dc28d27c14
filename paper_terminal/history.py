"""Ticks and bars as the terminal serves them: on the server's clock, every tick of the run kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from paper_terminal.deep_history import DeepHistory, grouped
from paper_terminal.records import BAR_TICK_DTYPE, DEAL_FLAGS, QUOTE_FLAGS, RATE_DTYPE, TICK_DTYPE, Records
from paper_terminal.server_time import ServerTimeRule
from paper_terminal.session_day import Day, DayRange

_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_DAY_S: Final = 86_400
_FIRST_CAPACITY: Final = 4096

# The epoch was a Thursday; weeks of bars begin on Sunday, three days later.
_SUNDAY_OFFSET_DAYS: Final = 4

_MINUTES = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30)
_HOURS = (1, 2, 3, 4, 6, 8, 12, 24)
WEEK: Final = 0x8001
MONTH: Final = 0xC001
_DAILY: Final = 0x4018
_PERIOD_S: Final[dict[int, int]] = {n: n * _MINUTE_S for n in _MINUTES} | {0x4000 + n: n * _HOUR_S for n in _HOURS}

_ALL_TICKS: Final = -1
_ONLY_TRADES: Final = 2
_WANTED: Final = {1: QUOTE_FLAGS, 2: DEAL_FLAGS, 3: QUOTE_FLAGS | DEAL_FLAGS}

_MOST_MADE_TICKS: Final = 5_000_000
"""Ticks from before those held that one call gives: 300 MB."""


class BadRequest(Exception):
    """A timeframe, count or flag that means nothing."""


class TooMuch(Exception):
    """A request for more than can be given at once."""


class Growing:
    """An array that grows at its end. Slices given out stay valid: growing moves to new memory."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._array = np.empty(_FIRST_CAPACITY, dtype=dtype)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def filled(self) -> NDArray[Any]:
        """Return what has been appended, without copying."""
        return self._array[: self._count]

    def shorten(self, count: int) -> None:
        """Take the last `count` values away; slices given out before may show what comes in their place."""
        self._count -= count

    def extend(self, values: NDArray[Any]) -> None:
        """Append values."""
        needed = self._count + len(values)
        if needed > len(self._array):
            grown = np.empty(max(needed, 2 * len(self._array)), dtype=self._array.dtype)
            grown[: self._count] = self.filled
            self._array = grown
        self._array[self._count : needed] = values
        self._count = needed


class _Frame:
    """The bars of one period, made of the minutes; only the last one can still change."""

    def __init__(self) -> None:
        self._bars = Growing(RATE_DTYPE)
        self._from = 0
        """Index of the last bar's first minute."""

    def of(self, minutes: Records, timeframe: int) -> Records:
        """Return the bars of these minutes: those of the call before, and what has come since."""
        fresh = minutes[self._from :]
        opens = bar_opens(fresh["time"], timeframe)
        if not len(fresh):
            return fresh
        built = grouped(fresh, opens)
        self._bars.shorten(1 if len(self._bars) else 0)
        self._bars.extend(built)
        self._from += int(np.searchsorted(opens, opens[-1], side="left"))
        return self._bars.filled


class SymbolHistory:
    """The ticks and the M1 bars of one symbol. Other periods are built from M1 on demand."""

    def __init__(self, rule: ServerTimeRule, *, point: float, by_last: bool = False) -> None:
        """Start empty; `point` is the unit of the bars' spread. With `by_last` bars are of deals, else of bids."""
        self._rule = rule
        self._point = point
        self._by_last = by_last
        self._ticks = Growing(TICK_DTYPE)
        self._utc_ms = Growing(np.dtype(np.int64))  # apart from the records: searching their field would copy it
        self._minutes = Growing(RATE_DTYPE)
        self._frames: dict[int, _Frame] = {}
        self._day = DayRange(by_last=by_last)
        self._deep: DeepHistory | None = None
        self._deep_close: tuple[int, float] = (-1, 0.0)

    def append(self, ticks: Records) -> None:
        """Add ticks with UTC times, none older than the last."""
        if not len(ticks):
            return
        served = self._rule.to_server_ticks(ticks)
        self._ticks.extend(_plain(served))
        self._utc_ms.extend(ticks["time_msc"])
        self._add_bars(served)

    def _add_bars(self, ticks: Records) -> None:
        if self._by_last:
            ticks = ticks[(ticks["flags"] & DEAL_FLAGS) != 0]
        prices = ticks["last" if self._by_last else "bid"]
        if not prices.all():  # nobody has offered yet
            ticks, prices = ticks[prices > 0], prices[prices > 0]
        if not len(ticks):
            return
        opens = ticks["time"] // _MINUTE_S * _MINUTE_S
        last = int(self._minutes.filled["time"][-1]) if len(self._minutes) else int(opens[0])
        # In autumn's repeated hour the server's clock steps back; its ticks join the last bar before the step.
        opens = np.maximum.accumulate(np.maximum(opens, last))
        starts = _starts(opens)
        counts, traded = _weights(ticks)
        bars = np.zeros(len(starts), dtype=RATE_DTYPE)
        bars["time"] = opens[starts]
        bars["open"] = prices[starts]
        bars["high"] = np.maximum.reduceat(prices, starts)
        bars["low"] = np.minimum.reduceat(prices, starts)
        bars["close"] = prices[np.append(starts[1:], len(prices)) - 1]
        bars["tick_volume"] = (
            np.diff(np.append(starts, len(prices))) if counts is None else np.add.reduceat(counts, starts)
        )
        if traded is not None:
            bars["real_volume"] = np.add.reduceat(traded, starts)
        # A crossed quote (bid above ask) has no spread: it counts as 0, not as less.
        spreads = np.maximum(np.rint((ticks["ask"] - ticks["bid"]) / self._point), 0)
        bars["spread"] = np.minimum.reduceat(spreads, starts)
        if len(self._minutes) and bars["time"][0] == last:
            _merge_into(self._minutes.filled[-1:], bars[:1])
            bars = bars[1:]
        self._minutes.extend(bars)

    def day(self) -> Day:
        """Return what the server's present day has seen."""
        day = self._day.of(self._ticks.filled)
        if self._deep is not None and not day.closed_before:
            if self._deep_close[0] != day.number:
                before = self.bars_from_position(_DAILY, 1, 1)
                self._deep_close = (day.number, float(before["close"][0]) if len(before) else 0.0)
            day.closed_before = self._deep_close[1]
        return day

    def last_tick(self) -> NDArray[Any] | None:
        """Return the newest tick, as an array of one, or None."""
        return self._ticks.filled[-1:] if len(self._ticks) else None

    def ticks_from(self, from_s: int, count: int, flags: int) -> Records:
        """Return up to `count` ticks from a server second on, oldest first.

        Raises:
            BadRequest: a count below 1 or unknown flags.
            TooMuch: more ticks than can be made at once.
        """
        if count < 1:
            raise BadRequest(f"count {count}")
        return self._ticks_between(self._rule.to_utc_ms(from_s * 1000), None, flags, count)

    def ticks_range(self, from_s: int, to_s: int, flags: int) -> Records:
        """Return the ticks with from_s <= time_msc / 1000 <= to_s, server seconds: the end is a whole second too.

        Raises:
            BadRequest: unknown flags.
            TooMuch: more ticks than can be made at once.
        """
        end_ms = self._rule.to_utc_ms(to_s * 1000, latest=True) + 1
        return self._ticks_between(self._rule.to_utc_ms(from_s * 1000), end_ms, flags, None)

    def _ticks_between(self, from_ms: int, end_ms: int | None, flags: int, count: int | None) -> Records:
        """Return the first `count` ticks of [from_ms, end_ms), UTC; None: no limit."""
        if flags != _ALL_TICKS and flags not in _WANTED:
            raise BadRequest(f"flags {flags}")
        parts: list[Records] = []
        found = 0
        for block in self._older_ticks(from_ms, end_ms, flags):
            parts.append(_with_flags(block, flags))
            found += len(parts[-1])
            if count is not None and found >= count:
                return np.concatenate(parts)[:count]
            if found > _MOST_MADE_TICKS:
                raise TooMuch(f"more than {_MOST_MADE_TICKS} ticks")
        times = self._utc_ms.filled
        first = int(np.searchsorted(times, from_ms, side="left"))
        end = len(times) if end_ms is None else int(np.searchsorted(times, end_ms, side="left"))
        held = _with_flags(self._ticks.filled[first:end], flags)
        whole: Records = np.concatenate([*parts, held]) if parts else held
        return whole if count is None else whole[:count]

    def _older_ticks(self, from_ms: int, end_ms: int | None, flags: int) -> Iterator[Records]:
        """Return the ticks from before those held, in blocks; where bars are of bids there are no trades among them."""
        if self._deep is None or (flags == _ONLY_TRADES and not self._by_last):
            return iter(())
        until_ms = self._deep.until_ms
        return self._deep.ticks(from_ms, until_ms if end_ms is None else min(end_ms, until_ms))

    def bars(self, timeframe: int, *, since_s: int | None = None, until_s: int | None = None) -> Records:
        """Return the bars of a period, ascending by open time; the last one is being formed, and changes in place.

        Args:
            timeframe: A TIMEFRAME constant.
            since_s: With bars older than the ticks: those from about this server second on; None: only from ticks.
            until_s: Bars that open after this server second are not needed (but may be given).

        Raises:
            BadRequest: no such timeframe.
        """
        minutes: Records = self._minutes.filled
        deep = self._deep
        if deep is not None and since_s is not None and since_s < deep.until_s:
            whole_s = int(bar_opens(np.array([max(since_s, deep.first_s)]), timeframe)[0])
            by_minute = timeframe in _PERIOD_S and _PERIOD_S[timeframe] < _HOUR_S
            end_s = deep.until_s if until_s is None else until_s + _HOUR_S
            older = deep.minutes(whole_s, end_s) if by_minute else deep.hours(whole_s)
            if by_minute and end_s < deep.until_s:
                minutes = minutes[:0]
            minutes = np.concatenate((older[older["time"] >= whole_s], minutes))
            return grouped(minutes, bar_opens(minutes["time"], timeframe)) if timeframe != 1 else minutes
        if timeframe == 1:
            return minutes
        frame = self._frames.get(timeframe) or _Frame()
        bars = frame.of(minutes, timeframe)
        self._frames[timeframe] = frame
        return bars

    def deepen(self, deep: DeepHistory) -> None:
        """Offer bars from before the first tick."""
        self._deep = deep

    def bars_from(self, timeframe: int, from_s: int, count: int) -> Records:
        """Return up to `count` bars that open at or before a server second, going back.

        Raises:
            BadRequest: no such timeframe, or a count below 1.
        """
        if count < 1:
            raise BadRequest(f"count {count}")
        bars = self._reaching(timeframe, from_s, count)
        end = int(np.searchsorted(bars["time"], from_s, side="right"))
        return bars[max(0, end - count) : end].copy()

    def bars_from_position(self, timeframe: int, start: int, count: int) -> Records:
        """Return up to `count` bars going back from bar `start`; 0 is the one being formed.

        Raises:
            BadRequest: no such timeframe, a negative start or a count below 1.
        """
        if start < 0 or count < 1:
            raise BadRequest(f"start {start}, count {count}")
        bars = self._reaching(timeframe, None, start + count)
        end = max(0, len(bars) - start)
        return bars[max(0, end - count) : end].copy()

    def _reaching(self, timeframe: int, until_s: int | None, count: int) -> Records:
        """Return bars that hold `count` up to `until_s` (None: the last), or all there are."""
        bars = self.bars(timeframe)
        deep = self._deep
        if deep is None:
            return bars
        end_s = deep.until_s if until_s is None else min(until_s, deep.until_s)
        span_s = count * _PERIOD_S.get(timeframe, 31 * _DAY_S)
        while True:
            held = len(bars) if until_s is None else int(np.searchsorted(bars["time"], until_s, side="right"))
            if held >= count or end_s < deep.first_s:
                return bars
            since_s = end_s - span_s
            bars = self.bars(timeframe, since_s=since_s, until_s=until_s)
            if since_s <= deep.first_s:
                return bars
            span_s = span_s * 3 // 2 + 3 * _DAY_S  # weekends and holidays hold no bars

    def bars_range(self, timeframe: int, from_s: int, to_s: int) -> Records:
        """Return the bars with from_s <= open time <= to_s, server seconds.

        Raises:
            BadRequest: no such timeframe.
        """
        bars = self.bars(timeframe, since_s=from_s, until_s=to_s)
        first = int(np.searchsorted(bars["time"], from_s, side="left"))
        return bars[first : int(np.searchsorted(bars["time"], to_s, side="right"))].copy()


def bar_opens(times_s: NDArray[np.int64], timeframe: int) -> NDArray[np.int64]:
    """Return the open time of the bar each server second falls in.

    Raises:
        BadRequest: no such timeframe.
    """
    if timeframe in _PERIOD_S:
        return times_s // _PERIOD_S[timeframe] * _PERIOD_S[timeframe]
    if timeframe == WEEK:
        days = times_s // _DAY_S + _SUNDAY_OFFSET_DAYS
        return (days // 7 * 7 - _SUNDAY_OFFSET_DAYS) * _DAY_S
    if timeframe == MONTH:
        return times_s.astype("datetime64[s]").astype("datetime64[M]").astype("datetime64[s]").astype(np.int64)
    raise BadRequest(f"timeframe {timeframe}")


def _plain(ticks: Records) -> Records:
    """Return ticks as clients get them: without what a tick of a bar stands for."""
    if ticks.itemsize == TICK_DTYPE.itemsize:
        return ticks
    plain = np.empty(len(ticks), dtype=TICK_DTYPE)
    for name in TICK_DTYPE.names or ():
        plain[name] = ticks[name]
    return plain


def _weights(ticks: Records) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
    """Return how many ticks each stands for, and how much was traded with it; None where that is one, or nothing."""
    if ticks.itemsize == BAR_TICK_DTYPE.itemsize:
        return ticks["ticks"].astype(np.uint64), ticks["traded"]
    if not ticks["last"].any():  # no deal without a price: the usual case, at the price of one look
        return None, None
    return None, np.where(ticks["flags"] & DEAL_FLAGS, ticks["volume"], 0)


def _starts(opens: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return where each run of equal values begins."""
    return np.flatnonzero(np.concatenate(([True], opens[1:] != opens[:-1])))


def _merge_into(bar: Records, more: Records) -> None:
    bar["high"] = np.maximum(bar["high"], more["high"])
    bar["low"] = np.minimum(bar["low"], more["low"])
    bar["close"] = more["close"]
    bar["tick_volume"] += more["tick_volume"]
    bar["real_volume"] += more["real_volume"]
    bar["spread"] = np.minimum(bar["spread"], more["spread"])


def _with_flags(ticks: Records, flags: int) -> Records:
    if flags == _ALL_TICKS:
        return ticks
    selected: Records = ticks[(ticks["flags"] & _WANTED[flags]) != 0]
    return selected
