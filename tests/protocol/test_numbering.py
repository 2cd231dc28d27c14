"""Numbers in order, whatever is lost, repeated or reordered; healing and following on top of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from protocol import event_follower, tick_healer
from protocol import messages as m
from protocol.clock import ManualClock
from protocol.errors import BusError, EventsGone, NoAnswer, NoConnection, NotFound
from protocol.event_follower import EventFollower
from protocol.loop import Loop
from protocol.numbering import EventPosition, Gap, Sequence, Verdict
from protocol.tick_healer import TickPlace, TickStream
from protocol.ticks import TICK_DTYPE
from tests.held import held
from tests.protocol.fake_adapter import bids, snapshot, tick_records

MS = 1_700_000_000_000


def test_sequence_of_one_epoch() -> None:
    sequence = Sequence()
    assert sequence.arrive(1, 5, 2) == Verdict(0, None)  # joined in the middle
    assert sequence.arrive(1, 7, 1) == Verdict(0, None)
    assert sequence.arrive(1, 10, 2) == Verdict(0, Gap(1, 8, 9))
    assert sequence.arrive(1, 10, 2) == Verdict(2, None)
    assert sequence.arrive(1, 11, 3) == Verdict(1, None)
    assert sequence.beacon(1, 13) is None
    assert sequence.beacon(1, 15) == Gap(1, 14, 15)
    assert (sequence.received, sequence.missed) == (7, 4)


def test_sequence_over_epochs() -> None:
    sequence = Sequence()
    assert sequence.beacon(1, 5) is None
    assert sequence.arrive(1, 6, 1) == Verdict(0, None)
    assert sequence.arrive(2, 3, 1) == Verdict(0, Gap(2, 1, 2))
    assert sequence.arrive(1, 7, 1) == Verdict(1, None)  # of the life before
    assert sequence.beacon(1, 9) is None
    assert sequence.beacon(3, 0) is None
    assert sequence.beacon(3, 1) == Gap(3, 1, 1)


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 30), st.integers(1, 5), st.booleans()), max_size=60))
def test_every_number_is_counted_once(arrivals: list[tuple[int, int, int, bool]]) -> None:
    """Received and missed together are the numbers from the join on, none of them twice."""
    sequence = Sequence()
    received: set[tuple[int, int]] = set()
    missed: set[tuple[int, int]] = set()
    for epoch, first, count, is_beacon in arrivals:
        if is_beacon:
            gap = sequence.beacon(epoch, first)
        else:
            repeated, gap = sequence.arrive(epoch, first, count)
            new = {(epoch, number) for number in range(first + repeated, first + count)}
            assert not new & (received | missed)
            received |= new
        if gap is not None:
            new = {(gap.epoch, number) for number in range(gap.first, gap.last + 1)}
            assert not new & (received | missed)
            missed |= new
    assert (sequence.received, sequence.missed) == (len(received), len(missed))


class Asked(NamedTuple):
    """A request that waits for the test to answer it."""

    request: m.Request
    on_reply: Callable[[m.Reply], None]
    on_error: Callable[[BusError], None]


class ScriptedAsks:
    """Keeps requests until the test answers."""

    def __init__(self) -> None:
        self.waiting: list[Asked] = []
        self._serial = 0

    def ask(
        self,
        make: Callable[[int], m.Request],
        *,
        on_reply: Callable[[m.Reply], None],
        on_error: Callable[[BusError], None],
        deadline_s: float,
    ) -> int:
        """Keep the request."""
        self._serial += 1
        self.waiting.append(Asked(make(self._serial), on_reply, on_error))
        return self._serial


class Ticks:
    """A tick stream over a publisher whose frames may be lost."""

    def __init__(self) -> None:
        self.clock = ManualClock(monotonic_ns=1)
        self.loop = Loop(self.clock)
        self.asks = ScriptedAsks()
        self.delivered: list[tuple[int, int]] = []
        self.stream = TickStream(self.loop, self.asks, "EURUSD", self._deliver, heal=True)

    def _deliver(self, symbol: str, batch: m.TickBatch) -> None:
        self.delivered += [(batch.epoch, bid) for bid in bids(batch)]

    def answer(self, *, most: int = 1000) -> None:
        """Answer what waits, at most `most` ticks each."""
        asked = self.asks.waiting.pop(0)
        request = asked.request
        assert isinstance(request, m.GetTickRange)
        records = tick_records(request.first, min(request.count, most))
        asked.on_reply(m.Ticks(request.id, "EURUSD", records, first=request.first))

    def turn(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)
        self.loop.turn(0)


@pytest.fixture
def ticks() -> Iterator[Ticks]:
    made = Ticks()
    yield made
    made.loop.close()


def batch(first: int, count: int = 1, epoch: int = 1) -> m.TickBatch:
    """Return ticks `first` to ``first + count - 1``."""
    return m.TickBatch(epoch, first, 1, tick_records(first, count))


def test_a_gap_is_healed_before_later_ticks(ticks: Ticks) -> None:
    ticks.stream.arrive(batch(1))
    ticks.stream.arrive(batch(6))
    ticks.stream.arrive(batch(9))
    assert ticks.delivered == [(1, 1)]
    ticks.answer(most=3)
    ticks.answer()
    ticks.answer()
    assert ticks.delivered == [(1, n) for n in range(1, 10)]
    assert (ticks.stream.gaps, ticks.stream.healed, ticks.stream.lost) == (2, 6, 0)
    assert not ticks.stream.healing


def test_more_ticks_than_asked_are_cut(ticks: Ticks) -> None:
    ticks.stream.arrive(batch(1))
    ticks.stream.arrive(batch(3))
    asked = ticks.asks.waiting.pop()
    asked.on_reply(m.Ticks(1, "EURUSD", tick_records(2, 5), first=2))
    assert ticks.delivered == [(1, 1), (1, 2), (1, 3)]


@pytest.mark.parametrize(
    "reply", [m.Done(1), m.Ticks(1, "EURUSD", b"", first=2), m.Ticks(1, "EURUSD", tick_records(7, 1), first=7)]
)
def test_a_wrong_answer_gives_the_gap_up(ticks: Ticks, reply: m.Reply) -> None:
    ticks.stream.arrive(batch(1))
    ticks.stream.arrive(batch(3))
    ticks.asks.waiting.pop().on_reply(reply)
    assert ticks.delivered == [(1, 1), (1, 3)]
    assert ticks.stream.lost == 1


def test_failures_are_tried_again_then_given_up(ticks: Ticks) -> None:
    ticks.stream.arrive(batch(1))
    ticks.stream.arrive(batch(3))
    tries = 0
    while ticks.asks.waiting:
        assert ticks.delivered == [(1, 1)]
        ticks.asks.waiting.pop().on_error(NoAnswer("late"))
        ticks.turn(tick_healer.RETRY_S)
        tries += 1
    assert ticks.delivered == [(1, 1), (1, 3)]
    assert tries * tick_healer.RETRY_S >= tick_healer.GIVE_UP_S


def test_a_gap_given_up_while_asked_for_does_not_block_the_next(ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tick_healer, "MAX_WAITING", 3)
    ticks.stream.arrive(batch(1))
    ticks.stream.arrive(batch(3))
    ticks.stream.arrive(batch(5))  # waiting: gap 2, tick 3, gap 4, tick 5: one too many
    ticks.stream.arrive(batch(6))
    assert ticks.delivered == [(1, 1), (1, 3)]
    ticks.answer()  # of gap 2, too late
    ticks.answer()  # of gap 4
    assert ticks.delivered == [(1, n) for n in (1, 3, 4, 5, 6)]
    ticks.stream.arrive(batch(7))
    assert ticks.delivered[-1] == (1, 7)


def test_gaps_that_only_beacons_tell_of_are_bounded(ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each beacon of a stream whose ticks do not come tells of one more gap, and nobody answers."""
    monkeypatch.setattr(tick_healer, "MAX_WAITING", 3)
    ticks.stream.arrive(batch(1))
    for last in range(2, 5):
        ticks.stream.beacon(1, last)
    assert (ticks.stream.gaps, ticks.stream.unhealed) == (3, 0)
    for last in range(5, 100):
        ticks.stream.beacon(1, last)
    assert (ticks.stream.gaps, ticks.stream.unhealed, ticks.stream.lost) == (98, 95, 95)
    while ticks.stream.healing:
        ticks.answer()
    ticks.stream.arrive(batch(100))
    assert ticks.delivered == [(1, n) for n in (1, 97, 98, 99, 100)]


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 3), st.booleans(), st.booleans()), max_size=80))
def test_what_waits_for_a_gap_is_bounded_and_told(steps: list[tuple[int, int, bool, bool]]) -> None:
    """Ticks and beacons that skip ahead, with answers now and then: what waits stays within the bound, and every tick
    is delivered, waits, or is counted as lost."""
    ticks = Ticks()
    limit, number = 5, 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tick_healer, "MAX_WAITING", limit)
        ticks.stream.arrive(batch(1))
        for ahead, count, is_beacon, answered in steps:
            if is_beacon:
                number += ahead
                ticks.stream.beacon(1, number)
            else:
                ticks.stream.arrive(batch(number + ahead, count))
                number += ahead + count - 1
            if answered and ticks.asks.waiting:
                ticks.answer()
            assert held(ticks.stream, beside=(Loop,)) <= limit
        while ticks.stream.healing:
            ticks.answer()
    assert len(ticks.delivered) + ticks.stream.lost == number
    assert ticks.delivered == sorted(set(ticks.delivered))
    ticks.loop.close()


def test_without_healing_a_gap_is_counted() -> None:
    loop = Loop()
    stream = TickStream(loop, None, "EURUSD", lambda symbol, ticks: None, heal=False)
    stream.arrive(batch(1))
    stream.arrive(batch(4))
    stream.beacon(1, 6)
    stream.pass_over(batch(9))
    assert (stream.gaps, stream.lost, stream.received) == (3, 6, 3)
    loop.close()


class History:
    """A symbol's tick history, of which an adapter's lives publish parts. Three ticks share a millisecond."""

    def __init__(self) -> None:
        self.count = 0
        self.epoch = 1
        self.begins = {1: 0}  # by epoch, how many ticks came before its first
        self.begun = True

    @property
    def published(self) -> int:
        """How many ticks this life has published."""
        return self.count - self.begins[self.epoch] if self.begun else 0

    def records(self, start: int, end: int) -> bytes:
        """Return the ticks of these indices; a bid is the index."""
        made = np.zeros(end - start, TICK_DTYPE)
        made["bid"] = np.arange(start, end)
        made["time_msc"] = MS + np.arange(start, end) // 3
        return made.tobytes()

    @staticmethod
    def index(time_ms: int, taken: int) -> int:
        """Return how many ticks stand before a place; none before the history's beginning."""
        return max(0, (time_ms - MS) * 3 + taken)

    @staticmethod
    def place(index: int) -> TickPlace:
        """Return the place behind so many ticks, as far as a reader can know it."""
        return TickPlace(MS + (index - 1) // 3, (index - 1) % 3 + 1) if index else TickPlace(0, 0)

    def answer(self, request: m.Request, most: int) -> m.Reply:
        """Answer as the adapter does, with at most `most` ticks.

        Raises:
            NotFound: The life is over.
        """
        if isinstance(request, m.GetTickRange):
            if request.epoch != self.epoch:
                raise NotFound("the epoch is over")
            start = self.begins[self.epoch] + request.first - 1
            end = min(start + min(request.count, most), self.count)
            return m.Ticks(request.id, "EURUSD", self.records(start, end), first=request.first)
        if isinstance(request, m.GetTicks):
            start = self.index(request.from_ms, request.skip)
            end = min(start + min(request.limit, most), self.count)
            return m.Ticks(request.id, "EURUSD", self.records(start, end), 0, end < self.count, *self.place(end))
        assert isinstance(request, m.GetMissedTicks)
        start, begin = self.index(request.from_ms, request.skip), self.begins[request.epoch]
        end = max(start, min(start + most, begin))
        return m.Ticks(
            request.id, "EURUSD", self.records(start, end), 0, end < begin, *self.place(end if end < begin else begin)
        )


class HealingMachine(RuleBasedStateMachine):
    """Any loss, repeat and restart; answers whole, in parts, late or none: in order, once, and nothing kept back.

    Where every answer came in the end, every tick of the history from the join on is there: also what was published by
    nobody between two lives, and what two lives published is there once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.history = History()
        self.clock = ManualClock(monotonic_ns=1)
        self.loop = Loop(self.clock)
        self.asks = ScriptedAsks()
        self.delivered: list[int] = []
        self.sent: list[m.TickBatch] = []
        self.unhealed_before = 0
        self.stream = self.new_stream(None)
        self.stream.beacon(1, 0)

    def new_stream(self, place: TickPlace | None) -> TickStream:
        def deliver(_symbol: str, batch: m.TickBatch) -> None:
            self.delivered += bids(batch)

        return TickStream(self.loop, self.asks, "EURUSD", deliver, heal=True, place=place)

    @property
    def unhealed(self) -> int:
        """How many gaps stay, of all readers."""
        return self.unhealed_before + self.stream.unhealed

    @rule(count=st.integers(1, 4), lost=st.booleans())
    def publish(self, count: int, lost: bool) -> None:
        history = self.history
        if not history.begun:
            history.begins[history.epoch], history.begun = history.count, True
        start, first = history.count, history.published + 1
        history.count += count
        made = m.TickBatch(history.epoch, first, 1, history.records(start, history.count))
        self.sent.append(made)
        if not lost:
            self.stream.arrive(made)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """A batch comes again, or a lost one late: it was counted as missing, and is not delivered twice."""
        late = data.draw(st.sampled_from(self.sent))
        followed = self.stream._sequence
        if late.epoch < followed.epoch or (
            late.epoch == followed.epoch and late.first + len(late) - 1 <= followed.last
        ):
            self.stream.arrive(late)

    @rule()
    def beacon(self) -> None:
        self.stream.beacon(self.history.epoch, self.history.published)

    @rule(unpublished=st.integers(0, 5))
    def restart(self, unpublished: int) -> None:
        """Another life, which begins with the first tick after some that nobody published."""
        self.history.epoch += 1
        self.history.count += unpublished
        self.history.begun = False

    @rule(again=st.integers(0, 6))
    def restart_before_the_end(self, again: int) -> None:
        """Another life of a feed with a clock of its own: it publishes some ticks once more."""
        history = self.history
        history.epoch += 1
        history.begins[history.epoch], history.begun = max(0, history.count - again), True
        if history.published:
            records = history.records(history.begins[history.epoch], history.count)
            self.sent.append(m.TickBatch(history.epoch, 1, 1, records))
            self.stream.arrive(self.sent[-1])

    @precondition(lambda self: self.stream.place is not None)
    @rule()
    def reader_restarts(self) -> None:
        """Another reader goes on where this one stopped: what it had asked for and what waited is gone."""
        self.asks.waiting.clear()
        self.unhealed_before += self.stream.unhealed
        self.stream = self.new_stream(self.stream.place)

    @precondition(lambda self: self.asks.waiting)
    @rule(most=st.integers(1, 3))
    def answer(self, most: int) -> None:
        asked = self.asks.waiting.pop(0)
        try:
            reply = self.history.answer(asked.request, most)
        except NotFound as error:
            asked.on_error(error)
        else:
            asked.on_reply(reply)

    @precondition(lambda self: self.asks.waiting)
    @rule(error=st.sampled_from([NoAnswer("late"), NotFound("gone"), NoConnection("down")]))
    def fail(self, error: BusError) -> None:
        self.asks.waiting.pop(0).on_error(error)
        self.clock.advance(tick_healer.RETRY_S)
        self.loop.turn(0)

    @invariant()
    def in_order_and_once(self) -> None:
        # Where a life began and nobody can tell, what it published again is not recognised: rather twice than never.
        assert self.unhealed or self.delivered == sorted(set(self.delivered))

    def teardown(self) -> None:
        for _ in range(200):
            self.beacon()
            while self.asks.waiting:
                self.answer(1000)
            self.clock.advance(tick_healer.RETRY_S)
            self.loop.turn(0)
            if not self.stream.healing and not self.asks.waiting:
                break
        assert not self.stream.healing
        if self.delivered and not self.unhealed:
            end = self.history.count if self.history.published else self.delivered[-1] + 1
            assert self.delivered == list(range(self.delivered[0], end))
            assert self.stream.lost == 0
        self.loop.close()


HealingMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestHealing = HealingMachine.TestCase


class Log:
    """An adapter's log, and a follower whose queries the test answers."""

    def __init__(self, position: EventPosition | None = None) -> None:
        self.clock = ManualClock(monotonic_ns=1)
        self.loop = Loop(self.clock)
        self.asks = ScriptedAsks()
        self.log_id, self.epoch, self.first = "a", 1, 1
        self.events: list[m.Event] = []
        self.handled: list[tuple[str, int]] = []
        self.follower = EventFollower(
            self.loop, self.asks, on_event=self._on_event, on_snapshot=self._on_snapshot, position=position
        )
        self.expected: EventPosition | None = position
        self.snapshots = 0

    def _on_event(self, event: m.Event) -> None:
        assert self.expected == EventPosition(event.log_id, event.offset - 1), "in order, once, without a hole"
        self.expected = EventPosition(event.log_id, event.offset)

    def _on_snapshot(self, reply: m.Snapshot) -> None:
        self.snapshots += 1
        self.expected = EventPosition(reply.log_id, reply.offset)

    def write(self) -> m.Event:
        """Append an event."""
        offset = len(self.events) + 1
        event = m.Event(self.log_id, offset, self.epoch, 1, 1, "s", 1, m.ModeEvent("active", "", offset))
        self.events.append(event)
        return event

    def beacon(self) -> None:
        """Let the follower hear the beacon."""
        self.follower.on_beacon(self.log_id, len(self.events), self.epoch)

    def answer(self, most: int = 100) -> None:
        """Answer the oldest question, as of now."""
        asked = self.asks.waiting.pop(0)
        request = asked.request
        if isinstance(request, m.GetEvents) and request.log_id == self.log_id and request.after + 1 < self.first:
            asked.on_error(EventsGone("no longer kept", {"first_offset": str(self.first)}))
        elif isinstance(request, m.GetEvents):
            found = tuple(e for e in self.events[request.after :] if e.offset >= self.first)[:most]
            asked.on_reply(m.Events(request.id, self.log_id, self.first, len(self.events), found))
        else:
            asked.on_reply(snapshot(request.id, log_id=self.log_id, offset=len(self.events), epoch=self.epoch))

    def settle(self) -> None:
        """Let everything be answered until the follower is live."""
        for _ in range(50):
            self.beacon()
            while self.asks.waiting:
                self.answer()
            self.clock.advance(1)
            self.loop.turn(0)
            if self.follower.live:
                return
        raise AssertionError("the follower does not come to rest")


@pytest.fixture
def joined() -> Iterator[Log]:
    log = Log()
    log.write()
    log.settle()
    yield log
    log.loop.close()


def test_joining_by_a_beacon(joined: Log) -> None:
    assert joined.snapshots == 1
    assert joined.follower.position == ("a", 1)
    joined.follower.on_live(joined.write())
    assert joined.expected == ("a", 2)


def test_events_during_the_join_are_kept() -> None:
    log = Log()
    log.follower.on_live(log.write())
    taken = log.asks.waiting.pop()
    log.follower.on_live(log.write())
    taken.on_reply(snapshot(1, log_id="a", offset=1, epoch=1))
    assert log.expected == ("a", 2)
    log.loop.close()


def test_live_events_held_back_are_bounded_and_what_was_dropped_is_fetched(
    joined: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_follower, "MAX_BUFFERED", 3)
    follower = EventFollower(
        joined.loop, joined.asks, on_event=joined._on_event, on_snapshot=None, position=EventPosition("a", 1)
    )
    joined.write()  # lost
    for _ in range(100):
        follower.on_live(joined.write())
    assert held(follower, beside=(Loop,)) == 3
    joined.answer(most=10)
    while joined.asks.waiting:
        joined.answer(most=10)
    assert (follower.position, follower.live) == (EventPosition("a", 102), True)


def test_a_beacon_older_than_what_was_handled_is_no_lost_log(joined: Log) -> None:
    """Events are handled first, and answers overtake the stream: then the beacon is merely late."""
    joined.follower.on_live(joined.write())
    joined.follower.on_beacon("a", 1, 1)
    assert joined.follower.live
    assert not joined.asks.waiting
    joined.follower.on_beacon("z", 9, 0)  # of an earlier life
    assert not joined.asks.waiting


def test_a_log_that_lost_its_end_means_a_resync(joined: Log) -> None:
    joined.epoch += 1
    joined.events.clear()
    joined.beacon()
    joined.settle()
    assert joined.snapshots == 2
    assert joined.follower.position == ("a", 0)


def test_events_of_a_log_that_was_put_back_mean_a_resync(joined: Log) -> None:
    """Its next life may write past our position before the first beacon: what it wrote up to there would be skipped."""
    joined.follower.on_live(joined.write())
    joined.follower.on_live(joined.write())
    joined.epoch += 1
    del joined.events[1:]
    for _ in range(3):
        joined.follower.on_live(joined.write())
    joined.settle()
    assert (joined.snapshots, joined.follower.position) == (2, ("a", 4))


def test_an_answer_from_a_shortened_log_means_a_resync(joined: Log) -> None:
    for _ in range(3):
        joined.follower.on_live(joined.write())
    joined.write()
    joined.beacon()
    del joined.events[1:]
    joined.answer()
    assert isinstance(joined.asks.waiting[0].request, m.GetSnapshot)
    joined.answer()
    assert joined.follower.position == ("a", 1)


def test_resuming_ahead_of_the_log_means_a_resync() -> None:
    log = Log(EventPosition("a", 5))
    log.write()
    log.settle()
    assert (log.snapshots, log.follower.position) == (1, ("a", 1))
    log.loop.close()


def test_resuming_before_what_is_kept_means_a_resync() -> None:
    log = Log(EventPosition("a", 1))
    for _ in range(5):
        log.write()
    log.first = 4
    log.settle()
    assert (log.snapshots, log.follower.position) == (1, ("a", 5))
    assert log.follower.skipped == 4, "it is reported how many were passed over"
    log.loop.close()


def test_events_that_leave_the_log_while_they_are_fetched_mean_a_resync(joined: Log) -> None:
    for _ in range(6):
        joined.write()
    joined.beacon()
    joined.answer(most=2)
    joined.first = 6
    joined.settle()
    assert (joined.snapshots, joined.follower.position, joined.follower.skipped) == (2, ("a", 7), 4)


def test_an_answer_that_brings_nothing_is_not_asked_for_in_a_circle(joined: Log) -> None:
    joined.write()
    joined.beacon()
    for _ in range(3):
        asked = joined.asks.waiting.pop()
        asked.on_reply(m.Events(1, "a", 1, 2, ()))
        assert not joined.asks.waiting, "not at once"
        joined.clock.advance(1)
        joined.loop.turn(0)
        joined.beacon()
    joined.settle()
    assert joined.expected == ("a", 2)


class FollowerMachine(RuleBasedStateMachine):
    """Drops, restarts, new logs, failing and slow queries: every event in order, once (asserted in `Log`)."""

    @staticmethod
    def make() -> Log:
        """Return the log to follow."""
        return Log()

    def __init__(self) -> None:
        super().__init__()
        self.log = self.make()

    @rule(lost=st.booleans())
    def event(self, lost: bool) -> None:
        made = self.log.write()
        if not lost:
            self.log.follower.on_live(made)

    @precondition(lambda self: self.log.events)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        self.log.follower.on_live(data.draw(st.sampled_from(self.log.events)))

    @rule()
    def beacon(self) -> None:
        self.log.beacon()

    @rule(behind=st.integers(1, 3))
    def late_beacon(self, behind: int) -> None:
        offset = len(self.log.events) - behind
        if offset >= 0 and any(event.epoch == self.log.epoch for event in self.log.events[offset : offset + 1]):
            self.log.follower.on_beacon(self.log.log_id, offset, self.log.epoch)

    @rule(new_log=st.booleans())
    def restart(self, new_log: bool) -> None:
        self.log.epoch += 1
        if new_log:
            self.log.log_id += "a"
            self.log.events = []
            self.log.first = 1

    @precondition(lambda self: self.log.asks.waiting)
    @rule(most=st.integers(1, 3))
    def answer(self, most: int) -> None:
        self.log.answer(most)

    @precondition(lambda self: self.log.asks.waiting)
    @rule(error=st.sampled_from([NoAnswer("late"), NoConnection("down")]))
    def fail(self, error: BusError) -> None:
        self.log.asks.waiting.pop(0).on_error(error)

    @rule()
    def compact(self) -> None:
        self.log.first = max(self.log.first, len(self.log.events) - 2)

    @rule(seconds=st.floats(0.1, 2))
    def wait(self, seconds: float) -> None:
        self.log.clock.advance(seconds)
        self.log.loop.turn(0)

    @invariant()
    def one_question_at_a_time(self) -> None:
        assert len(self.log.asks.waiting) <= 1

    def teardown(self) -> None:
        self.log.settle()
        assert self.log.follower.position == (self.log.log_id, len(self.log.events)) == self.log.expected
        self.log.loop.close()


FollowerMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40)
TestFollowing = FollowerMachine.TestCase
