"""What stays in the event log and what leaves it, on a real disk; and what the consumers are told."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from broker_adapter import event_retention
from broker_adapter.alerts import StandingAlerts
from broker_adapter.event_retention import FREE_BYTES, MOST_CONSUMERS, REST_S, EventRetention
from broker_adapter.journal import FILE_NAME, Journal
from broker_adapter.journal_records import ConsumerRecord, DropRecord, EventRecord
from broker_adapter.journal_schema import APPLICATION_ID, MIGRATIONS, SCHEMA_VERSION
from mt5bus.settings import Adapter
from protocol.clock import ManualClock
from protocol.errors import BusError, NotFound, StateConflict, ValidationFailed
from protocol.loop import Loop
from protocol.messages import (
    AcknowledgeEvents,
    AlertEvent,
    Consumers,
    Deal,
    DealEvent,
    Done,
    Event,
    EventsAcknowledged,
    ForgetConsumer,
    GetConsumers,
    Reply,
    Request,
)
from tests.broker_adapter.journal_loop import PostBox
from tests.waiting import eventually

SERVER, LOGIN = "Broker-Demo", 1001
DAY_S = 86_400


def deal(ticket: int, *, comment: str = "") -> EventRecord:
    body = Deal(ticket, 1, 1, "EURUSD", 0, 0, 3, 0.1, 1.1, 0.0, 0.0, 0.0, 0.0, 0, comment, ticket)
    return EventRecord(DealEvent(body), SERVER, LOGIN, ticket)


def alert(number: int, *, text: str = "") -> EventRecord:
    return EventRecord(AlertEvent(str(number), "warning", "test", text), SERVER, LOGIN, number)


class Caller:
    """Who asks, under the name of a key."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.replies: list[Reply] = []

    def reply(self, message: Reply) -> None:
        self.replies.append(message)


class Kept:
    """A journal with its retention, on a clock that tests turn."""

    def __init__(self, folder: Path, *, clock: ManualClock | None = None, **settings: Any) -> None:
        self.folder = folder
        self.clock = clock or ManualClock()
        self.loop = Loop(self.clock)
        self.journal = Journal(self.loop, folder, epoch=1)
        self.alerts = StandingAlerts(
            self.journal,
            commit=lambda batch: self.journal.write(batch.records, self.events.extend, essential=True),
            market_ms=self.clock.wall_ms,
            account=lambda: (SERVER, LOGIN),
        )
        self.events: list[Event] = []
        self.handlers: dict[type[Request], Callable[[Any, Any], Reply | None]] = {}
        service: Any = SimpleNamespace(handle=self.handlers.__setitem__)
        self.retention = EventRetention(
            self.loop, self.journal, self.alerts, Adapter(**settings), queries=service, orders=service
        )

    def write(self, *records: EventRecord) -> None:
        """Write records in portions that the queue takes; return when they are on disk."""
        for start in range(0, len(records), 100):
            self.journal.write(records[start : start + 100], self.events.extend)
            self.settle()

    def settle(self) -> None:
        def written() -> bool:
            self.loop.turn(1)
            return self.journal.outstanding == 0

        eventually(written, what="the disk")

    def ask(self, request: Request, *, key: str = "ml_logger") -> Reply:
        """Return the answer to a request that came under `key`.

        Raises:
            BusError: It was refused.
        """
        caller = Caller(key)
        reply = self.handlers[type(request)](request, caller)
        self.settle()
        return caller.replies[0] if reply is None else reply

    def acknowledge(self, offset: int, *, key: str = "ml_logger", consumer: str = "") -> EventsAcknowledged:
        reply = self.ask(AcknowledgeEvents(1, consumer, self.journal.log_id, offset), key=key)
        assert isinstance(reply, EventsAcknowledged)
        return reply

    def consumers(self) -> Consumers:
        reply = self.ask(GetConsumers(1))
        assert isinstance(reply, Consumers)
        return reply

    def compact(self) -> None:
        """Let the retention work until it rests."""
        self.clock.advance(REST_S + 1)
        for _ in range(1000):
            self.retention.look()
            if not self.journal.outstanding:
                return
            self.settle()
        raise AssertionError("it never rests")

    def kept(self) -> list[int]:
        """Return the offsets that the log has."""
        return [event.offset for event in self.journal.events_after(0, 1_000_000)]

    def told(self) -> list[str]:
        """Return code and consumer of every alert of the retention."""
        bodies = [event.body for event in self.events if isinstance(event.body, AlertEvent) and event.body.fields]
        return [f"{body.code} {body.fields['consumer']}" for body in bodies]

    def reopen(self, **settings: Any) -> Kept:
        self.close()
        return Kept(self.folder, clock=self.clock, **settings)

    def close(self) -> None:
        self.journal.close()
        self.loop.close()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Kept]]:
    made: list[Kept] = []

    def build(**settings: Any) -> Kept:
        made.append(Kept(tmp_path, **settings))
        return made[-1]

    yield build
    for each in made:
        if not each.journal._closing.is_set():
            each.close()


def test_old_events_leave_once_every_consumer_has_them(make: Callable[..., Kept]) -> None:
    kept = make(events_kept_days=30)
    kept.write(*map(alert, range(1, 2001)))
    kept.acknowledge(1500)
    kept.acknowledge(700, key="strategy", consumer="confluence")
    kept.compact()
    assert kept.kept()[0] == 1, "they are young"
    kept.clock.advance(31 * DAY_S)
    kept.compact()
    assert kept.kept()[:1] == [701]
    kept.acknowledge(2000, key="strategy", consumer="confluence")
    kept.compact()
    assert kept.kept()[:1] == [1501]
    assert kept.told() == ["consumer_behind strategy:confluence", "consumer_behind ml_logger"]
    assert kept.retention.dropped == 1500


def test_without_consumers_only_age_counts_and_the_newest_event_stays(make: Callable[..., Kept]) -> None:
    kept = make()
    kept.write(*map(alert, range(1, 1201)))
    kept.clock.advance(31 * DAY_S)
    kept.compact()
    assert kept.kept() == [1200], "its offset must not come again"
    kept = kept.reopen()
    kept.write(alert(5000))
    assert kept.kept() == [1200, 1201]
    kept.close()


def test_a_fact_that_left_the_log_is_not_told_again(make: Callable[..., Kept]) -> None:
    """The broker's history is read back for days: what it shows again was told, though its event is gone."""
    kept = make()
    kept.write(*map(deal, range(1, 101)))
    kept.clock.advance(31 * DAY_S)
    kept.compact()
    assert kept.kept() == [100]
    for _ in range(2):
        kept.write(*map(deal, range(1, 103)))
        assert kept.kept() == [100, 101, 102]
        kept = kept.reopen()
    kept.close()


def test_how_far_an_account_was_recorded_outlives_its_events(make: Callable[..., Kept]) -> None:
    kept = make()
    kept.write(alert(7), deal(50), deal(60), *map(alert, range(100, 200)))
    before = kept.journal.last_recorded_ms(SERVER, LOGIN)
    kept.clock.advance(31 * DAY_S)
    kept.compact()
    assert kept.journal.last_recorded_ms(SERVER, LOGIN) == before == 60
    assert kept.journal.last_recorded_ms(SERVER, 5) == 0


def test_too_large_a_journal_lets_acknowledged_events_go_sooner_but_not_in_their_first_hour(
    make: Callable[..., Kept],
) -> None:
    kept = make(journal_max_mb=8)
    kept.acknowledge(0)
    kept.write(*(alert(number, text="x" * 8000) for number in range(1, 2501)))
    kept.acknowledge(2400)
    kept.compact()
    assert kept.kept()[0] == 1
    kept = kept.reopen(journal_max_mb=8)
    size = kept.journal.path.stat().st_size
    assert size > 20_000_000
    kept.clock.advance(3600)
    kept.compact()
    assert kept.journal.used_bytes <= 8_000_000
    assert 1 < kept.kept()[0] <= 2401
    kept = kept.reopen()
    assert kept.journal.path.stat().st_size <= 8_000_000 + FREE_BYTES, "the room was given back"
    kept.close()


def test_at_the_hard_limit_unread_events_go_and_it_is_told_whose(make: Callable[..., Kept]) -> None:
    kept = make(journal_max_mb=8, journal_hard_max_mb=10)
    kept.acknowledge(0)
    kept.acknowledge(0, key="strategy", consumer="a")
    kept.write(*(alert(number, text="x" * 8000) for number in range(1, 1601)))
    kept.clock.advance(3601)
    kept.acknowledge(1600, key="strategy", consumer="a")
    kept.compact()
    first = kept.kept()[0]
    assert first > 1
    assert 8_000_000 < kept.journal.used_bytes <= 10_000_000
    assert kept.told() == ["consumer_behind ml_logger", "events_dropped_unread ml_logger"]
    missed = {each.name: each.missed for each in kept.consumers().consumers}
    assert missed == {"ml_logger": first - 1, "strategy:a": 0}
    kept.acknowledge(1600)
    kept.compact()
    assert kept.alerts.standing == frozenset(), "it resynced"


def test_a_key_speaks_for_itself_alone_and_is_kept(make: Callable[..., Kept]) -> None:
    kept = make()
    kept.write(*map(alert, range(10)))
    assert kept.acknowledge(3).consumer == "ml_logger"
    assert kept.acknowledge(4, key="client", consumer="ml_logger").consumer == "client:ml_logger"
    assert kept.acknowledge(2).offset == 2, "who was restored from a copy reads from there again"
    kept = kept.reopen()
    found = kept.consumers()
    assert [(each.name, each.offset, each.behind) for each in found.consumers] == [
        ("client:ml_logger", 4, 6),
        ("ml_logger", 2, 8),
    ]
    assert (found.first_offset, found.last_offset) == (1, 10)
    assert found.journal_bytes > 0
    kept.close()


@pytest.mark.parametrize(
    ("offset", "log_id", "error"),
    [(-1, "", ValidationFailed), (11, "", StateConflict), (2**63, "", StateConflict), (1, "other", NotFound)],
)
def test_what_cannot_be_acknowledged_changes_nothing(
    make: Callable[..., Kept], offset: int, log_id: str, error: type[BusError]
) -> None:
    kept = make()
    kept.write(*map(alert, range(10)))
    with pytest.raises(error):
        kept.ask(AcknowledgeEvents(1, "", log_id or kept.journal.log_id, offset))
    assert kept.consumers().consumers == ()


def test_forgetting_a_consumer_lets_the_log_go(make: Callable[..., Kept]) -> None:
    kept = make()
    kept.write(*map(alert, range(1, 101)))
    kept.acknowledge(10)
    kept.clock.advance(31 * DAY_S)
    kept.compact()
    assert kept.kept()[0] == 11
    with pytest.raises(NotFound):
        kept.ask(ForgetConsumer(1, "nobody"))
    assert isinstance(kept.ask(ForgetConsumer(1, "ml_logger"), key="client"), Done)
    kept.compact()
    assert len(kept.kept()) <= 2
    assert kept.alerts.standing == frozenset()


def test_no_more_consumers_than_a_person_can_oversee(make: Callable[..., Kept]) -> None:
    kept = make()
    for number in range(MOST_CONSUMERS):
        kept.acknowledge(0, key="client", consumer=f"c{number}")
    with pytest.raises(StateConflict, match="forget one"):
        kept.acknowledge(0, key="client", consumer="one more")
    assert kept.acknowledge(0, key="client", consumer="c5").consumer == "client:c5"


def test_a_journal_of_before_is_taken_over_and_shrinks_too(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    for statement in MIGRATIONS[0]:
        old.execute(statement)
    old.execute("INSERT INTO meta VALUES ('log_id', 'before'), ('next_intent', '7')")
    old.execute("PRAGMA journal_mode = WAL")
    old.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    old.execute("PRAGMA user_version = 1")
    old.close()
    kept = Kept(tmp_path)
    try:
        assert kept.journal.log_id == "before"
        kept.write(*map(alert, range(1, 11)))
        kept.acknowledge(4)
        with sqlite3.connect(tmp_path / FILE_NAME) as file:
            assert file.execute("PRAGMA auto_vacuum").fetchone() == (2,)
            assert file.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        file.close()
    finally:
        kept.close()


def test_the_loop_and_other_writes_wait_for_no_compaction(make: Callable[..., Kept]) -> None:
    """However much may go, one portion leaves at a time, and only while the writer has nothing else to do."""
    kept = make()
    kept.write(*map(alert, range(1, 3001)))
    kept.clock.advance(31 * DAY_S)
    kept.retention.look()
    assert kept.journal.outstanding == 1
    kept.retention.look()
    assert kept.journal.outstanding == 1, "the next portion only after this one"
    kept.settle()
    assert len(kept.kept()) == 3000 - event_retention.DROPPED_AT_ONCE


_CHURN = """
import random, sys
from pathlib import Path
from broker_adapter.journal import Journal
from broker_adapter.journal_records import ConsumerRecord, DropRecord
from tests.broker_adapter.journal_loop import PostBox
from tests.broker_adapter.test_event_retention import deal
box = PostBox()
journal = Journal(box, Path(sys.argv[1]), epoch=1)
chance = random.Random(int(sys.argv[2]))
number = int(sys.argv[3])
def told(events):
    for event in events:
        sys.stdout.write(f"{event.offset} {event.body.deal.ticket}\\n")
    sys.stdout.flush()
while True:
    number += 1
    if journal.has_room:
        journal.write([deal(number), deal(max(1, number - chance.randrange(50)))], told)
        if chance.random() < 0.2:
            journal.write([ConsumerRecord("reader", journal.last_offset)], lambda events: None, essential=True)
            dropped = DropRecord(journal.last_offset - chance.randrange(20))
            journal.write([dropped], lambda events: None, essential=True)
    box.run()
"""


def test_kill_9_between_writing_and_dropping_makes_no_hole_and_no_repeat(tmp_path: Path) -> None:
    seed = random.randrange(1_000_000)
    told: list[tuple[int, int]] = []
    for life in range(4):
        arguments = [str(tmp_path), str(seed + life), str(max((ticket for _, ticket in told), default=0) - 20)]
        child = subprocess.Popen([sys.executable, "-c", _CHURN, *arguments], stdout=subprocess.PIPE, encoding="utf-8")
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(150)]
        child.kill()
        # The last line may be cut by the kill.
        lines += child.stdout.read().splitlines(keepends=True)
        child.stdout.close()
        child.wait()
        told += [(int(offset), int(ticket)) for offset, ticket in (line.split() for line in lines if line[-1:] == "\n")]
        journal = Journal(PostBox(), tmp_path, epoch=2)
        offsets = [event.offset for event in journal.events_after(0, 1_000_000)]
        (reader,) = journal.consumers()
        journal.close()
        assert offsets == list(range(offsets[0], offsets[-1] + 1)), f"seed {seed}"
        assert reader.offset <= journal.last_offset
    assert len({offset for offset, _ in told}) == len(told), f"an offset came twice: seed {seed}"
    assert len({ticket for _, ticket in told}) == len(told), f"a deal was told twice: seed {seed}"


def test_dropping_is_one_unit_with_what_it_leaves_behind(make: Callable[..., Kept]) -> None:
    kept = make()
    kept.write(*map(deal, range(1, 11)))
    kept.journal.write([ConsumerRecord("late", 2)], kept.events.extend)
    kept.journal.write([DropRecord(6)], kept.events.extend)
    kept.journal.write([DropRecord(8)], kept.events.extend)
    kept.journal.write([DropRecord(3)], kept.events.extend)
    kept.settle()
    assert kept.kept() == [9, 10]
    (late,) = kept.journal.consumers()
    assert (late.missed, late.behind) == (6, 8)
