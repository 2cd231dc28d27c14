"""Orders without an outcome: what an operator is shown of them, and how he ends them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from broker_adapter.api_types import ApiTradeRequest
from broker_adapter.commands import _listed
from protocol.messages import (
    AlertEvent,
    Done,
    ErrorReply,
    IntentEvent,
    PositionEvent,
    SettleOrder,
    SubmitOrder,
    UnsettledOrder,
)
from tests.broker_adapter.fake_broker import World
from tests.broker_adapter.served import Requests

DAY_S = 86_400.0


def buy(name: str = "a", strategy: str = "confluence") -> SubmitOrder:
    return SubmitOrder(1, name, strategy, 0, "EURUSD", "buy", 0.1, sl=1.09)


def unknown(world: World) -> None:
    world.link.answers.append(world.link.lost_before)
    world.ask(buy())
    world.settle()
    assert world.state("a") == "unknown"


def ambiguous(world: World) -> None:
    world.broker.changes_comment = world.broker.changes_magic = True
    world.link.answers.append(world.link.lost_after)
    world.ask(buy())
    world.settle()
    world.wait(125)
    assert world.state("a") == "ambiguous"


def settle(world: World, outcome: str, name: str = "a", reason: str = "") -> Done | ErrorReply:
    return Requests().serve(world).ask(world, SettleOrder(1, name, outcome, reason))


def shown(world: World) -> UnsettledOrder:
    (order,) = world.desk.unsettled()
    return order


def codes(world: World) -> list[str]:
    return [event.body.code for event in world.published if isinstance(event.body, AlertEvent)]


def test_an_unknown_order_says_what_is_missing(world: World) -> None:
    assert world.desk.unsettled() == ()
    world.ask(buy())
    assert shown(world).waits_for == "the terminal's answer, and its effect on the account"
    world.settle()
    assert world.desk.unsettled() == ()
    world.link.answers.append(world.link.lost_before)
    world.ask(buy("b"))
    world.settle()
    world.wait(40)
    order = shown(world)
    assert (order.outcome.state, order.evidence) == ("unknown", "no trace")
    assert order.waits_for == "120 s of unbroken connection; 40 s so far"
    assert order.comment.startswith("mb")
    world.broker.connected = False
    world.wait(1)
    assert shown(world).waits_for == "a connection between terminal and broker"


def test_an_ambiguous_order_shows_what_fits(world: World) -> None:
    ambiguous(world)
    order = shown(world)
    assert "fits, but carries none of our marks" in order.evidence
    assert "mt5bus settle a" in order.waits_for
    assert order.watch_until_ms > world.clock.wall_ms()
    text = "\n".join(_listed((order,)))
    assert "a  ambiguous  open buy 0.1 EURUSD  confluence" in text
    assert order.evidence in text
    assert list(_listed(())) == ["every order has its outcome"]


def test_an_order_settled_as_done_takes_what_fits_for_its_own(world: World) -> None:
    ambiguous(world)
    (position,) = world.broker.positions
    world.published.clear()
    reply = settle(world, "done", reason="seen\nin the terminal")
    assert reply == Done(1, f"a is done, position {position}")
    found = world.desk.intent("a")
    assert found is not None
    assert (found.position, found.filled_volume, found.code) == (position, 0.1, "")
    assert found.text == "settled by the operator as done: seenin the terminal"
    world.wait(2)
    # Its position is the strategy's from now on, and it is told of it.
    assert world.desk.positions[0].strategy == "confluence"
    told = [e.body for e in world.published if isinstance(e.body, PositionEvent)]
    assert [(body.change, body.position.strategy, body.position.client_order_id) for body in told] == [
        ("changed", "confluence", "a")
    ]
    assert world.states("a") == ["done"]
    assert codes(world) == ["order_settled"]
    assert world.desk.unsettled() == ()
    world.crash()
    world.restart()
    world.ready()
    assert world.state("a") == "done"


@pytest.mark.parametrize("how", [unknown, ambiguous])
def test_an_order_settled_as_not_executed_is_out_of_the_way(world: World, how: Callable[[World], None]) -> None:
    how(world)
    assert isinstance(settle(world, "not_executed"), Done)
    assert world.state("a") == "not_executed"
    world.wait(5)
    assert world.state("a") == "not_executed"
    world.broker.changes_comment = world.broker.changes_magic = False
    caller = world.ask(buy("b"))
    world.settle()
    assert caller.outcome.state == "done"


def test_a_late_fill_of_an_order_settled_as_not_executed_is_alerted(world: World) -> None:
    unknown(world)
    settle(world, "not_executed")
    world.wait(2)
    order = world.desk.book.find("a")
    assert order is not None
    world.broker.execute(
        ApiTradeRequest(action=1, magic=order.magic, symbol="EURUSD.m", volume=order.volume, comment=order.comment)
    )
    world.wait(2)
    assert world.state("a") == "done"
    assert codes(world) == ["order_settled", "late_fill"]


@pytest.mark.parametrize(
    ("name", "outcome", "code"),
    [("a", "done", "state_conflict"), ("none", "done", "not_found"), ("a", "maybe", "validation_failed")],
)
def test_what_cannot_be_settled_is_refused(world: World, name: str, outcome: str, code: str) -> None:
    world.ask(buy())
    for _ in range(2):  # in flight, then done
        reply = settle(world, outcome, name)
        assert isinstance(reply, ErrorReply)
        assert reply.code == code
        world.settle()
    assert world.state("a") == "done"


def test_a_watch_that_ends_leaves_an_ambiguous_order_unresolved_and_tells_it(world: World) -> None:
    ambiguous(world)
    world.clock.advance(7 * DAY_S)
    world.read()
    world.settle()
    assert world.states("a") == ["intended", "unknown", "ambiguous", "unresolved"]
    last = [e.body for e in world.published if isinstance(e.body, IntentEvent)][-1]
    assert (last.state, last.code) == ("unresolved", "unknown_outcome")
    assert world.desk.unsettled() == ()
    assert world.desk.exposure().intents == ()
    world.crash()
    world.restart()
    world.ready()
    assert world.state("a") == "unresolved"


def test_a_watch_that_ends_after_not_executed_changes_nothing(world: World) -> None:
    unknown(world)
    world.wait(125)
    assert world.state("a") == "not_executed"
    assert shown(world).waits_for == "nothing; a late fill would be alerted"
    told = len(world.published)
    world.clock.advance(7 * DAY_S)
    world.read()
    world.settle()
    assert world.desk.unsettled() == ()
    assert [e for e in world.published[told:] if isinstance(e.body, IntentEvent)] == []
