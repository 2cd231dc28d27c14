"""The node over real sockets, on an adapter that restarts, loses answers and stays silent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from market.bars import Bar
from mt5bus.config import Loaded
from mt5bus.home import Home
from mt5bus.settings import Bus, Settings, StrategySettings
from protocol.errors import BusError
from protocol.keys import KeyStore
from protocol.loop import Loop
from protocol.messages import BarUpdate, Beacon, GetRates, PositionEvent, StateUpdate
from protocol.numbering import EventPosition
from strategy.inputs import Occurred
from strategy.node import StrategyNode
from strategy.replay import decisions, first_difference, logged, replay
from strategy.runner import Runner, WaitedTooLong
from strategy.sdk import Context, Strategy
from tests.held import held
from tests.strategy.example_strategies import Eager, OnEveryBar, Raises, Recorder
from tests.strategy.fake_adapter import FakeAdapter, Journal, free_ports
from tests.strategy.samples import (
    LOG_ID,
    PERIOD_MS,
    START_MS,
    TIMEFRAME,
    account,
    bar,
    class_path,
    example_path,
    intent,
    position,
)

DEADLINE_S = 20.0


class System:
    """A node and an adapter, both turned by the test's own hand."""

    def __init__(self, home: Path) -> None:
        self.home = Home.find(home).create()
        self.keys = KeyStore(self.home.keys)
        self.keys.ensure()
        self.port = free_ports()
        self.journal = Journal()
        self.journal.bars["EURUSD"] = [bar(number) for number in range(-10, 0)]
        self.adapter: FakeAdapter | None = None
        self.node: StrategyNode | None = None

    def start_adapter(self) -> FakeAdapter:
        self.adapter = FakeAdapter(self.journal, self.keys, self.port)
        return self.adapter

    def stop_adapter(self) -> None:
        assert self.adapter is not None
        self.adapter.close()
        self.adapter = None

    def start_node(self, *kinds: type[Strategy] | str, **params: Any) -> StrategyNode:
        tables = tuple(
            StrategySettings(
                name="test" if place == 0 else f"test{place}", number=place + 1, symbols=("EURUSD",), params=params,
                class_path=kind if isinstance(kind, str) else class_path(kind),
            )
            for place, kind in enumerate(kinds)
        )  # fmt: skip
        settings = Settings(bus=Bus(port=self.port), strategy=tables)
        loaded = Loaded(home=self.home, file=None, settings=settings, sources={})
        loop = Loop()
        try:
            self.node = StrategyNode(loaded, loop, alone=True)
        except BaseException:
            loop.close()
            raise
        return self.node

    def stop_node(self) -> None:
        assert self.node is not None
        self.node.close()
        self.node.loop.close()
        self.node = None

    def kill_node(self) -> None:
        """End it as SIGKILL would: nothing is saved, nothing is flushed."""
        assert self.node is not None
        for runner in self.node.runners:
            runner.phase = "ended"
            runner._log._held.clear()
            runner._log.close()
        self.stop_node()

    def close(self) -> None:
        if self.node is not None:
            self.stop_node()
        if self.adapter is not None:
            self.stop_adapter()

    def until(self, check: Callable[[], object], what: str, *, timeout_s: float = DEADLINE_S) -> None:
        """Turn both loops until `check` holds."""
        deadline = time.monotonic() + timeout_s
        while not check():
            assert time.monotonic() < deadline, f"{what} did not come true within {timeout_s} s"
            for part in (self.node, self.adapter):
                if part is not None:
                    part.loop.turn(5)

    @property
    def runner(self) -> Runner:
        assert self.node is not None
        return self.node.runners[0]

    @property
    def strategy(self) -> Recorder:
        found = self.runner._strategy
        assert isinstance(found, Recorder)
        return found

    def until_live(self) -> None:
        self.until(lambda: self.runner.live, "live")

    def until_seen(self, line: str) -> None:
        self.until(lambda: any(each.startswith(line) for each in self.strategy.seen), f"callback {line!r}")

    def until_settled(self) -> None:
        self.until(lambda: not self.runner._outbox.unsettled, "every order and signal acknowledged")


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    made = System(tmp_path / "home")
    yield made
    made.close()


def test_strategy_warms_up_joins_and_sees_live_bars(system: System) -> None:
    system.start_adapter()
    system.start_node(Recorder)
    system.until_live()
    assert [line.split()[0] for line in system.strategy.seen] == ["start", "past", "past", "past"]
    assert system.adapter is not None
    system.adapter.bar(bar(0))
    system.until_seen(f"bar EURUSD {START_MS}")
    assert system.node is not None
    report = system.node.report()
    assert (report.strategies, report.warm, report.detail) == (("test",), True, "")


def test_node_that_starts_first_waits_for_the_adapter(system: System) -> None:
    system.start_node(Recorder)
    system.until(lambda: system.node is not None and system.node.loop.turns > 5, "some turns")
    assert system.node is not None
    assert system.node.report().detail == "test: waiting for the adapter"
    system.start_adapter()
    system.until_live()


def test_a_live_strategy_repeats_beacons_until_it_stops_in_order(system: System) -> None:
    adapter = system.start_adapter()
    node = system.start_node(Recorder)
    alive = system.journal.alive
    system.until(lambda: len(alive) > 2, "signs of life")
    assert {(each.strategy, each.symbols, each.epoch, each.leaving) for each in alive} == {
        ("test", ("EURUSD",), adapter.epoch, False)
    }
    assert [each.beacon_ns for each in alive] == sorted(each.beacon_ns for each in alive)
    system.stop_adapter()
    alive.clear()
    adapter = system.start_adapter()
    system.until(lambda: alive and alive[-1].epoch == adapter.epoch, "signs of life to the next adapter")
    node.life.stop("test")
    system.until(lambda: alive[-1].leaving, "a farewell")


def test_a_strategy_that_raised_shows_no_life_any_more(system: System) -> None:
    adapter = system.start_adapter()
    node = system.start_node(Raises)
    alive = system.journal.alive
    system.until(lambda: system.runner.live, "a live strategy")
    for number in range(2):
        adapter.bar(bar(number))
    system.until(lambda: system.runner.phase == "failed", "a failed strategy")
    told, handled = len(alive), node._handled
    system.until(lambda: node._handled > handled + 3, "beacons")
    assert len(alive) - told <= 1  # one may have been on its way
    assert not alive[-1].leaving


def test_order_is_executed_once_and_its_outcome_comes_by_the_event_stream(system: System) -> None:
    adapter = system.start_adapter()
    system.start_node(OnEveryBar)
    system.until_live()
    adapter.tick((START_MS + PERIOD_MS, 1.1))
    adapter.bar(bar(0))
    system.until_seen("position opened")
    system.until_settled()
    (identifier,) = system.journal.submitted
    assert f"order {identifier} done" in system.strategy.seen
    (signal,) = system.journal.signals.values()
    assert (signal.client_order_id, signal.taken, signal.price) == (identifier, True, 1.1)
    assert system.journal.repeated == []


def test_lost_reply_does_not_double_the_order(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strategy.outbox.ANSWER_S", 0.3)
    adapter = system.start_adapter()
    adapter.lose_replies = 1
    system.start_node(OnEveryBar)
    system.until_live()
    adapter.bar(bar(0))
    system.until_seen("position opened")
    system.until_settled()
    assert len(system.journal.submitted) == 1
    assert len(system.journal.positions) == 1


def test_order_that_no_adapter_receives_is_refused_after_its_time_to_live(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strategy.outbox.ANSWER_S", 0.2)
    monkeypatch.setattr("strategy.outbox.INQUIRY_FIRST_S", 0.05)
    adapter = system.start_adapter()
    adapter.deaf = True
    system.start_node(ShortLived)
    system.until_live()
    adapter.bar(bar(0))
    system.until(lambda: any("no_answer" in line for line in system.strategy.seen), "the refusal")
    assert adapter.queries_seen.count("GetIntent") == 2
    assert system.journal.submitted == []


def test_refusal_without_a_trace_in_the_log_is_told_once_with_its_code(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strategy.outbox.INQUIRY_FIRST_S", 0.05)
    adapter = system.start_adapter()
    adapter.refuse = True
    system.start_node(OnEveryBar)
    system.until_live()
    adapter.bar(bar(0))
    system.until(lambda: any("refused risk_refused" in line for line in system.strategy.seen), "the refusal")
    assert not system.runner._outbox.waiting_orders


def test_adapter_restart_in_the_middle_loses_no_bar_and_doubles_no_order(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strategy.outbox.ANSWER_S", 0.5)
    adapter = system.start_adapter()
    system.start_node(OnEveryBar)
    system.until_live()
    adapter.bar(bar(0))
    system.until_seen("position opened")
    adapter.lose_replies = 1
    adapter.bar(bar(1))
    system.until(lambda: len(system.journal.submitted) == 2, "the order")
    system.stop_adapter()
    system.journal.bars["EURUSD"].append(bar(2))  # completed while nobody published
    adapter = system.start_adapter()
    system.until_seen(f"past EURUSD {START_MS + 2 * PERIOD_MS}")
    system.until_live()
    adapter.bar(bar(3))
    system.until(lambda: len(system.journal.positions) == 3, "three positions")
    system.until_settled()
    assert len(system.journal.submitted) == len(set(system.journal.submitted)) == 3
    done = [line for line in system.strategy.seen if line.startswith("order") and line.endswith("done")]
    assert len(done) == 3


def test_order_decided_while_the_adapter_is_away_reaches_it_within_its_time_to_live(system: System) -> None:
    adapter = system.start_adapter()
    system.start_node(Eager, warmup=0)
    system.until_live()
    adapter.market_ms = START_MS + 9_990
    adapter.beacon()
    system.until(lambda: system.runner._wires.market.now_ms() == START_MS + 9_990, "the beacon")
    system.stop_adapter()
    assert system.node is not None
    beacon = Beacon(1, 0, 0, START_MS + 10_001, "log1", 0, {}, {}, "", "", 0, "")
    system.node.market.on_beacon(beacon)  # its last word, still on the way when it died
    system.until_seen("timer beat")
    system.start_adapter()
    system.until(lambda: system.journal.submitted, "the order")
    system.until_settled()


def test_every_strategy_acknowledges_what_its_saved_state_holds(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.acknowledger.INTERVAL_S", 0.1)
    adapter = system.start_adapter()
    system.start_node(OnEveryBar, Recorder)
    system.until_live()
    who = f"{account().login}@{account().server}"
    system.until(lambda: set(system.journal.acknowledged) == {f"test/{who}", f"test1/{who}"}, "both registered")
    adapter.bar(bar(0))
    system.until_seen("position opened")
    system.until_settled()
    newest = len(system.journal.events)
    system.until(lambda: set(system.journal.acknowledged.values()) == {newest}, "all acknowledged")
    assert all(path.exists() for path in system.home.strategy.glob("test*/state-*.mpk"))


def test_killed_node_repeats_no_decision(system: System) -> None:
    adapter = system.start_adapter()
    system.start_node(OnEveryBar)
    system.until_live()
    adapter.bar(bar(0))
    system.until_seen("position opened")
    system.until_settled()
    system.kill_node()
    system.start_node(OnEveryBar)
    system.until_live()
    adapter.bar(bar(1))
    system.until(lambda: len(system.journal.positions) == 2, "the second order")
    system.until_settled()
    assert len(system.journal.submitted) == 2
    assert system.journal.repeated == []
    assert f"past EURUSD {START_MS}" in system.strategy.seen
    assert system.strategy.seen[0] == "start 1"


def test_order_decided_just_before_a_kill_is_found_out_about(system: System) -> None:
    """The decision is in the log, the send never happened: it is neither repeated nor forgotten."""
    adapter = system.start_adapter()
    adapter.deaf = True
    system.start_node(OnEveryBar)
    system.until_live()
    adapter.bar(bar(0))
    system.until(lambda: system.runner.orders, "the decision")
    system.kill_node()
    adapter.deaf = False
    system.start_node(OnEveryBar)
    system.until_live()
    system.until(lambda: any("refused no_answer" in line for line in system.strategy.seen), "the refusal")
    system.until_settled()
    assert system.journal.submitted == []
    assert len(system.journal.signals) == 1


def test_events_of_the_time_away_are_told_after_the_warm_up(system: System) -> None:
    system.start_adapter()
    system.start_node(Recorder, keep_state=True)
    system.until_live()
    system.stop_node()
    assert system.adapter is not None
    held = position(77)
    system.journal.positions[77] = held
    system.adapter.event(PositionEvent("opened", held))
    system.start_node(Recorder, keep_state=True)
    system.until_live()
    assert system.strategy.seen == ["start 1", "position opened 77 of 1"]
    assert system.strategy.loaded == b"5"
    system.stop_node()
    system.start_node(Recorder, keep_state=True)
    system.until_live()
    assert system.strategy.seen == ["start 1"], "told once"


def test_dispatch_log_of_a_life_with_kills_and_restarts_replays_byte_for_byte(system: System) -> None:
    adapter = system.start_adapter()
    for number in range(3):
        system.start_node(Eager)
        system.until_live()
        adapter.tick((START_MS + number, 1.1), (START_MS + number, 1.2))
        adapter.bar(bar(number))
        system.until_seen(f"bar EURUSD {START_MS + number * PERIOD_MS}")
        system.until_settled()
        system.kill_node() if number == 1 else system.stop_node()
    records = list(logged(system.home.strategy / "test"))
    assert len(decisions(records)) >= 9
    assert first_difference(records, replay(records)) is None
    told = [record for record in records if isinstance(record.input, Occurred)]
    assert told


def test_strategy_that_raises_degrades_the_node_and_the_other_goes_on(system: System) -> None:
    adapter = system.start_adapter()
    system.start_node(Raises, Recorder)
    assert system.node is not None
    node = system.node
    system.until(lambda: all(runner.live for runner in node.runners), "both live")
    adapter.bar(bar(0))
    adapter.bar(bar(1))
    adapter.bar(bar(2))
    system.until(lambda: node.runners[0].phase == "failed", "the failure")
    system.until(lambda: node.life.state == "degraded", "degraded")
    assert "ZeroDivisionError: my mistake" in node.report().detail
    other = node.runners[1]._strategy
    assert isinstance(other, Recorder)
    system.until(lambda: f"bar EURUSD {START_MS + 2 * PERIOD_MS}" in other.seen, "the other's bar")
    assert len(system.journal.submitted) == 1


def test_warm_up_is_asked_again_until_the_adapter_answers(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strategy.past.DEADLINE_S", 0.2)
    adapter = system.start_adapter()
    adapter.silent_queries.add(GetRates)
    system.start_node(Recorder)
    system.until(lambda: adapter.queries_seen.count("GetRates") >= 2, "asked twice")
    adapter.bar(bar(0))
    assert "warming" in system.runner.detail
    adapter.silent_queries.clear()
    system.until_live()
    assert system.strategy.seen[-1] == f"past EURUSD {START_MS}", "a bar of the time before is past"


def test_account_that_changes_ends_the_strategy(system: System) -> None:
    adapter = system.start_adapter()
    system.start_node(Recorder)
    system.until_live()
    adapter.publish(StateUpdate(adapter.epoch, 1, START_MS, account(login=9), (), ()))
    adapter.bar(bar(0))
    system.until(lambda: system.runner.phase == "failed", "the end")
    assert "the account changed to 9" in system.runner.detail
    assert not any(line.startswith("bar") for line in system.strategy.seen)


def test_new_event_log_is_a_resync_that_tells_the_differences(system: System) -> None:
    system.start_adapter()
    system.start_node(Recorder)
    system.until_live()
    system.stop_adapter()
    system.journal.log_id = "log2"
    system.journal.positions[5] = position(5)
    system.start_adapter()
    system.until_seen("position opened 5 of 1")


def test_order_that_a_new_journal_does_not_know_is_unresolved_and_no_longer_in_the_way(system: System) -> None:
    adapter = system.start_adapter()
    system.start_node(Recorder)
    system.until_live()
    for state in ("intended", "unknown"):
        adapter.event(intent("a", state))
    adapter.event(intent("b", "done"))
    system.until_seen("order b done")
    system.stop_adapter()
    system.journal.log_id = "log2"
    system.start_adapter()
    system.until_seen("order a unresolved unknown_outcome")
    assert system.strategy.seen.count("order b done") == 1
    assert not any(line.startswith("order b u") for line in system.strategy.seen)


def test_ticks_reach_a_strategy_that_takes_them_in_order_and_are_logged_once(system: System) -> None:
    adapter = system.start_adapter()
    system.start_node(Recorder)
    system.until_live()
    adapter.tick((START_MS, 1.1), (START_MS, 1.2))
    adapter.tick((START_MS + 1, 1.3))
    system.until_seen("tick EURUSD 1.3")
    assert system.strategy.seen[-3:] == ["tick EURUSD 1.1", "tick EURUSD 1.2", "tick EURUSD 1.3"]
    system.stop_node()
    kinds = [type(record.input).__name__ for record in logged(system.home.strategy / "test")]
    assert kinds == ["Began", "Joined", "History", "TicksArrived", "TicksArrived", "Ended"]


def test_strategy_that_wants_only_the_newest_tick_gets_that(system: System) -> None:
    adapter = system.start_adapter()
    system.start_node(NewestOnly)
    system.until_live()
    adapter.tick((START_MS, 1.1), (START_MS, 1.2), (START_MS + 1, 1.3))
    system.until_seen("tick EURUSD 1.3")
    assert [line for line in system.strategy.seen if line.startswith("tick")] == ["tick EURUSD 1.3"]


def test_timer_fires_in_market_time(system: System) -> None:
    adapter = system.start_adapter()
    system.start_node(Eager, warmup=0)
    system.until_live()
    assert not any(line.startswith("timer") for line in system.strategy.seen)
    adapter.market_ms += 10_000
    system.until_seen(f"timer beat {START_MS + 10_000}")


def test_user_s_own_file_trades(system: System) -> None:
    adapter = system.start_adapter()
    system.start_node(f"{example_path()}:ThreeRisingBars", volume=0.02)
    system.until_live()
    adapter.tick((START_MS, 1.1))
    for number in range(3):
        adapter.bar(bar(number, 1.1 + number / 1000, open_=1.09))
    system.until(lambda: system.journal.positions, "the order")
    (opened,) = system.journal.positions.values()
    assert opened.volume == 0.02


def test_home_whose_keys_were_removed_is_refused_with_a_clear_error(system: System) -> None:
    (system.home.keys / "strategy.public.json").unlink()
    with pytest.raises(BusError, match="no public key of 'strategy'"):
        system.start_node(Recorder)


class NewestOnly(Recorder):
    """Behind, it wants only the newest tick."""

    newest_tick_only = True


class ShortLived(Recorder):
    """Orders that live a tenth of a second."""

    def on_bar(self, context: Context, symbol: str, bar: Bar) -> None:
        super().on_bar(context, symbol, bar)
        context.buy(symbol, 0.1, ttl_ms=100)


def test_inputs_that_wait_for_the_adapter_are_bounded_and_end_the_node(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strategy.runner.MAX_WAITING", 3)
    system.start_node(Recorder)
    for number in range(3):
        system.runner.on_bar("EURUSD", BarUpdate(1, number + 1, 0, TIMEFRAME, 0, bar(number)))
    with pytest.raises(WaitedTooLong, match="3 inputs waited while it was joining: starting anew"):
        system.runner.on_bar("EURUSD", BarUpdate(1, 4, 0, TIMEFRAME, 0, bar(3)))


def _trade(system: System, node: StrategyNode, *, first: int, count: int) -> None:
    """Let another life of the adapter complete some bars, with an order at each, and close what is opened."""
    adapter, journal = system.start_adapter(), system.journal
    system.until(
        lambda: system.runner.live and any(alive.epoch == adapter.epoch for alive in journal.alive),
        "a strategy that repeats its beacons",
    )
    adapter.lose_replies = 1
    submitted = len(journal.submitted)
    for number in range(first, first + count):
        adapter.tick((START_MS + number * PERIOD_MS, 1.1))
        adapter.bar(bar(number))
    system.until(lambda: len(journal.submitted) == submitted + count, "an order at each bar")
    for identifier in list(journal.positions):
        adapter.event(PositionEvent("closed", journal.positions.pop(identifier)))
    system.until_settled()
    end = EventPosition(LOG_ID, len(journal.events))
    system.until(lambda: node.subscriber.position == end, "every event")
    system.until(lambda: not (node.queries.outstanding or node.orders.outstanding), "answers or deadlines")


def test_a_strategy_that_trades_on_holds_no_more_in_memory(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ticks, bars, orders, positions that come and go, lost replies, and another life of the adapter each time."""
    monkeypatch.setattr("strategy.world._KEPT", 5)
    monkeypatch.setattr("strategy.outbox.ANSWER_S", 0.2)
    monkeypatch.setattr("strategy.presence._ANSWER_S", 0.2)
    node = system.start_node(OnEveryBar)
    counts = []
    for first in range(0, 60, 10):
        _trade(system, node, first=first, count=10)
        counts.append(held(node, beside=(Loop,)))
        system.stop_adapter()
    assert max(counts[3:]) <= max(counts[:3]), counts
