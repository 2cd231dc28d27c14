"""Bars and ticks older than those a terminal holds: made by the feed when they are asked for.

A feed that can make minute bars of any moment (the synthetic market can) gives a terminal years of bars without
years of ticks. Every longer period is built from those minutes, and so are ticks of the time. Hours are kept once
made, minutes and ticks are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from paper_terminal.deep_ticks import ticks_behind
from paper_terminal.feeds.base import deals_at_bid
from paper_terminal.records import RATE_DTYPE, Records
from paper_terminal.server_time import ServerTimeRule

MinuteBars = Callable[[int, int], Records]
"""Returns the minute bars with from_ms <= open time < to_ms, all times UTC (`time` in seconds)."""

_DAY_MS: Final = 86_400_000
_MINUTE_MS: Final = 60_000
_HOUR_S: Final = 3600
_CHUNK_MS: Final = 60 * _DAY_MS


def grouped(bars: Records, opens_s: NDArray[np.int64]) -> Records:
    """Return longer bars: one for each run of equal `opens_s`, the open time of the bar each given one falls in."""
    if not len(bars):
        return bars
    starts = np.flatnonzero(np.concatenate(([True], opens_s[1:] != opens_s[:-1])))
    built = np.zeros(len(starts), dtype=RATE_DTYPE)
    built["time"] = opens_s[starts]
    built["open"] = bars["open"][starts]
    built["high"] = np.maximum.reduceat(bars["high"], starts)
    built["low"] = np.minimum.reduceat(bars["low"], starts)
    built["close"] = bars["close"][np.append(starts[1:], len(bars)) - 1]
    for field in ("tick_volume", "real_volume"):
        built[field] = np.add.reduceat(bars[field], starts)
    built["spread"] = np.minimum.reduceat(bars["spread"], starts)
    return built


class DeepHistory:
    """The bars of one symbol before its first tick, on the server's clock."""

    def __init__(
        self,
        rule: ServerTimeRule,
        source: MinuteBars,
        *,
        first_ms: int,
        until_ms: int,
        point: float,
        by_last: bool = False,
    ) -> None:
        """Offer what was in [first_ms, until_ms), UTC, both whole hours. Nothing is made yet.

        With `by_last` the bars are of deals, and so are the ticks behind them.
        """
        self._by_last = by_last
        self._rule = rule
        self._source = source
        self._point = point
        self._first_ms = first_ms
        self.until_ms = until_ms
        """Where the ticks held begin, UTC."""
        self._hours: list[Records] = []
        self._hours_from_ms = until_ms

    @property
    def first_s(self) -> int:
        """Return the server second of the oldest bar offered."""
        return self._rule.to_server_ms(self._first_ms) // 1000

    @property
    def until_s(self) -> int:
        """Return the server second at which the bars made from ticks begin."""
        return self._rule.to_server_ms(self.until_ms) // 1000

    def minutes(self, from_s: int, to_s: int) -> Records:
        """Return the minute bars with from_s <= open time <= to_s, server seconds."""
        from_ms = max(self._first_ms, self._rule.to_utc_ms(from_s * 1000))
        to_ms = min(self.until_ms, self._rule.to_utc_ms(to_s * 1000, latest=True) + 1)
        parts = [self._served(at, min(at + _CHUNK_MS, to_ms)) for at in range(from_ms, to_ms, _CHUNK_MS)]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=RATE_DTYPE)

    def hours(self, from_s: int) -> Records:
        """Return the hourly bars from the day of a server second on, up to the bars made from ticks."""
        from_ms = max(self._first_ms, self._rule.to_utc_ms(from_s * 1000) // _DAY_MS * _DAY_MS)
        while self._hours_from_ms > from_ms:
            start_ms = max(from_ms, self._hours_from_ms - _CHUNK_MS)
            minutes = self._served(start_ms, self._hours_from_ms)
            self._hours.insert(0, grouped(minutes, minutes["time"] // _HOUR_S * _HOUR_S))
            self._hours_from_ms = start_ms
        return np.concatenate(self._hours) if self._hours else np.zeros(0, dtype=RATE_DTYPE)

    def ticks(self, from_ms: int, to_ms: int) -> Iterator[Records]:
        """Return the ticks with from_ms <= time < to_ms (UTC milliseconds; their times are the server's), by the day.

        Their minutes are the bars', price for price.
        """
        from_ms, to_ms = max(self._first_ms, from_ms), min(self.until_ms, to_ms)
        for start_ms in range(from_ms // _MINUTE_MS * _MINUTE_MS, to_ms, _DAY_MS):
            ticks = ticks_behind(self._source(start_ms, min(start_ms + _DAY_MS, to_ms)), self._point)
            wanted = ticks[(ticks["time_msc"] >= from_ms) & (ticks["time_msc"] < to_ms)]
            yield self._rule.to_server_ticks(deals_at_bid(wanted) if self._by_last else wanted)

    def _served(self, from_ms: int, to_ms: int) -> Records:
        minutes = self._source(from_ms, to_ms).copy()
        if not len(minutes):
            return minutes
        minutes["time"] = self._rule.to_server_seconds(minutes["time"])
        # In autumn's repeated hour the server's clock steps back: those minutes join the last before the step.
        return grouped(minutes, np.maximum.accumulate(minutes["time"]))
