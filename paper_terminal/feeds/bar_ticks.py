"""Ticks made of bars: what a feed of bars alone lets happen.

Each bar becomes four ticks: its open at the bar's first moment, its two extremes after one and two thirds of the
period, its close one millisecond before the next bar can begin. A rising bar (close at or above open) visits its low
first, a falling one its high. So open, high, low, close and the bar's times come back exactly; the tick
volume does not, it is 4. The ask stands above the bid by the bar's own spread where it has one, else by none, or
moves on its own where the file has bars of the ask as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MINUTE_MS = 60_000
TICKS_A_BAR = 4


@dataclass(frozen=True)
class Bars:
    """Bars in file order; times UTC, prices as columns open, high, low, close."""

    times_ms: Ints
    bids: Floats
    """Shape (n, 4)."""
    asks: Floats
    """Shape (n, 4)."""


def ticks_of(bars: Bars) -> tuple[Ints, Floats, Floats]:
    """Return times, bids and asks of the ticks that make up bars."""
    period_ms = _period_ms(bars.times_ms)
    offsets = np.array([0, period_ms // 3, period_ms * 2 // 3, period_ms - 1])
    times = (bars.times_ms[:, None] + offsets[None, :]).ravel()
    rising = bars.bids[:, 3] >= bars.bids[:, 0]
    return times, _path(bars.bids, rising), _path(bars.asks, rising)


def _period_ms(times_ms: Ints) -> int:
    """Return the bars' period: the smallest step between two of them, a minute where there is only one."""
    steps = np.diff(np.unique(times_ms))
    return int(steps.min()) if len(steps) else _MINUTE_MS


def _path(prices: Floats, rising: NDArray[np.bool_]) -> Floats:
    opened, high, low, closed = prices.T
    first, second = np.where(rising, low, high), np.where(rising, high, low)
    return np.stack((opened, first, second, closed), axis=1).ravel()
