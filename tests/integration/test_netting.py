"""A whole system on a netting account: a strategy adds, reduces, reverses and closes, and a script is kept out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from protocol.errors import RiskRefused, StateConflict, TryAgainLater
from protocol.messages import AlertEvent, DealEvent, Event, IntentEvent, PositionEvent
from tests.integration.conftest import System
from tests.waiting import eventually

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

CONFIG = """
[bus]
port = PORT

[supervisor]
backoff_first_s = 0.2

[[paper.accounts]]
margin_mode = 0

[paper.feed]
kind = "synthetic"
seed = 11
ticks_per_second = 10.0

[adapter]
symbols = ["EURUSD", "GBPUSD"]
server_time = "ny+7"

[adapter.risk]
max_orders_per_minute = 5000

[[strategy]]
name = "netting"
class = "STRATEGY:NettingTrader"
timeframe = "S5"
"""
IN, OUT, INOUT = 0, 1, 2
ROUNDS = 12  # reversals to see


def test_a_strategy_trades_a_netting_account(make_system) -> None:  # type: ignore[no-untyped-def]
    trader = Path(__file__).with_name("netting_trader.py").as_posix()
    system: System = make_system(CONFIG.replace("STRATEGY", trader))
    system.up()
    system.wait_until_healthy()
    with system.client() as bus:

        def reversals() -> int:
            return sum(deal.entry == INOUT for deal in bus.deals(0))

        eventually(lambda: reversals() >= ROUNDS, timeout_s=120, what="reversals")
        positions = bus.positions()
        assert len({p.symbol for p in positions}) == len(positions)
        assert {p.strategy for p in positions} <= {"netting"}
        _assert_owned(bus)
        bus.halt("enough", flatten=True)
        eventually(lambda: not bus.positions(), timeout_s=60, what="a flat account")
        # The account is flat before the last order's outcome is told.
        events = eventually(lambda: _settled(bus.events(0)), timeout_s=30, what="every outcome")
        _assert_told_once_and_true(events, bus.deals(0))
        _assert_stops_were_kept(events)
    system.down()


def _assert_owned(bus) -> None:  # type: ignore[no-untyped-def]
    """A script's order on the strategy's symbol is refused as that. (While the symbol is flat, as too large.)"""

    def refused() -> bool:
        try:
            bus.buy("EURUSD", 1.5)
        except RiskRefused as error:
            return error.details["limit"] == "owner"
        except (StateConflict, TryAgainLater):
            pass
        return False

    eventually(refused, timeout_s=30, what="the refusal of a second owner")


def _settled(events: list[Event]) -> list[Event] | None:
    """Return the events once the newest word on every order is its last one."""
    states = {event.body.client_order_id: event.body.state for event in events if isinstance(event.body, IntentEvent)}
    return events if set(states.values()) <= {"done", "rejected", "refused"} else None


def _assert_told_once_and_true(events, deals) -> None:  # type: ignore[no-untyped-def]
    assert [event.offset for event in events] == list(range(1, len(events) + 1))
    told = Counter(event.body.deal.ticket for event in events if isinstance(event.body, DealEvent))
    assert set(told.values()) == {1}
    assert set(told) >= {deal.ticket for deal in deals}
    assert {deal.entry for deal in deals if deal.symbol} == {IN, OUT, INOUT}
    volumes: Counter[str] = Counter()
    for deal in deals:
        if deal.client_order_id:
            volumes[deal.client_order_id] += round(deal.volume * 100)
    outcomes = {event.body.client_order_id: event.body for event in events if isinstance(event.body, IntentEvent)}
    trades = {name: o for name, o in outcomes.items() if o.action in {"open", "close"} and o.state == "done"}
    assert {name: round(o.filled_volume * 100) for name, o in trades.items()} == dict(volumes)
    assert {o.state for o in outcomes.values()} <= {"done", "refused"}, outcomes
    assert {event.body.code for event in events if isinstance(event.body, AlertEvent)} <= {"flattened"}


def _assert_stops_were_kept(events) -> None:  # type: ignore[no-untyped-def]
    changed = [event.body for event in events if isinstance(event.body, PositionEvent)]
    assert Counter(body.change for body in changed)["changed"] >= 3 * ROUNDS
    assert all(body.position.sl for body in changed if body.position.strategy == "netting")
