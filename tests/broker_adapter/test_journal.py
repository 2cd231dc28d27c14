"""The journal on a real disk: order, durability through kill -9, deduplication, damage."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from broker_adapter.intents import Intent
from broker_adapter.journal import CAPACITY, Journal
from broker_adapter.journal_records import EventRecord, IntentRecord, KnownRecord, MetaRecord
from broker_adapter.journal_schema import SCHEMA_VERSION
from broker_adapter.order_states import State
from protocol.errors import InitialisationFailed, NotReady
from protocol.messages import AlertEvent, Event, ModeEvent, Position
from tests.broker_adapter.journal_loop import PostBox
from tests.waiting import eventually

SERVER, LOGIN = "Broker-Demo", 1001


def alert(number: int) -> EventRecord:
    return EventRecord(AlertEvent(str(number), "warning", "test", f"alert {number}"), SERVER, LOGIN, number)


def intent(number: int, state: State = State.INTENDED, name: str = "") -> Intent:
    return Intent(
        number=number,
        client_order_id=name or f"order-{number}",
        fingerprint="f",
        server=SERVER,
        login=LOGIN,
        strategy="s",
        action="open",
        state=state,
        symbol="EURUSD",
        created_ms=1,
    )


class Opened:
    """A journal with the loop that its callbacks come back through."""

    def __init__(self, folder: Path, *, epoch: int = 7) -> None:
        self.box = PostBox()
        self.journal = Journal(self.box, folder, epoch=epoch)
        self.published: list[Event] = []
        self.callbacks = 0

    def write(self, *records: EventRecord | IntentRecord | KnownRecord | MetaRecord) -> None:
        self.journal.write(records, self._on_durable)

    def _on_durable(self, events: tuple[Event, ...]) -> None:
        self.callbacks += 1
        self.published.extend(events)

    def settle(self) -> None:
        eventually(lambda: (self.box.run(), self.journal.outstanding == 0)[1], what="the disk")


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    it = Opened(tmp_path)
    yield it
    it.journal.close()


def test_events_are_numbered_without_holes_and_told_once_durable(opened: Opened) -> None:
    for number in range(1, 51):
        opened.write(alert(number))
    assert opened.published == []  # nothing is told before the loop turns
    opened.settle()
    assert [event.offset for event in opened.published] == list(range(1, 51))
    assert opened.journal.last_offset == 50
    assert opened.journal.events_after(0, 1000) == tuple(opened.published)
    assert [event.offset for event in opened.journal.events_after(48, 1000)] == [49, 50]
    assert [event.offset for event in opened.journal.events_after(10, 3)] == [11, 12, 13]
    assert opened.journal.events_after(2**64 - 1, 10) == ()  # a number that no SQLite column holds


def test_the_same_fact_is_stored_once_per_account(opened: Opened) -> None:
    opened.write(alert(1), alert(2))
    opened.write(alert(1), EventRecord(alert(1).body, SERVER, 2002, 1), alert(3))
    opened.settle()
    assert [(e.offset, e.login, e.body.key()) for e in opened.published] == [
        (1, LOGIN, "alert:1"),
        (2, LOGIN, "alert:2"),
        (3, 2002, "alert:1"),
        (4, LOGIN, "alert:3"),
    ]


def test_a_key_of_its_own_lets_an_equal_fact_happen_again(opened: Opened) -> None:
    mode = ModeEvent("active", "", 1)
    opened.write(EventRecord(mode, SERVER, LOGIN, 1, "a"), EventRecord(mode, SERVER, LOGIN, 1, "b"))
    opened.settle()
    assert len(opened.published) == 2


def test_everything_survives_reopening(tmp_path: Path) -> None:
    first = Opened(tmp_path, epoch=1)
    position = Position(5, 5, "EURUSD", 0, 0.1, 1.1, 0.0, 0.0, 1.1, 0.0, 0.0, 0, "", 3, 1, 1)
    number = first.journal.next_intent_number()
    first.write(
        alert(1),
        IntentRecord(intent(number)),
        KnownRecord(SERVER, LOGIN, "position", 5, position),
        MetaRecord("mode", "halted"),
    )
    first.settle()
    first.journal.close()
    second = Opened(tmp_path, epoch=2)
    try:
        journal = second.journal
        assert journal.log_id == first.journal.log_id
        assert journal.last_offset == 1
        assert journal.events_after(0, 10)[0].epoch == 1
        assert journal.known_positions(SERVER, LOGIN) == (position,)
        assert journal.known_positions(SERVER, 9) == ()
        assert journal.meta("mode") == "halted"
        assert journal.metas("mo") == {"mode": "halted"}
        assert journal.live_intents() == (intent(number),)
        assert journal.intent(f"order-{number}") == intent(number)
        assert journal.next_intent_number() == number + 1
        second.write(alert(2), KnownRecord(SERVER, LOGIN, "position", 5, None))
        second.settle()
        assert second.published[0].offset == 2
        assert journal.known_positions(SERVER, LOGIN) == ()
    finally:
        second.journal.close()


def test_an_intent_is_found_by_everything_that_names_it(opened: Opened) -> None:
    done = intent(opened.journal.next_intent_number()).moved(State.SENT).moved(State.DONE, order=77, position=78)
    opened.write(IntentRecord(intent(done.number)), IntentRecord(done))
    opened.settle()
    journal = opened.journal
    assert journal.intent_by_number(done.number) == done
    assert journal.intent_by_order(77) == done
    assert journal.opener_of(78) == done
    assert journal.intent_by_order(0) is None
    assert journal.live_intents() == ()
    assert journal.recent_intents(0) == (done,)
    assert journal.counts().submitted == 1


@pytest.mark.parametrize("action", ["modify_order", "cancel"])
def test_who_changes_an_order_did_not_make_it(opened: Opened, action: str) -> None:
    change = msgspec.structs.replace(intent(opened.journal.next_intent_number()), action=action, order=77)
    opened.write(IntentRecord(change))
    opened.settle()
    assert opened.journal.intent_by_order(77) is None
    made = msgspec.structs.replace(intent(opened.journal.next_intent_number()), action="pending", order=77)
    opened.write(IntentRecord(made))
    opened.settle()
    assert opened.journal.intent_by_order(77) == made


def test_a_new_journal_counts_from_beyond_what_an_earlier_one_reached(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    old = Opened(tmp_path / "a")
    first = old.journal.next_intent_number()
    old.journal.close()
    later = PostBox()
    later.clock.advance(60)  # type: ignore[attr-defined]
    new = Journal(later, tmp_path / "b", epoch=1)
    assert new.next_intent_number() >= first + 60 * 1000
    new.close()


def test_numbers_go_on_where_they_were_while_the_clock_stands(tmp_path: Path) -> None:
    first = Opened(tmp_path)
    number = first.journal.next_intent_number()
    first.write(IntentRecord(intent(number)))
    first.settle()
    first.journal.close()
    again = Journal(PostBox(), tmp_path, epoch=2)
    assert again.next_intent_number() == number + 1
    again.close()


def test_a_full_queue_refuses_new_work_but_takes_outcomes(opened: Opened) -> None:
    for number in range(CAPACITY):
        opened.write(alert(number))  # no callback has run yet, so all of them are outstanding
    with pytest.raises(NotReady):
        opened.write(alert(-1))
    opened.journal.write([alert(-2)], opened.published.extend, essential=True)
    opened.settle()
    opened.write(alert(-3))
    opened.settle()
    assert len(opened.published) == CAPACITY + 2


def test_a_second_adapter_on_the_same_folder_is_refused(opened: Opened, tmp_path: Path) -> None:
    with pytest.raises(InitialisationFailed, match="another adapter"):
        Journal(PostBox(), tmp_path, epoch=1)
    assert opened.journal.has_room


def test_a_disk_that_refuses_is_retried_in_order(opened: Opened) -> None:
    blocker = sqlite3.connect(opened.journal.path, isolation_level=None)
    try:
        opened.journal._writer.execute("PRAGMA busy_timeout = 10")
        blocker.execute("BEGIN IMMEDIATE")
        opened.write(alert(1))
        eventually(lambda: opened.box.run() and opened.journal.trouble, what="trouble noticed")
        with pytest.raises(NotReady, match="locked"):
            opened.write(alert(2))
        opened.journal.write([alert(3)], opened.published.extend, essential=True)
    finally:
        blocker.execute("ROLLBACK")
        blocker.close()
    opened.settle()
    assert opened.journal.trouble == ""
    assert [event.body.key() for event in opened.published] == ["alert:1", "alert:3"]


@pytest.mark.parametrize("spoil", [b"", b"not a database at all" * 500])
def test_a_damaged_file_is_named_and_not_replaced(tmp_path: Path, spoil: bytes) -> None:
    first = Opened(tmp_path)
    for number in range(200):
        first.write(alert(number))
    first.settle()
    path = first.journal.path
    first.journal.close()
    data = bytearray(path.read_bytes())
    if spoil:
        data[: len(spoil)] = spoil
    else:
        data = data[: len(data) // 2]
    path.write_bytes(data)
    with pytest.raises(InitialisationFailed, match="damaged") as caught:
        Journal(PostBox(), tmp_path, epoch=1)
    assert str(path) in caught.value.text
    assert path.read_bytes() == data
    with pytest.raises(InitialisationFailed, match="damaged"):  # and the lock was given back
        Journal(PostBox(), tmp_path, epoch=1)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    first = Opened(tmp_path)
    path = first.journal.path
    first.journal.close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(InitialisationFailed, match="newer mt5bus"):
        Journal(PostBox(), tmp_path, epoch=1)


def test_finished_intents_are_forgotten_after_their_time_but_live_ones_never(tmp_path: Path) -> None:
    first = Opened(tmp_path)
    live, finished = first.journal.next_intent_number(), first.journal.next_intent_number()
    first.write(IntentRecord(intent(live)), IntentRecord(intent(finished, State.DONE)))
    first.settle()
    first.journal.close()
    box = PostBox()
    box.clock.advance(91 * 86_400)  # type: ignore[attr-defined]
    second = Journal(box, tmp_path, epoch=2)
    assert second.intent_by_number(live) is not None
    assert second.intent_by_number(finished) is None
    assert second.next_intent_number() > finished
    second.close()


_WRITER = """
import sys
from pathlib import Path
from broker_adapter.journal import Journal
from tests.broker_adapter.journal_loop import PostBox
from tests.broker_adapter.test_journal import alert, intent
from broker_adapter.journal_records import IntentRecord
box = PostBox()
journal = Journal(box, Path(sys.argv[1]), epoch=1)
def told(events):
    for event in events:
        sys.stdout.write(f"{event.offset}\\n")
    sys.stdout.flush()
number = 0
while True:
    number += 1
    if journal.has_room:
        journal.write([alert(number), IntentRecord(intent(journal.next_intent_number()))], told)
    box.run()
"""


def test_nothing_that_was_told_is_lost_by_kill_9(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, encoding="utf-8")
    assert child.stdout is not None
    told = [int(child.stdout.readline()) for _ in range(300)]
    child.kill()
    told += [int(line) for line in child.stdout.read().split()]
    child.stdout.close()
    child.wait()
    again = Opened(tmp_path)
    try:
        events = again.journal.events_after(0, 1_000_000)
        assert [event.offset for event in events] == list(range(1, len(events) + 1))
        assert told == list(range(1, len(told) + 1))
        assert len(events) >= len(told)
        # An event and the intent written with it are one unit.
        assert len(again.journal.live_intents()) == len(events)
    finally:
        again.journal.close()
