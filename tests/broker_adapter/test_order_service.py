"""The orders socket's other requests: mode, flatten, arming, signals."""

from __future__ import annotations

import math

import msgspec
import pytest

from broker_adapter.link_messages import Send
from broker_adapter.link_results import LinkResult
from market.risk import TradingMode
from protocol.messages import (
    ArmAccount,
    Done,
    ErrorReply,
    ModeEvent,
    ReportSignal,
    SetTradingMode,
    SignalEvent,
    SubmitOrder,
)
from tests.broker_adapter import fake_broker
from tests.broker_adapter.fake_broker import FakeCaller, World
from tests.broker_adapter.served import Requests

SIGNAL = SignalEvent("s-1", "confluence", "EURUSD", "M1", 5, 1, 0.7, 1.1, {"rsi": 41.5}, taken=True)


def buy(world: World, name: str, volume: float = 0.1) -> FakeCaller:
    caller = world.ask(SubmitOrder(1, name, "confluence", 0, "EURUSD", "buy", volume))
    world.settle()
    return caller


def test_halting_is_durable_told_and_undone(world: World, requests: Requests) -> None:
    assert requests.ask(world, SetTradingMode(3, "halted", "news")) == Done(3, "trading is halted")
    told = [event.body for event in world.published if isinstance(event.body, ModeEvent)]
    assert told == [ModeEvent("halted", "news", 1)]
    assert buy(world, "a").error.details["limit"] == "mode"
    world.crash()
    world.restart()
    world.ready()
    assert world.desk.mode is TradingMode.HALTED
    again = Requests().serve(world)
    again.ask(world, SetTradingMode(1, "active"))
    assert buy(world, "b").outcome.state == "done"
    assert len([event for event in world.published if isinstance(event.body, ModeEvent)]) == 2


def test_flatten_closes_ours_in_pieces_and_leaves_others_alone(world: World, requests: Requests) -> None:
    for name in ("a", "b"):
        buy(world, name, 1.0)
    ours = next(iter(world.broker.positions.values()))
    world.broker.positions[ours.ticket] = msgspec.structs.replace(ours, volume=120.0)  # over the most in one order
    by_hand = msgspec.structs.replace(ours, ticket=9, identifier=9, magic=0, comment="", reason=0)
    world.broker.positions[9] = by_hand
    world.read()
    world.settle()
    reply = requests.ask(world, SetTradingMode(1, "halted", flatten=True))
    assert isinstance(reply, Done)
    assert reply.text == "trading is halted; closing 2 positions and 0 orders"
    assert list(world.broker.positions) == [9]
    closes = [request.volume for request in world.broker.sent if request.position]
    assert sorted(closes) == [1.0, 20.0, 50.0, 50.0]
    # Once more: there is nothing of ours left.
    reply = requests.ask(world, SetTradingMode(1, "halted", flatten=True))
    assert isinstance(reply, Done)
    assert "closing 0 positions" in reply.text


@pytest.mark.parametrize("field", ["volume_max", "volume_step"])
def test_flatten_closes_with_a_specification_that_says_nothing(
    world: World, requests: Requests, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    buy(world, "a", 1.0)
    monkeypatch.setattr(fake_broker, "EURUSD", msgspec.structs.replace(fake_broker.EURUSD, **{field: 0.0}))
    assert isinstance(requests.ask(world, SetTradingMode(1, "halted", flatten=True)), Done)
    assert not world.broker.positions


def test_flatten_closes_many_on_a_slow_broker(world: World, requests: Requests) -> None:
    for number in range(8):
        buy(world, f"n{number}")
    normally = world.link.normally

    def slowly(command: Send) -> LinkResult:
        answer = normally(command)
        world.clock.advance(1.0)
        return answer

    world.link.normally = slowly  # type: ignore[method-assign]
    assert isinstance(requests.ask(world, SetTradingMode(1, "halted", flatten=True)), Done)
    assert not world.broker.positions


def test_flatten_names_the_orders_that_may_still_open(world: World, requests: Requests) -> None:
    world.ask(SubmitOrder(1, "under-way", "confluence", 0, "EURUSD", "buy", 0.1))
    world.journal.let_through()
    assert world.link.taken  # with the terminal: nothing can call it back
    reply = requests.ask(world, SetTradingMode(1, "halted", flatten=True))
    assert isinstance(reply, Done)
    assert "under-way is sent and may still open 0.1 EURUSD, which is closed as soon as it shows" in reply.text
    world.read()
    world.settle()
    assert not world.broker.positions


def test_flatten_does_not_close_what_may_be_closed_already(world: World, requests: Requests) -> None:
    position = buy(world, "a").outcome.position
    world.link.answers.append(world.link.lost_before)
    requests.ask(world, SetTradingMode(1, "reducing", flatten=True))
    assert world.desk.intents()[-1].state == "unknown"
    requests.ask(world, SetTradingMode(1, "reducing", flatten=True))
    assert not [request for request in world.broker.sent if request.position == position]
    world.wait(125)
    requests.ask(world, SetTradingMode(1, "reducing", flatten=True))
    assert not world.broker.positions


@pytest.mark.parametrize(
    ("mode", "flatten", "field"), [("off", False, "mode"), ("", False, "mode"), ("active", True, "flatten")]
)
def test_modes_that_make_no_sense(world: World, requests: Requests, mode: str, field: str, *, flatten: bool) -> None:
    reply = requests.ask(world, SetTradingMode(1, mode, flatten=flatten))
    assert isinstance(reply, ErrorReply)
    assert reply.details["field"] == field
    assert world.desk.mode is TradingMode.ACTIVE


def test_a_real_account_is_observed_until_armed(world: World, requests: Requests) -> None:
    world.broker.trade_mode = 2
    world.read()
    assert buy(world, "a").error.details["limit"] == "not_armed"
    other = requests.ask(world, ArmAccount(1, 999))
    assert isinstance(other, ErrorReply)
    assert other.code == "state_conflict"
    assert requests.ask(world, ArmAccount(1, 1001)) == Done(1, "account 1001 is armed")
    assert buy(world, "b").outcome.state == "done"
    requests.ask(world, ArmAccount(1, 1001, armed=False))
    assert buy(world, "c").error.details["limit"] == "not_armed"
    reply = requests.ask(world, ArmAccount(1, -5))
    assert isinstance(reply, ErrorReply)
    assert reply.details["field"] == "login"


def test_a_signal_is_stored_once(world: World, requests: Requests) -> None:
    for _ in range(2):
        assert requests.ask(world, ReportSignal(4, SIGNAL)) == Done(4, "stored")
    stored = [event.body for event in world.published if isinstance(event.body, SignalEvent)]
    assert stored == [SIGNAL]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("signal_id", ""),
        ("signal_id", "x" * 200),
        ("strategy", "a\x00"),
        ("direction", 0),
        ("strength", math.nan),
        ("price", math.inf),
        ("features", {"rsi": math.nan}),
        ("features", {str(number): 0.0 for number in range(600)}),
    ],
)
def test_a_hostile_signal_is_refused_by_field(world: World, requests: Requests, field: str, value: object) -> None:
    reply = requests.ask(world, ReportSignal(4, msgspec.structs.replace(SIGNAL, **{field: value})))
    assert isinstance(reply, ErrorReply)
    assert (reply.code, reply.details["field"]) == ("validation_failed", field)
