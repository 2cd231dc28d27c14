"""Ticks behind minute bars that were made without any: the same ones whenever they are asked for.

A minute has as many ticks as its bar says, at least four, spread over it with some jitter. The first one is at the
bar's open, the last at its close; in between the price goes to the low and then to the high in a rising bar, the other
way round in a falling one, and wanders on its way without leaving the bar. The spread is the bar's, now and then a
little more. So the bars made from these ticks are the bars they were made of.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from paper_terminal.feeds.base import tick_records
from paper_terminal.feeds.noise import UNIT_UNIFORM, hashed
from paper_terminal.records import Records

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEAST_TICKS: Final = 4
_MINUTE_MS: Final = 60_000
_WANDER: Final = 0.2
"""How far a price strays from its way, as a fraction of the bar's height."""


def ticks_behind(bars: Records, point: float) -> Records:
    """Return the ticks of minute bars, oldest first.

    Args:
        bars: Minute bars, ascending; `time` in UTC seconds.
        point: Smallest change of a price.
    """
    counts = np.maximum(bars["tick_volume"].astype(np.int64), LEAST_TICKS)
    minute = np.repeat(np.arange(len(bars)), counts)
    place = np.arange(len(minute)) - np.repeat(np.cumsum(counts) - counts, counts)
    count = counts[minute]
    times = bars["time"].astype(np.int64)[minute] * 1000 + _moments(bars, minute, place, count)
    bid = _path(bars, minute, place, counts, point)
    spread = bars["spread"].astype(np.int64)[minute]
    wider = (_drawn(bars, minute, place, 3) > 1.0) & (place > 0)
    digits = max(0, round(-np.log10(point)))
    ask = np.round(bid + (spread + wider * np.maximum(spread // 8, 1)) * point, digits)
    return tick_records(times, bid, ask)


def _moments(bars: Records, minute: Ints, place: Ints, count: Ints) -> Ints:
    """Return milliseconds within the minute, ascending: one tick in each of `count` equal parts of it."""
    within = (_drawn(bars, minute, place, 1) / UNIT_UNIFORM + 1.0) / 2.0
    moments: Ints = ((place + within) * _MINUTE_MS / count).astype(np.int64)
    return np.minimum(moments, _MINUTE_MS - 1)


def _path(bars: Records, minute: Ints, place: Ints, counts: Ints, point: float) -> Floats:
    first, second = counts // 3, np.maximum(counts * 2 // 3, counts // 3 + 1)
    rising = bars["close"] >= bars["open"]
    knots = np.stack(
        (
            bars["open"],
            np.where(rising, bars["low"], bars["high"]),
            np.where(rising, bars["high"], bars["low"]),
            bars["close"],
        ),
        axis=1,
    )
    at = np.stack((np.zeros_like(counts), first, second, counts - 1), axis=1)
    leg = (place >= first[minute]).astype(np.int64) + (place >= second[minute])
    start, end = at[minute, leg], at[minute, leg + 1]
    way = (place - start) / np.maximum(end - start, 1)
    price = knots[minute, leg] + (knots[minute, leg + 1] - knots[minute, leg]) * way
    low, high = bars["low"][minute], bars["high"][minute]
    strayed = price + _drawn(bars, minute, place, 2) / UNIT_UNIFORM * _WANDER * (high - low)
    price = np.where((place == start) | (place == end), price, np.clip(strayed, low, high))
    digits = max(0, round(-np.log10(point)))
    path: Floats = np.round(np.rint(price / point) * point, digits)
    return path


def _drawn(bars: Records, minute: Ints, place: Ints, lane: int) -> Floats:
    """Return noise of mean 0 and variance 1 that depends on the minute, its prices (so on the symbol) and the place."""
    key = bars["time"].astype(np.uint64) * np.uint64(0xD1B54A32D192ED03) ^ bars["open"].copy().view(np.uint64)
    return hashed(key[minute] + place.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(lane << 56))
