"""Silence of strategies: noticed by what they repeat, kept over restarts, lifted when they are back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from broker_adapter.strategy_watch import LOOK_INTERVAL_S
from mt5bus.settings import Adapter, Risk, StrategySettings
from protocol.messages import AlertEvent, ClosePosition, Done, ErrorReply, SetTradingMode, StrategyAlive, SubmitOrder
from tests.broker_adapter.fake_broker import World
from tests.broker_adapter.served import Requests
from tests.broker_adapter.test_order_service import buy

LIMIT_S = 5.0


class Watched:
    """A world whose strategies may speak."""

    def __init__(self, folder: Path, action: str) -> None:
        self.world = World(folder)
        self.world.settings = msgspec.structs.replace(
            self.world.settings,
            adapter=Adapter(risk=Risk(strategy_silence_s=LIMIT_S, max_volume_per_symbol=50.0)),
            strategy=(StrategySettings(name="confluence", on_silence=action),),  # type: ignore[arg-type]
        )
        self.begin()

    def begin(self) -> None:
        self.requests = Requests().serve(self.world)
        self.world.ready()

    def restart(self) -> None:
        self.world.crash()
        self.world.restart()
        self.begin()

    def say(self, name: str = "confluence", *, symbols: tuple[str, ...] = ("EURUSD",), leaving: bool = False) -> None:
        epoch, now_ns = self.world.journal.epoch, self.world.clock.monotonic_ns()
        assert self.requests.ask(self.world, StrategyAlive(1, name, symbols, epoch, now_ns, leaving)) == Done(1)

    def wait(self, seconds: float, *speakers: str) -> None:
        left = seconds
        while left > 0:
            for name in speakers:
                self.say(name)
            self.world.wait(LOOK_INTERVAL_S)
            self.requests.watch.look()
            self.world.settle()
            left -= LOOK_INTERVAL_S

    def state(self, name: str = "confluence") -> str:
        return next((each.state for each in self.requests.watch.presences() if each.name == name), "")

    def alerts(self) -> list[str]:
        return [event.body.code for event in self.world.published if isinstance(event.body, AlertEvent)]

    def refusal(self) -> str:
        caller = buy(self.world, f"o{self.world.clock.monotonic_ns()}")
        reply = caller.replies[0]
        return reply.details["limit"] if isinstance(reply, ErrorReply) else ""


@pytest.fixture(params=["reduce"])
def watched(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Watched]:
    it = Watched(tmp_path, request.param)
    yield it
    it.world.close()


def test_one_that_was_never_heard_of_holds_nothing(watched: Watched) -> None:
    watched.wait(10 * LIMIT_S)
    assert watched.requests.watch.presences() == ()
    assert watched.refusal() == ""


def test_a_silent_strategy_lets_its_symbols_only_reduce_until_it_is_back(watched: Watched) -> None:
    position = buy(watched.world, "held").outcome.position
    watched.wait(LIMIT_S, "confluence")
    watched.say()
    watched.wait(LIMIT_S)  # exactly so long is still heard of
    assert watched.state() == "live"
    assert watched.refusal() == ""
    watched.wait(1)
    assert watched.state() == "silent"
    assert watched.refusal() == "strategy_silent"
    assert "EURUSD only reduces: the strategy confluence" in watched.requests.watch.restrictions()[0]
    closed = watched.world.ask(ClosePosition(1, "exit", "confluence", 0, position))
    watched.world.settle()
    assert closed.outcome.state == "done"
    watched.wait(3 * LIMIT_S)
    assert watched.alerts() == ["strategy_silent"]
    watched.say()
    assert watched.state() == "live"
    assert watched.refusal() == ""
    assert watched.alerts() == ["strategy_silent", "strategy_back"]
    watched.wait(2 * LIMIT_S)
    assert watched.alerts() == ["strategy_silent", "strategy_back", "strategy_silent"]


def test_silence_survives_a_restart_and_is_told_once(watched: Watched) -> None:
    watched.say()
    watched.wait(2 * LIMIT_S)
    watched.restart()
    assert watched.state() == "silent"
    assert watched.refusal() == "strategy_silent"
    watched.wait(LIMIT_S)
    assert watched.alerts().count("strategy_silent") == 1
    watched.say()
    assert watched.refusal() == ""


def test_one_that_dies_while_the_adapter_is_away_is_missed_after_its_restart(watched: Watched) -> None:
    watched.say()
    watched.restart()
    assert watched.state() == "live"
    watched.wait(LIMIT_S + 1)
    assert watched.refusal() == "strategy_silent"


def test_repeating_an_old_beacon_is_no_sign_of_life(watched: Watched) -> None:
    watched.say()
    world, at_ns = watched.world, watched.world.clock.monotonic_ns()
    for _ in range(20):
        watched.requests.ask(world, StrategyAlive(1, "confluence", ("EURUSD",), world.journal.epoch, at_ns))
        watched.requests.ask(
            world, StrategyAlive(1, "confluence", ("EURUSD",), world.journal.epoch - 1, at_ns + 10**12)
        )
        watched.wait(0.5)
    assert watched.state() == "silent"


def test_a_pause_of_the_adapter_itself_is_not_the_strategys(watched: Watched) -> None:
    watched.say()
    watched.world.clock.advance(1000.0)
    watched.requests.watch.look()
    assert watched.state() == "live"


def test_one_that_stops_in_order_holds_nothing(watched: Watched) -> None:
    watched.say()
    watched.say(leaving=True)
    watched.restart()
    watched.wait(3 * LIMIT_S)
    assert watched.state() == "stopped"
    assert watched.refusal() == ""
    assert watched.alerts() == []


def test_one_of_two_on_a_symbol_is_enough(watched: Watched) -> None:
    watched.say("other")
    watched.wait(2 * LIMIT_S, "confluence")
    assert watched.refusal() == "strategy_silent"
    assert watched.state() == "live"


def test_an_operator_releases_what_a_strategy_holds(watched: Watched) -> None:
    watched.say()
    watched.wait(2 * LIMIT_S)
    released = watched.requests.ask(watched.world, SetTradingMode(7, "active", strategy="confluence"))
    assert released == Done(7, "the strategy confluence stops nothing until it is heard of again")
    watched.restart()
    watched.wait(2 * LIMIT_S)
    assert watched.refusal() == ""
    unheard = watched.requests.ask(watched.world, SetTradingMode(7, "active", strategy="nobody"))
    assert isinstance(unheard, ErrorReply)
    assert unheard.code == "not_found"
    wrong = watched.requests.ask(watched.world, SetTradingMode(7, "halted", strategy="confluence"))
    assert isinstance(wrong, ErrorReply)
    assert wrong.details["field"] == "strategy"


@pytest.mark.parametrize("watched", ["alert"], indirect=True)
def test_it_may_be_no_more_than_an_alert(watched: Watched) -> None:
    watched.say()
    watched.wait(2 * LIMIT_S)
    assert watched.state() == "silent"
    assert watched.alerts() == ["strategy_silent"]
    assert watched.refusal() == ""


@pytest.mark.parametrize("watched", ["close"], indirect=True)
def test_its_positions_are_closed_if_so_configured_and_no_other(watched: Watched) -> None:
    buy(watched.world, "mine")
    watched.world.ask(SubmitOrder(1, "others", "another", 0, "EURUSD", "buy", 0.2))
    watched.world.settle()
    watched.say()
    watched.wait(2 * LIMIT_S)
    assert [each.volume for each in watched.world.broker.positions.values()] == [0.2]
    assert watched.alerts() == ["strategy_silent", "flattened"]
    assert watched.refusal() == "strategy_silent"


@pytest.mark.parametrize("name", ["", "a\x00b"])
def test_a_name_that_is_none_is_refused(watched: Watched, name: str) -> None:
    reply = watched.requests.ask(watched.world, StrategyAlive(1, name, ("EURUSD",), watched.world.journal.epoch, 1))
    assert isinstance(reply, ErrorReply)
    assert reply.details["field"] == "strategy"


def test_the_strategies_heard_of_are_bounded_and_one_more_is_refused(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker_adapter.strategy_watch._MOST_STRATEGIES", 3)
    for name in ("a", "b", "c"):
        watched.say(name)
    epoch, now_ns = watched.world.journal.epoch, watched.world.clock.monotonic_ns()
    reply = watched.requests.ask(watched.world, StrategyAlive(1, "d", ("EURUSD",), epoch, now_ns))
    assert isinstance(reply, ErrorReply)
    assert (reply.code, reply.details["field"]) == ("validation_failed", "strategy")
    watched.wait(1, "a")
    assert [each.name for each in watched.requests.watch.presences()] == ["a", "b", "c"]
    watched.requests.watch.forget("b", lambda: None)
    watched.say("d")
    assert [each.name for each in watched.requests.watch.presences()] == ["a", "c", "d"]


def test_a_strategy_of_too_many_symbols_is_refused_and_not_kept(watched: Watched) -> None:
    most = tuple(f"S{number}" for number in range(1000))
    watched.say("a", symbols=most)
    epoch, now_ns = watched.world.journal.epoch, watched.world.clock.monotonic_ns()
    reply = watched.requests.ask(watched.world, StrategyAlive(1, "b", (*most, "S1000"), epoch, now_ns))
    assert isinstance(reply, ErrorReply)
    assert (reply.code, reply.details["field"]) == ("validation_failed", "symbols")
    assert [len(each.symbols) for each in watched.requests.watch.presences()] == [1000]
