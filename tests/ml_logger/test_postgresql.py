"""The store on a real PostgreSQL server: the same rows, the same idempotence, and a server that goes away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from ml_logger import schema
from ml_logger.dataset import frame
from ml_logger.errors import StoreUnavailable
from ml_logger.rows import Batch
from ml_logger.store import Counts, Store, open_store, store_url
from protocol.messages import DealEvent
from protocol.numbering import EventPosition
from tests.ml_logger import facts
from tests.ml_logger.conftest import Postgres
from tests.ml_logger.contents import everything, table
from tests.ml_logger.ports import free_port
from tests.ml_logger.test_store import ADAPTER, BARS, HISTORY, WHOLE, deliver, write_events


@pytest.fixture
def store(postgres: Postgres) -> Iterator[Store]:
    with open_store(store_url(postgres.url, Path())) as opened:
        yield opened
        with opened.reading() as connection:
            schema.metadata.drop_all(connection)


def test_both_databases_hold_the_same(store: Store, tmp_path: Path) -> None:
    with open_store(store_url("", tmp_path)) as sqlite:
        for opened in (store, sqlite):
            deliver(opened, WHOLE)
        assert everything(store) == everything(sqlite)
        assert store.counts == sqlite.counts == Counts(bars=3, signals=2, orders=2, deals=3)


def test_repeated_and_reordered_batches_change_nothing(store: Store) -> None:
    deliver(store, WHOLE)
    before, counts = everything(store), store.counts
    deliver(store, [list(reversed(part)) for part in reversed(WHOLE)])
    deliver(store, [[100, 100, 3, 3], [2], [100 + len(BARS) - 1]])
    assert everything(store) == before
    assert store.counts == counts


def test_position_and_counts_are_found_again(store: Store, postgres: Postgres) -> None:
    write_events(store, HISTORY)
    with open_store(store_url(postgres.url, Path()), writing=False) as again:
        assert again.position(ADAPTER) == EventPosition(facts.LOG, len(HISTORY))
    with open_store(store_url(postgres.url, Path())) as again:
        assert again.counts == store.counts


def test_hostile_values_are_kept(store: Store) -> None:
    write_events(store, [facts.event(1, facts.signal("s\0", features={"nan": float("nan"), "inf": float("inf")}))])
    write_events(store, [facts.event(2, DealEvent(facts.deal(2**64 - 1)))])
    assert {row["name"]: row["value"] for row in table(store, "signal_features")} == {
        "nan": None,
        "inf": float("inf"),
    }
    assert [row["ticket"] for row in table(store, "deals")] == [-1]


def test_data_set_comes_from_either(store: Store, tmp_path: Path) -> None:
    with open_store(store_url("", tmp_path)) as sqlite:
        for opened in (store, sqlite):
            deliver(opened, WHOLE)
        assert frame(store).equals(frame(sqlite))
        assert frame(store)["outcome"].tolist() == ["closed", "open"]


def test_server_that_restarts_loses_nothing_that_was_committed(store: Store, postgres: Postgres) -> None:
    write_events(store, HISTORY[:5])
    postgres.stop()
    try:
        batch = Batch(ADAPTER)
        batch.add_event(HISTORY[5], 1)
        with pytest.raises(StoreUnavailable):
            store.write(batch)
        with pytest.raises(StoreUnavailable):
            open_store(store_url(postgres.url, Path()))
    finally:
        postgres.start()
    write_events(store, HISTORY[5:])
    assert store.position(ADAPTER) == EventPosition(facts.LOG, len(HISTORY))


def test_password_is_in_no_message(tmp_path: Path) -> None:
    url = make_url(f"postgresql://tester:marked-secret@127.0.0.1:{free_port()}/nowhere")
    with pytest.raises(StoreUnavailable) as caught:
        open_store(store_url(url.render_as_string(hide_password=False), tmp_path))
    assert "marked-secret" not in str(caught.value)
