"""What stands against an order beside the risk gate."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from broker_adapter.intents import Intent
from broker_adapter.order_checks import check_before_sending, check_conflicts
from broker_adapter.order_requests import Draft
from broker_adapter.order_states import State
from broker_adapter.risk_gate import Exposure
from market.risk import TradingMode
from protocol.errors import RiskRefused, StateConflict
from protocol.messages import Account
from tests.broker_adapter.fake_broker import LOGIN, SERVER, World


def intent(action: str, state: State = State.SENT, **values: object) -> Intent:
    """Return an order of ours on EURUSD."""
    plain: dict[str, object] = {
        "number": 1,
        "client_order_id": "other",
        "fingerprint": "",
        "server": SERVER,
        "login": LOGIN,
        "strategy": "",
        "action": action,
        "state": state,
        "symbol": "EURUSD",
        "created_ms": 1,
    }
    return Intent(**(plain | values))  # type: ignore[arg-type]


def order(action: str, **values: object) -> Draft:
    """Return a new order on EURUSD."""
    plain: dict[str, object] = {"action": action, "symbol": "EURUSD", "broker_symbol": "EURUSD", "side": "buy"}
    return Draft(**(plain | values))  # type: ignore[arg-type]


def on_its_way(*intents: Intent) -> Exposure:
    return Exposure(positions=(), intents=intents)


def test_exits_on_their_way_never_exceed_the_position() -> None:
    exposure = on_its_way(
        intent("close", position=7, volume=0.3), intent("close", State.UNKNOWN, position=7, volume=0.2)
    )
    check_conflicts(order("close", ticket=7, position=7, volume=0.5), exposure, held=1.0, one_magic=False)
    with pytest.raises(StateConflict, match=r"1 lots, of which 0\.5 are being closed already"):
        check_conflicts(order("close", ticket=7, position=7, volume=0.51), exposure, held=1.0, one_magic=False)


@pytest.mark.parametrize("state", [State.SENT, State.UNKNOWN])
def test_the_same_thing_is_changed_by_one_order_at_a_time(state: State) -> None:
    change = order("modify_position", ticket=7, position=7)
    with pytest.raises(StateConflict, match="SL and TP of position 7"):
        check_conflicts(change, on_its_way(intent("modify_position", state, position=7)), held=0, one_magic=False)
    check_conflicts(change, on_its_way(intent("modify_position", state, position=8)), held=0, one_magic=False)
    check_conflicts(change, on_its_way(intent("modify_position", State.DONE, position=7)), held=0, one_magic=False)
    cancel = order("cancel", order=9)
    with pytest.raises(StateConflict, match="order 9"):
        check_conflicts(cancel, on_its_way(intent("cancel", state, order=9)), held=0, one_magic=False)


def test_with_one_magic_number_one_order_opens_at_a_time() -> None:
    opening = order("open", volume=0.1)
    exposure = on_its_way(intent("open", State.UNKNOWN))
    check_conflicts(opening, exposure, held=0, one_magic=False)
    with pytest.raises(StateConflict, match="one fixed magic number"):
        check_conflicts(opening, exposure, held=0, one_magic=True)


def test_what_changed_before_sending_stops_an_order(tmp_path: Path) -> None:
    world = World(tmp_path).ready()
    try:
        gate, account = world.desk.gate, world.desk.account
        assert isinstance(account, Account)
        decided = intent("open")
        check_before_sending(decided, account, gate, late_ms=-1)
        with pytest.raises(StateConflict, match="time to live"):
            check_before_sending(decided, account, gate, late_ms=0)
        for other in (None, msgspec.structs.replace(account, login=LOGIN + 1)):
            with pytest.raises(StateConflict, match="another account"):
                check_before_sending(decided, other, gate, late_ms=-1)
        real = msgspec.structs.replace(account, trade_mode=2)
        with pytest.raises(RiskRefused, match="not armed"):
            check_before_sending(decided, real, gate, late_ms=-1)
        gate.mode = TradingMode.REDUCING
        check_before_sending(intent("close"), account, gate, late_ms=-1)
        with pytest.raises(RiskRefused, match="reducing"):
            check_before_sending(decided, account, gate, late_ms=-1)
        gate.mode = TradingMode.HALTED
        with pytest.raises(RiskRefused, match="halted"):
            check_before_sending(intent("close"), account, gate, late_ms=-1)
        check_before_sending(intent("close", client_order_id="~flatten:7"), account, gate, late_ms=-1)
    finally:
        world.close()
