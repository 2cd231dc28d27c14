"""Subscribing over real sockets: events whole and first, ticks healed or skipped and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
import zmq

from protocol import codec
from protocol import messages as m
from protocol.numbering import EventPosition
from protocol.requests import Requester
from protocol.sockets import connect_subscriber
from protocol.subscriber import MAX_DRAIN, StreamSubscriber
from tests.protocol.fake_adapter import FakeAdapter, bids
from tests.protocol.rig import FRIEND, SERVER, STRANGER, Peer
from tests.protocol.samples import BAR
from tests.waiting import eventually


class Reader:
    """A subscriber beside its adapter, in one loop."""

    def __init__(self, **options: object) -> None:
        self.peer = Peer()
        self.adapter = FakeAdapter(self.peer)
        self.loop = self.peer.loop
        self.log: list[str] = []
        self.ticks: list[int] = []
        self.events: list[int] = []
        self.queries = Requester(
            self.loop,
            self.loop.context,
            self.adapter.queries_at,
            identity=FRIEND,
            server_key=SERVER.public,
            name="adapter",
        )
        chosen: dict[str, object] = {"identity": FRIEND} | options
        self.subscriber = StreamSubscriber(
            self.loop,
            self.loop.context,
            self.adapter.streams,
            server_key=SERVER.public,
            adapter="main",
            queries=self.queries,
            on_tick=self._on_tick,
            on_bar=lambda symbol, update: self.log.append(f"bar {update.number}"),
            on_event=self._on_event,
            on_snapshot=lambda snapshot: self.log.append(f"snapshot {snapshot.offset}"),
            on_beacon=lambda beacon: self.log.append("beacon"),
            **chosen,  # type: ignore[arg-type]
        )
        self.subscriber.start()

    def _on_tick(self, symbol: str, batch: m.TickBatch) -> None:
        self.ticks += bids(batch)
        self.log.append(f"tick {bids(batch)[-1]}")

    def _on_event(self, event: m.Event) -> None:
        self.events.append(event.offset)
        self.log.append(f"event {event.offset}")

    def until(self, check: Callable[[], object], what: str) -> None:
        """Turn until `check`."""

        def turned() -> object:
            self.loop.turn(10)
            return check()

        eventually(turned, what=what)

    def join(self) -> None:
        """Beacon until the events are followed."""

        def live() -> bool:
            self.adapter.beacon()
            return self.subscriber.live

        self.until(live, "the join")

    def report(self, stream: str) -> m.StreamReport:
        """Return how a stream fares."""
        return next(report for report in self.subscriber.reports() if report.stream == stream)

    def close(self) -> None:
        """Close everything."""
        self.subscriber.close()
        self.queries.close()
        self.peer.close()


@pytest.fixture
def make() -> Iterator[Callable[..., Reader]]:
    made: list[Reader] = []

    def maker(**options: object) -> Reader:
        made.append(Reader(**options))
        return made[-1]

    yield maker
    for reader in made:
        reader.close()


def test_joining_takes_the_state_then_every_later_event(make: Callable[..., Reader]) -> None:
    reader = make()
    for _ in range(3):
        reader.adapter.event()
    reader.join()
    for _ in range(4):
        reader.adapter.event()
    reader.until(lambda: len(reader.events) == 4, "the events")
    assert reader.events == [4, 5, 6, 7]
    assert "snapshot 3" in reader.log
    assert reader.log.index("snapshot 3") < reader.log.index("event 4")
    assert reader.adapter.snapshots == 1
    assert reader.subscriber.position == EventPosition("log-1", 7)


def test_resuming_takes_the_missed_events_and_no_snapshot(make: Callable[..., Reader]) -> None:
    reader = make(position=EventPosition("log-1", 2))
    for _ in range(30):
        reader.adapter.event()
    reader.join()
    assert reader.events == list(range(3, 31))
    assert reader.adapter.snapshots == 0


def test_lost_events_are_fetched_in_order(make: Callable[..., Reader]) -> None:
    reader = make()
    reader.join()
    reader.adapter.event()
    reader.adapter.drop = 5
    for _ in range(7):
        reader.adapter.event()
    reader.until(lambda: len(reader.events) == 8, "the events")
    assert reader.events == list(range(1, 9))
    events = reader.report("events")
    assert (events.received, events.gaps) == (8, 1)
    assert events.healed >= 5


def test_a_lost_tail_shows_by_the_beacon(make: Callable[..., Reader]) -> None:
    reader = make(heal_ticks=True)
    reader.adapter.tick()
    reader.join()
    reader.adapter.drop = 2
    reader.adapter.event()
    reader.adapter.tick(3)
    reader.adapter.beacon()
    reader.until(lambda: reader.events == [1] and len(reader.ticks) >= 3, "what was lost")
    assert reader.ticks[-3:] == [2, 3, 4]


def test_lost_ticks_are_healed_in_order(make: Callable[..., Reader]) -> None:
    reader = make(heal_ticks=True)
    reader.join()
    reader.adapter.tick()
    reader.adapter.drop = 3
    for _ in range(3):
        reader.adapter.tick(4)
    reader.adapter.tick()
    reader.until(lambda: len(reader.ticks) == 14, "the ticks")
    assert reader.ticks == list(range(1, 15))
    ticks = reader.report("ticks")
    assert (ticks.gaps, ticks.healed, ticks.skipped) == (1, 12, 0)


def test_lost_ticks_are_counted_where_they_are_not_healed(make: Callable[..., Reader]) -> None:
    reader = make()
    reader.join()
    reader.adapter.tick()
    reader.adapter.drop = 1
    reader.adapter.tick(4)
    reader.adapter.tick()
    reader.until(lambda: reader.ticks == [1, 6], "the ticks")
    assert (reader.report("ticks").gaps, reader.report("ticks").skipped) == (1, 4)


def test_events_of_a_burst_come_first(make: Callable[..., Reader]) -> None:
    reader = make()
    reader.join()
    before = len(reader.log)
    for _ in range(20):
        reader.adapter.tick()
    reader.adapter.event()
    reader.until(lambda: len(reader.ticks) == 20 and reader.events, "the burst")
    burst = [entry for entry in reader.log[before:] if entry != "beacon"]
    assert burst.index("event 1") < burst.index("tick 20")


def test_a_reader_behind_takes_the_newest_and_counts_the_rest(make: Callable[..., Reader]) -> None:
    reader = make(lag_limit_ms=100)
    reader.join()
    for _ in range(30):
        reader.adapter.tick(age_ms=5000)
    reader.adapter.tick(symbol="XAUUSD", age_ms=0)
    sent = {"EURUSD": 30, "XAUUSD": 1}

    def counted() -> bool:
        return reader.report("ticks").received == sum(sent.values())

    reader.until(counted, "the ticks")
    assert len(reader.ticks) + reader.report("ticks").skipped == 31
    assert 30 in reader.ticks
    assert reader.report("ticks").gaps == 0


def test_one_turn_is_bounded(make: Callable[..., Reader]) -> None:
    reader = make()
    reader.join()
    for _ in range(3 * MAX_DRAIN):
        reader.adapter.tick()
    handled = []

    def all_ticks() -> bool:
        handled.append(len(reader.ticks))
        return len(reader.ticks) == 3 * MAX_DRAIN

    reader.until(all_ticks, "the ticks")
    assert max(after - before for before, after in pairwise(handled)) <= MAX_DRAIN


def test_a_restarted_adapter_is_followed(make: Callable[..., Reader]) -> None:
    reader = make(heal_ticks=True)
    reader.adapter.tick(5)
    reader.join()
    reader.adapter.event()
    reader.until(lambda: reader.events == [1], "the event")
    reader.adapter.restart()
    reader.adapter.drop = 1
    reader.adapter.tick()
    reader.adapter.tick()
    reader.adapter.event()
    reader.until(lambda: reader.events == [1, 2] and reader.ticks[-2:] == [1, 2], "its second life")
    assert reader.adapter.snapshots == 1


def test_a_new_log_means_a_new_snapshot(make: Callable[..., Reader]) -> None:
    reader = make()
    reader.adapter.event()
    reader.join()
    reader.adapter.restart(new_log=True)
    reader.adapter.event()
    reader.until(lambda: reader.adapter.snapshots == 2 and reader.subscriber.live, "the resync")
    assert reader.subscriber.position == EventPosition("log-1'", 1)


def test_only_the_symbols_asked_for(make: Callable[..., Reader]) -> None:
    reader = make(symbols=["EURUSD"])
    reader.join()
    reader.adapter.tick(symbol="EURUSDX")
    reader.adapter.tick(symbol="XAUUSD")
    reader.adapter.tick()
    reader.adapter.beacon()
    reader.until(lambda: reader.ticks, "the tick")
    assert (reader.report("ticks").received, reader.report("ticks").gaps) == (1, 0)


def test_bars_are_numbered_too(make: Callable[..., Reader]) -> None:
    reader = make()
    reader.join()
    reader.adapter.bar()
    reader.adapter.drop = 1
    reader.adapter.bar()
    reader.adapter.bar()
    repeated = m.BarUpdate(reader.adapter.epoch, 3, 0, "S5", 0, BAR)
    reader.adapter.send(repeated, "EURUSD")
    reader.adapter.event()
    reader.until(lambda: "bar 3" in reader.log and reader.events, "the bars")
    reader.loop.turn(50)
    assert [entry for entry in reader.log if entry.startswith("bar")] == ["bar 1", "bar 3"]
    assert (reader.report("bars").received, reader.report("bars").gaps) == (2, 1)


def test_what_is_no_message_is_counted_and_logged_a_few_times(
    make: Callable[..., Reader], caplog: pytest.LogCaptureFixture
) -> None:
    reader = make()
    reader.join()
    for _ in range(100):
        reader.adapter.socket.send(b"v1/tick/main/EURUSD\0garbage")
    reader.adapter.socket.send(b"v1/event/main/\0" + codec.encode_body(m.Ping(1, 2)))
    reader.adapter.tick()
    reader.until(lambda: reader.ticks == [1], "the tick")
    assert reader.subscriber.malformed == 101
    assert sum("malformed" in record.message for record in caplog.records) == 20


def test_a_refused_reader_is_told(make: Callable[..., Reader]) -> None:
    reader = make(identity=STRANGER)
    reader.until(lambda: reader.subscriber.refused, "the refusal")
    assert reader.ticks == []


def test_a_callback_may_close_the_subscriber() -> None:
    reader = Reader()
    reader.join()
    closed: list[str] = []

    def close(symbol: str, batch: m.TickBatch) -> None:
        closed.append(symbol)
        reader.subscriber.close()

    reader.subscriber._on_tick = close
    for _ in range(5):
        reader.adapter.tick()
    reader.until(lambda: closed, "the first tick")
    reader.loop.turn(50)
    assert closed == ["EURUSD"]
    reader.queries.close()
    reader.peer.close()


def test_a_slow_reader_does_not_hold_the_others(make: Callable[..., Reader]) -> None:
    reader = make()
    slow = connect_subscriber(reader.loop.context, reader.adapter.streams, identity=FRIEND, server_key=SERVER.public)
    slow.setsockopt(zmq.SUBSCRIBE, b"")
    reader.join()
    for _ in range(2000):
        reader.adapter.tick()
    reader.until(lambda: len(reader.ticks) == 2000, "the ticks")
    slow.close()
