"""A disk that is really full: exits are journalled, nothing told is lost, and all goes on once there is room."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from broker_adapter.alerts import StandingAlerts
from broker_adapter.disk_reserve import FILE_NAME, DiskReserve, is_full
from broker_adapter.disk_watch import LOOK_INTERVAL_S, DiskWatch
from broker_adapter.epoch import next_epoch
from broker_adapter.journal import Journal
from broker_adapter.journal_records import IntentRecord
from broker_adapter.order_states import State
from ml_logger.errors import StoreUnavailable
from ml_logger.store import Store, open_store, store_url
from mt5bus.commands.record import _stop_if_low
from protocol.captures import Capture, CaptureWriter
from protocol.clock import ManualClock
from protocol.errors import NotReady
from protocol.keys import KeyStore
from protocol.loop import Loop
from protocol.messages import (
    AlertEvent,
    ClosePosition,
    DealEvent,
    ErrorReply,
    Event,
    ModifyPosition,
    SubmitOrder,
)
from strategy.dispatch_log import DispatchLog, read_log
from strategy.inputs import Ended, Record
from strategy.order_ids import AccountKey
from strategy.saved_state import VERSION, SavedState, StateFile
from tests.broker_adapter.fake_broker import World
from tests.broker_adapter.journal_loop import PostBox
from tests.broker_adapter.test_event_retention import alert
from tests.broker_adapter.test_journal import intent
from tests.disk.conftest import SmallDisk
from tests.ml_logger import facts
from tests.ml_logger.test_store import ADAPTER, HISTORY, write_events
from tests.waiting import eventually

MakeDisk = Callable[[int], SmallDisk]
MB = 1_000_000


class OnDisk:
    """A journal with its reserve on a small disk, and what watches it."""

    def __init__(self, disk: SmallDisk, *, reserve: int = MB) -> None:
        self.disk = disk
        self.clock = ManualClock()
        self.loop = Loop(self.clock)
        self.reserve = DiskReserve(disk.folder, size=reserve)
        self.events: list[Event] = []
        self.journal = Journal(self.loop, disk.folder, epoch=1, reserve=self.reserve)
        alerts = StandingAlerts(
            self.journal,
            commit=lambda batch: self.journal.write(batch.records, self.events.extend, essential=True),
            market_ms=self.clock.wall_ms,
            account=lambda: ("Broker-Demo", 1001),
        )
        settings: Any = SimpleNamespace(disk_reserve_mb=1, disk_low_mb=1)
        self.watch = DiskWatch(self.loop, alerts, disk.folder, self.reserve, settings)

    def write(self, *records: Any) -> None:
        self.journal.write(records, self.events.extend, essential=True)

    def settled(self) -> bool:
        self.loop.turn(1)
        return self.journal.outstanding == 0

    def settle(self) -> None:
        eventually(self.settled, what="the disk")

    def alerts(self) -> list[str]:
        return [event.body.code for event in self.events if isinstance(event.body, AlertEvent) and event.body.fields]

    def close(self) -> None:
        self.journal.close()
        self.loop.close()


def test_the_reserve_lets_what_became_of_orders_be_written_on_a_full_disk(make_disk: MakeDisk) -> None:
    on = OnDisk(make_disk(6 * MB))
    assert on.reserve.held
    assert not on.watch.low
    on.watch.check()
    on.disk.fill()
    for number in range(40):
        on.write(alert(number, text="x" * 4000))
    on.settle()
    assert [event.offset for event in on.events] == list(range(1, 41)), "the reserve was given up for them"
    assert not on.reserve.held
    on.clock.advance(LOOK_INTERVAL_S)
    on.watch.look()
    on.settle()
    assert on.alerts() == ["disk_low"]
    with pytest.raises(NotReady, match="only exits"):
        on.watch.check()
    on.disk.empty()
    on.watch.look()
    on.settle()
    assert on.reserve.held
    on.watch.check()
    on.close()


def test_beyond_the_reserve_the_journal_waits_and_goes_on_in_order(make_disk: MakeDisk) -> None:
    on = OnDisk(make_disk(6 * MB))
    on.disk.fill()
    for number in range(600):  # more than the reserve holds
        on.write(alert(number, text="x" * 4000))

    def stuck() -> bool:
        on.settled()
        return bool(on.journal.trouble)

    eventually(stuck, what="a disk without any room")
    with pytest.raises(NotReady):
        on.journal.write([alert(-1)], on.events.extend)
    acknowledged = [event.offset for event in on.events]
    on.disk.empty()
    on.settle()
    assert [event.offset for event in on.events] == list(range(1, 601))
    assert acknowledged == list(range(1, len(acknowledged) + 1))
    on.close()
    again = Journal(PostBox(), on.disk.folder, epoch=2)
    assert len(again.events_after(0, 10_000)) == 600
    again.close()


def test_a_crash_on_a_full_disk_loses_nothing_that_was_told(make_disk: MakeDisk) -> None:
    on = OnDisk(make_disk(6 * MB))
    for number in range(50):
        on.write(alert(number, text="x" * 4000))
    on.settle()
    on.disk.fill()
    (on.disk.folder / FILE_NAME).unlink()
    on.disk.fill()
    on.write(alert(100, text="x" * 9000))
    eventually(lambda: on.settled() or on.journal.trouble, what="the disk refusing")
    on.close()  # what could not be written is given up, as by a kill
    again = Journal(PostBox(), on.disk.folder, epoch=2)
    try:
        kept = again.events_after(0, 10_000)
        assert [event.offset for event in kept][: len(on.events)] == [event.offset for event in on.events]
    finally:
        again.close()


def test_without_room_for_the_reserve_only_exits_are_taken_from_the_start(make_disk: MakeDisk) -> None:
    disk = make_disk(3 * MB)
    disk.fill(leave=MB)
    on = OnDisk(disk)
    on.settle()
    assert on.watch.low
    assert on.alerts() == ["disk_low"]
    on.close()


def test_an_adapter_starts_on_a_full_disk_by_its_reserve(make_disk: MakeDisk) -> None:
    disk = make_disk(6 * MB)
    OnDisk(disk).close()
    disk.fill()
    with pytest.raises(OSError, match=r"(?i)space"):
        next_epoch(disk.folder, wall_ms=1)
    DiskReserve(disk.folder, size=MB).make_way()
    assert next_epoch(disk.folder, wall_ms=5) == 5
    on = OnDisk(disk)
    on.write(alert(1))
    on.settle()
    assert on.watch.low
    on.close()


def test_only_a_disk_without_room_gives_the_reserve_up(tmp_path: Path) -> None:
    reserve = DiskReserve(tmp_path, size=MB)
    assert reserve.take()
    journal = Journal(PostBox(), tmp_path, epoch=1, reserve=reserve)
    blocker = sqlite3.connect(journal.path, isolation_level=None)
    journal._writer.execute("PRAGMA busy_timeout = 10")
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError) as caught:
        journal._writer.execute("BEGIN IMMEDIATE")
    blocker.execute("ROLLBACK")
    blocker.close()
    journal.close()
    assert not is_full(caught.value)
    assert reserve.held


def test_the_loggers_store_refuses_and_is_complete_afterwards(make_disk: MakeDisk) -> None:
    disk = make_disk(4 * MB)
    with open_store(store_url("", disk.folder)) as store:
        write_events(store, HISTORY[:3])
        disk.fill()
        with pytest.raises(StoreUnavailable, match="nothing is lost"):
            _fill_store(store)
        held = store.position(ADAPTER)
        assert held is not None
        disk.empty()
        write_events(store, [facts.event(n, DealEvent(facts.deal(n))) for n in range(held.offset + 1, 2_001)])
        assert store.counts.deals >= 2_001 - 4
        last = store.position(ADAPTER)
        assert last is not None
        assert last.offset == 2_000


def _fill_store(store: Store) -> None:
    for first in range(4, 2_000, 100):
        write_events(store, [facts.event(n, DealEvent(facts.deal(n))) for n in range(first, first + 100)])


def test_a_strategys_files_refuse_say_so_and_are_whole_afterwards(make_disk: MakeDisk) -> None:
    disk = make_disk(MB)
    log = DispatchLog(disk.folder, wall_ms=lambda: 1_700_000_000_000)
    file = StateFile(disk.folder, AccountKey("Demo", 5))
    state = SavedState(VERSION, "log", 7, state=b"before")
    assert file.save(state)
    log.append(Record(1, Ended("before")))
    log.flush()
    disk.fill()
    log.append(Record(2, Ended("x" * 20_000)))
    log.flush()
    assert log.refused
    assert not file.save(SavedState(VERSION, "log", 8, state=bytes(100_000)))
    assert file.refused
    assert file.load() == state, "the last whole one"
    disk.empty()
    log.append(Record(3, Ended("after")))
    log.close()
    assert [record.now_ms for _, record in read_log(disk.folder)] == [1, 2, 3]
    assert file.save(SavedState(VERSION, "log", 9))


def test_a_capture_ends_first_and_reads_up_to_its_last_whole_record(make_disk: MakeDisk) -> None:
    disk = make_disk(MB)
    writer = CaptureWriter(disk.folder, "main", software="test", level=1)
    disk.fill(leave=50_000)
    with pytest.raises(OSError, match=r"(?i)space"):
        for number in range(10_000):
            writer.write("streams", b"v1/beacon/main/\0" + number.to_bytes(4, "big") * 50)
            writer.flush()
    writer.abandon()
    capture = Capture(writer.paths[0])
    assert sum(1 for _ in capture) > 0
    assert not capture.complete
    with pytest.raises(OSError, match="min_free_mb"):
        _stop_if_low(disk.folder, 256)


def test_keys_are_made_once_there_is_room(make_disk: MakeDisk) -> None:
    disk = make_disk(MB)
    disk.fill()
    store = KeyStore(disk.folder / "keys")
    with pytest.raises(OSError, match=r"(?i)space"):
        store.ensure()
    disk.empty()
    store.ensure()
    assert store.identity("client").name == "client"


def test_an_intents_outcome_is_written_from_the_reserve(make_disk: MakeDisk) -> None:
    """The record of an order is small; the journal's log beside it is what needs the room."""
    on = OnDisk(make_disk(8 * MB))
    on.disk.fill()
    numbers = [on.journal.next_intent_number() for _ in range(200)]
    for number in numbers:
        on.write(IntentRecord(intent(number)))
        on.write(IntentRecord(intent(number, State.DONE)))
    on.settle()
    assert all(on.journal.intent_by_number(number) is not None for number in numbers)
    on.close()


class NearlyFull:
    """A disk watch that is turned by hand."""

    low = False

    def check(self) -> None:
        if self.low:
            raise NotReady("the disk is nearly full")


def test_on_a_nearly_full_disk_exits_are_taken_and_nothing_else(tmp_path: Path) -> None:
    world = World(tmp_path).ready()
    disk: Any = NearlyFull()
    world.desk.disk = disk
    world.ask(SubmitOrder(1, "entry", "confluence", 0, "EURUSD", "buy", 0.2))
    world.settle()
    (position,) = world.broker.positions
    disk.low = True
    assert world.desk.mode.value == "reducing"
    refused = world.ask(SubmitOrder(2, "another", "confluence", 0, "EURUSD", "buy", 0.1))
    world.settle()
    (answer,) = refused.replies
    assert isinstance(answer, ErrorReply)
    assert answer.code == "not_ready"
    assert world.state("another") == "", "nothing of it was written: the id may come again"
    world.ask(ModifyPosition(3, "stop", "confluence", 0, position, 1.09, 0.0))
    world.settle()
    world.ask(ClosePosition(4, "exit", "confluence", 0, position))
    world.settle()
    world.wait(4)
    assert (world.state("stop"), world.state("exit")) == ("done", "done")
    assert not world.broker.positions
    disk.low = False
    assert world.desk.mode.value == "active"
    world.ask(SubmitOrder(5, "another", "confluence", 0, "EURUSD", "buy", 0.1))
    world.settle()
    assert len(world.broker.positions) == 1
    world.close()
