"""Idempotent writes: any repetition and order of what is delivered leaves the same store."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_logger import schema
from ml_logger.errors import StoreUnavailable, StoreUnusable
from ml_logger.rows import FROM_HISTORY, Account, Batch
from ml_logger.store import FILE_NAME, Counts, Store, open_store, store_url
from protocol.messages import DealEvent, Event, OrderEvent, PositionEvent
from protocol.numbering import EventPosition
from tests.ml_logger import facts
from tests.ml_logger.contents import everything, locked, table

ADAPTER = "main"
ACCOUNT = Account(facts.SERVER, facts.LOGIN)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(store_url("", tmp_path)) as opened:
        yield opened


def write_events(store: Store, events: list[Event]) -> None:
    batch = Batch(ADAPTER)
    for event in events:
        number = store.enter_log(ADAPTER, EventPosition(event.log_id, 0))
        batch.add_event(event, number)
    store.write(batch)


def test_events_become_rows_counts_and_position(store: Store) -> None:
    write_events(store, facts.life_of_an_order(1, 7))
    assert store.counts == Counts(bars=0, signals=1, orders=1, deals=1)
    assert store.position(ADAPTER) == EventPosition(facts.LOG, 9)
    assert [row["name"] for row in table(store, "signal_features")] == ["atr", "rsi"]
    (intent,) = table(store, "intents")
    assert (intent["state"], intent["position"], intent["fill_price"]) == ("done", 7, 1.1002)
    (order,) = table(store, "orders")
    assert (order["final"], order["state"]) == (True, 4)
    (position,) = table(store, "positions")
    assert (position["change"], position["sl"]) == ("changed", 1.05)


HISTORY = facts.life_of_an_order(1, 1) + facts.life_of_an_order(10, 2)
HISTORY += [
    facts.event(19, DealEvent(facts.deal(50, position=1, entry=1, type_=1, profit=3.0))),
    facts.event(20, PositionEvent("closed", facts.position(1, volume=0.0))),
    facts.event(21, facts.intent("o2", "unknown")),
]
BARS = [facts.bar_update(i + 1, facts.NOW_MS + i % 3 * 60_000, revision=i // 3, close=1.0 + i // 3) for i in range(6)]


def deliver(store: Store, plan: list[list[int]]) -> None:
    """Write the events and bars of each batch; numbers from 100 on stand for bars."""
    number = store.enter_log(ADAPTER, EventPosition(facts.LOG, 0))
    for part in plan:
        batch = Batch(ADAPTER)
        for index in part:
            if index >= 100:
                batch.add_bar(ADAPTER, "EURUSD", BARS[index - 100])
            else:
                batch.add_event(HISTORY[index], number)
        store.write(batch)


WHOLE = [list(range(len(HISTORY))), [100 + index for index in range(len(BARS))]]
ANY = [index for part in WHOLE for index in part]


@settings(max_examples=25)
@given(
    before=st.lists(st.lists(st.sampled_from(ANY), max_size=12), max_size=4),
    order=st.permutations(ANY),
    cut=st.integers(0, len(ANY)),
)
def test_any_repetition_and_order_leaves_the_same_store(before: list[list[int]], order: list[int], cut: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a").mkdir()
        (Path(folder) / "b").mkdir()
        with (
            open_store(store_url("", Path(folder) / "a")) as straight,
            open_store(store_url("", Path(folder) / "b")) as mixed,
        ):
            deliver(straight, WHOLE)
            deliver(mixed, [*before, order[:cut], order[cut:], *before])
            # The position is not part of it: events are handed over in order, it is the rows that may come again.
            left, right = everything(straight), everything(mixed)
            left.pop("event_logs")
            right.pop("event_logs")
            assert left == right
            assert straight.counts == mixed.counts


def test_position_never_goes_back_within_a_log(store: Store) -> None:
    write_events(store, HISTORY)
    write_events(store, HISTORY[:3])
    assert store.position(ADAPTER) == EventPosition(facts.LOG, 21)
    store.enter_log(ADAPTER, EventPosition(facts.LOG, 5))
    assert store.position(ADAPTER) == EventPosition(facts.LOG, 21)


def test_newer_log_wins_over_an_older_one(store: Store) -> None:
    write_events(store, [facts.event(900, facts.intent("o1", "unknown"))])
    write_events(store, [facts.event(1, facts.intent("o1", "done"), log_id="log-b")])
    assert [row["state"] for row in table(store, "intents")] == ["done"]
    assert store.position(ADAPTER) == EventPosition("log-b", 1)


def test_log_that_lost_its_end_is_read_again_and_wins(store: Store) -> None:
    write_events(store, [facts.event(900, facts.intent("o1", "unknown"))])
    number = store.enter_log(ADAPTER, EventPosition(facts.LOG, 10), anew=True)
    assert number == 2
    assert store.position(ADAPTER) == EventPosition(facts.LOG, 10)
    write_events(store, [facts.event(11, facts.intent("o1", "done"))])
    assert [row["state"] for row in table(store, "intents")] == ["done"]


def test_final_order_of_the_history_is_not_undone_by_an_older_state(store: Store) -> None:
    batch = Batch(ADAPTER)
    batch.add_orders(ACCOUNT, [facts.order(3, state=4, done_ms=facts.NOW_MS)], FROM_HISTORY)
    store.write(batch)
    write_events(store, [facts.event(1, OrderEvent(facts.order(3, state=1)))])
    assert [row["state"] for row in table(store, "orders")] == [4]


def test_deal_learns_whose_it_is_and_never_forgets(store: Store) -> None:
    for client_order_id in ("", "o9", ""):
        batch = Batch(ADAPTER)
        batch.add_deals(ACCOUNT, [facts.deal(9, client_order_id=client_order_id)])
        store.write(batch)
    assert [row["client_order_id"] for row in table(store, "deals")] == ["o9"]
    assert store.counts.deals == 1


def test_revised_bar_wins_whichever_comes_first(store: Store) -> None:
    for revision, close in ((1, 1.5), (0, 1.4)):
        batch = Batch(ADAPTER)
        batch.add_bar(ADAPTER, "EURUSD", facts.bar_update(1, facts.NOW_MS, revision=revision, close=close))
        store.write(batch)
    assert [row["close"] for row in table(store, "bars")] == [1.5]


def test_counts_are_found_again_at_opening(tmp_path: Path) -> None:
    with open_store(store_url("", tmp_path)) as store:
        write_events(store, HISTORY)
        counts = store.counts
    with open_store(store_url("", tmp_path)) as store:
        assert store.counts == counts == Counts(bars=0, signals=2, orders=2, deals=3)


def test_hostile_values_are_kept_as_far_as_databases_can(store: Store) -> None:
    body = facts.signal("s\0", features={"nan": float("nan"), "inf": float("inf"), "n\0": 1.0})
    write_events(store, [facts.event(1, body)])
    batch = Batch(ADAPTER)
    batch.add_deals(ACCOUNT, [facts.deal(2**64 - 1)])
    store.write(batch)
    values = {row["name"]: row["value"] for row in table(store, "signal_features")}
    assert values == {"nan": None, "inf": float("inf"), "n\ufffd": 1.0}
    assert [row["ticket"] for row in table(store, "deals")] == [-1]


def test_failed_batch_leaves_nothing_and_is_told(store: Store, tmp_path: Path) -> None:
    write_events(store, HISTORY[:3])
    before = everything(store)
    with locked(tmp_path), pytest.raises(StoreUnavailable, match="locked"):
        write_events(store, HISTORY[3:])
    assert everything(store) == before
    write_events(store, HISTORY[3:])
    assert store.counts.deals == 3


def test_newer_schema_is_refused(tmp_path: Path) -> None:
    open_store(store_url("", tmp_path)).close()
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as other, other:
        other.execute("UPDATE schema_version SET version = 99")
    with pytest.raises(StoreUnusable, match="schema version 99"):
        open_store(store_url("", tmp_path))


def test_older_schema_is_brought_forward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_store(store_url("", tmp_path)).close()

    def add_table(connection: Any) -> None:
        connection.exec_driver_sql("CREATE TABLE added (x INTEGER)")

    monkeypatch.setattr(schema, "VERSION", 2)
    monkeypatch.setattr(schema, "MIGRATIONS", {1: add_table})
    with open_store(store_url("", tmp_path)) as store, store.reading() as connection:
        assert schema.version_of(connection) == 2
        assert connection.exec_driver_sql("SELECT count(*) FROM added").scalar() == 0


def test_foreign_tables_are_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as other, other:
        other.execute("CREATE TABLE orders (id INTEGER)")
    with pytest.raises(StoreUnusable, match="orders"):
        open_store(store_url("", tmp_path))


def test_damaged_file_is_told_from_a_busy_one(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreUnusable, match="damaged"):
        open_store(store_url("", tmp_path))


def test_reading_needs_a_store_that_was_written(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="there is no store"):
        open_store(store_url("", tmp_path), writing=False)
    sqlite3.connect(tmp_path / FILE_NAME).close()
    (tmp_path / FILE_NAME).touch()
    with pytest.raises(StoreUnusable, match="is empty"):
        open_store(store_url("", tmp_path), writing=False)


@pytest.mark.parametrize("wrong", ["no url", "mysql://u:secret@h/d", "oracle://u:secret@h/d"])
def test_wrong_url_is_told_without_its_password(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable) as caught:
        open_store(store_url(wrong, tmp_path))
    assert "secret" not in str(caught.value)
