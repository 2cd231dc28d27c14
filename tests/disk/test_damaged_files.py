"""Files cut anywhere, bits flipped, zeroed: what is whole is used, the rest is refused by name, no order is doubled."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from broker_adapter.epoch import next_epoch
from broker_adapter.journal import FILE_NAME, Journal
from broker_adapter.journal_records import ConsumerRecord, IntentRecord
from broker_adapter.order_states import State
from ml_logger import store as store_module
from ml_logger.errors import StoreError
from ml_logger.store import open_store, store_url
from protocol.errors import BusError, InitialisationFailed
from protocol.messages import SubmitOrder
from strategy.dispatch_log import DispatchLog, log_files, read_log
from strategy.inputs import Ended, Record
from tests.broker_adapter.fake_broker import World
from tests.broker_adapter.journal_loop import PostBox
from tests.broker_adapter.test_event_retention import alert, deal
from tests.broker_adapter.test_journal import intent
from tests.ml_logger.test_store import HISTORY, write_events
from tests.waiting import eventually

COUNT = 60
ANY_PLACE = st.floats(0, 1, exclude_max=True)
OFTEN = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(folder: Path) -> Journal:
    """Return a journal that is still open, with events, intents and a consumer on disk."""
    box = PostBox()
    journal = Journal(box, folder, epoch=1)
    for number in range(1, COUNT + 1):
        record = IntentRecord(intent(journal.next_intent_number(), State.DONE if number % 2 else State.INTENDED))
        journal.write([deal(number), alert(number), record, ConsumerRecord("reader", number)], lambda _: None)

    def done() -> bool:
        box.run()
        return journal.outstanding == 0

    eventually(done, what="the disk")
    return journal


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files as a killed adapter leaves them: most is in the write-ahead log."""
    folder = tmp_path_factory.mktemp("journal")
    (folder / "live").mkdir()
    journal = written(folder / "live")
    image = folder / "image"
    image.mkdir()
    for path in (folder / "live").glob(f"{FILE_NAME}*"):
        shutil.copy(path, image / path.name)
    journal.close()
    closed = folder / "closed"
    closed.mkdir()
    shutil.copy(folder / "live" / FILE_NAME, closed / FILE_NAME)
    return folder


def read_all(journal: Journal) -> tuple[list[int], int]:
    """Read everything that the adapter reads; return the events' offsets and how many intents there are."""
    events = journal.events_after(0, 100_000)
    intents = journal.recent_intents(0)
    journal.live_intents()
    journal.consumers()
    journal.counts()
    journal.last_recorded_ms("Broker-Demo", 1001)
    journal.known_positions("Broker-Demo", 1001)
    journal.metas("mo")
    return [event.offset for event in events], len(intents)


def opened_from(source: Path, target: Path, name: str, change: Any) -> tuple[list[int], int] | None:
    """Return what a journal holds of whose files one was changed; None where it is refused by name."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    path = target / name
    path.write_bytes(change(bytearray(path.read_bytes())))
    try:
        journal = Journal(PostBox(), target, epoch=2)
    except InitialisationFailed as error:
        assert FILE_NAME in error.text
        return None
    try:
        return read_all(journal)
    except InitialisationFailed as error:
        assert "damaged" in error.text
        return None
    finally:
        journal.close()


@OFTEN
@given(place=ANY_PLACE)
def test_a_write_ahead_log_cut_anywhere_loses_a_tail_and_nothing_else(
    crashed: Path, tmp_path: Path, place: float
) -> None:
    found = opened_from(
        crashed / "image", tmp_path / "j", f"{FILE_NAME}-wal", lambda data: data[: int(place * len(data))]
    )
    if found is not None:  # with too little of it there is no journal of ours yet
        offsets, intents = found
        assert offsets == list(range(1, len(offsets) + 1))
        assert len(offsets) == 2 * intents, "an event and what was written with it are one unit"


@OFTEN
@given(place=ANY_PLACE, bit=st.integers(0, 7))
def test_a_bit_flipped_in_the_write_ahead_log_loses_a_tail_and_nothing_else(
    crashed: Path, tmp_path: Path, place: float, bit: int
) -> None:
    def flip(data: bytearray) -> bytearray:
        data[int(place * len(data))] ^= 1 << bit
        return data

    found = opened_from(crashed / "image", tmp_path / "j", f"{FILE_NAME}-wal", flip)
    if found is not None:
        assert found[0] == list(range(1, len(found[0]) + 1))


@OFTEN
@given(place=ANY_PLACE)
def test_a_journal_cut_anywhere_is_refused_or_whole(crashed: Path, tmp_path: Path, place: float) -> None:
    found = opened_from(crashed / "closed", tmp_path / "j", FILE_NAME, lambda data: data[: int(place * len(data))])
    assert found in (None, (list(range(1, 2 * COUNT + 1)), COUNT))


@OFTEN
@example(place=0.03125, bit=7)  # in the text of the schema: SQLite's complaint about it is no text itself
@given(place=ANY_PLACE, bit=st.integers(0, 7))
def test_a_bit_flipped_in_the_journal_is_never_more_than_a_refusal(
    crashed: Path, tmp_path: Path, place: float, bit: int
) -> None:
    def flip(data: bytearray) -> bytearray:
        data[int(place * len(data))] ^= 1 << bit
        return data

    found = opened_from(crashed / "closed", tmp_path / "j", FILE_NAME, flip)
    if found is not None:
        assert found == (list(range(1, 2 * COUNT + 1)), COUNT)


@pytest.mark.parametrize("content", [b"", b"\0" * 20, b"99999999999999999999999\n", b"garbage", b"\xff\xfe"])
def test_a_damaged_epoch_counts_as_no_life_before(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "epoch").write_bytes(content)
    assert next_epoch(tmp_path, wall_ms=1_700_000_000_000) >= 1_700_000_000_000


def test_an_order_that_an_old_copy_of_the_journal_does_not_know_keeps_its_number_to_itself(tmp_path: Path) -> None:
    """Its id is gone with the copy, so the same id again would be a new order. But its deals are told, its position is
    ours by its magic, and no new order is taken for it: numbers come from the clock and are not given out again."""
    (tmp_path / "adapter").mkdir()
    world = World(tmp_path / "adapter").ready()
    world.ask(SubmitOrder(1, "first", "confluence", 0, "EURUSD", "buy", 0.1))
    world.settle()
    world.crash()
    shutil.copytree(tmp_path / "adapter", tmp_path / "copy")
    world.restart()
    world.ready()
    world.wait(60, every_s=2)
    world.ask(SubmitOrder(1, "second", "confluence", 0, "EURUSD", "buy", 0.2))
    world.settle()
    assert world.state("second") == "done"
    world.crash()
    shutil.rmtree(tmp_path / "adapter")
    shutil.copytree(tmp_path / "copy", tmp_path / "adapter")
    world.clock.advance(60)
    world.published.clear()
    world.restart()
    world.ready()
    world.wait(10, every_s=5)
    assert world.state("second") == ""
    positions = {position.volume: position for position in world.desk.positions}
    assert set(positions) == {0.1, 0.2}
    lost = positions[0.2]
    assert world.desk.is_ours(lost.magic, lost.comment, lost.identifier), "flatten closes it"
    world.ask(SubmitOrder(1, "third", "confluence", 0, "EURUSD", "buy", 0.3))
    world.settle()
    world.wait(10, every_s=5)
    magics = [position.magic for position in world.desk.positions]
    assert len(set(magics)) == len(magics) == 3
    third = next(position for position in world.desk.positions if position.client_order_id == "third")
    assert third.volume == 0.3
    world.close()


@OFTEN
@given(place=ANY_PLACE, bit=st.integers(0, 7))
def test_a_dispatch_log_with_a_flipped_bit_reads_to_there_or_differs_in_one_record(
    tmp_path: Path, place: float, bit: int
) -> None:
    folder = tmp_path / "log"
    shutil.rmtree(folder, ignore_errors=True)
    log = DispatchLog(folder, wall_ms=lambda: 1_700_000_000_000)
    for number in range(20):
        log.append(Record(number, Ended(f"reason {number}")))
    log.close()
    ((path, _),) = log_files(folder)
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    path.write_bytes(data)
    found = [record for _, record in read_log(folder)]
    intact = sum(record == Record(n, Ended(f"reason {n}")) for n, record in enumerate(found))
    assert intact >= len(found) - 1 or len(found) < 20
    again = DispatchLog(folder, wall_ms=lambda: 1_700_000_000_000)
    again.append(Record(99, Ended("after")))
    again.close()
    assert [record.now_ms for _, record in read_log(folder)][-1] == 99


@OFTEN
@given(place=ANY_PLACE, bit=st.integers(0, 7), cut=st.booleans())
def test_a_damaged_store_is_told_as_one(tmp_path: Path, place: float, bit: int, cut: bool) -> None:
    folder = tmp_path / "store"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with open_store(store_url("", folder)) as store:
        write_events(store, HISTORY)
    path = folder / store_module.FILE_NAME
    data = bytearray(path.read_bytes())
    at = int(place * len(data))
    data = data[:at] if cut else data
    if not cut:
        data[at] ^= 1 << bit
    path.write_bytes(data)
    try:
        with open_store(store_url("", folder)) as store:
            write_events(store, HISTORY)
            store.position("main")
            store.coverage()
    except StoreError as error:
        assert str(path) in str(error)


def test_a_damaged_event_is_an_error_for_who_asks_and_the_adapter_goes_on(tmp_path: Path) -> None:
    journal = written(tmp_path)
    journal.close()
    data = bytearray((tmp_path / FILE_NAME).read_bytes())
    at = data.index(b"alert\xa2") if b"alert\xa2" in data else data.index(b"\xa5alert")
    data[at] = 0xC1  # no MessagePack begins so
    (tmp_path / FILE_NAME).write_bytes(data)
    journal = Journal(PostBox(), tmp_path, epoch=2)
    try:
        with pytest.raises(BusError, match="damaged"):
            journal.events_after(0, 1000)
        assert len(journal.recent_intents(0)) == COUNT
    finally:
        journal.close()
