"""A seeded synthetic market that looks like foreign exchange.

Prices are a pure function of (seed, symbol, absolute time): a terminal that is killed and started again finds
the market where it would have been, and history before the start is there without having been produced.

How. The market is cut into blocks of one hour UTC. The log price at an hour's boundary is a sum of noise over
octaves of one hour to a month, so any boundary is computed alone, and the price wanders around the
symbol's given price for ever. Inside an hour a bridge joins the two boundaries: a random walk with short trends
whose speed follows the hour of the day (sessions) and a slow noise (volatility comes in clusters). Ticks
arrive more often when the market moves more; the spread widens with it, and around the daily rollover.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paper_terminal.feeds.base import Clock, FeedError, deals_at_bid, tick_records
from paper_terminal.feeds.noise import UNIT_UNIFORM, hashed, noise_at
from paper_terminal.feeds.sessions import Sessions
from paper_terminal.records import RATE_DTYPE, TICK_DTYPE, Records

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HOUR_MS = 3_600_000
_MINUTES_AN_HOUR = 60

_OCTAVES_HOURS: Floats = np.exp2(np.arange(10, dtype=np.float64))
_OCTAVES_MINUTES = np.array([2.0, 8.0, 32.0, 128.0])
# Standard deviation of the log of volatility, over all its octaves together.
_VOLATILITY_SPREAD = 0.45
# The mean of the squared volatility is 1, so its own mean is a little less (that of a log-normal variable).
_MEAN_VOLATILITY = math.exp(-(_VOLATILITY_SPREAD**2) / 2.0)

_TREND_CHANCE = 0.55
_TREND_MEAN_S = 90.0
# How far a trend carries, in standard deviations of the random walk over the same stretch.
_TREND_STRENGTH = (1.5, 3.0)
# Trends move the price too: walk and trends are slowed, so that a minute's move fits the stated volatility.
_INNER_SCALE = 0.75

_ROLLOVER_MINUTE = 22 * 60
_ROLLOVER_HALF_WIDTH_MINUTES = 15
_ROLLOVER_WIDENING = 5.0

_CACHED_BLOCKS = 16


@dataclass(frozen=True, kw_only=True)
class SyntheticSymbol:
    """How one symbol of the synthetic market behaves."""

    name: str
    price: float
    """The price it wanders around."""
    digits: int
    """Decimals of its prices."""
    daily_volatility: float = 0.006
    """Standard deviation of a day's move, as a fraction of the price."""
    spread_points: int = 8
    """Usual spread, in points."""
    ticks_per_second: float = 2.0
    """Mean over the hours the market is open."""
    deals: bool = False
    """Every tick is a deal at the bid, as symbols charted by their last price need."""
    opened: Callable[[Ints], NDArray[np.bool_]] | None = None
    """Tells of each of some UTC seconds, ascending, whether the symbol trades; None: whenever the market is open."""

    def __post_init__(self) -> None:
        if not self.name:
            raise FeedError("a synthetic symbol needs a name")
        if not (math.isfinite(self.price) and self.price > 0):
            raise FeedError(f"{self.name}: price must be a positive number, got {self.price!r}")
        if not 0 <= self.digits <= 8:
            raise FeedError(f"{self.name}: digits must be 0 to 8, got {self.digits!r}")
        if not 0 < self.daily_volatility <= 0.2:
            raise FeedError(
                f"{self.name}: daily_volatility is a fraction above 0, at most 0.2; got {self.daily_volatility!r}"
            )
        if not 1 <= self.spread_points <= 100_000:
            raise FeedError(f"{self.name}: spread_points must be 1 to 100000, got {self.spread_points!r}")
        if not 0.001 <= self.ticks_per_second <= 1000:
            raise FeedError(f"{self.name}: ticks_per_second must be 0.001 to 1000, got {self.ticks_per_second!r}")


DEFAULT_SYMBOLS = (
    SyntheticSymbol(name="EURUSD", price=1.10, digits=5, daily_volatility=0.006, spread_points=8),
    SyntheticSymbol(name="GBPUSD", price=1.28, digits=5, daily_volatility=0.007, spread_points=11),
    SyntheticSymbol(name="USDJPY", price=150.0, digits=3, daily_volatility=0.007, spread_points=10),
    SyntheticSymbol(name="XAUUSD", price=2400.0, digits=2, daily_volatility=0.011, spread_points=18),
)


class SyntheticFeed:
    """A `Feed` whose ticks are computed, the same for the same seed at the same time."""

    def __init__(
        self,
        seed: int,
        symbols: Sequence[SyntheticSymbol] = DEFAULT_SYMBOLS,
        *,
        start_ms: int,
        weekends: bool = True,
        clock: Clock = "wall",
    ) -> None:
        """Prepare the market; nothing is computed yet.

        Args:
            seed: Chooses the market. Any integer.
            symbols: What is quoted.
            start_ms: `take` delivers from this moment on, UTC milliseconds. It does not change prices.
            weekends: Quote at weekends too. Otherwise closed from Friday to Sunday, 22:00 UTC both.
            clock: `wall`, or `feed` to run the market at any speed.

        Raises:
            FeedError: no symbols, a name twice, or a start before 1970.
        """
        if not symbols:
            raise FeedError("a synthetic market needs at least one symbol")
        if start_ms < 0:
            raise FeedError(f"start_ms must be UTC milliseconds since 1970, got {start_ms}")
        self._markets = {each.name: _Market(seed, each, weekends=weekends) for each in symbols}
        if len(self._markets) != len(symbols):
            raise FeedError("the synthetic market names a symbol twice")
        self._start_ms = start_ms
        self._clock: Clock = clock
        self._taken_ms = start_ms - 1

    @property
    def symbols(self) -> tuple[str, ...]:
        """Names of the symbols quoted."""
        return tuple(self._markets)

    @property
    def clock(self) -> Clock:
        """Which clock decides when a tick is due."""
        return self._clock

    @property
    def start_ms(self) -> int:
        """Moment from which `take` delivers, UTC milliseconds."""
        return self._start_ms

    def history(self, symbol: str, from_ms: int, to_ms: int) -> Records:
        """Return the ticks with from_ms <= time_msc <= to_ms, oldest first, also from before the start.

        Raises:
            KeyError: `symbol` is not quoted here.
        """
        return self._markets[symbol].between(from_ms, to_ms)

    def minute_bars(self, symbol: str, from_ms: int, to_ms: int) -> Records:
        """Return minute bars (times UTC) with from_ms <= open time < to_ms, without making their ticks.

        They go through the same prices at each full hour as the ticks do; inside the hour they are a market of
        their own, so a terminal uses them only for what is older than its ticks.

        Raises:
            KeyError: `symbol` is not quoted here.
        """
        return self._markets[symbol].minute_bars(from_ms, to_ms)

    def take(self, until_ms: int) -> list[tuple[str, Records]]:
        """Return every tick with time_msc <= until_ms that was not taken yet, per symbol."""
        if until_ms <= self._taken_ms:
            return []
        from_ms, self._taken_ms = self._taken_ms + 1, until_ms
        fresh = ((name, market.between(from_ms, until_ms)) for name, market in self._markets.items())
        return [(name, ticks) for name, ticks in fresh if len(ticks)]

    def next_time_ms(self) -> int:
        """Return the time of the earliest tick not taken yet. A synthetic market never ends."""
        return min(market.first_after(self._taken_ms) for market in self._markets.values())


@dataclass(frozen=True)
class _Block:
    """One hour of ticks. The times are kept apart: searching a field of packed records copies it each time."""

    times_ms: Ints
    ticks: Records


class _Market:
    """One symbol: blocks by index, the last few kept."""

    def __init__(self, seed: int, symbol: SyntheticSymbol, *, weekends: bool) -> None:
        digest = hashlib.sha256(f"{seed}/{symbol.name}".encode()).digest()
        self._key = int.from_bytes(digest[:8], "little")
        self._symbol = symbol
        self._sessions = Sessions(weekends=weekends)
        self._hourly_volatility = symbol.daily_volatility / math.sqrt(24.0)
        self._blocks: OrderedDict[int, _Block] = OrderedDict()

    def between(self, from_ms: int, to_ms: int) -> Records:
        from_ms = max(from_ms, 0)
        parts = []
        for index in range(from_ms // HOUR_MS, to_ms // HOUR_MS + 1):
            block = self._block(index)
            first = np.searchsorted(block.times_ms, from_ms, side="left")
            end = np.searchsorted(block.times_ms, to_ms, side="right")
            if end > first:
                parts.append(block.ticks[first:end])
        if not parts:
            return np.zeros(0, dtype=TICK_DTYPE)
        return np.concatenate(parts)

    def first_after(self, time_ms: int) -> int:
        index = time_ms // HOUR_MS
        while True:
            block = self._block(index)
            position = int(np.searchsorted(block.times_ms, time_ms, side="right"))
            if position < len(block.times_ms):
                return int(block.times_ms[position])
            index += 1

    def _block(self, index: int) -> _Block:
        block = self._blocks.get(index)
        if block is None:
            block = self._make_block(index)
            self._blocks[index] = block
            if len(self._blocks) > _CACHED_BLOCKS:
                self._blocks.popitem(last=False)
        else:
            self._blocks.move_to_end(index)
        return block

    def _make_block(self, index: int) -> _Block:
        activity = self._sessions.activity(index)
        if activity is None or not self._trading(index * 3600 + 60 * np.arange(_MINUTES_AN_HOUR)).any():
            return _Block(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=TICK_DTYPE))
        rng = np.random.Generator(np.random.PCG64([self._key, index]))
        minutes = np.arange(_MINUTES_AN_HOUR + 1, dtype=np.float64)
        volatility = self._volatility(index * _MINUTES_AN_HOUR + minutes)
        rate = activity * volatility / _MEAN_VOLATILITY * (self._symbol.ticks_per_second * 60.0)
        offset_minutes = _arrivals(rng, minutes, rate)
        variance_clock = _cumulative(activity * volatility**2 / _MINUTES_AN_HOUR)
        log_price = self._bridge(rng, index, np.interp(offset_minutes, minutes, variance_clock), variance_clock[-1])
        times_ms = index * HOUR_MS + np.minimum(offset_minutes * 60_000.0, HOUR_MS - 1).astype(np.int64)
        spread = self._spread_points(rng, index, offset_minutes, np.interp(offset_minutes, minutes, volatility))
        return self._quote(times_ms, np.exp(log_price) * self._symbol.price, spread)

    def _trading(self, times_s: Ints) -> NDArray[np.bool_]:
        """Tell of each UTC second, ascending, whether the symbol trades."""
        opened = self._symbol.opened
        return np.ones(len(times_s), dtype=bool) if opened is None or not len(times_s) else opened(times_s)

    def _volatility(self, minutes: Floats) -> Floats:
        weight = _VOLATILITY_SPREAD / math.sqrt(len(_OCTAVES_MINUTES))
        noise = noise_at(self._key ^ 0x5DEECE66D, minutes, _OCTAVES_MINUTES).sum(axis=1) * weight
        volatility: Floats = np.exp(noise - _VOLATILITY_SPREAD**2)
        return volatility

    def _boundary(self, index: int) -> float:
        """Return the log of the price at the start of hour `index`, relative to the symbol's price."""
        return float(self._boundaries(self._sessions.market_hours(np.array([index])))[0])

    def _boundaries(self, market_hours: Floats) -> Floats:
        # Octaves weighted by the root of their period add up to a random walk; its step over one hour has
        # four times the variance of the finest octave.
        octaves = noise_at(self._key, market_hours, _OCTAVES_HOURS) * np.sqrt(_OCTAVES_HOURS)
        logs: Floats = octaves.sum(axis=1) * self._hourly_volatility / 2.0
        return logs

    def minute_bars(self, from_ms: int, to_ms: int) -> Records:
        hours = np.arange(max(from_ms, 0) // HOUR_MS, -(-to_ms // HOUR_MS))
        hours = hours[self._sessions.opened(hours)]
        if not len(hours):
            return np.zeros(0, dtype=RATE_DTYPE)
        start = self._boundaries(self._sessions.market_hours(hours))
        end = self._boundaries(self._sessions.market_hours(hours + 1))
        minutes = (hours[:, None] * _MINUTES_AN_HOUR + np.arange(_MINUTES_AN_HOUR)).ravel()
        bars = self._bars_of(minutes, self._minute_path(minutes, start, end))
        bars = bars[(bars["time"] * 1000 >= from_ms) & (bars["time"] * 1000 < to_ms)]
        return bars[self._trading(bars["time"])]

    def _minute_path(self, minutes: Ints, start: Floats, end: Floats) -> Floats:
        """Return log prices, shape (hours, 61): a bridge over each hour in steps of a minute."""
        steps = self._drawn(minutes, 1).reshape(-1, _MINUTES_AN_HOUR) / math.sqrt(_MINUTES_AN_HOUR)
        walk = np.concatenate((np.zeros((len(steps), 1)), np.cumsum(steps, axis=1)), axis=1)
        passed = np.arange(_MINUTES_AN_HOUR + 1) / _MINUTES_AN_HOUR
        bridge = (walk - passed * walk[:, -1:]) * self._hourly_volatility
        path: Floats = bridge + start[:, None] + passed * (end - start)[:, None]
        return path

    def _bars_of(self, minutes: Ints, path: Floats) -> Records:
        symbol = self._symbol
        point = 10.0**-symbol.digits
        opened, closed = path[:, :-1].ravel(), path[:, 1:].ravel()
        wick = self._hourly_volatility / math.sqrt(_MINUTES_AN_HOUR) / 2.0
        high = np.maximum(opened, closed) + np.abs(self._drawn(minutes, 2)) * wick
        low = np.minimum(opened, closed) - np.abs(self._drawn(minutes, 3)) * wick
        bars = np.zeros(len(minutes), dtype=RATE_DTYPE)
        bars["time"] = minutes * 60
        for field, logs in (("open", opened), ("high", high), ("low", low), ("close", closed)):
            bids = np.exp(logs) * symbol.price - symbol.spread_points * point / 2.0
            bars[field] = np.maximum(np.round(np.rint(bids / point) * point, symbol.digits), point)
        bars["spread"] = symbol.spread_points
        activity = 1.0 + 0.5 * self._drawn(minutes, 4) / UNIT_UNIFORM
        bars["tick_volume"] = np.maximum(np.rint(symbol.ticks_per_second * 60.0 * activity), 1.0)
        if symbol.deals:
            bars["real_volume"] = bars["tick_volume"]
        return bars

    def _drawn(self, minutes: Ints, lane: int) -> Floats:
        salt = np.uint64((self._key + lane * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF)
        return hashed(minutes.astype(np.uint64) ^ salt)

    def _bridge(self, rng: np.random.Generator, index: int, clock: Floats, clock_end: float) -> Floats:
        """Return log prices at the moments `clock` (the variance passed since the hour began)."""
        steps = np.diff(clock, prepend=0.0, append=clock_end)
        walk = np.cumsum(rng.standard_normal(len(steps)) * np.sqrt(steps))
        at = np.append(clock, clock_end)
        walk += _trends(rng, at, clock_end)
        passed = at / clock_end
        start, end = self._boundary(index), self._boundary(index + 1)
        path = (walk - passed * walk[-1]) * (_INNER_SCALE * self._hourly_volatility) + start + passed * (end - start)
        inner: Floats = path[:-1]
        return inner

    def _spread_points(self, rng: np.random.Generator, index: int, offset_minutes: Floats, volatility: Floats) -> Ints:
        minute_of_day = index % 24 * _MINUTES_AN_HOUR + offset_minutes
        from_rollover = np.abs(minute_of_day - _ROLLOVER_MINUTE)
        widening = np.maximum(volatility, 1.0) ** 1.5
        widening += _ROLLOVER_WIDENING * np.maximum(0.0, 1.0 - from_rollover / _ROLLOVER_HALF_WIDTH_MINUTES)
        jitter = rng.integers(-1, 3, len(offset_minutes)) * np.maximum(self._symbol.spread_points // 8, 1)
        points = np.rint(self._symbol.spread_points * widening).astype(np.int64) + np.maximum(jitter, 0)
        bounded: Ints = np.maximum(points, 1)
        return bounded

    def _quote(self, times_ms: Ints, mid: Floats, spread: Ints) -> _Block:
        point = 10.0**-self._symbol.digits
        bid_points = np.maximum(np.rint(mid / point - spread / 2.0), 1.0).astype(np.int64)
        ask_points = bid_points + spread
        ask_points += _position_in_run(bid_points, ask_points) % 2
        fresh = np.ones(len(times_ms), dtype=bool)
        fresh[1:] = (np.diff(bid_points) != 0) | (np.diff(ask_points) != 0)
        fresh &= self._trading(times_ms // 1000)
        bid = np.round(bid_points[fresh] * point, self._symbol.digits)
        ask = np.round(ask_points[fresh] * point, self._symbol.digits)
        times = times_ms[fresh]
        ticks = tick_records(times, bid, ask)
        return _Block(times, deals_at_bid(ticks) if self._symbol.deals else ticks)


def _cumulative(rate_a_minute: Floats) -> Floats:
    """Integrate a rate given at whole minutes; the first value is 0."""
    return np.concatenate(([0.0], np.cumsum((rate_a_minute[1:] + rate_a_minute[:-1]) / 2.0)))


def _arrivals(rng: np.random.Generator, minutes: Floats, rate_a_minute: Floats) -> Floats:
    """Return arrival times in minutes, ascending, of a Poisson process with this rate."""
    expected = _cumulative(rate_a_minute)
    count = int(rng.poisson(expected[-1]))
    arrivals: Floats = np.interp(np.sort(rng.random(count)) * expected[-1], expected, minutes)
    return arrivals


def _trends(rng: np.random.Generator, clock: Floats, clock_end: float) -> Floats:
    """Return the drift at each moment of an hour cut into stretches, some of them trends up or down."""
    count = math.ceil(3600.0 / _TREND_MEAN_S)
    ends = np.sort(rng.random(count)) * clock_end
    knots = np.concatenate(([0.0], ends, [clock_end]))
    strength = rng.uniform(*_TREND_STRENGTH, count + 1) * rng.choice([-1.0, 1.0], count + 1)
    strength *= rng.random(count + 1) < _TREND_CHANCE
    drift: Floats = np.concatenate(([0.0], np.cumsum(strength * np.sqrt(np.diff(knots)))))
    return np.interp(clock, knots, drift)


def _position_in_run(bid: Ints, ask: Ints) -> Ints:
    """Return for each quote how many equal quotes stand directly before it."""
    position = np.arange(len(bid))
    if not len(bid):
        return position
    starts = np.ones(len(bid), dtype=bool)
    starts[1:] = (np.diff(bid) != 0) | (np.diff(ask) != 0)
    run_starts: Ints = np.maximum.accumulate(np.where(starts, position, 0))
    return position - run_starts
