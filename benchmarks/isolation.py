"""What one part of the system costs the others: ticks and orders while something beside them hangs, stalls or reads.

Every row's floor is the same figure with nothing beside: p99 of the age of a tick in the callback, and p99 of an order
from the call of a script to its outcome, both at the same time. Idle and disturbed are measured in turn, three rounds
of each, and the median round counts: two idle rounds differ by as much as some disturbances make.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from benchmarks import children
from benchmarks.callback import tick_ages_ms
from benchmarks.children import wait_until
from benchmarks.rows import Row
from mt5bus.config import Loaded, load, paper_folder
from mt5bus.connect import client_of
from paper_terminal.faults import clear_faults, set_fault
from protocol.client import BusClient
from protocol.errors import BusError
from protocol.keys import KeyStore
from protocol.sockets import Context, connect_subscriber

_TARGET = 1.2
_ROUNDS = 3
_LONGEST_TURN_MS = 50.0
_SLOW_READERS = 10
_SYMBOL, _VOLUME = "EURUSD", 0.01
_HISTORY_MS = 3_600_000
_THREAD_END_S = 60.0
_READY_S = 60.0


class _P99(NamedTuple):
    """Of the age of ticks and of the time of orders, milliseconds; NaN without any."""

    ticks_ms: float
    orders_ms: float


class _Case(NamedTuple):
    """Something at work beside ticks and orders."""

    what: str
    beside: Callable[[Loaded], AbstractContextManager[None]]
    orders: bool = True  # whether orders go on beside it


def rows(loaded: Loaded, *, seconds: float) -> list[Row]:
    """Return the rows; idle and each disturbance are measured for `seconds` a round on a running system."""
    made: list[Row] = []
    for case in _CASES:
        idle, beside = [], []
        for _ in range(_ROUNDS):
            idle.append(_measure(loaded, seconds))
            with case.beside(loaded):
                beside.append(_measure(loaded, seconds, orders=case.orders))
        ticks = [each.ticks_ms for each in idle], [each.ticks_ms for each in beside]
        made.append(_row(f"tick p99 beside {case.what}", *ticks))
        if case.orders:
            orders = [each.orders_ms for each in idle], [each.orders_ms for each in beside]
            made.append(_row(f"order p99 beside {case.what}", *orders))
        if case.beside is _backfill:
            made.append(_turn_row(loaded))
    return made


def _row(what: str, idle_ms: list[float], beside_ms: list[float]) -> Row:
    return Row(what, "ms", statistics.median(idle_ms), statistics.median(beside_ms), "idle", _TARGET)


def _turn_row(loaded: Loaded) -> Row:
    with client_of(loaded) as bus:
        adapter = next(node for node in bus.status()["nodes"] if node["name"] == "adapter")
    longest_ms = float(adapter["longest_turn_ms"])
    return Row(
        "longest turn of the adapter's loop, backfill included",
        "ms",
        _LONGEST_TURN_MS,
        longest_ms,
        "what one may take",
        1.0,
    )


def _measure(loaded: Loaded, seconds: float, *, orders: bool = True) -> _P99:
    times_ms: list[float] = []
    with _at_work(lambda bus: times_ms.append(_order_ms(bus)), loaded) if orders else _nothing(loaded):
        ages_ms = tick_ages_ms(loaded, seconds=seconds)
    return _P99(_p99(ages_ms), _p99(times_ms))


def _p99(values: list[float]) -> float:
    return float(np.percentile(values, 99)) if values else float("nan")


def _order_ms(bus: BusClient) -> float:
    begun = time.perf_counter()
    position = bus.buy(_SYMBOL, _VOLUME).position
    taken_ms = (time.perf_counter() - begun) * 1e3
    bus.close(position)
    return taken_ms


@contextmanager
def _at_work(work: Callable[[BusClient], object], loaded: Loaded) -> Iterator[None]:
    """Do `work` again and again in a thread with a client of its own; a refusal is tried again."""
    ending = threading.Event()

    def run() -> None:
        with client_of(loaded, timeout_s=_THREAD_END_S) as bus:
            while not ending.is_set():
                with suppress(BusError):
                    work(bus)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join(_THREAD_END_S)


@contextmanager
def _nothing(_loaded: Loaded) -> Iterator[None]:
    yield


@contextmanager
def _slow_orders(loaded: Loaded) -> Iterator[None]:
    """Let every `order_send` take a second."""
    set_fault(paper_folder(loaded), "slow", functions=("order_send",), ms=1000, count=None)
    try:
        with _at_work(_order_ms, loaded):
            yield
    finally:
        clear_faults(paper_folder(loaded))


@contextmanager
def _hung_link(loaded: Loaded) -> Iterator[None]:
    """Let the bulk link hang, the GIL held, until it is killed; and the next one again."""
    set_fault(paper_folder(loaded), "hang", functions=("order_calc_margin",), count=None)
    try:
        with _at_work(lambda bus: bus.margin(_SYMBOL, "buy", _VOLUME), loaded):
            yield
    finally:
        clear_faults(paper_folder(loaded))


@contextmanager
def _backfill(loaded: Loaded) -> Iterator[None]:
    """Read all ticks of all symbols, over and over, in a process of its own: not at the expense of what is measured."""
    reader = children.start(["-m", "benchmarks.isolation", loaded.home.path, loaded.file])
    try:
        assert reader.stdout
        if reader.stdout.readline() != "reading\n":
            raise RuntimeError("the history cannot be read")
        yield
    finally:
        children.end(reader)


def _read_history(bus: BusClient) -> None:
    now_ms = time.time_ns() // 1_000_000
    for quote in bus.prices():
        bus.tick_records(quote.symbol, now_ms - _HISTORY_MS, now_ms)


@contextmanager
def _stalled_logger(loaded: Loaded) -> Iterator[None]:
    """Freeze the ML logger; the supervisor takes it for hung after a while, and starts another."""
    with client_of(loaded) as bus:
        node = next(node for node in bus.status()["nodes"] if node["name"] == "ml_logger")
    process = psutil.Process(int(node["pid"]))
    process.suspend()
    try:
        yield
    finally:
        with suppress(psutil.NoSuchProcess):
            process.resume()
        _wait_until_running(loaded)


def _wait_until_running(loaded: Loaded) -> None:
    with client_of(loaded) as bus:
        for _ in wait_until(_READY_S, "system in order"):
            if bus.status()["state"] == "running":
                return


@contextmanager
def _slow_readers(loaded: Loaded) -> Iterator[None]:
    """Subscribe ten times to everything, and read nothing of it."""
    keys, context = KeyStore(loaded.home.keys), Context()
    with ExitStack() as sockets:
        sockets.callback(context.term)
        for _ in range(_SLOW_READERS):
            socket = connect_subscriber(
                context,
                loaded.settings.bus.streams,
                identity=keys.identity("client"),
                server_key=keys.server_key("adapter"),
            )
            sockets.callback(socket.close, 0)
            socket.subscribe(b"v1/")
        yield


def _read_for_ever(home: str, config: str) -> None:
    with client_of(load(Path(home), Path(config)), timeout_s=_THREAD_END_S) as bus:
        sys.stdout.write("reading\n")
        sys.stdout.flush()
        while True:
            _read_history(bus)


_CASES = (
    _Case("order_send that takes 1 s", _slow_orders, orders=False),
    _Case("a link that hangs", _hung_link),
    _Case("a backfill of every symbol", _backfill),
    _Case("a stalled logger", _stalled_logger),
    _Case("ten subscribers that read nothing", _slow_readers),
)


if __name__ == "__main__":
    _read_for_ever(*sys.argv[1:])
