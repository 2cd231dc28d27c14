"""The paper terminal: what its client module costs, beside raw ZeroMQ, a bare copy and bare tuples."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import children
from benchmarks.children import one_core_each
from benchmarks.rows import Row, in_turn
from benchmarks.wire import raw_round_trip_us
from paper_terminal import client as api
from paper_terminal.ledger_records import Deal
from paper_terminal.settings import AccountSettings
from paper_terminal.state import STATE_FILE, Change, SqliteStore

ROUNDS = 5
TICKS_PER_SECOND = 60.0
_DAY_S = 86_400
_DEALS = 100_000
_FIRST_DEAL_S = 1_700_000_000


def rows(*, quick: bool) -> list[Row]:
    """Return the rows of the paper terminal. `quick` does a tenth."""
    scale, rounds = (10, 1) if quick else (1, ROUNDS)
    with one_core_each(), _terminal(history_s=_history_s(1_000_000 // scale)):
        return [
            _look_row(5_000 // scale, rounds),
            _copy_row(1_000_000 // scale, rounds),
            _deals_row(_DEALS, rounds),
        ]


@contextmanager
def _terminal(*, history_s: float) -> Iterator[None]:
    """Run a terminal of our own, and stay attached to it."""
    with tempfile.TemporaryDirectory() as folder:
        _write_deals(Path(folder) / STATE_FILE)
        options = {
            "--path": folder,
            "--server-time": "utc",
            "--ticks-per-second": TICKS_PER_SECOND,
            "--history-days": history_s / _DAY_S,
        }
        words = [word for option in options.items() for word in option]
        log = Path(folder) / "terminal.log"
        with log.open("wb") as stream:
            process = children.start(["-m", "paper_terminal", *words], stderr=stream)
        try:
            assert process.stdout
            if not process.stdout.readline():  # it says when it is ready
                raise RuntimeError(f"the paper terminal does not start: {log.read_text('utf-8', 'replace')}")
            if not api.initialize(folder):
                raise RuntimeError(f"the paper terminal does not answer: {api.last_error()}")
            yield
        finally:
            api.shutdown()
            children.end(process)


def _look_row(count: int, rounds: int) -> Row:
    pair = in_turn(
        lambda: raw_round_trip_us(count),
        lambda: _median_us(count, lambda: api.symbol_info_tick("EURUSD")),
        rounds=rounds,
    )
    return Row("paper terminal: symbol_info_tick, p50", "us", *pair, "raw REQ-ROUTER, plain", 1.5)


def _copy_row(count: int, rounds: int) -> Row:
    look: Any = api.symbol_info_tick("EURUSD")
    first_s = look.time_msc // 1000 - round(_history_s(count))
    block: Any = api.copy_ticks_from("EURUSD", first_s, count, api.COPY_TICKS_ALL)  # now the market has made them
    if block is None or len(block) < count:
        raise RuntimeError(f"the paper terminal has too short a history: {api.last_error()}")
    last_s = int(block["time_msc"][-1]) // 1000

    def copied() -> None:
        if api.copy_ticks_range("EURUSD", first_s, last_s, api.COPY_TICKS_ALL) is None:
            raise RuntimeError(f"the paper terminal gives no ticks: {api.last_error()}")

    pair = in_turn(lambda: _median_us(3, block.copy) / 1e3, lambda: _median_us(3, copied) / 1e3, rounds=rounds)
    what = f"paper terminal: copy_ticks_range of {count / 1e6:g} M ticks"
    return Row(what, "ms", *pair, "numpy copy of as many", 2)


def _write_deals(path: Path) -> None:
    """Give the terminal's account the deals of a busy grid bot."""
    login = AccountSettings().login
    deals = [
        Deal(
            ticket=number,
            order=number,
            time=_FIRST_DEAL_S + number,
            time_msc=(_FIRST_DEAL_S + number) * 1000,
            type=number % 2,
            entry=number % 2,
            position_id=number // 2 + 1,
            volume=0.01,
            price=1.1,
            symbol="EURUSD",
            comment="grid",
        )
        for number in range(1, _DEALS + 1)
    ]
    store = SqliteStore(path)
    store.commit([Change("deals", login, each.ticket, each) for each in deals], {})
    store.close()


def _deals_row(count: int, rounds: int) -> Row:
    get: Any = api.history_deals_get
    deals = get(1, 2_000_000_000)
    if deals is None or len(deals) != count:
        raise RuntimeError(f"the paper terminal has not the deals it was given: {api.last_error()}")
    plain = [tuple(each) for each in deals]
    encoded = msgspec.msgpack.encode(plain)

    def decoded() -> list[tuple[Any, ...]]:
        return list(map(tuple, msgspec.msgpack.decode(encoded)))

    pair = in_turn(
        lambda: _median_us(1, decoded) / 1e3,
        lambda: _median_us(1, lambda: get(1, 2_000_000_000)) / 1e3,
        rounds=rounds,
    )
    what = f"paper terminal: history_deals_get of {count / 1e3:g} k deals"
    return Row(what, "ms", *pair, "decoding as many tuples from MessagePack")


def _history_s(ticks: int) -> float:
    """Return a time in which there surely were so many ticks: a quiet hour has less than half the mean."""
    return 3 * ticks / TICKS_PER_SECOND


def _median_us(count: int, work: Callable[[], object]) -> float:
    times = []
    for _ in range(count):
        begun = time.perf_counter_ns()
        work()
        times.append(time.perf_counter_ns() - begun)
    return statistics.median(times) / 1e3
