"""Bars and their periods.

Bar prices are bid prices, as the terminal's. A period without ticks has no bar. Periods are aligned on the
broker's server clock: midnight there starts a D1 bar, so an H4 or D1 bar starts at another UTC hour in winter
than in summer.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from market.server_time import UTC_RULE, ServerTimeRule

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]

_MINUTE_S = 60
_HOUR_S = 3600
_DAY_S = 86_400
_WEEK_S = 7 * _DAY_S
# 1970-01-01 was a Thursday; the terminal's weeks start on Sunday, three days later.
_FIRST_SUNDAY_MS = 3 * _DAY_S * 1000
_MONTH_NOMINAL_S = 30 * _DAY_S

_HOURS_CODE = 0x4000
_WEEK_CODE = 0x8001
_MONTH_CODE = 0xC001


class Bar(msgspec.Struct, frozen=True, array_like=True):
    """One completed or forming bar. Prices are bid prices."""

    open_time_ms: int
    """UTC milliseconds since 1970."""
    open: float
    high: float
    low: float
    close: float
    tick_volume: int
    """Number of ticks."""
    spread_points: int
    """Lowest spread seen in the bar, in points; a crossed quote (bid above ask) counts as 0."""
    real_volume: int = 0
    """Traded volume where an exchange tells it."""


class Timeframe(msgspec.Struct, frozen=True):
    """The period of a bar: S5, M1, H4, D1, W1, MN1 and the like. Get one with `Timeframe.parse`."""

    name: str
    seconds: int
    """Length of the period; a month counts as 30 days here."""
    mt5_code: int | None
    """The terminal's TIMEFRAME constant, or None where it has no such period (seconds)."""

    @staticmethod
    def parse(name: str) -> Timeframe:
        """Return the period called `name`.

        Known: seconds and minutes that divide 60 (S1 to S30, M1 to M30), hours that divide 24 (H1 to H12),
        D1, W1, MN1.

        Raises:
            ValueError: there is no such period.
        """
        return _parse(name)

    @property
    def milliseconds(self) -> int:
        """Return the length of the period in milliseconds; a month counts as 30 days."""
        return self.seconds * 1000

    def open_time_ms(self, server_time_ms: int) -> int:
        """Return when the period that contains `server_time_ms` opened. Both in server time, milliseconds."""
        if self.name == "MN1":
            moment = datetime.fromtimestamp(server_time_ms // 1000, UTC)
            return int(datetime(moment.year, moment.month, 1, tzinfo=UTC).timestamp()) * 1000
        anchor_ms = _FIRST_SUNDAY_MS if self.name == "W1" else 0
        return server_time_ms - (server_time_ms - anchor_ms) % self.milliseconds

    def next_open_ms(self, server_open_ms: int) -> int:
        """Return when the period after the one opened at `server_open_ms` opens. Both in server time."""
        if self.name == "MN1":
            moment = datetime.fromtimestamp(server_open_ms // 1000, UTC)
            year, month = divmod(moment.year * 12 + moment.month, 12)
            return int(datetime(year, month + 1, 1, tzinfo=UTC).timestamp()) * 1000
        return server_open_ms + self.milliseconds

    def open_times_ms(self, server_times_ms: Ints) -> Ints:
        """Return `open_time_ms` of each element of an array."""
        if self.name == "MN1":
            opened: Ints = server_times_ms.astype("M8[ms]").astype("M8[M]").astype("M8[ms]").astype("i8")
            return opened
        anchor_ms = _FIRST_SUNDAY_MS if self.name == "W1" else 0
        return server_times_ms - (server_times_ms - anchor_ms) % self.milliseconds


@lru_cache(maxsize=256)
def _parse(name: str) -> Timeframe:
    match = re.fullmatch(r"(S|M|H|D|W|MN)([1-9][0-9]?)", name)
    if match is not None:
        unit, count = match[1], int(match[2])
        if unit == "S" and count < 60 and 60 % count == 0:
            return Timeframe(name, count, None)
        if unit == "M" and count < 60 and 60 % count == 0:
            return Timeframe(name, count * _MINUTE_S, count)
        if unit == "H" and count < 24 and 24 % count == 0:
            return Timeframe(name, count * _HOUR_S, _HOURS_CODE + count)
    whole = {
        "D1": Timeframe("D1", _DAY_S, _HOURS_CODE + 24),
        "W1": Timeframe("W1", _WEEK_S, _WEEK_CODE),
        "MN1": Timeframe("MN1", _MONTH_NOMINAL_S, _MONTH_CODE),
    }
    if name not in whole:
        raise ValueError(
            f"unknown timeframe {name!r}: use seconds or minutes that divide 60 (S5, M15), "
            "hours that divide 24 (H4), or D1, W1, MN1"
        )
    return whole[name]


def period_open_utc_ms(timeframe: Timeframe, utc_ms: int, *, rule: ServerTimeRule = UTC_RULE) -> int:
    """Return the moment (UTC) at which the period that contains the moment `utc_ms` opened.

    Where the server's clock goes back, either pass of the repeated hour has periods of its own, so that bars
    never go back in time.
    """
    offset_ms = rule.offset_ms(utc_ms)
    server_open_ms = timeframe.open_time_ms(utc_ms + offset_ms)
    open_ms = server_open_ms - offset_ms
    # When the offset changed within the period, it opened under the former offset.
    return open_ms if rule.offset_ms(open_ms) == offset_ms else rule.to_utc_ms(server_open_ms)


def period_opens_utc_ms(timeframe: Timeframe, utc_ms: Ints, *, rule: ServerTimeRule = UTC_RULE) -> Ints:
    """Return `period_open_utc_ms` of each element of an array."""
    offsets = rule.offsets_ms(utc_ms)
    server_opens = timeframe.open_times_ms(utc_ms + offsets)
    opens = server_opens - offsets
    changed = rule.offsets_ms(opens) != offsets
    if changed.any():
        opens[changed] = rule.to_utc_ms_array(server_opens[changed])
    return opens


class BarBuilder:
    """Turns one symbol's ticks into bars of one period.

    A bar is complete when the first tick of a later period arrives; a period without ticks has no bar. The result is
    the same however the ticks are split into calls. Ticks without a bid make no bar (bars are of bids), and
    ticks from before the forming bar come too late to change it: both are counted in `skipped`.
    """

    def __init__(self, timeframe: Timeframe, *, point: float, rule: ServerTimeRule = UTC_RULE) -> None:
        """Start without a bar.

        Args:
            timeframe: Length of the bars.
            point: Price of one point of the symbol, for the spread.
            rule: The server's clock, on which periods are aligned. The ticks themselves are in UTC.

        Raises:
            ValueError: `point` is not a positive number.
        """
        if not (math.isfinite(point) and point > 0):
            raise ValueError(f"point must be a positive number, got {point!r}")
        self.timeframe = timeframe
        self.skipped = 0
        self._point = point
        self._rule = rule
        self._forming: Bar | None = None
        self._valid_until_ms = 0

    @property
    def forming(self) -> Bar | None:
        """The bar being formed, None before the first tick."""
        return self._forming

    def add(self, time_ms: int, bid: float, ask: float) -> Bar | None:
        """Take one tick (UTC); return the bar it completed, if any."""
        if not 0 < bid < math.inf:
            self.skipped += 1
            return None
        forming = self._forming
        spread = self._spread_points(bid, ask)
        if forming is not None:
            if time_ms < forming.open_time_ms:
                self.skipped += 1
                return None
            if time_ms < self._valid_until_ms or self._open_of(time_ms) == forming.open_time_ms:
                self._forming = _extended(forming, high=bid, low=bid, close=bid, ticks=1, spread=spread)
                return None
        open_ms = self._open_of(time_ms)
        self._forming = Bar(open_ms, bid, bid, bid, bid, 1, spread)
        self._valid_until_ms = self._end_of(open_ms)
        return forming

    def add_block(self, times_ms: Ints, bids: Floats, asks: Floats) -> list[Bar]:
        """Take ticks (UTC); return the bars they completed, oldest first. Fast when times ascend."""
        import numpy as np  # here: the value types above are used without numpy

        if np.any(times_ms[1:] < times_ms[:-1]):
            return self._add_each(times_ms, bids, asks)
        usable = (bids > 0) & np.isfinite(bids)
        if self._forming is not None:
            usable &= times_ms >= self._forming.open_time_ms
        if not usable.all():
            self.skipped += int(len(usable) - np.count_nonzero(usable))
            times_ms, bids, asks = times_ms[usable], bids[usable], asks[usable]
        if not len(times_ms):
            return []
        opens = period_opens_utc_ms(self.timeframe, times_ms, rule=self._rule)
        first = np.flatnonzero(np.concatenate(([True], opens[1:] != opens[:-1])))
        spreads = _spreads_points(bids, asks, self._point)
        return self._take_parts(
            open_ms=opens[first].tolist(),
            opened=bids[first].tolist(),
            high=np.maximum.reduceat(bids, first).tolist(),
            low=np.minimum.reduceat(bids, first).tolist(),
            close=bids[np.append(first[1:], len(bids)) - 1].tolist(),
            ticks=np.diff(np.append(first, len(bids))).tolist(),
            spread=np.minimum.reduceat(spreads, first).tolist(),
        )

    def _add_each(self, times_ms: Ints, bids: Floats, asks: Floats) -> list[Bar]:
        ticks = zip(times_ms.tolist(), bids.tolist(), asks.tolist(), strict=True)
        return [bar for tick in ticks if (bar := self.add(*tick)) is not None]

    def _take_parts(
        self,
        *,
        open_ms: list[int],
        opened: list[float],
        high: list[float],
        low: list[float],
        close: list[float],
        ticks: list[int],
        spread: list[int],
    ) -> list[Bar]:
        done: list[Bar] = []
        parts = map(Bar, open_ms, opened, high, low, close, ticks, spread)
        for part in parts:
            forming = self._forming
            if forming is not None and part.open_time_ms == forming.open_time_ms:
                self._forming = _extended(
                    forming,
                    high=part.high,
                    low=part.low,
                    close=part.close,
                    ticks=part.tick_volume,
                    spread=part.spread_points,
                )
                continue
            if forming is not None:
                done.append(forming)
            self._forming = part
        if self._forming is not None:
            self._valid_until_ms = self._end_of(self._forming.open_time_ms)
        return done

    def _open_of(self, time_ms: int) -> int:
        return period_open_utc_ms(self.timeframe, time_ms, rule=self._rule)

    def _end_of(self, open_ms: int) -> int:
        """Return until when every tick surely belongs to the period opened at `open_ms`; a shortcut, not a rule."""
        offset_ms = self._rule.offset_ms(open_ms)
        end_ms = self.timeframe.next_open_ms(open_ms + offset_ms) - offset_ms
        return end_ms if self._rule.offset_ms(end_ms) == offset_ms else open_ms

    def _spread_points(self, bid: float, ask: float) -> int:
        spread = round((ask - bid) / self._point) if math.isfinite(ask) else 0
        return max(spread, 0)


def _spreads_points(bids: Floats, asks: Floats, point: float) -> Ints:
    import numpy as np

    spread = np.where(np.isfinite(asks), np.rint((asks - bids) / point), 0.0)
    return np.maximum(spread, 0.0).astype(np.int64)


def _extended(bar: Bar, *, high: float, low: float, close: float, ticks: int, spread: int) -> Bar:
    return Bar(
        bar.open_time_ms,
        bar.open,
        max(bar.high, high),
        min(bar.low, low),
        close,
        bar.tick_volume + ticks,
        min(bar.spread_points, spread),
        bar.real_volume,
    )
