"""Acknowledging: at once, then now and then; what is refused is not repeated, what is not answered is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from protocol.acknowledger import INTERVAL_S, Acknowledger
from protocol.clock import ManualClock
from protocol.errors import BusError, NoAnswer, NotFound, StateConflict
from protocol.loop import Loop
from protocol.messages import AcknowledgeEvents, EventsAcknowledged
from protocol.numbering import EventPosition
from tests.protocol.test_numbering import ScriptedAsks


class Telling:
    """An acknowledger whose peer is the test."""

    def __init__(self) -> None:
        self.clock = ManualClock(monotonic_ns=1)
        self.loop = Loop(self.clock)
        self.asks = ScriptedAsks()
        self.it = Acknowledger(self.loop, self.asks, consumer="c")

    def stored(self, offset: int) -> None:
        self.it.stored(EventPosition("log", offset))

    def turn(self) -> None:
        self.clock.advance(INTERVAL_S)
        self.loop.turn(0)

    def answer(self, error: BusError | None = None) -> int:
        """Answer the one request that waits; return its offset."""
        (asked,) = self.asks.waiting
        self.asks.waiting.clear()
        request = asked.request
        assert isinstance(request, AcknowledgeEvents)
        assert (request.consumer, request.log_id) == ("c", "log")
        if error is None:
            asked.on_reply(EventsAcknowledged(request.id, "key:c", request.offset, 1))
        else:
            asked.on_error(error)
        return request.offset


@pytest.fixture
def telling() -> Iterator[Telling]:
    made = Telling()
    yield made
    made.loop.close()


def test_the_first_goes_at_once_and_then_only_the_newest_of_an_interval(telling: Telling) -> None:
    telling.turn()
    assert not telling.asks.waiting, "nothing is stored yet"
    telling.stored(0)
    assert telling.answer() == 0
    for offset in range(1, 100):
        telling.stored(offset)
    assert not telling.asks.waiting
    telling.turn()
    assert telling.answer() == 99
    assert telling.it.acknowledged == EventPosition("log", 99)
    telling.turn()
    assert not telling.asks.waiting, "nothing is new"


def test_one_request_at_a_time_and_what_is_not_answered_is_repeated(telling: Telling) -> None:
    telling.stored(1)
    telling.stored(2)
    telling.turn()
    assert telling.answer(NoAnswer("late")) == 1
    telling.turn()
    assert telling.answer() == 2


@pytest.mark.parametrize("error", [NotFound("another log"), StateConflict("ahead")])
def test_what_is_refused_is_not_repeated(telling: Telling, error: BusError) -> None:
    telling.stored(5)
    telling.answer(error)
    telling.turn()
    assert not telling.asks.waiting
    telling.stored(6)
    telling.turn()
    assert telling.answer() == 6


def test_nothing_is_told_after_closing(telling: Telling) -> None:
    telling.stored(1)
    telling.answer()
    telling.stored(2)
    telling.it.close()
    telling.turn()
    assert not telling.asks.waiting
