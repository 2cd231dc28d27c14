"""Closing two opposite positions against each other."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from broker_adapter.api_types import ApiTradeRequest
from market.instrument import OrderFlag
from protocol.messages import AlertEvent, CloseBy, ClosePosition, DealEvent, PositionEvent, SubmitOrder
from tests.broker_adapter.fake_account import NETTING
from tests.broker_adapter.fake_broker import EURUSD, World


def opened(world: World, name: str, side: str, volume: float) -> int:
    caller = world.ask(SubmitOrder(1, name, "confluence", 0, "EURUSD", side, volume))
    world.settle()
    world.wait(1)
    return caller.outcome.position


def close_by(position: int, other: int, name: str = "x") -> CloseBy:
    return CloseBy(1, name, "confluence", 0, position, other)


def test_the_smaller_position_is_gone_and_the_rest_of_the_larger_stays(world: World) -> None:
    long, short = opened(world, "long", "buy", 0.3), opened(world, "short", "sell", 0.1)
    caller = world.ask(close_by(long, short))
    world.settle()
    outcome = caller.outcome
    assert (outcome.state, outcome.action, outcome.position, outcome.filled_volume) == ("done", "close_by", long, 0.1)
    request = world.broker.sent[-1]
    assert (request.action, request.position, request.position_by) == (10, long, short)
    assert {p.ticket: p.volume for p in world.broker.positions.values()} == {long: 0.2}
    deals = [e.body.deal for e in world.published if isinstance(e.body, DealEvent)][2:]
    assert [(d.entry, d.order, d.client_order_id) for d in deals] == [(3, outcome.order, "x")] * 2
    changes = [(e.body.change, e.body.position.ticket) for e in world.published if isinstance(e.body, PositionEvent)]
    assert sorted(changes[2:]) == [("changed", long), ("closed", short)]
    again = world.ask(close_by(long, short), 2)
    assert again.outcome == outcome


def test_what_is_being_closed_otherwise_is_not_closed_by_it(world: World) -> None:
    long, short = opened(world, "long", "buy", 0.3), opened(world, "short", "sell", 0.3)
    world.link.answers.append(world.link.lost_before)
    world.ask(ClosePosition(1, "part", "confluence", 0, short, 0.1))
    world.settle()
    assert world.state("part") == "unknown"
    caller = world.ask(close_by(long, short))
    world.settle()
    assert caller.error.code == "state_conflict"
    assert f"position {short} has 0.3 lots, of which 0.1" in caller.error.text
    world.wait(130)
    world.link.answers.append(world.link.lost_before)
    world.ask(close_by(long, short, "y"))
    world.settle()
    for ticket in (long, short):
        caller = world.ask(ClosePosition(1, f"close-{ticket}", "confluence", 0, ticket))
        world.settle()
        assert caller.error.code == "state_conflict"


def test_two_positions_of_one_side_or_one_alone_are_refused(world: World) -> None:
    first, second = opened(world, "a", "buy", 0.1), opened(world, "b", "buy", 0.1)
    for name, other in (("same-side", second), ("itself", first)):
        caller = world.ask(close_by(first, other, name))
        world.settle()
        assert caller.error.details["field"] == "position_by"
    missing = world.ask(close_by(first, 77, "missing"))
    world.settle()
    assert missing.error.code == "not_found"


def test_a_symbol_or_an_account_that_does_not_take_it_refuses(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long, short = opened(world, "long", "buy", 0.3), opened(world, "short", "sell", 0.1)
    without = msgspec.structs.replace(EURUSD, order_mask=OrderFlag.ALL & ~OrderFlag.CLOSE_BY)
    monkeypatch.setattr(world, "instrument", lambda _symbol: without)
    caller = world.ask(close_by(long, short))
    world.settle()
    assert caller.error.details["field"] == "position_by"
    folder = tmp_path / "netting"
    folder.mkdir()
    netting = World(folder, margin_mode=NETTING).ready()
    caller = netting.ask(close_by(1, 2))
    netting.settle()
    assert caller.error.code == "state_conflict"
    netting.close()


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_lost_answer_is_decided_by_the_pair_of_deals(world: World, *, by_hand: bool) -> None:
    """Also if a person was quicker: the two can meet only once, and they have."""
    world.broker.changes_magic = True
    long, short = opened(world, "long", "buy", 0.3), opened(world, "short", "sell", 0.1)
    world.link.answers.append(world.link.lost_before if by_hand else world.link.lost_after)
    world.ask(close_by(long, short))
    world.settle()
    if by_hand:
        assert world.state("x") == "unknown"
        world.broker.execute(ApiTradeRequest(action=10, position=long, position_by=short))
    world.wait(2)
    assert world.state("x") == "done"


def test_a_position_that_is_gone_otherwise_rules_it_out_at_once(world: World) -> None:
    long, short = opened(world, "long", "buy", 0.3), opened(world, "short", "sell", 0.1)
    world.link.answers.append(world.link.lost_before)
    world.ask(close_by(long, short))
    world.settle()
    stop = ApiTradeRequest(action=1, symbol="EURUSD.m", volume=0.1, type=0, position=short)
    world.broker.deal(stop, reason=4)
    world.wait(2)
    found = world.desk.intent("x")
    assert found is not None
    assert (found.state, found.text) == ("not_executed", f"not executed: position {short} is gone")
    assert not [event for event in world.published if isinstance(event.body, AlertEvent)]
