"""SL and TP of pending orders, from their placing to their position."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from broker_adapter.api_types import ApiTradeRequest
from broker_adapter.link_messages import SendOutcome
from broker_adapter.stops_watch import STOPS_GRACE_S
from protocol.messages import AlertEvent, CancelOrder, IntentEvent, ModifyOrder, ModifyPosition, SubmitOrder
from tests.broker_adapter.fake_account import NETTING
from tests.broker_adapter.fake_broker import World, answered, result

SET_STOPS = 6


@pytest.fixture
def netting(tmp_path: Path) -> Iterator[World]:
    it = World(tmp_path, margin_mode=NETTING).ready()
    yield it
    it.close()


def done(world: World, request: object) -> IntentEvent:
    caller = world.ask(request)
    world.settle()
    assert caller.outcome.state == "done", caller.outcome
    world.wait(1)
    return caller.outcome


def limit(name: str = "limit", **more: float) -> SubmitOrder:
    return SubmitOrder(1, name, "confluence", 0, "EURUSD", "buy", 0.1, "limit", 1.09, **more)  # type: ignore[arg-type]


def market(name: str, side: str = "buy", volume: float = 0.3, **more: float) -> SubmitOrder:
    return SubmitOrder(1, name, "confluence", 0, "EURUSD", side, volume, **more)  # type: ignore[arg-type]


def stops(world: World) -> tuple[float, float]:
    (position,) = world.broker.positions.values()
    return position.sl, position.tp


def repairs(world: World) -> int:
    return sum(request.action == SET_STOPS for request in world.broker.sent)


def alerts(world: World) -> list[str]:
    return [event.body.code for event in world.published if isinstance(event.body, AlertEvent)]


def watched(world: World) -> list[str]:
    return [intent.stops for intent in world.desk.book.held()]


def test_a_filled_pending_order_that_has_its_stops_is_left_alone(world: World) -> None:
    ticket = done(world, limit(sl=1.08, tp=1.12)).order
    assert watched(world) == ["carried"]
    world.broker.fill_pending(ticket)
    world.wait(3)
    assert stops(world) == (1.08, 1.12)
    assert (repairs(world), watched(world)) == (0, [])
    assert world.desk.positions[0].client_order_id == "limit"


@pytest.mark.parametrize("restarted", [False, True])
def test_stops_that_a_broker_took_from_a_pending_order_are_set_after_its_fill(world: World, *, restarted: bool) -> None:
    world.broker.drops_stops = True
    ticket = done(world, limit(sl=1.08, tp=1.12)).order
    assert watched(world) == ["placed"]
    if restarted:
        world.crash()
        world.broker.fill_pending(ticket)
        world.restart()
        world.ready()
    else:
        world.broker.fill_pending(ticket)
    world.wait(4)
    assert stops(world) == (1.08, 1.12)
    assert repairs(world) == 1
    assert not alerts(world)


def test_stops_that_get_lost_in_the_fill_are_set(world: World) -> None:
    ticket = done(world, limit(sl=1.08)).order
    world.broker.fill_pending(ticket)
    (position,) = world.broker.positions.values()
    world.broker.positions[position.ticket] = msgspec.structs.replace(position, sl=0.0)
    world.wait(4)
    assert stops(world) == (1.08, 0.0)


def test_what_the_order_carries_in_the_end_counts(world: World) -> None:
    ticket = done(world, limit(sl=1.08, tp=1.12)).order
    done(world, ModifyOrder(1, "m", "confluence", 0, ticket, 1.09, 1.07, 0.0))
    world.broker.fill_pending(ticket)
    (position,) = world.broker.positions.values()
    world.broker.positions[position.ticket] = msgspec.structs.replace(position, sl=0.0)
    world.wait(4)
    assert stops(world) == (1.07, 0.0)  # the target was removed on purpose


def test_a_pending_order_that_ends_unfilled_is_looked_after_no_more(world: World) -> None:
    ticket = done(world, limit(sl=1.08)).order
    done(world, CancelOrder(1, "c", "confluence", 0, ticket))
    world.wait(3)
    assert watched(world) == []
    assert not alerts(world)


def test_a_pending_order_without_stops_clears_nothing_where_it_adds(netting: World) -> None:
    done(netting, market("open", sl=1.08, tp=1.12))
    ticket = done(netting, limit()).order
    netting.broker.fill_pending(ticket)
    assert stops(netting) == (0.0, 0.0)  # the broker's rule: the latest order's replace the position's
    netting.wait(4)
    assert stops(netting) == (1.08, 1.12)
    assert not alerts(netting)


def test_stops_that_were_moved_while_it_waited_are_the_ones_set_again(netting: World) -> None:
    opened = done(netting, market("open", sl=1.08, tp=1.12))
    ticket = done(netting, limit()).order
    done(netting, ModifyPosition(1, "m", "confluence", 0, opened.position, 1.085, 0.0))
    netting.crash()
    netting.broker.fill_pending(ticket)  # while nobody looks
    netting.restart()
    netting.ready()
    netting.wait(4)
    assert stops(netting) == (1.085, 0.0)


def test_an_order_with_stops_of_its_own_replaces_them(netting: World) -> None:
    done(netting, market("open", sl=1.08, tp=1.12))
    ticket = done(netting, limit(sl=1.07)).order
    netting.broker.fill_pending(ticket)
    netting.wait(4)
    assert stops(netting) == (1.07, 1.12)


@pytest.mark.parametrize(("volume", "left"), [(0.3, (1.12, 0.0)), (0.05, None)])
def test_where_it_reduces_or_reverses_nothing_is_set(
    netting: World, volume: float, left: tuple[float, float] | None
) -> None:
    done(netting, market("open", "sell", volume, sl=1.12))
    ticket = done(netting, limit()).order
    netting.broker.fill_pending(ticket)
    netting.wait(4)
    assert repairs(netting) == 0
    assert stops(netting) == (left or (0.0, 0.0))
    assert not alerts(netting)


def test_a_fill_by_hand_is_nobodys_business_here(netting: World) -> None:
    done(netting, market("open", sl=1.08))
    netting.broker.deal(ApiTradeRequest(action=1, symbol="EURUSD.m", volume=0.1, type=0), reason=0)
    netting.wait(4)
    assert repairs(netting) == 0


@pytest.mark.parametrize("closed", [True, False])
def test_a_repair_refused_since_the_position_was_closed_alerts_nobody(world: World, *, closed: bool) -> None:
    world.broker.drops_stops = True
    world.ask(market("open", sl=1.05, tp=1.12))
    world.settle()
    world.clock.advance(STOPS_GRACE_S)
    world.read()
    assert world.step(), "the repair is durable, and with the link"
    assert world.step()
    assert world.link.taken
    (position,) = world.broker.positions.values()
    if closed:
        world.broker.deal(ApiTradeRequest(action=1, volume=0.3, type=1, position=position.ticket), reason=0)
    else:
        world.link.answers.append(lambda _: answered(SendOutcome(result=result(10016))))
    world.wait(3)
    assert alerts(world) == ([] if closed else ["stops_missing"])
    assert watched(world) == []
