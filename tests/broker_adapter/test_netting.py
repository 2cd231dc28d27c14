"""Orders on netting accounts: one position per symbol, which every order meets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from broker_adapter.api_types import ApiTradeRequest
from broker_adapter.link_messages import Send
from broker_adapter.link_results import LinkResult
from broker_adapter.order_states import State
from market.risk import TradingMode
from mt5bus.settings import Risk
from protocol.messages import (
    AlertEvent,
    ClosePosition,
    DealEvent,
    IntentEvent,
    ModifyPosition,
    PositionEvent,
    SubmitOrder,
)
from tests.broker_adapter.fake_account import NETTING
from tests.broker_adapter.fake_broker import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    it = World(tmp_path, margin_mode=NETTING).ready()
    yield it
    it.close()


def order(
    name: str, side: str = "buy", volume: float = 0.3, strategy: str = "confluence", **more: object
) -> SubmitOrder:
    return SubmitOrder(1, name, strategy, 0, "EURUSD", side, volume, **more)  # type: ignore[arg-type]


def done(world: World, request: object) -> IntentEvent:
    caller = world.ask(request)
    world.settle()
    assert caller.outcome.state == "done", caller.outcome
    return caller.outcome


def close(position: int, volume: float = 0.0, name: str = "close") -> ClosePosition:
    return ClosePosition(1, name, "confluence", 0, position, volume)


def held(world: World) -> tuple[int, float, float, float]:
    (position,) = world.broker.positions.values()
    return position.type, position.volume, position.sl, position.tp


def alerts(world: World) -> list[str]:
    return [event.body.code for event in world.published if isinstance(event.body, AlertEvent)]


def test_open_add_reduce_reverse_close(world: World) -> None:
    opened = done(world, order("open", sl=1.09, tp=1.12))
    added = done(world, order("add", volume=0.2))
    assert (added.position, added.filled_volume, added.sl, added.tp) == (opened.position, 0.2, 1.09, 1.12)
    assert held(world) == (0, 0.5, 1.09, 1.12)  # an addition without stops of its own has not cleared them
    reduced = done(world, order("reduce", "sell", 0.1))
    assert (reduced.action, reduced.position, reduced.filled_volume) == ("close", opened.position, 0.1)
    assert held(world) == (0, 0.4, 1.09, 1.12)
    reversed_ = done(world, order("reverse", "sell", 0.6, sl=1.11))
    assert (reversed_.action, reversed_.filled_volume, reversed_.position) == ("open", 0.6, opened.position)
    assert held(world) == (1, 0.2, 1.11, 0.0)
    (position,) = world.desk.positions
    assert (position.ticket, position.identifier) == (reversed_.order, opened.position)
    world.wait(3)
    closed = done(world, close(position.ticket))
    assert (closed.side, closed.filled_volume) == ("buy", 0.2)
    assert not world.broker.positions
    world.wait(3)
    changes = [e.body.change for e in world.published if isinstance(e.body, PositionEvent)]
    assert changes == ["opened", "changed", "changed", "changed", "closed"]
    deals = [e.body.deal for e in world.published if isinstance(e.body, DealEvent)]
    assert [(d.strategy, d.client_order_id) for d in deals] == [
        ("confluence", name) for name in ("open", "add", "reduce", "reverse", "close")
    ]
    assert not alerts(world)


def test_an_addition_may_bring_stops_of_its_own(world: World) -> None:
    done(world, order("open", sl=1.09, tp=1.12))
    done(world, order("add", volume=0.1, sl=1.095))
    assert held(world) == (0, 0.4, 1.095, 1.12)


def test_stops_that_changed_meanwhile_are_carried_as_they_are(world: World) -> None:
    opened = done(world, order("open", sl=1.09))
    caller = world.ask(order("add", volume=0.1))
    world.broker.positions[opened.position] = msgspec.structs.replace(world.broker.fetch(opened.position), sl=1.094)
    world.settle()
    assert caller.outcome.state == "done"
    assert held(world) == (0, 0.4, 1.094, 0.0)


def test_stops_that_an_addition_lost_are_set_again(world: World) -> None:
    done(world, order("open", sl=1.09, tp=1.12))
    world.broker.drops_stops = True  # some servers take none inside an order: then the addition clears the position's
    done(world, order("add", volume=0.1))
    assert held(world) == (0, 0.4, 0.0, 0.0)
    world.wait(4)
    assert held(world) == (0, 0.4, 1.09, 1.12)


@pytest.mark.parametrize("field", ["sl", "tp"])
def test_an_order_that_only_reduces_has_no_stops(world: World, field: str) -> None:
    done(world, order("open"))
    request = msgspec.structs.replace(order("reduce", "sell", 0.1), **{field: 1.2 if field == "sl" else 1.0})
    caller = world.ask(request)
    world.settle()
    assert caller.error.details["field"] == field


def test_an_exit_never_opens_the_other_side(world: World) -> None:
    opened = done(world, order("open"))
    late = world.ask(close(opened.position))
    other = world.broker.fetch(opened.position)
    world.broker.positions[other.ticket] = msgspec.structs.replace(other, volume=0.1)  # by hand, in the terminal
    world.settle()
    assert late.outcome.filled_volume == 0.1
    assert not world.broker.positions
    assert world.broker.sent[-1].volume == 0.1


def test_an_exit_from_a_position_that_is_gone_is_not_sent(world: World) -> None:
    done(world, order("open"))
    caller = world.ask(order("out", "sell", 0.3))
    world.broker.positions.clear()  # its stop was hit
    world.settle()
    assert (caller.outcome.state, caller.outcome.code) == ("rejected", "state_conflict")
    assert len(world.broker.sent) == 1


def test_one_exit_at_a_time_also_while_its_outcome_is_unknown(world: World) -> None:
    opened = done(world, order("open"))
    world.link.answers.append(world.link.lost_before)
    world.ask(close(opened.position, 0.1, "one"))
    second = world.ask(close(opened.position, 0.1, "two"))
    reducing = world.ask(order("three", "sell", 0.1))
    world.settle()
    assert world.state("one") == "unknown"
    assert second.error.code == reducing.error.code == "state_conflict"
    world.wait(130)
    assert world.state("one") == "not_executed"
    assert done(world, close(opened.position, 0.1, "four")).filled_volume == 0.1


def test_an_exit_does_not_wait_for_an_entry(world: World) -> None:
    opened = done(world, order("open"))
    world.link.answers.append(world.link.lost_before)
    world.ask(order("add", volume=0.1))
    world.settle()
    assert world.state("add") == "unknown"
    assert done(world, close(opened.position)).filled_volume == 0.3


@pytest.mark.parametrize(
    ("first", "second", "taken"),
    [
        (order("a"), order("b"), True),
        (order("a"), order("b", "sell"), False),
        (order("a", "sell", 0.5), order("b"), False),
        (order("a", "sell", 0.5), order("b", "sell", 0.5), False),
        (order("a", "sell", 0.2), order("b"), False),
    ],
)
def test_orders_whose_sense_depends_on_their_order_wait(
    world: World, first: SubmitOrder, second: SubmitOrder, *, taken: bool
) -> None:
    if first.volume != 0.3:
        done(world, order("open"))
    world.ask(first)
    caller = world.ask(second)
    world.settle()
    assert world.state("a") == "done"
    if taken:
        assert caller.outcome.state == "done"
    else:
        assert caller.error.code == "state_conflict"


def test_stops_do_not_change_while_an_addition_carries_them(world: World) -> None:
    opened = done(world, order("open", sl=1.09))
    world.ask(order("add", volume=0.1))
    moved = world.ask(ModifyPosition(1, "move", "confluence", 0, opened.position, 1.08, 0.0))
    world.settle()
    assert moved.error.code == "state_conflict"
    world.ask(ModifyPosition(1, "move-again", "confluence", 0, opened.position, 1.08, 0.0))
    added = world.ask(order("add-again", volume=0.1))
    world.settle()
    assert added.error.code == "state_conflict"
    assert held(world) == (0, 0.4, 1.08, 0.0)


def test_a_symbol_has_one_owner_until_it_is_flat(world: World) -> None:
    opened = done(world, order("open"))
    for side in ("buy", "sell"):
        refused = world.ask(order(f"theirs-{side}", side, 0.5, "other"))
        world.settle()
        assert (refused.error.code, refused.error.details["limit"]) == ("risk_refused", "owner")
    exit_ = world.ask(ClosePosition(1, "theirs-close", "other", 0, opened.position))  # anybody may get out
    world.settle()
    assert exit_.outcome.state == "done"
    assert done(world, order("now-theirs", strategy="other")).state == "done"


def test_what_was_opened_by_hand_is_not_added_to(world: World) -> None:
    world.broker.deal(ApiTradeRequest(action=1, symbol="EURUSD.m", volume=0.1, type=0), reason=0)
    world.read()
    world.settle()
    caller = world.ask(order("a"))
    world.settle()
    assert caller.error.details["limit"] == "owner"


def test_limits_count_the_position_that_an_order_leads_to(tmp_path: Path) -> None:
    risk = Risk(max_volume_per_symbol=0.5, max_volume_per_order=0.6, max_positions=1)
    world = World(tmp_path, risk=risk, margin_mode=NETTING).ready()
    done(world, order("open"))
    done(world, order("add", volume=0.2))  # still one position
    too_much = world.ask(order("more", volume=0.1))
    world.settle()
    assert too_much.error.details["limit"] == "volume_per_symbol"
    # Were the position gone when it gets there, all of it would be open on the other side.
    too_far = world.ask(order("reverse", "sell", 0.6))
    world.settle()
    assert too_far.error.details["limit"] == "volume_per_symbol"
    done(world, order("reduce", "sell", 0.4))
    done(world, order("turn", "sell", 0.5))
    world.close()


def test_a_reduction_passes_while_trading_only_reduces_and_a_reversal_does_not(world: World) -> None:
    done(world, order("open"))
    world.desk.gate.set_mode(TradingMode.REDUCING)
    reversal = world.ask(order("reverse", "sell", 0.4))
    world.settle()
    assert reversal.error.details["limit"] == "mode"
    done(world, order("reduce", "sell", 0.2))


Answer = Callable[[Send], LinkResult]


@pytest.mark.parametrize("executed", [True, False])
@pytest.mark.parametrize("changed", [False, True], ids=["comment kept", "comment changed"])
@pytest.mark.parametrize(
    ("side", "volume", "entry"), [("buy", 0.1, 0), ("sell", 0.1, 1), ("sell", 0.3, 1), ("sell", 0.5, 2)]
)
def test_a_lost_answer_is_decided_by_the_deal_whatever_it_was(
    world: World, side: str, volume: float, entry: int, *, changed: bool, executed: bool
) -> None:
    done(world, order("open"))
    world.broker.changes_comment = changed
    world.link.answers.append(world.link.lost_after if executed else world.link.lost_before)
    world.ask(order("a", side, volume))
    world.settle()
    assert world.state("a") == ("done" if executed else "unknown")
    world.wait(130)
    assert world.state("a") == ("done" if executed else "not_executed")
    if executed:
        found = world.desk.intent("a")
        assert found is not None
        assert (found.filled_volume, world.broker.deals[-1].entry) == (volume, entry)


def test_an_unmarked_exit_of_another_volume_is_for_a_person_to_judge(world: World) -> None:
    opened = done(world, order("open"))
    world.broker.changes_comment = world.broker.changes_magic = True
    clipped = world.broker.fetch(opened.position)
    world.broker.positions[clipped.ticket] = msgspec.structs.replace(clipped, volume=0.2)
    world.link.answers.append(world.link.lost_after)
    world.ask(close(opened.position))
    world.settle()
    world.wait(130)
    assert world.state("close") == State.AMBIGUOUS
    assert alerts(world) == ["order_ambiguous"]


def test_an_exit_that_crossed_with_another_and_opened_the_other_side_is_alerted(world: World) -> None:
    opened = done(world, order("open"))

    def crossing(command: Send) -> LinkResult:
        """The stop is hit between the look at the position and the order's arrival."""
        request = msgspec.structs.replace(command.request, position=0)
        world.broker.positions.clear()
        world.broker.execute(request)
        return LinkResult("lost", reason="died", was_sent=True)

    world.link.answers.append(crossing)
    world.ask(close(opened.position))
    world.settle()
    world.wait(3)
    assert world.state("close") == "done"
    assert held(world)[:2] == (1, 0.3)
    assert alerts(world) == ["exit_reversed"]
