"""Ticks made of bars: what a feed of bars alone lets happen.

Each bar becomes four ticks: its open at the bar's first moment, its two extremes after one and two thirds of the
period, its close one millisecond before the next bar can begin. A rising bar (close at or above open) visits its low
first, a falling one its high. The ask stands above the bid by the bar's own spread where it has one, else by
none, or moves on its own where the file has bars of the ask as well.

Each of the four stands for a quarter of the bar's ticks and of its traded volume, what does not divide going to the
first ones. So prices, tick volume, real volume and spread of every period at or above the file's come back exactly.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from paper_terminal.feeds.contents import Bars, Floats, Hits, Ints, Stamps
from paper_terminal.records import (
    BAR_TICK_DTYPE,
    TICK_FLAG_ASK,
    TICK_FLAG_BID,
    TICK_FLAG_LAST,
    TICK_FLAG_VOLUME,
    Records,
)

_MINUTE_MS = 60_000
TICKS_A_BAR = 4
_FINEST_DIGITS = 8
_DEAL = TICK_FLAG_BID | TICK_FLAG_ASK | TICK_FLAG_LAST | TICK_FLAG_VOLUME


def period_ms(times_ms: Iterable[Ints]) -> int:
    """Return the bars' period: the smallest step between two of them in any file, a minute where there is none."""
    steps = [np.diff(np.unique(times)).min(initial=np.iinfo(np.int64).max) for times in times_ms]
    smallest = int(min(steps))
    return smallest if smallest < np.iinfo(np.int64).max else _MINUTE_MS


def stamps_of(bars: Bars, period: int) -> Stamps:
    """Return the times of the ticks that make up bars of `period` milliseconds, on the file's clock."""
    offsets = np.array([0, period // 3, period * 2 // 3, period - 1])
    written = (bars.stamps.written_ms[:, None] + offsets[None, :]).ravel()
    return Stamps(written, np.repeat(bars.stamps.naive, TICKS_A_BAR))


def ticks_of(bars: Bars, times_ms: Ints, *, digits: int | None, by_last: bool) -> Records:
    """Return the ticks of bars as records of `BAR_TICK_DTYPE`.

    Args:
        bars: The bars.
        times_ms: The ticks' times, UTC milliseconds, four a bar.
        digits: Decimals of the symbol's prices, whose last one is the point of the spreads; None: as the file's.
        by_last: The bars are of the last price: every tick is a deal, and the volume of the last one is the tick's.
    """
    rising = bars.prices[:, 3] >= bars.prices[:, 0]
    ticks = np.zeros(len(bars) * TICKS_A_BAR, dtype=BAR_TICK_DTYPE)
    ticks["time"], ticks["time_msc"] = times_ms // 1000, times_ms
    ticks["bid"] = _path(bars.prices, rising)
    ticks["ask"] = _path(_asks(bars, bars.decimals if digits is None else digits), rising)
    ticks["ticks"] = _shares(bars.tick_volumes, len(bars), otherwise=TICKS_A_BAR)
    ticks["traded"] = _shares(bars.real_volumes, len(bars), otherwise=0)
    if by_last:
        ticks["last"] = ticks["bid"]
        ticks["volume"] = ticks["volume_real"] = ticks["traded"]
        ticks["flags"] = _DEAL
    return ticks


def _asks(bars: Bars, digits: int) -> Floats:
    if bars.asks is not None:
        return bars.asks
    if bars.spreads is None:
        return bars.prices
    # Counted in whole points where the prices are: the quotient is then the very number a file would write.
    points = bars.prices * 10.0**digits
    whole = np.rint(points)
    exact = (whole + bars.spreads[:, None]) / 10.0**digits
    finer = np.round(bars.prices + bars.spreads[:, None] * 10.0**-digits, _FINEST_DIGITS)
    asks: Floats = np.where(np.abs(points - whole) < 1e-6, exact, finer)
    return asks


def _path(prices: Floats, rising: Hits) -> Floats:
    opened, high, low, closed = prices.T
    first, second = np.where(rising, low, high), np.where(rising, high, low)
    return np.stack((opened, first, second, closed), axis=1).ravel()


def _shares(volumes: Ints | None, count: int, *, otherwise: int) -> Ints:
    whole = np.full(count, otherwise, dtype=np.int64) if volumes is None else volumes
    each, rest = np.divmod(whole, TICKS_A_BAR)
    shares: Ints = (each[:, None] + (np.arange(TICKS_A_BAR)[None, :] < rest[:, None])).ravel()
    return shares
