"""A store that goes away while the logger runs: a server stopped, a disk full. Afterwards nothing is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ml_logger import schema
from ml_logger.node import LoggerNode
from ml_logger.store import open_store, store_url
from mt5bus.config import Loaded
from protocol.messages import DealEvent
from protocol.numbering import EventPosition
from tests.disk.conftest import SmallDisk, make_disk
from tests.ml_logger import facts
from tests.ml_logger.conftest import Postgres
from tests.ml_logger.contents import table
from tests.ml_logger.fake_adapter import ADAPTER, FakeAdapter, make_home

BEFORE, DURING, AFTER = 20, 60, 20

__all__ = ["make_disk"]  # a fixture


class Recording:
    """A logger on an adapter; both turn in the test's hand."""

    def __init__(self, home: Loaded) -> None:
        self.home = home
        self.adapter = FakeAdapter(home)
        self.node = LoggerNode(self.adapter.loop, home, alone=True)
        self.node.start()
        self.deals = 0

    def happen(self, count: int) -> None:
        """Let so many deals happen."""
        for _ in range(count):
            self.deals += 1
            self.adapter.publish(DealEvent(facts.deal(self.deals)))

    def until_held(self) -> None:
        self.adapter.until(
            lambda: self.node.recorder.event_offset == self.adapter.last_offset and self.node.recorder.ready,
            timeout_s=40,
            what="every event in the store",
        )

    def until_trouble(self) -> None:
        self.adapter.until(lambda: self.node.recorder.trouble, timeout_s=30, what="the outage noticed")

    def check(self) -> None:
        """Compare the store with what happened."""
        with open_store(store_url(self.home.settings.logger.url, self.home.home.store), writing=False) as store:
            assert sorted(row["ticket"] for row in table(store, "deals")) == list(range(1, self.deals + 1))
            assert store.position(ADAPTER) == EventPosition(facts.LOG, self.deals)

    def close(self) -> None:
        self.node.close()
        self.adapter.close()


@pytest.fixture
def record() -> Iterator[Callable[[Loaded], Recording]]:
    made: list[Recording] = []

    def recording(home: Loaded) -> Recording:
        made.append(Recording(home))
        return made[-1]

    yield recording
    for each in made:
        each.close()


def test_a_server_that_goes_and_returns(
    record: Callable[[Loaded], Recording], postgres: Postgres, tmp_path: Path
) -> None:
    it = record(make_home(tmp_path / "home", url=postgres.url))
    it.happen(BEFORE)
    it.until_held()
    postgres.stop()
    try:
        it.happen(DURING)
        it.until_trouble()
        assert it.node.recorder.event_offset == BEFORE
    finally:
        postgres.start()
    it.happen(AFTER)
    it.until_held()
    it.check()
    with open_store(store_url(postgres.url, Path())) as store, store.reading() as connection:
        schema.metadata.drop_all(connection)


def test_a_disk_that_is_full_for_a_while(
    record: Callable[[Loaded], Recording], make_disk: Callable[[int], SmallDisk], tmp_path: Path
) -> None:
    disk = make_disk(3_000_000)
    it = record(make_home(tmp_path / "home", url=f"sqlite:///{disk.folder / 'store.sqlite3'}"))
    it.happen(BEFORE)
    it.until_held()
    disk.fill()
    while not it.node.recorder.trouble:
        it.happen(DURING)
        it.adapter.until(
            lambda: it.node.recorder.trouble or it.node.recorder.event_offset == it.adapter.last_offset,
            timeout_s=30,
            what="written or refused",
        )
    it.happen(DURING)
    disk.empty()
    it.happen(AFTER)
    it.until_held()
    it.check()
