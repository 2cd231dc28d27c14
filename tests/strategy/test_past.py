"""Reading the past: asked again until answered, each at its own pace, and void once something else is asked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from protocol.clock import ManualClock
from protocol.errors import EventsGone, NotReady
from protocol.loop import Loop
from protocol.messages import Event, Events, GetEvents, GetRates, GetSnapshot, Rates, Snapshot
from protocol.numbering import EventPosition
from strategy import past as module
from strategy.inputs import SymbolBars
from strategy.past import PastReader
from tests.strategy.samples import LOG_ID, bar, event, intent, rates, snapshot
from tests.strategy.test_outbox import Peer

SYMBOLS = ("EURUSD", "GBPUSD", "USDJPY", "XAUUSD")


class Reading:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.loop = Loop(clock=self.clock)
        self.peer = Peer()
        self.trouble: list[str] = []
        self.reader = PastReader(self.loop, self.peer, on_trouble=self.trouble.append)
        self.bars: list[tuple[SymbolBars, ...]] = []
        self.events: list[int] = []
        self.holes: list[tuple[int, int]] = []
        self.done = 0

    def read_bars(self) -> None:
        self.reader.bars(SYMBOLS, "S5", 3, self.bars.append)

    def read_events(self, after: int, upto: int) -> None:
        def finished() -> None:
            self.done += 1

        self.reader.events(
            EventPosition(LOG_ID, after),
            upto,
            on_event=lambda each: self.events.append(each.offset),
            on_hole=lambda first, last: self.holes.append((first, last)),
            done=finished,
        )

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.loop.turn(0)


@pytest.fixture
def reading() -> Iterator[Reading]:
    made = Reading()
    yield made
    made.loop.close()


def page(symbol: str) -> Rates:
    return Rates(1, symbol, "S5", rates([bar(0)]))


def log(*offsets: int, first: int = 1) -> Events:
    found: tuple[Event, ...] = tuple(event(offset, intent("x", "done")) for offset in offsets)
    return Events(1, LOG_ID, first, 99, found)


def test_bars_come_together_in_the_symbols_order(reading: Reading) -> None:
    reading.read_bars()
    for symbol in reversed(SYMBOLS):
        assert reading.bars == []
        reading.peer.answer(page(symbol))
    assert [each.symbol for each in reading.bars[0]] == list(SYMBOLS)


def test_symbols_that_fail_together_are_asked_again_soon(reading: Reading) -> None:
    reading.read_bars()
    for _ in SYMBOLS:
        reading.peer.answer(NotReady("server time is not known yet"))
    assert reading.trouble == ["server time is not known yet"] * 4
    reading.advance(module.BACKOFF_FIRST_S)
    asked = [each.symbol for each in reading.peer.asked if isinstance(each, GetRates)]
    assert asked == [*SYMBOLS, *SYMBOLS]


def test_answer_to_an_older_request_is_void(reading: Reading) -> None:
    reading.read_bars()
    reading.reader.cancel()
    for symbol in SYMBOLS:
        reading.peer.answer(page(symbol))
    assert reading.bars == []


def test_events_are_read_page_by_page_up_to_the_one_named(reading: Reading) -> None:
    reading.read_events(2, 6)
    reading.peer.answer(log(3, 4))
    reading.peer.answer(log(5, 6, 7))
    assert reading.events == [3, 4, 5, 6]
    assert reading.done == 1
    assert [each.after for each in reading.peer.asked if isinstance(each, GetEvents)] == [2, 4]


def test_nothing_missed_asks_nothing(reading: Reading) -> None:
    reading.read_events(6, 6)
    assert reading.done == 1
    assert reading.peer.asked == []


def test_events_that_the_log_no_longer_has_are_told_as_a_hole(reading: Reading) -> None:
    reading.read_events(2, 9)
    reading.peer.answer(log(8, 9, first=8))
    assert reading.holes == [(3, 7)]
    assert reading.events == [8, 9]
    assert reading.done == 1


def test_events_that_left_the_log_are_told_as_a_hole_and_the_rest_is_read(reading: Reading) -> None:
    reading.read_events(2, 9)
    reading.peer.answer(EventsGone("no longer kept", {"first_offset": "8"}))
    reading.peer.answer(log(8, 9, first=8))
    assert reading.holes == [(3, 7)]
    assert reading.events == [8, 9]
    assert [each.after for each in reading.peer.asked if isinstance(each, GetEvents)] == [2, 7]
    assert reading.done == 1


def test_events_all_of_which_left_the_log_are_one_hole(reading: Reading) -> None:
    reading.read_events(2, 9)
    reading.peer.answer(EventsGone("no longer kept", {"first_offset": "30"}))
    assert (reading.holes, reading.events, reading.done) == ([(3, 9)], [], 1)


def test_log_with_nothing_to_tell_ends_the_reading(reading: Reading) -> None:
    reading.read_events(2, 9)
    reading.peer.answer(log())
    assert reading.done == 1


def test_snapshot_is_asked_for_after_a_pause_that_grows(reading: Reading) -> None:
    found: list[Snapshot] = []
    for waits_s in (0.5, 1.0, 2.0, 2.0):
        reading.reader.snapshot(found.append)
        reading.advance(waits_s - 0.01)
        assert not reading.peer.waits
        reading.advance(0.01)
        reading.peer.answer(snapshot())
    assert len(found) == 4
    assert all(isinstance(each, GetSnapshot) for each in reading.peer.asked)
