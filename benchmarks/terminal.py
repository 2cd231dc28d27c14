"""The paper terminal: what its client module costs, beside a bare socket and a bare copy."""

from __future__ import annotations

import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import children
from benchmarks.children import one_core_each
from benchmarks.rows import Row, in_turn
from paper_terminal import client as api

ROUNDS = 5
TICKS_PER_SECOND = 60.0
_DAY_S = 86_400
# As long as the frames of `symbol_info_tick` are.
_QUESTION = b"q" * 40
_ANSWER = b"a" * 90


def rows(*, quick: bool) -> list[Row]:
    """Return the rows of the paper terminal. `quick` does a tenth."""
    scale, rounds = (10, 1) if quick else (1, ROUNDS)
    with one_core_each(), _terminal(history_s=_history_s(1_000_000 // scale)):
        return [_look_row(5_000 // scale, rounds), _copy_row(1_000_000 // scale, rounds)]


@contextmanager
def _terminal(*, history_s: float) -> Iterator[None]:
    """Run a terminal of our own, and stay attached to it."""
    with tempfile.TemporaryDirectory() as folder:
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
        lambda: raw_loopback_us(count), lambda: _median_us(count, lambda: api.symbol_info_tick("EURUSD")), rounds=rounds
    )
    return Row("paper terminal: symbol_info_tick, p50", "us", *pair, "a TCP echo of as many bytes")


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
    return Row(what, "ms", *pair, "numpy copy of as many")


def _history_s(ticks: int) -> float:
    """Return a time in which there surely were so many ticks: a quiet hour has less than half the mean."""
    return 3 * ticks / TICKS_PER_SECOND


def raw_loopback_us(count: int) -> float:
    """Return the median microseconds of a round trip over bare TCP to another Python process."""
    process = children.start(["-m", "benchmarks.terminal"])
    try:
        assert process.stdout
        with socket.create_connection(("127.0.0.1", int(process.stdout.readline())), timeout=10) as peer:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def ask() -> None:
                peer.sendall(_QUESTION)
                peer.recv(4096)

            return _median_us(count, ask)
    finally:
        children.end(process)


def _median_us(count: int, work: Callable[[], object]) -> float:
    times = []
    for _ in range(count):
        begun = time.perf_counter_ns()
        work()
        times.append(time.perf_counter_ns() - begun)
    return statistics.median(times) / 1e3


def _echo() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        peer, _ = listener.accept()
        with peer:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while peer.recv(4096):
                peer.sendall(_ANSWER)


if __name__ == "__main__":
    _echo()
