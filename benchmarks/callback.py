"""From the terminal to a subscriber's callback, through link, adapter and wire, beside the poll between them.

A tick of the synthetic market carries the millisecond at which it became visible in the terminal, on this machine's own
clock, so its age in the callback is that of the whole way. The floor is the poll interval: a tick waits half of it on
average before anybody can have looked.
"""

from __future__ import annotations

import statistics
import time

import numpy as np

from benchmarks.rows import Row
from mt5bus.config import Loaded
from protocol.keys import KeyStore
from protocol.loop import Loop
from protocol.messages import TickBatch
from protocol.requests import Requester
from protocol.subscriber import StreamSubscriber
from protocol.ticks import ticks_array

_TARGET = 1.0  # p50 within one poll interval
_SETTLING_S = 1.0


class _Ages:
    """How old ticks were in their callback, and how long ago they had been published."""

    def __init__(self) -> None:
        self.whole_ms: list[float] = []
        self.wire_ms: list[float] = []
        self._counted_from = time.monotonic() + _SETTLING_S

    def take(self, _symbol: str, batch: TickBatch) -> None:
        """Take note of a batch."""
        now_ms, now_ns = time.time_ns() / 1e6, time.monotonic_ns()
        if time.monotonic() < self._counted_from:
            return
        self.wire_ms.append((now_ns - batch.sent_ns) / 1e6)
        # A tick is visible from the end of its millisecond on at the latest: its middle is the fair guess.
        self.whole_ms.extend((now_ms - (ticks_array(batch.records)["time_msc"].astype(np.float64) + 0.5)).tolist())


def row(loaded: Loaded, *, seconds: float) -> Row:
    """Return the row, from `seconds` of ticks of a running system.

    Raises:
        RuntimeError: No tick came.
    """
    ages = _Ages()
    _subscribe(loaded, ages, _SETTLING_S + seconds)
    if not ages.whole_ms:
        raise RuntimeError("no tick came: the figure cannot be taken")
    adapter = loaded.settings.adapter
    p99 = float(np.percentile(ages.whole_ms, 99))
    return Row(
        f"terminal to callback, {len(adapter.symbols)} symbols, {len(ages.whole_ms) / seconds:.0f} ticks/s, p50",
        "ms",
        float(adapter.tick_poll_interval_ms),
        statistics.median(ages.whole_ms),
        "the poll interval",
        _TARGET,
        note=f"p99 {p99:.1f} ms; of it from the adapter on {statistics.median(ages.wire_ms):.2f} ms",
    )


def tick_ages_ms(loaded: Loaded, *, seconds: float) -> list[float]:
    """Return the age of every tick in the callback, over `seconds` of a running system."""
    ages = _Ages()
    _subscribe(loaded, ages, _SETTLING_S + seconds)
    return ages.whole_ms


def _subscribe(loaded: Loaded, ages: _Ages, seconds: float) -> None:
    loop, keys, bus = Loop(), KeyStore(loaded.home.keys), loaded.settings.bus
    me, server_key = keys.identity("client"), keys.server_key("adapter")
    queries = Requester(loop, loop.context, bus.queries, identity=me, server_key=server_key, name="the adapter")
    subscriber = StreamSubscriber(
        loop,
        loop.context,
        bus.streams,
        identity=me,
        server_key=server_key,
        adapter=loaded.settings.adapter.name,
        queries=queries,
        on_tick=ages.take,
    )
    try:
        subscriber.start()
        loop.after(seconds, loop.stop)
        loop.run()
    finally:
        subscriber.close()
        queries.close()
        loop.close()
