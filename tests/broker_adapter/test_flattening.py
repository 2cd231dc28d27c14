"""Flattening goes on until everything of ours is closed: over refusals, lost answers, an absent terminal, restarts."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from broker_adapter.flattening import INCOMPLETE_S
from broker_adapter.link_messages import Send, SendOutcome
from broker_adapter.link_results import LinkResult
from broker_adapter.order_ledger import Batch
from market.risk import TradingMode
from protocol.messages import AlertEvent, Done, SetTradingMode, SubmitOrder
from tests.broker_adapter.fake_broker import LOGIN, SERVER, World, answered, result
from tests.broker_adapter.served import Requests
from tests.broker_adapter.test_order_service import buy

FLATTEN = SetTradingMode(1, "halted", flatten=True)


def refusing(retcode: int) -> Callable[[Send], LinkResult]:
    return lambda _: answered(SendOutcome(result=result(retcode)))


def alerts(world: World) -> list[str]:
    return [event.body.code for event in world.published if isinstance(event.body, AlertEvent)]


def restart(world: World) -> Requests:
    world.crash()
    world.restart()
    requests = Requests().serve(world)
    world.ready()
    return requests


def closes(world: World) -> int:
    return sum(bool(request.position) for request in world.broker.sent)


@pytest.mark.parametrize("retcode", [10004, 10018, 10020, 10021, 10024, 10029])
def test_a_refused_close_is_tried_again_until_it_is_done(world: World, requests: Requests, retcode: int) -> None:
    buy(world, "a")
    world.link.answers.extend([refusing(retcode)] * 3)
    requests.ask(world, FLATTEN)
    assert world.broker.positions
    world.wait(20)
    assert not world.broker.positions
    assert not world.link.answers
    assert closes(world) == 1
    assert alerts(world) == ["flattened"]
    assert requests.flattening.status() == ()
    world.wait(60)
    assert closes(world) == 1


def test_a_closed_market_without_ticks_is_tried_rarely(
    world: World, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    buy(world, "a")
    friday = world.quote("EURUSD")
    monkeypatch.setattr(world, "quote", lambda _symbol: friday)
    world.link.answers.extend([refusing(10018)] * 1000)
    requests.ask(world, FLATTEN)
    world.wait(3600, every_s=5)
    assert 10 <= 1000 - len(world.link.answers) <= 14
    world.link.answers.clear()
    monkeypatch.undo()  # the market opens
    world.wait(10)
    assert not world.broker.positions


def test_a_person_is_told_once_of_what_takes_long(world: World, requests: Requests) -> None:
    buy(world, "a")
    world.link.answers.extend([refusing(10006)] * 1000)
    requests.ask(world, FLATTEN)
    for _ in range(round(INCOMPLETE_S) * 3):
        world.wait(1)
        requests.flattening.look()
        world.settle()
    assert alerts(world) == ["flatten_incomplete"]
    (left,) = requests.flattening.status()
    ticket = next(iter(world.broker.positions))
    assert f"position {ticket}, 0.1 EURUSD" in left
    assert "dealer or server rejected" in left
    again = restart(world)
    again.flattening.look()
    world.settle()
    assert alerts(world).count("flatten_incomplete") == 1


def test_halting_with_a_terminal_that_is_away_flattens_once_it_is_back(world: World, requests: Requests) -> None:
    buy(world, "a")
    world.attached = False
    reply = requests.ask(world, FLATTEN)
    assert isinstance(reply, Done)
    assert "closing 1 positions and 0 orders; not possible yet: the terminal is not attached" in reply.text
    assert world.desk.mode is TradingMode.HALTED
    assert requests.flattening.status()[0].endswith("the terminal is not attached")
    restart(world)
    assert world.broker.positions
    world.attached = True
    world.wait(2)
    assert not world.broker.positions


def test_it_goes_on_after_a_restart_without_repeating_an_order(world: World, requests: Requests) -> None:
    for name in ("a", "b", "c"):
        buy(world, name)
    world.link.answers.extend([world.link.normally, refusing(10006), refusing(10006)])
    requests.ask(world, FLATTEN)
    assert len(world.broker.positions) == 2
    restart(world)
    world.wait(5)
    assert not world.broker.positions
    assert closes(world) == 3
    assert alerts(world) == ["flattened"]


def test_it_waits_for_the_outcome_of_an_exit_that_may_have_been_done(world: World, requests: Requests) -> None:
    buy(world, "a")
    world.link.answers.append(world.link.lost_after)
    requests.ask(world, FLATTEN)
    world.wait(10)
    assert not world.broker.positions
    assert closes(world) == 1
    buy_again = requests.ask(world, SetTradingMode(2, "active"))
    assert isinstance(buy_again, Done)
    buy(world, "b")
    world.link.answers.append(world.link.lost_before)
    requests.ask(world, FLATTEN)
    world.wait(100)
    assert closes(world) == 1, "while its outcome is unknown nothing else is tried"
    world.wait(60)
    assert not world.broker.positions
    assert closes(world) == 2


def test_a_partial_fill_is_followed_by_the_rest(world: World, requests: Requests) -> None:
    buy(world, "a", 1.0)
    world.broker.fill_part = 0.5
    requests.ask(world, FLATTEN)
    world.wait(4)
    world.broker.fill_part = 1.0
    world.wait(20)
    assert not world.broker.positions


def test_resuming_leaves_open_what_is_still_open(world: World, requests: Requests) -> None:
    buy(world, "a")
    world.link.answers.append(refusing(10018))
    requests.ask(world, FLATTEN)
    requests.ask(world, SetTradingMode(2, "active"))
    world.wait(60)
    assert world.broker.positions
    restart(world)
    world.wait(60)
    assert closes(world) == 0


def test_a_real_account_that_is_not_armed_is_left_alone_and_told(world: World, requests: Requests) -> None:
    buy(world, "a")
    world.broker.trade_mode = 2
    world.read()
    reply = requests.ask(world, FLATTEN)
    assert isinstance(reply, Done)
    assert "not armed, so nothing is sent" in reply.text
    world.wait(10)
    assert closes(world) == 0


def test_a_position_of_a_symbol_that_is_not_followed_is_named(world: World, requests: Requests) -> None:
    buy(world, "a")
    ours = next(iter(world.broker.positions.values()))
    world.broker.positions[ours.ticket] = msgspec.structs.replace(ours, symbol="GBPUSD")
    world.read()
    world.settle()
    requests.ask(world, FLATTEN)
    assert "no symbol GBPUSD" in requests.flattening.status()[0]


@pytest.mark.parametrize("pending", [False, True])
def test_lists_that_are_empty_for_a_moment_do_not_end_it(world: World, requests: Requests, *, pending: bool) -> None:
    if pending:
        world.ask(SubmitOrder(1, "a", "confluence", 5000, "EURUSD", "buy", type="limit", volume=0.1, price=1.05))
        world.settle()
    else:
        buy(world, "a")
    world.attached = False
    requests.ask(world, FLATTEN)
    broker = world.broker
    positions, active = dict(broker.positions), dict(broker.active)
    assert positions or active
    broker.positions.clear()  # a terminal that has just connected
    broker.active.clear()
    world.attached = True
    again = restart(world)
    world.wait(2)
    assert again.flattening.status()
    broker.positions.update(positions)
    broker.active.update(active)
    world.wait(5)
    assert not (broker.positions or broker.active)
    assert alerts(world) == ["flattened"]


def test_what_vanishes_for_good_without_a_trace_ends_it(world: World, requests: Requests) -> None:
    world.ask(SubmitOrder(1, "a", "confluence", 5000, "EURUSD", "buy", type="limit", volume=0.1, price=1.05))
    world.settle()
    world.attached = False
    requests.ask(world, FLATTEN)
    world.broker.active.clear()
    world.attached = True
    world.wait(4)
    assert requests.flattening.status()
    world.wait(4)
    assert requests.flattening.status() == ()


def test_another_account_does_not_end_it(world: World, requests: Requests) -> None:
    buy(world, "a")
    world.attached = False
    requests.ask(world, FLATTEN)
    held = dict(world.broker.positions)
    world.attached = True
    world.broker.positions.clear()
    world.broker.login = LOGIN + 1
    there = restart(world)
    world.wait(60)
    assert there.flattening.status() == (
        f"everything of ours is being closed: the terminal is on another account than {LOGIN} at {SERVER}",
    )
    world.broker.login = LOGIN
    world.broker.positions.update(held)
    back = restart(world)
    world.wait(5)
    assert not world.broker.positions
    assert back.flattening.status() == ()
    assert alerts(world).count("flattened") == 1


@pytest.mark.parametrize("strategy", ["", "confluence"])
def test_ending_it_leaves_open_what_was_only_queued(world: World, requests: Requests, strategy: str) -> None:
    for name in ("a", "b", "c"):
        buy(world, name)
    batch = Batch()
    requests.flattening.begin(batch, strategy=strategy, serial="7")
    world.desk.ledger.commit(batch)
    world.read()
    while not world.link.taken:
        assert world.step()
    ending = Batch()
    requests.flattening.end(ending, strategy=strategy)  # a person, or the strategy that is back
    world.desk.ledger.commit(ending)
    world.settle()
    world.wait(30)
    assert closes(world) == 1, "the one that was with the link already"
    assert len(world.broker.positions) == 2
    left = [intent for intent in world.desk.intents() if intent.state == "rejected"]
    assert [intent.text for intent in left] == ["not sent: flattening was ended before its turn came"] * 2
