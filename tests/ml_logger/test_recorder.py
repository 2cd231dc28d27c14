"""The recorder against an adapter with real sockets: catching up, gaps, new logs, a store that stalls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ml_logger.node import LoggerNode
from ml_logger.rows import Batch
from ml_logger.store import Store, open_store, store_url
from mt5bus.config import Loaded
from protocol.errors import NotReady
from protocol.loop import Loop
from protocol.messages import DealEvent, Event, EventBody, GetDeals, GetEvents, GetRates, GetSnapshot
from protocol.numbering import EventPosition
from protocol.requests import Requester
from tests.held import held
from tests.ml_logger import facts
from tests.ml_logger.contents import everything, locked, table
from tests.ml_logger.fake_adapter import ADAPTER, FakeAdapter, make_home

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
FIRST_BAR_MS = facts.NOW_MS - facts.NOW_MS % MINUTE_MS


@pytest.fixture
def home(tmp_path: Path) -> Loaded:
    return make_home(tmp_path / "home")


@pytest.fixture
def adapter(home: Loaded) -> Iterator[FakeAdapter]:
    adapter = FakeAdapter(home)
    yield adapter
    adapter.close()


@pytest.fixture
def start(adapter: FakeAdapter, home: Loaded) -> Iterator[Callable[[], LoggerNode]]:
    """Return a starter of logger nodes in the adapter's loop."""
    nodes: list[LoggerNode] = []

    def started() -> LoggerNode:
        node = LoggerNode(adapter.loop, home, alone=True)
        nodes.append(node)
        node.start()
        return node

    yield started
    for node in nodes:
        node.close()


Start = Callable[[], LoggerNode]


def opened(home: Loaded) -> Store:
    return open_store(store_url(home.settings.logger.url, home.home.store), writing=False)


def holds(adapter: FakeAdapter, node: LoggerNode) -> Callable[[], bool]:
    return lambda: node.recorder.ready and node.recorder.event_offset == adapter.last_offset


def bodies(events: list[Event]) -> list[EventBody]:
    return [event.body for event in events]


def filled(node: LoggerNode) -> Callable[[], bool]:
    return lambda: node.recorder.ready and node.recorder.detail == ""


def expected(events: list[Event]) -> dict[str, list[dict[str, object]]]:
    """Return what a store holds that was handed these events directly."""
    with open_store(store_url("sqlite://", Path())) as store:
        batch = Batch(ADAPTER)
        number = store.enter_log(ADAPTER, EventPosition(events[0].log_id, 0))
        for event in events:
            batch.add_event(event, number)
        store.write(batch)
        return everything(store)


def test_first_start_reads_the_log_from_its_beginning(adapter: FakeAdapter, start: Start, home: Loaded) -> None:
    adapter.publish(*bodies(facts.life_of_an_order(1, 1)))
    node = start()
    adapter.until(holds(adapter, node))
    adapter.publish(*bodies(facts.life_of_an_order(10, 2)))
    adapter.until(holds(adapter, node))
    with opened(home) as store:
        assert everything(store) | {"coverage": []} == expected(adapter.events)


def test_absence_is_caught_up_from_the_log(adapter: FakeAdapter, start: Start, home: Loaded) -> None:
    node = start()
    adapter.publish(*bodies(facts.life_of_an_order(1, 1)))
    adapter.until(holds(adapter, node))
    node.close()
    for number in range(2, 200):  # 1782 events: several requests
        adapter.publish(*bodies(facts.life_of_an_order(0, number)), silently=True)
    asked = adapter.asked[GetEvents]
    node = start()
    adapter.until(holds(adapter, node))
    with opened(home) as store:
        assert everything(store) | {"coverage": []} == expected(adapter.events)
    assert adapter.asked[GetEvents] - asked >= 4
    assert node.report().signals == 199


def test_events_lost_by_the_stream_are_fetched(adapter: FakeAdapter, start: Start, home: Loaded) -> None:
    node = start()
    adapter.until(filled(node))
    adapter.publish(DealEvent(facts.deal(1)), silently=True)
    adapter.publish(DealEvent(facts.deal(2)))
    adapter.publish(DealEvent(facts.deal(3)), silently=True)  # a lost tail: the beacon tells
    adapter.until(lambda: node.report().deals == 3)
    with opened(home) as store:
        assert [row["ticket"] for row in table(store, "deals")] == [1, 2, 3]


def test_new_log_is_read_whole_and_history_again(adapter: FakeAdapter, start: Start, home: Loaded) -> None:
    node = start()
    adapter.publish(*bodies(facts.life_of_an_order(1, 1)))
    adapter.until(holds(adapter, node))
    adapter.until(filled(node))
    # The journal is lost, and with it a deal that only the broker's history tells of.
    adapter.deals = [facts.deal(1, position=1, client_order_id="o1"), facts.deal(77, entry=1, type_=1)]
    adapter.restart(log_id="log-b")
    adapter.publish(*bodies(facts.life_of_an_order(1, 2)), facts.intent("o1", "not_executed"), silently=True)
    adapter.until(lambda: node.report().deals == 3, what="deals 1, 2 and 77")
    adapter.until(holds(adapter, node))
    with opened(home) as store:
        assert store.position(ADAPTER) == EventPosition("log-b", 10)
        assert {row["client_order_id"]: row["state"] for row in table(store, "intents")} == {
            "o1": "not_executed",
            "o2": "done",
        }
        assert [row["log_number"] for row in table(store, "event_logs")] == [1, 2]


def test_log_that_lost_its_end_is_read_again(adapter: FakeAdapter, start: Start, home: Loaded) -> None:
    node = start()
    adapter.publish(*bodies(facts.life_of_an_order(1, 1)))
    adapter.until(holds(adapter, node))
    del adapter.events[4:]
    adapter.restart()
    adapter.publish(DealEvent(facts.deal(31)), DealEvent(facts.deal(32)), silently=True)
    adapter.until(lambda: node.report().deals == 3)
    adapter.until(holds(adapter, node))
    with opened(home) as store:
        assert store.position(ADAPTER) == EventPosition(facts.LOG, 6)


def test_what_the_store_holds_is_acknowledged_and_no_more(
    adapter: FakeAdapter, start: Start, home: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.acknowledger.INTERVAL_S", 0.05)
    adapter.publish(DealEvent(facts.deal(1)))
    node = start()
    adapter.until(lambda: adapter.acknowledged == {"": EventPosition(facts.LOG, 1)}, what="registered and caught up")
    with locked(home.home.store):
        adapter.publish(DealEvent(facts.deal(2)))
        adapter.until(lambda: node.recorder.trouble, what="the store refusing")
        assert adapter.acknowledged == {"": EventPosition(facts.LOG, 1)}
    adapter.until(lambda: adapter.acknowledged == {"": EventPosition(facts.LOG, 2)}, what="the rest")
    with opened(home) as store:
        assert store.position(ADAPTER) == EventPosition(facts.LOG, 2)


def test_log_that_loses_what_comes_next_while_it_is_followed_is_joined_anew(
    adapter: FakeAdapter, start: Start, home: Loaded
) -> None:
    node = start()
    adapter.publish(DealEvent(facts.deal(1)))
    adapter.until(holds(adapter, node))
    adapter.publish(*(DealEvent(facts.deal(ticket)) for ticket in (2, 3, 4)), silently=True)
    adapter.deals = [facts.deal(ticket) for ticket in (1, 2, 3, 4)]
    adapter.compact(4)  # before the next beacon shows the lost tail
    adapter.until(lambda: node.report().deals == 4, what="the log's rest and the history")
    adapter.until(holds(adapter, node))
    with opened(home) as store:
        assert sorted(row["ticket"] for row in table(store, "deals")) == [1, 2, 3, 4]


def test_compacted_log_is_resumed_at_its_oldest_event(adapter: FakeAdapter, start: Start, home: Loaded) -> None:
    node = start()
    adapter.publish(DealEvent(facts.deal(1)))
    adapter.until(holds(adapter, node))
    node.close()
    adapter.publish(*(DealEvent(facts.deal(ticket)) for ticket in (2, 3, 4)), silently=True)
    adapter.deals = [facts.deal(ticket) for ticket in (1, 2, 3, 4)]
    adapter.compact(4)
    node = start()
    adapter.until(lambda: node.report().deals == 4)
    adapter.until(holds(adapter, node))


def test_first_start_backfills_history_in_bounded_pages(adapter: FakeAdapter, start: Start, home: Loaded) -> None:
    first_ms = facts.NOW_MS - 20 * HOUR_MS
    adapter.deals = [facts.deal(n, time_ms=first_ms + n * 1000) for n in range(1, 351)]
    adapter.orders = [facts.order(n, state=4, done_ms=first_ms + n * 1000) for n in range(1, 251)]
    adapter.bar_times = [FIRST_BAR_MS - n * MINUTE_MS for n in range(1, 400)]
    node = start()
    adapter.until(filled(node))
    report = node.report()
    assert (report.deals, report.orders, report.bars) == (350, 250, 399)
    assert adapter.asked[GetDeals] >= 4
    spans = [to_ms - from_ms for _, from_ms, to_ms in adapter.ranges]
    assert max(spans) <= 24 * HOUR_MS
    with opened(home) as store:
        assert {row["revision"] for row in table(store, "bars")} == {1}


def test_backfill_is_resumed_where_it_was_cut_off(adapter: FakeAdapter, start: Start, home: Loaded) -> None:
    adapter.bar_times = [FIRST_BAR_MS - n * MINUTE_MS for n in range(1, 1001)]
    node = start()
    adapter.until(lambda: node.report().bars >= 300)
    node.close()
    done = node.report().bars
    assert done < 1000
    adapter.ranges.clear()
    node = start()
    adapter.until(filled(node))
    assert node.report().bars == 1000
    first_asked_ms = min(from_ms for kind, from_ms, _ in adapter.ranges if kind == "bars")
    assert first_asked_ms > facts.NOW_MS - 24 * HOUR_MS + 4 * HOUR_MS
    with opened(home) as store:
        assert [row["open_time_ms"] for row in table(store, "bars")] == sorted(adapter.bar_times)


def test_bars_of_an_absence_are_fetched(adapter: FakeAdapter, start: Start, home: Loaded) -> None:
    node = start()
    adapter.until(filled(node))
    adapter.publish_bar(FIRST_BAR_MS)
    adapter.until(lambda: node.report().bars == 1)
    node.close()
    for n in range(1, 31):
        adapter.publish_bar(FIRST_BAR_MS + n * MINUTE_MS)
    node = start()
    adapter.until(lambda: node.report().bars == 31)
    with opened(home) as store:
        assert [row["open_time_ms"] for row in table(store, "bars")] == sorted(adapter.bar_times)


@pytest.mark.parametrize("tail", [False, True], ids=["gap", "lost tail"])
def test_bars_lost_by_the_stream_are_fetched(adapter: FakeAdapter, start: Start, *, tail: bool) -> None:
    node = start()
    adapter.until(filled(node))
    adapter.publish_bar(FIRST_BAR_MS)
    adapter.until(lambda: node.report().bars == 1)
    adapter.publish_bar(FIRST_BAR_MS + MINUTE_MS, lost=True)
    if not tail:
        adapter.publish_bar(FIRST_BAR_MS + 2 * MINUTE_MS)
    adapter.until(lambda: node.report().bars == (2 if tail else 3))


def test_bar_that_was_forming_at_the_adapters_start_is_fetched(adapter: FakeAdapter, start: Start) -> None:
    node = start()
    adapter.until(filled(node))
    # Its first ticks were not seen, so it was not published; when it was asked for it had not ended.
    adapter.bar_times.append(FIRST_BAR_MS)
    adapter.publish_bar(FIRST_BAR_MS + MINUTE_MS)
    adapter.until(lambda: node.report().bars == 2)


def test_bars_of_the_adapters_absence_are_fetched(adapter: FakeAdapter, start: Start) -> None:
    node = start()
    adapter.until(filled(node))
    adapter.publish_bar(FIRST_BAR_MS)
    adapter.until(lambda: node.report().bars == 1)
    adapter.bar_times += [FIRST_BAR_MS + MINUTE_MS, FIRST_BAR_MS + 2 * MINUTE_MS]
    adapter.market_ms = FIRST_BAR_MS + 4 * MINUTE_MS
    adapter.restart()
    adapter.until(lambda: node.report().bars == 3)


def test_revised_bar_replaces_the_first(adapter: FakeAdapter, start: Start, home: Loaded) -> None:
    node = start()
    adapter.until(filled(node))
    adapter.publish_bar(FIRST_BAR_MS, close=1.1)
    adapter.publish_bar(FIRST_BAR_MS, revision=1, close=1.15)
    adapter.publish_bar(FIRST_BAR_MS + MINUTE_MS)
    adapter.until(lambda: node.report().bars == 2)
    with opened(home) as store:
        assert [row["close"] for row in table(store, "bars")] == [1.15, 1.1]


def test_adapter_that_cannot_answer_yet_is_asked_again(adapter: FakeAdapter, start: Start) -> None:
    for kind in (GetSnapshot, GetRates):
        adapter.refusals[kind] = NotReady("the terminal is away")
    adapter.bar_times = [FIRST_BAR_MS]
    node = start()
    adapter.until(lambda: adapter.asked[GetSnapshot] >= 1)
    assert node.recorder.detail == "joining the adapter"
    del adapter.refusals[GetSnapshot]
    adapter.until(lambda: adapter.asked[GetRates] >= 1)
    assert node.recorder.ready
    assert node.recorder.detail.startswith("filling history: ")
    del adapter.refusals[GetRates]
    adapter.until(filled(node))
    assert node.report().bars == 1


def test_stalled_store_leaves_events_in_the_log(adapter: FakeAdapter, start: Start, home: Loaded) -> None:
    node = start()
    adapter.publish(*bodies(facts.life_of_an_order(1, 1)))
    adapter.until(holds(adapter, node))
    with locked(home.home.store):
        for number in range(2, 100):
            adapter.publish(*bodies(facts.life_of_an_order(0, number)))
        adapter.until(lambda: "locked" in node.report().detail)
        assert not node.recorder.ready
        assert node.report().event_offset == 9
        adapter.until(lambda: node.life.state == "degraded")
    adapter.until(holds(adapter, node))
    with opened(home) as store:
        assert everything(store) | {"coverage": []} == expected(adapter.events)
    adapter.until(lambda: node.life.state == "ready")


def test_silent_adapter_is_told(adapter: FakeAdapter, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    node = start()
    adapter.until(filled(node))
    monkeypatch.setattr("ml_logger.recorder.SILENCE_S", 0.0)
    assert node.report().detail == "no beacon from the adapter"
    assert not node.recorder.ready


def test_nothing_is_gathered_while_the_store_stalls(adapter: FakeAdapter, start: Start, home: Loaded) -> None:
    node = start()
    adapter.publish(*bodies(facts.life_of_an_order(1, 1)))
    adapter.until(holds(adapter, node))
    with locked(home.home.store):
        counts = []
        for number in range(2, 42, 10):
            for each in range(number, number + 10):
                adapter.publish(*bodies(facts.life_of_an_order(0, each)))
            adapter.until(lambda: "locked" in node.report().detail)
            counts.append(held(node.recorder, beside=(Loop, Store, Requester)))
    assert max(counts) <= counts[0] + home.settings.logger.rows_per_commit, counts
    adapter.until(holds(adapter, node))
