"""An adapter killed again and again: a reader that heals has every tick of the terminal, once and in order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mt5bus.settings import Bus
from protocol.keys import KeyStore
from protocol.loop import Loop
from protocol.messages import Beacon, GetTicks, TickBatch, Ticks
from protocol.requests import Requester
from protocol.subscriber import StreamSubscriber
from protocol.tick_healer import TickPlace
from protocol.ticks import TickArray, ticks_array
from tests.broker_adapter.paper import PaperSystem
from tests.waiting import eventually

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

SYMBOLS = ("EURUSD", "XAUUSD")
LATEST_MS = 2_145_000_000_000
ADAPTER = "[adapter]\nsymbols = ['EURUSD', 'XAUUSD']\n"
REAL_TICKS = """
hold = true
history_days = 0
[feed]
kind = "files"
speed = "max"
step_ms = 60000
[[feed.files]]
symbol = "XAUUSD"
paths = [{gold}]
format = "lean"
zone = "UTC"
[[feed.files]]
symbol = "EURUSD"
paths = [{euro}]
format = "lean"
zone = "UTC-05:00"
"""


class HealingReader:
    """Follows the ticks of every life of the adapter and asks for what is missing."""

    def __init__(self, system: PaperSystem, places: dict[str, TickPlace] | None = None) -> None:
        self.loop = Loop()
        self.batches: dict[str, list[TickBatch]] = {symbol: [] for symbol in SYMBOLS}
        self.beacon: Beacon | None = None
        keys, bus = KeyStore(system.home.keys), Bus(port=system.port)
        me, server_key = keys.identity("recorder"), keys.server_key("adapter")
        context = self.loop.context
        self.queries = Requester(
            self.loop, context, bus.queries, identity=me, server_key=server_key, name="the adapter"
        )
        self.subscriber = StreamSubscriber(
            self.loop,
            context,
            bus.streams,
            identity=me,
            server_key=server_key,
            adapter="main",
            queries=self.queries,
            on_tick=lambda symbol, batch: self.batches[symbol].append(batch),
            on_beacon=self._on_beacon,
            heal_ticks=True,
            tick_places=places,
        )
        self.subscriber.start()

    def _on_beacon(self, beacon: Beacon) -> None:
        self.beacon = beacon

    def until(self, check: Callable[[], object], *, what: str, timeout_s: float = 60) -> None:
        """Turn until `check`."""

        def turned() -> object:
            for _ in range(20):
                self.loop.turn(5)
            return check()

        eventually(turned, timeout_s=timeout_s, what=what)

    def until_a_new_life(self) -> None:
        """Turn until the adapter that was started last has measured the server's time and told of ticks of each."""
        before = self.beacon.epoch if self.beacon else 0

        def under_way() -> bool:
            beacon = self.beacon
            if beacon is None or beacon.epoch <= before or beacon.server_time_status != "measured":
                return False
            return all(beacon.ticks.get(symbol, 0) > 20 for symbol in SYMBOLS)

        self.until(under_way, what=f"an adapter after epoch {before}")

    def until_each_has(self, count: int) -> None:
        """Turn until so many ticks of each symbol were delivered."""
        self.until(lambda: all(self.count(symbol) >= count for symbol in SYMBOLS), what=f"{count} ticks of each")

    def count(self, symbol: str) -> int:
        """Return how many ticks were delivered."""
        return sum(map(len, self.batches[symbol]))

    def ticks(self, symbol: str) -> NDArray[np.float64]:
        """Return (n, 3): time, bid and ask of every tick delivered."""
        return columns(np.concatenate([ticks_array(batch.records) for batch in self.batches[symbol]]))

    def history(self, symbol: str, start_ms: float, end_ms: float) -> NDArray[np.float64]:
        """Return the same of the terminal's own history, both ends included."""
        pages = [self._page(symbol, int(start_ms), int(end_ms), 0)]
        while pages[-1].more:
            pages.append(self._page(symbol, pages[-1].next_ms, int(end_ms), pages[-1].next_skip))
        return columns(np.concatenate([ticks_array(page.records) for page in pages]))

    def _page(self, symbol: str, start_ms: int, end_ms: int, skip: int) -> Ticks:
        answers: list[object] = []
        self.queries.ask(
            lambda request_id: GetTicks(request_id, symbol, start_ms, end_ms, skip),
            on_reply=answers.append,
            on_error=answers.append,
            deadline_s=20,
        )
        self.until(lambda: answers, what="a page of history")
        (page,) = answers
        assert isinstance(page, Ticks), page
        return page

    def close(self) -> None:
        """Leave."""
        self.subscriber.close()
        self.queries.close()
        self.loop.close()


def columns(ticks: TickArray) -> NDArray[np.float64]:
    """Return time, bid and ask as columns."""
    return np.column_stack([ticks["time_msc"].astype(np.float64), ticks["bid"], ticks["ask"]])


def kill_adapter(system: PaperSystem) -> None:
    assert system.adapter is not None
    system.adapter.kill()
    system.adapter.wait(10)


@pytest.fixture
def readers() -> Iterator[list[HealingReader]]:
    made: list[HealingReader] = []
    yield made
    for reader in made:
        reader.close()


def test_ticks_between_the_lives_of_an_adapter_are_healed(tmp_path: Path, readers: list[HealingReader]) -> None:
    """On the wall clock an adapter begins at the newest tick: what came while none ran is in the terminal alone."""
    paper = "history_days = 0.01\n[feed]\nticks_per_second = 40.0\n"
    with PaperSystem(tmp_path, paper=paper, adapter=ADAPTER) as system:
        system.start_terminal()
        reader = HealingReader(system)
        readers.append(reader)
        for _ in range(4):
            system.start_adapter()
            reader.until_a_new_life()
            kill_adapter(system)
        system.start_adapter()
        reader.until_a_new_life()
        newest = {symbol: reader.count(symbol) for symbol in SYMBOLS}
        reader.until(lambda: all(reader.count(symbol) > newest[symbol] + 50 for symbol in SYMBOLS), what="live ticks")
        report = next(each for each in reader.subscriber.reports() if each.stream == "ticks")
        for symbol in SYMBOLS:
            got = reader.ticks(symbol)
            # From the second millisecond on, and to the last but one: those are whole on both sides.
            wanted = reader.history(symbol, got[0, 0] + 1, got[-1, 0] - 1)
            inside = got[(got[:, 0] > got[0, 0]) & (got[:, 0] < got[-1, 0])]
            np.testing.assert_array_equal(inside, wanted, err_msg=symbol)
        assert (report.unhealed, report.skipped) == (0, 0)
        assert report.healed > 100, "there were ticks between the lives"


def test_real_ticks_through_kills_arrive_all_and_once_also_by_a_reader_that_restarts(
    tmp_path: Path, market_data: Path, readers: list[HealingReader]
) -> None:
    """A feed with its own clock is taken up a little before where the last life stopped: what comes again is cut."""
    gold = market_data / "ticks" / "lean_oanda" / "xauusd" / "20140505_quote.zip"
    euro = market_data / "ticks" / "lean_fxcm" / "eurusd" / "20140505_quote.zip"
    paper = REAL_TICKS.format(gold=json.dumps(str(gold)), euro=json.dumps(str(euro)))
    adapter = "[terminal]\nclock = 'feed'\n" + ADAPTER
    with PaperSystem(tmp_path, paper=paper, adapter=adapter) as system:
        reader = HealingReader(system)
        readers.append(reader)
        system.start_adapter()
        reader.until(lambda: reader.beacon, what="a beacon")
        system.start_terminal()
        got: dict[str, list[NDArray[np.float64]]] = {symbol: [] for symbol in SYMBOLS}
        for _ in range(4):
            reader.until_each_has(1_000)
            kill_adapter(system)
            places = reader.subscriber.tick_places
            for symbol in SYMBOLS:
                got[symbol].append(reader.ticks(symbol))
            reader = HealingReader(system, places)
            readers.append(reader)
            system.start_adapter()

        def done() -> bool:
            beacon = reader.beacon
            if beacon is None or any(not reader.batches[symbol] for symbol in SYMBOLS):
                return False
            last = {symbol: reader.batches[symbol][-1] for symbol in SYMBOLS}
            return all(last[s].first + len(last[s]) - 1 == beacon.ticks[s] for s in SYMBOLS) and quiet(beacon)

        seen: list[dict[str, int]] = []

        def quiet(beacon: Beacon) -> bool:
            """Say whether several beacons in a row told of no new tick: the files are played."""
            seen.append(beacon.ticks)
            return len(seen) > 60 and all(ticks == seen[-1] for ticks in seen[-60:])

        reader.until(done, what="the end of the files", timeout_s=150)
        for symbol in SYMBOLS:
            whole = np.concatenate([*got[symbol], reader.ticks(symbol)])
            np.testing.assert_array_equal(whole, reader.history(symbol, 1000, LATEST_MS), err_msg=symbol)
        for each in readers:
            (report,) = (report for report in each.subscriber.reports() if report.stream == "ticks")
            assert (report.unhealed, report.skipped) == (0, 0)
