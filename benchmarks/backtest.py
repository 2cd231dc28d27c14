"""The paper terminal's broker in one process: a million ticks, beside NumPy and a bare loop over as many."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.rows import Row, in_turn
from paper_terminal.in_process import InProcess
from paper_terminal.ledger_records import TradeRequest
from paper_terminal.records import TICK_DTYPE, Records
from paper_terminal.settings import AccountSettings, Settings
from paper_terminal.specifications import DEFAULT_SPECIFICATIONS

ROUNDS: Final = 3
_MINUTE_MS: Final = 60_000
_START_MS: Final = 1_772_000_000_000
_FAST, _SLOW = 10, 20
_SETTINGS: Final = Settings(symbols=DEFAULT_SPECIFICATIONS[:1], accounts=(AccountSettings(balance=1e6),))


def rows(*, quick: bool) -> list[Row]:
    """Return the rows of the broker in one process. `quick` does a tenth."""
    count, rounds = (100_000, 1) if quick else (1_000_000, ROUNDS)
    ticks = random_ticks(count)
    return [_skip_row(ticks, rounds), _cross_row(ticks, rounds)]


def random_ticks(count: int) -> Records:
    """Return a random walk of EURUSD, a tick a second."""
    random = np.random.default_rng(1)
    ticks = np.zeros(count, dtype=TICK_DTYPE)
    ticks["bid"] = np.round(1.1 * np.exp(np.cumsum(random.normal(0, 1e-5, count))), 5)
    ticks["ask"] = ticks["bid"] + 0.0001
    ticks["time_msc"] = _START_MS + np.arange(count) * 1000
    ticks["time"] = ticks["time_msc"] // 1000
    return ticks


def _skip_row(ticks: Records, rounds: int) -> Row:
    replay = InProcess({"EURUSD": ticks}, _SETTINGS)

    def with_a_position() -> None:
        replay.at = 0
        replay.go_to(0)
        while replay.go_to(len(ticks)):
            pass

    replay.go_to(0)
    replay.send(TradeRequest(action=1, symbol="EURUSD", volume=0.1, type=0, sl=0.5, tp=2.0))
    bids = np.ascontiguousarray(ticks["bid"])
    passes = in_turn(
        lambda: _rate(len(ticks), lambda: bool(((bids <= 0.5) | (bids >= 2.0)).any())),
        lambda: _rate(len(ticks), with_a_position),
        rounds=rounds,
        higher_is_better=True,
    )
    what = "backtest: ticks a second past a position with stops"
    return Row(what, "/s", *passes, "one NumPy pass over the bids", higher_is_better=True)


def _cross_row(ticks: Records, rounds: int) -> Row:
    orders = 0

    def crossing() -> None:
        nonlocal orders
        orders = ema_cross(InProcess({"EURUSD": ticks}, _SETTINGS))

    prices = ticks["bid"].tolist()
    pair = in_turn(
        lambda: _rate(len(ticks), lambda: _bare_loop(prices)),
        lambda: _rate(len(ticks), crossing),
        rounds=rounds,
        higher_is_better=True,
    )
    what = f"backtest: EMA cross with orders, {len(ticks) / 1e6:g} M ticks"
    note = f"{orders} orders"
    return Row(what, "/s", *pair, "a bare Python loop over the bids", 0.33, higher_is_better=True, note=note)


def ema_cross(replay: InProcess) -> int:
    """Trade where two averages of the minutes' closes cross, at the first tick of the next minute; count the orders."""
    first = _first_of_minutes(replay.ticks.times_ms)
    closes = replay.ticks.bids[first - 1].tolist()
    fast = slow = closes[0]
    above: bool | None = None
    position = orders = 0
    for index, close in zip(first.tolist(), closes, strict=True):
        fast += (close - fast) * 2 / (_FAST + 1)
        slow += (close - slow) * 2 / (_SLOW + 1)
        before, above = above, fast > slow
        if before is None or before == above:
            continue
        while replay.at <= index:
            replay.go_to(index)
        side = 0 if above else 1
        if position:
            replay.send(TradeRequest(action=1, symbol="EURUSD", volume=0.1, type=side, position=position))
        position = replay.send(TradeRequest(action=1, symbol="EURUSD", volume=0.1, type=side)).order
        orders += 2
    while replay.go_to(len(replay.ticks)):
        pass
    return orders


def _first_of_minutes(times_ms: NDArray[np.int64]) -> NDArray[np.intp]:
    return np.flatnonzero(np.diff(times_ms // _MINUTE_MS)) + 1


def _bare_loop(prices: list[float]) -> float:
    fast = slow = prices[0]
    for price in prices:
        fast += (price - fast) * 0.18
        slow += (price - slow) * 0.095
    return fast - slow


def _rate(count: int, work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return count / (time.perf_counter() - begun)
