"""SIGKILL with an order at the paper terminal: of the trade link and of the adapter, for every kind of order.

The exhaustive set is `test_crash_points.py`; here processes, sockets, disk and terminal are real.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from paper_terminal.faults import clear_faults, set_fault
from protocol.client import BusClient
from protocol.errors import BusError, UnknownOutcome
from protocol.messages import AlertEvent, DealEvent, IntentEvent
from tests.broker_adapter.test_orders_on_paper import Adapter, submit
from tests.waiting import eventually

pytestmark = pytest.mark.slow

NETTING = "[[accounts]]\nmargin_mode = 0\n"


class Act(NamedTuple):
    """An order: what has to be there before it, the call that sends it, and how many deals it makes."""

    prepare: Callable[[Adapter, str], dict[str, object]]
    send: str
    deals: int = 0


def below(adapter: Adapter, by: float = 0.01) -> float:
    return round(adapter.bus.price("EURUSD").bid - by, 5)


def position(adapter: Adapter, name: str) -> dict[str, object]:
    return {"position": submit(adapter, f"{name}-before", 0.2, sl=below(adapter)).position}


def pair(adapter: Adapter, name: str) -> dict[str, object]:
    short = adapter.bus.sell("EURUSD", 0.1, client_order_id=f"{name}-short")
    return {**position(adapter, name), "position_by": short.position}


def moved(adapter: Adapter, name: str) -> dict[str, object]:
    return {**position(adapter, name), "sl": below(adapter, 0.02)}


def price(adapter: Adapter, _name: str) -> dict[str, object]:
    return {"price": below(adapter)}


def order(adapter: Adapter, name: str) -> dict[str, object]:
    placed = adapter.bus.buy("EURUSD", 0.1, type="limit", price=below(adapter), client_order_id=f"{name}-before")
    return {"order": placed.order}


def changed(adapter: Adapter, name: str) -> dict[str, object]:
    return {**order(adapter, name), "price": below(adapter, 0.02)}


HEDGING_ACTS = {
    "close": Act(position, "close", 1),
    "partial": Act(lambda it, name: {**position(it, name), "volume": 0.1}, "close", 1),
    "close_by": Act(pair, "close_by", 2),
    "modify_position": Act(moved, "modify"),
    "pending": Act(lambda it, name: {"symbol": "EURUSD", "volume": 0.1, "type": "limit", **price(it, name)}, "buy"),
    "modify_order": Act(changed, "modify"),
    "cancel": Act(order, "cancel"),
}
NETTING_ACTS = {
    "open": ("buy", {"symbol": "EURUSD", "volume": 0.2}),
    "add": ("buy", {"symbol": "EURUSD", "volume": 0.1}),
    "reduce": ("sell", {"symbol": "EURUSD", "volume": 0.1}),
    "reverse": ("sell", {"symbol": "EURUSD", "volume": 0.5}),
    "close": ("close", {}),
}
"""In their order, one after another on the one position."""


@pytest.fixture(scope="module")
def hedging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adapter]:
    it = Adapter(tmp_path_factory.mktemp("hedging"))
    yield it
    it.close()


@pytest.fixture(scope="module")
def netting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adapter]:
    it = Adapter(tmp_path_factory.mktemp("netting"), NETTING)
    yield it
    it.close()


def decided(adapter: Adapter, name: str) -> IntentEvent:
    final = {"done", "not_executed", "rejected"}
    eventually(lambda: state_of(adapter, name) in final, timeout_s=40, what=f"a decision about {name}")
    return adapter.state(name)


def state_of(adapter: Adapter, name: str) -> str:
    with contextlib.suppress(BusError):
        return adapter.state(name).state
    return ""


@pytest.mark.parametrize("executed", [True, False])
@pytest.mark.parametrize("action", list(HEDGING_ACTS))
def test_the_trade_link_is_killed_in_an_order(hedging: Adapter, action: str, *, executed: bool) -> None:
    """It hangs in `order_send` with the interpreter held, and the adapter kills it at its deadline."""
    act, name = HEDGING_ACTS[action], f"{action}-{executed}"
    eventually(lambda: hedging.bus.health().connection == "attached", timeout_s=30, what="attached")
    arguments = act.prepare(hedging, name)
    set_fault(hedging.terminal, "hang", functions=("order_send",), executed=executed)
    with contextlib.suppress(UnknownOutcome):  # the evidence may be there before the deadline
        getattr(hedging.bus, act.send)(**arguments, client_order_id=name)
    outcome = decided(hedging, name)
    assert outcome.state == ("done" if executed else "not_executed"), outcome
    assert hedging.deals_of(name, act.deals if executed else 0)
    again = again_as(hedging.bus, act.send, arguments, name)
    assert again == outcome.state
    assert hedging.deals_of(name, act.deals if executed else 0)


def again_as(bus: BusClient, send: str, arguments: dict[str, object], name: str) -> str:
    """Send the same again, as a restarted strategy would; return the stored outcome's state."""
    try:
        outcome: IntentEvent = getattr(bus, send)(**arguments, client_order_id=name)
    except BusError as error:
        return error.details["state"]
    return outcome.state


@pytest.mark.parametrize("action", list(NETTING_ACTS))
def test_the_adapter_is_killed_with_an_order_in_the_terminal(netting: Adapter, action: str) -> None:
    send, arguments = NETTING_ACTS[action]
    eventually(lambda: netting.bus.health().connection == "attached", timeout_s=30, what="attached")
    if action == "open":
        arguments = {**arguments, "sl": below(netting, 0.02)}
    if action == "close":
        arguments = {"position": netting.bus.positions()[0].ticket}
    set_fault(netting.terminal, "slow", functions=("order_send",), ms=1500, executed=True)
    asking = subprocess.Popen([
        sys.executable,
        "-c",
        _ASK,
        str(netting.home),
        str(netting.config),
        send,
        repr(arguments),
        action,
    ])
    eventually(lambda: state_of(netting, action) in {"intended", "sent"}, timeout_s=40, what="the order on its way")
    netting.kill()
    asking.kill()  # its answer died with the adapter: it would only wait for its deadline
    asking.wait(timeout=60)
    netting.start()
    clear_faults(netting.terminal)
    outcome = decided(netting, action)
    assert netting.deals_of(action, int(outcome.state == "done"))
    if outcome.state == "not_executed":  # killed before the bytes had left: it may be sent anew, under another id
        getattr(netting.bus, send)(**arguments, client_order_id=f"{action}-again")
    expected = {"open": (0, 0.2), "add": (0, 0.3), "reduce": (0, 0.2), "reverse": (1, 0.3), "close": None}[action]
    shown = [(p.type, p.volume) for p in netting.bus.positions()]
    assert shown == ([] if expected is None else [expected])
    if action in {"open", "add", "reduce"}:
        assert netting.bus.positions()[0].sl, "an addition or a reduction took the stop away"


_ASK = """
import ast, sys
from pathlib import Path
from mt5bus.connect import connect
from protocol.errors import BusError
client = connect(Path(sys.argv[1]), Path(sys.argv[2]))
try:
    getattr(client, sys.argv[3])(**ast.literal_eval(sys.argv[4]), client_order_id=sys.argv[5])
except BusError as error:
    print(error.code)
finally:
    client.disconnect()
"""


@pytest.mark.parametrize("which", ["hedging", "netting"])
def test_at_the_end_events_and_terminal_agree(request: pytest.FixtureRequest, which: str) -> None:
    adapter: Adapter = request.getfixturevalue(which)
    made = {deal.ticket for deal in adapter.bus.deals(0)}

    def told() -> Counter[int]:
        bodies = [event.body for event in adapter.bus.events(0)]
        return Counter(body.deal.ticket for body in bodies if isinstance(body, DealEvent))

    eventually(lambda: set(told()) >= made, what="an event of every deal")
    assert set(told().values()) == {1}
    events = adapter.bus.events(0)
    assert [event.offset for event in events] == list(range(1, len(events) + 1))
    assert not [e.body for e in events if isinstance(e.body, AlertEvent) and e.body.severity == "critical"]
    assert all(order.outcome.state == "not_executed" for order in adapter.bus.unsettled())
