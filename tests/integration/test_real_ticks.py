"""Real ticks at full speed through terminal, adapter, strategy and logger: none missing, none changed."""

from __future__ import annotations

import csv
import io
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from protocol.keys import KeyStore
from protocol.loop import Loop
from protocol.messages import GetTicks, Reply, TickBatch, Ticks
from protocol.requests import Requester
from protocol.subscriber import StreamSubscriber
from protocol.ticks import TICK_DTYPE, TickArray, ticks_array
from tests.integration.conftest import System
from tests.waiting import eventually

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

XAUUSD = "ticks/lean_oanda/xauusd/20140505_quote.zip"
EURUSD = "ticks/lean_fxcm/eurusd/20140505_quote.zip"
MAY_5_MS = int(datetime(2014, 5, 5, tzinfo=UTC).timestamp() * 1000)
FIVE_HOURS_MS = 5 * 3600 * 1000
DAY_MS = 24 * 3600 * 1000

CONFIG = """
[bus]
port = PORT

[terminal]
clock = "feed"

[paper]
server_time = "ny+7"
history_days = 0.0
hold = true

[paper.feed]
kind = "files"
speed = "max"
step_ms = 60000

[[paper.feed.files]]
symbol = "XAUUSD"
paths = ["DATA/{xauusd}"]
format = "lean"
zone = "UTC"

[[paper.feed.files]]
symbol = "EURUSD"
paths = ["DATA/{eurusd}"]
format = "lean"
zone = "UTC-05:00"

[adapter]
symbols = ["XAUUSD", "EURUSD"]
timeframes = ["S5", "M1"]
server_time = "ny+7"

[adapter.risk]
max_orders_per_minute = 600

[[strategy]]
name = "confluence"
class = "strategy.confluence:Confluence"
timeframe = "M1"
number = 1

[logger]
backfill_days = 2
"""


def file_ticks(path: Path, *, shift_ms: int) -> NDArray[np.float64]:
    """Return (n, 3): UTC time cut to milliseconds, bid, ask; read here anew, not with the reader under test."""
    with zipfile.ZipFile(path) as archive:
        text = archive.read(archive.namelist()[0]).decode("ascii")
    rows = [
        (int(float(ms)) + MAY_5_MS + shift_ms, float(bid), float(ask)) for ms, bid, ask in csv.reader(io.StringIO(text))
    ]
    return np.array(rows, dtype=np.float64)


class Listener:
    """Takes every tick of a system from the bus, with the recorder's key."""

    def __init__(self, system: System) -> None:
        loaded = system.loaded()
        bus, keys = loaded.settings.bus, _keys(loaded.home.keys)
        self.loop = Loop()
        self.batches: dict[str, list[TickBatch]] = {"XAUUSD": [], "EURUSD": []}
        me, server_key = keys.identity("recorder"), keys.server_key("adapter")
        self.queries = Requester(
            self.loop, self.loop.context, bus.queries, identity=me, server_key=server_key, name="adapter"
        )
        self.subscriber = StreamSubscriber(
            self.loop,
            self.loop.context,
            bus.streams,
            identity=me,
            server_key=server_key,
            adapter=loaded.settings.adapter.name,
            queries=self.queries,
            on_tick=lambda symbol, batch: self.batches[symbol].append(batch),
            heal_ticks=True,
        )
        self.subscriber.start()

    def count(self, symbol: str) -> int:
        """Return how many ticks of a symbol have come, the missed head included."""
        batches = self.batches[symbol]
        return batches[-1].first + len(batches[-1]) - 1 if batches else 0

    def ticks(self, symbol: str) -> NDArray[np.float64]:
        """Return (n, 3): time, bid, ask of every tick; the head before joining comes from the tick history."""
        batches = self.batches[symbol]
        head = self._head(symbol, batches[0].first - 1)
        array = np.concatenate([head, *(ticks_array(batch.records) for batch in batches)])
        return np.stack([array["time_msc"].astype(np.float64), array["bid"], array["ask"]], axis=1)

    def _head(self, symbol: str, count: int) -> TickArray:
        pages = [np.empty(0, TICK_DTYPE)]
        ask_from = (MAY_5_MS, 0)
        while sum(map(len, pages)) < count:
            page = self._page(symbol, *ask_from)
            pages.append(ticks_array(page.records))
            ask_from = (page.next_ms, page.next_skip)
        return np.concatenate(pages)[:count]

    def _page(self, symbol: str, from_ms: int, skip: int) -> Ticks:
        replies: list[Reply] = []
        self.queries.ask(
            lambda request_id: GetTicks(request_id, symbol, from_ms, MAY_5_MS + 2 * DAY_MS, skip),
            on_reply=replies.append,
            on_error=_raise,
            deadline_s=10,
        )
        turn_until(self.loop, lambda: bool(replies), timeout_s=11, what="a page of the tick history")
        page = replies[0]
        assert isinstance(page, Ticks)
        return page

    def close(self) -> None:
        """Leave."""
        self.subscriber.close()
        self.queries.close()
        self.loop.close()


def _keys(folder: Path) -> KeyStore:
    store = KeyStore(folder)
    store.ensure()
    return store


def _raise(error: Exception) -> None:
    raise error


def turn_until(loop: Loop, check: Callable[[], bool], *, timeout_s: float, what: str) -> None:
    """Turn `loop` until `check`."""

    def turned() -> bool:
        for _ in range(50):
            loop.turn(2)
        return check()

    eventually(turned, timeout_s=timeout_s, what=what)


def test_every_tick_of_the_files_arrives_and_the_store_holds_every_deal(
    market_data: Path, make_system: Callable[..., System]
) -> None:
    expected = {
        "XAUUSD": file_ticks(market_data / XAUUSD, shift_ms=0),
        "EURUSD": file_ticks(market_data / EURUSD, shift_ms=FIVE_HOURS_MS),
    }
    config = CONFIG.format(xauusd=XAUUSD, eurusd=EURUSD).replace("DATA", market_data.as_posix())
    system = make_system(config)
    system.loaded().home.create()
    listener = Listener(system)
    try:
        system.up()
        turn_until(
            listener.loop,
            lambda: all(listener.count(symbol) >= len(ticks) for symbol, ticks in expected.items()),
            timeout_s=240,
            what="every tick of both files",
        )
        for symbol, ticks in expected.items():
            np.testing.assert_array_equal(listener.ticks(symbol), ticks, err_msg=symbol)
        assert all(report.skipped == 0 for report in listener.subscriber.reports()), "a gap was not healed"
    finally:
        listener.close()
    _assert_store_equals_terminal(system)
    for symbol, ticks in expected.items():
        _assert_minutes_stored(system, symbol, ticks)
    assert all(stream["skipped"] == 0 for stream in system.status()["streams"]), "a gap was not healed"
    system.down()


def _assert_store_equals_terminal(system: System) -> None:
    with system.client() as bus:
        begin = datetime(2014, 5, 1, tzinfo=UTC)
        deals = [deal for deal in bus.deals(begin, datetime.now(UTC) + timedelta(days=1)) if deal.symbol]
    assert deals, "the strategy traded"
    wanted = {deal.ticket: (deal.symbol, deal.volume, deal.price, deal.profit, deal.time_ms) for deal in deals}

    def stored() -> dict[object, tuple[object, ...]]:
        rows = _store_rows(system, "SELECT ticket, symbol, volume, price, profit, time_ms FROM deals")
        return {row[0]: row[1:] for row in rows if row[0] in wanted}

    eventually(lambda: len(stored()) == len(wanted), timeout_s=30, what="every deal in the store")
    assert stored() == wanted


def _assert_minutes_stored(system: System, symbol: str, ticks: NDArray[np.float64]) -> None:
    """Compare the store's M1 bars with bars made here from the file; the last minute has no later tick to close it."""
    minutes, first = np.unique(ticks[:, 0] // 60_000, return_index=True)
    wanted = {}
    for minute, bids in zip(minutes[:-1], np.split(ticks[:, 1], first[1:])[:-1], strict=True):
        wanted[int(minute) * 60_000] = (bids[0], bids.max(), bids.min(), bids[-1], len(bids))

    def stored() -> dict[object, tuple[object, ...]]:
        columns = "open_time_ms, open, high, low, close, tick_volume"
        query = f"SELECT {columns} FROM bars WHERE timeframe = 'M1' AND symbol = ?"
        return {row[0]: row[1:] for row in _store_rows(system, query, symbol) if row[0] in wanted}

    eventually(lambda: len(stored()) == len(wanted), timeout_s=30, what=f"every minute of {symbol} in the store")
    assert stored() == wanted


def _store_rows(system: System, query: str, *values: str) -> list[tuple[object, ...]]:
    path = system.loaded().home.store / "store.sqlite3"
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as store:
        return store.execute(query, values).fetchall()
