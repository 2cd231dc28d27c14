"""A durable order, from the call of a script to its answer, beside a bare round trip.

What no bus can save is measured by itself and taken out: the terminal's own `order_send` (asked directly, from a client
of our own on the same terminal), and two commits to this disk (the intent before the order is sent, its outcome before
it is told), each as SQLite syncs it. An outcome is told only once a complete read of the account shows it: what the
terminal takes for that read is shown too, but it is a choice of ours and stays in the figure.
"""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.children import wait_until
from benchmarks.rows import Row
from benchmarks.wire import raw_round_trip_us
from mt5bus.config import Loaded, paper_folder
from paper_terminal import client as api
from protocol.client import BusClient
from protocol.errors import NotReady

_TARGET = 4.0
_SYMBOL, _VOLUME = "EURUSD", 0.01
_COMMITS = 2
_HISTORY_S = 24 * 3600
_CLOCKS_APART_S = 2 * 3600  # the server's clock is two or three hours ahead of UTC
_RECORD = b"r" * 500
_READY_S = 30.0


def row(loaded: Loaded, bus: BusClient, *, count: int) -> Row:
    """Return the row, from `count` orders on a running system."""
    _wait_until_taken(bus)
    floor_us = raw_round_trip_us()
    with _attached(paper_folder(loaded)):
        terminal_us = _send_us(count)
        whole_us = _order_us(bus, count)
        read_us = _median_us(count, _read)
    disk_us = _commit_us(loaded.home.path, count)
    return Row(
        "durable order, submit to outcome, p50",
        "us",
        floor_us,
        whole_us - terminal_us - _COMMITS * disk_us,
        "raw REQ-ROUTER, plain",
        _TARGET,
        note=f"{whole_us:.0f} us less order_send {terminal_us:.0f} us and the disk {_COMMITS} x {disk_us:.0f} us; "
        f"of it the read that confirms it {read_us:.0f} us",
    )


def _wait_until_taken(bus: BusClient) -> None:
    for _ in wait_until(_READY_S, "adapter that takes orders"):
        try:
            bus.close(bus.buy(_SYMBOL, _VOLUME).position)
        except NotReady:
            continue
        return


def _order_us(bus: BusClient, count: int) -> float:
    times = []
    for _ in range(count):
        begun = time.perf_counter_ns()
        order = bus.submit(_SYMBOL, "buy", _VOLUME)
        times.append(time.perf_counter_ns() - begun)
        bus.close(order.position)
    return statistics.median(times) / 1e3


@contextmanager
def _attached(folder: Path) -> Iterator[None]:
    if not api.initialize(str(folder)):
        raise RuntimeError(f"the paper terminal does not answer: {api.last_error()}")
    try:
        yield
    finally:
        api.shutdown()


def _send_us(count: int) -> float:
    """Return the median microseconds of `order_send` for an opening order, each closed again."""
    times = []
    for _ in range(count):
        begun = time.perf_counter_ns()
        opened = _deal(api.ORDER_TYPE_BUY)
        times.append(time.perf_counter_ns() - begun)
        _deal(api.ORDER_TYPE_SELL, position=opened.order)
    return statistics.median(times) / 1e3


def _read() -> None:
    """Read the account as the adapter does before it tells an outcome: everything, with a day of history."""
    now_s = int(time.time()) + _CLOCKS_APART_S
    history = (now_s - _HISTORY_S, now_s + _HISTORY_S)
    for found in (
        api.terminal_info(),
        api.account_info(),
        api.positions_get(),
        api.orders_get(),
        api.history_orders_get(*history),
        api.history_deals_get(*history),
        api.terminal_info(),
    ):
        if found is None:
            raise RuntimeError(f"the paper terminal does not answer: {api.last_error()}")


def _deal(order_type: int, **fields: int) -> Any:
    request = {
        "action": api.TRADE_ACTION_DEAL,
        "symbol": _SYMBOL,
        "volume": _VOLUME,
        "type": order_type,
        "deviation": 20,
        "type_filling": api.ORDER_FILLING_IOC,
        **fields,
    }
    result: Any = api.order_send(request)
    if result is None or result.retcode != api.TRADE_RETCODE_DONE:
        raise RuntimeError(f"the paper terminal refuses an order: {result or api.last_error()}")
    return result


def _commit_us(folder: Path, count: int) -> float:
    """Return the median microseconds of one commit on the disk of `folder`, synced as the journal's are."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        connection = sqlite3.connect(Path(place) / "sync.sqlite", isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA fullfsync = ON")
            connection.execute("CREATE TABLE record (body BLOB)")
            return _median_us(count, lambda: connection.execute("INSERT INTO record VALUES (?)", (_RECORD,)))
        finally:
            connection.close()


def _median_us(count: int, work: Callable[[], object]) -> float:
    times = []
    for _ in range(count):
        begun = time.perf_counter_ns()
        work()
        times.append(time.perf_counter_ns() - begun)
    return statistics.median(times) / 1e3
