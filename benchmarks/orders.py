"""A durable order, from the call of a script to its answer, beside a bare round trip.

What no bus can save is measured by itself and taken out: the terminal's own `order_send` (asked directly, from a client
of our own on the same terminal), and two commits to this disk (the intent before the order is sent, its outcome before
it is told), each as SQLite syncs it.
"""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
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
_RECORD = b"r" * 500
_ROUND_TRIPS = 5_000
_READY_S = 30.0


def row(loaded: Loaded, bus: BusClient, *, count: int) -> Row:
    """Return the row, from `count` orders on a running system."""
    _wait_until_taken(bus)
    floor_us = raw_round_trip_us(_ROUND_TRIPS)
    terminal_us = _terminal_us(paper_folder(loaded), count)
    disk_us = _commit_us(loaded.home.path, count)
    whole_us = _order_us(bus, count)
    return Row(
        "durable order, submit to outcome, p50",
        "us",
        floor_us,
        whole_us - terminal_us - _COMMITS * disk_us,
        "raw REQ-ROUTER, plain",
        _TARGET,
        note=f"{whole_us:.0f} us less order_send {terminal_us:.0f} us and the disk {_COMMITS} x {disk_us:.0f} us",
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


def _terminal_us(folder: Path, count: int) -> float:
    """Return the median microseconds of `order_send` for an opening order, each closed again."""
    if not api.initialize(str(folder)):
        raise RuntimeError(f"the paper terminal does not answer: {api.last_error()}")
    try:
        times = []
        for _ in range(count):
            begun = time.perf_counter_ns()
            opened = _deal(api.ORDER_TYPE_BUY)
            times.append(time.perf_counter_ns() - begun)
            _deal(api.ORDER_TYPE_SELL, position=opened.order)
        return statistics.median(times) / 1e3
    finally:
        api.shutdown()


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
