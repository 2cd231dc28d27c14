"""What the order desk holds in memory depends on what is open, never on how many orders there have been."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from broker_adapter.account_records import Records
from broker_adapter.account_watch import LAST_DEALS
from broker_adapter.broker_state import BrokerRead
from broker_adapter.journal import Journal
from broker_adapter.link_messages import SendOutcome
from protocol.messages import AlertEvent, CancelOrder, ClosePosition, Done, SettleOrder, SetTradingMode, SubmitOrder
from tests.broker_adapter.fake_broker import World, answered, result
from tests.broker_adapter.served import Requests
from tests.held import held

DAYS_S = 10 * 86_400.0  # longer than an order is watched for a late fill, and than what was told is remembered


def in_memory(world: World, requests: Requests) -> int:
    # The account's own history is as long as its window, the journal is on disk.
    return held(world.desk, requests.watch, requests.alerts, beside=(BrokerRead, Records, Journal))


def buy(world: World, name: str) -> None:
    world.ask(SubmitOrder(1, name, "confluence", 0, "EURUSD", "buy", 0.1, sl=1.09, tp=1.12))
    world.settle()


def close_all(world: World, name: str) -> None:
    for ticket in tuple(world.broker.positions):
        world.ask(ClosePosition(1, f"{name}-close-{ticket}", "confluence", 0, ticket, 0.0))
        world.settle()
    world.wait(3)


def pass_days(world: World) -> None:
    """Let more days pass than anything is watched or remembered; the terminal's window of the history moves on."""
    world.clock.advance(DAYS_S)
    world.broker.deals.clear()
    world.broker.history.clear()
    world.wait(5)


def done(world: World, _requests: Requests, name: str) -> None:
    buy(world, name)


def repaired(world: World, _requests: Requests, name: str) -> None:
    world.broker.drops_stops = True
    buy(world, name)
    world.wait(4)
    assert next(iter(world.broker.positions.values())).sl == 1.09


def rejected(world: World, _requests: Requests, name: str) -> None:
    world.link.answers.append(lambda _: answered(SendOutcome(result=result(10006))))
    buy(world, name)
    assert world.state(name) == "rejected"


def refused(world: World, _requests: Requests, name: str) -> None:
    world.ask(SubmitOrder(1, name, "confluence", 0, "EURUSD", "buy", 1000.0))
    world.settle()


def cancelled(world: World, _requests: Requests, name: str) -> None:
    caller = world.ask(SubmitOrder(1, name, "confluence", 0, "EURUSD", "buy", 0.1, "limit", 1.09, sl=1.08))
    world.settle()
    world.ask(CancelOrder(1, f"{name}-cancel", "confluence", 0, caller.outcome.order))
    world.settle()
    world.wait(3)
    assert world.state(f"{name}-cancel") == "done"


def settled_by_the_operator(world: World, requests: Requests, name: str) -> None:
    world.link.answers.append(world.link.lost_before)
    buy(world, name)
    assert isinstance(requests.ask(world, SettleOrder(1, name, "not_executed", "seen")), Done)


def long_unknown(world: World, _requests: Requests, name: str) -> None:
    world.link.answers.append(world.link.lost_before)
    buy(world, name)
    world.broker.connected = False
    world.wait(260, every_s=5)
    world.broker.connected = True
    world.wait(140, every_s=5)
    assert world.state(name) == "not_executed"
    assert "order_unknown" in [e.body.code for e in world.published if isinstance(e.body, AlertEvent)]


def given_up_flattening(world: World, requests: Requests, name: str) -> None:
    buy(world, name)
    world.link.answers.extend([lambda _: answered(SendOutcome(result=result(10006)))] * 1000)
    assert isinstance(requests.ask(world, SetTradingMode(1, "halted", flatten=True)), Done)
    world.wait(5)
    assert requests.flattening.status()
    assert isinstance(requests.ask(world, SetTradingMode(1, "active")), Done)
    world.link.answers.clear()
    world.wait(5)


@pytest.mark.parametrize(
    "fate",
    [done, repaired, rejected, refused, cancelled, settled_by_the_operator, long_unknown, given_up_flattening],
)
def test_orders_that_are_over_leave_nothing_in_memory(
    world: World, requests: Requests, fate: Callable[[World, Requests, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker_adapter.intent_book._REMEMBERED", 1)
    counts = []
    for number in range(LAST_DEALS):
        fate(world, requests, f"order-{number}")
        close_all(world, f"order-{number}")
        pass_days(world)
        assert world.desk.book.held() == ()
        counts.append(in_memory(world, requests))
    assert len(set(counts[LAST_DEALS // 2 :])) == 1, counts
