"""Faults whose effect shows later or elsewhere than in the answer: late fills, a lost link, missing quotes, updates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import paper_terminal.client as client_module
from paper_terminal.faults import FAULTS, FaultError, balance, clear_faults, list_faults, set_fault
from paper_terminal.settings import AccountSettings
from tests.paper_terminal.running import QUICK, RunningTerminal, kill_started
from tests.waiting import eventually

mt5: Any = client_module
FIRST, SECOND = 10_000_001, 22
BUY = {"action": 1, "symbol": "EURUSD", "volume": 0.1, "type": 0}
FOREVER_S = 2_000_000_000
LATE_MS = 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    accounts = (AccountSettings(), AccountSettings(login=SECOND, password="two"))
    settings = msgspec.structs.replace(QUICK, accounts=accounts)
    with RunningTerminal(tmp_path_factory.mktemp("faults") / "terminal", settings) as running:
        yield running.folder
    mt5.shutdown()


@pytest.fixture(autouse=True)
def attached(request: pytest.FixtureRequest) -> Iterator[None]:
    if "folder" not in request.fixturenames:
        yield
        return
    folder = request.getfixturevalue("folder")
    assert mt5.initialize(str(folder), login=FIRST), mt5.last_error()
    yield
    clear_faults(folder)
    mt5.initialize(str(folder), login=FIRST)
    for order in mt5.orders_get():
        mt5.order_send(action=mt5.TRADE_ACTION_REMOVE, order=order.ticket)
    mt5.Close("EURUSD")
    mt5.shutdown()


def opened(order_type: int = 0) -> Any:
    result = mt5.order_send(BUY | {"type": order_type})
    assert result.retcode == 10009, result
    return mt5.positions_get(ticket=result.order)[0]


def placed() -> Any:
    price = round(mt5.symbol_info_tick("EURUSD").bid * 0.9, 5)
    result = mt5.order_send(BUY | {"action": 5, "type": mt5.ORDER_TYPE_BUY_LIMIT, "price": price, "type_filling": 2})
    assert result.retcode == 10009, result
    return mt5.orders_get(ticket=result.order)[0]


# What takes effect late -----------------------------------------------------------------------------------------


def late_open() -> tuple[dict[str, Any], Callable[[], Any]]:
    return BUY | {"magic": 7}, lambda: any(each.magic == 7 for each in mt5.positions_get())


def late_close() -> tuple[dict[str, Any], Callable[[], Any]]:
    position = opened()
    request = BUY | {"position": position.ticket, "type": 1}
    return request, lambda: not mt5.positions_get(ticket=position.ticket)


def late_partial_close() -> tuple[dict[str, Any], Callable[[], Any]]:
    position = opened()
    request = BUY | {"position": position.ticket, "type": 1, "volume": 0.04}
    return request, lambda: mt5.positions_get(ticket=position.ticket)[0].volume == 0.06


def late_close_by() -> tuple[dict[str, Any], Callable[[], Any]]:
    long, short = opened(), opened(1)
    request = {"action": mt5.TRADE_ACTION_CLOSE_BY, "position": long.ticket, "position_by": short.ticket}
    return request, lambda: not mt5.positions_get()


def late_stops() -> tuple[dict[str, Any], Callable[[], Any]]:
    position = opened()
    stop = round(position.price_open * 0.95, 5)
    request = {"action": mt5.TRADE_ACTION_SLTP, "position": position.ticket, "sl": stop}
    return request, lambda: mt5.positions_get(ticket=position.ticket)[0].sl == stop


def late_pending() -> tuple[dict[str, Any], Callable[[], Any]]:
    price = round(mt5.symbol_info_tick("EURUSD").bid * 0.9, 5)
    request = BUY | {"action": 5, "type": mt5.ORDER_TYPE_BUY_LIMIT, "price": price, "type_filling": 2}
    return request, lambda: mt5.orders_total() == 1


def late_modify() -> tuple[dict[str, Any], Callable[[], Any]]:
    order = placed()
    price = round(order.price_open - 0.01, 5)
    request = {"action": mt5.TRADE_ACTION_MODIFY, "order": order.ticket, "price": price}
    return request, lambda: mt5.orders_get(ticket=order.ticket)[0].price_open == price


def late_remove() -> tuple[dict[str, Any], Callable[[], Any]]:
    order = placed()
    return {"action": mt5.TRADE_ACTION_REMOVE, "order": order.ticket}, lambda: not mt5.orders_total()


@pytest.mark.parametrize(
    "action",
    [
        late_open,
        late_close,
        late_partial_close,
        late_close_by,
        late_stops,
        late_pending,
        late_modify,
        late_remove,
    ],
)
def test_every_action_may_time_out_and_take_effect_later(
    folder: Path, action: Callable[[], tuple[dict[str, Any], Callable[[], Any]]]
) -> None:
    request, has_happened = action()
    set_fault(folder, "late_fill", ms=LATE_MS)
    result = mt5.order_send(request)
    assert (result.retcode, result.deal, result.order, result.volume) == (10012, 0, 0, 0.0)
    eventually(has_happened, what="the late effect")


def test_a_part_of_a_late_order_fills_and_the_rest_is_cancelled(folder: Path) -> None:
    set_fault(folder, "late_fill", ms=LATE_MS, fraction=0.3)
    assert mt5.order_send(BUY | {"type_filling": mt5.ORDER_FILLING_IOC}).retcode == 10012
    eventually(lambda: mt5.positions_total() == 1, what="the late deal")
    (position,) = mt5.positions_get()
    assert position.volume == 0.03
    (order,) = mt5.history_orders_get(ticket=position.ticket)
    assert (order.state, order.volume_initial) == (mt5.ORDER_STATE_CANCELED, 0.1)
    assert [each.volume for each in mt5.history_deals_get(position=position.ticket)] == [0.03]


def test_a_part_of_a_late_close_leaves_the_rest_of_the_position(folder: Path) -> None:
    position = opened()
    set_fault(folder, "late_fill", ms=LATE_MS, fraction=0.5)
    close = BUY | {"position": position.ticket, "type": 1, "type_filling": mt5.ORDER_FILLING_IOC}
    assert mt5.order_send(close).retcode == 10012
    eventually(lambda: mt5.positions_get(ticket=position.ticket)[0].volume == 0.05, what="the late part")


def test_a_fok_order_fills_late_as_a_whole(folder: Path) -> None:
    set_fault(folder, "late_fill", ms=LATE_MS, fraction=0.3)
    assert mt5.order_send(BUY | {"type_filling": mt5.ORDER_FILLING_FOK}).retcode == 10012
    eventually(lambda: mt5.positions_total() == 1, what="the late deal")
    assert mt5.positions_get()[0].volume == 0.1


def test_a_late_fill_comes_to_the_account_that_sent_it(folder: Path) -> None:
    set_fault(folder, "late_fill", ms=LATE_MS)
    set_fault(folder, "late_fill", ms=2 * LATE_MS)
    assert [mt5.order_send(BUY).retcode for _ in range(2)] == [10012, 10012]
    assert mt5.login(SECOND, "two")
    set_fault(folder, "trade_off", count=None)  # nothing of this terminal's own state matters to the broker
    assert mt5.order_send(BUY).retcode == 10027
    assert mt5.positions_total() == 0
    clear_faults(folder)
    assert mt5.login(FIRST)
    eventually(lambda: mt5.positions_total() == 2, what="the late deals")
    assert mt5.login(SECOND)
    assert mt5.positions_total() == 0


# The link to the broker ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("executed", [False, True])
@pytest.mark.parametrize("retcode", [0, 10012, 10011])
def test_the_link_may_be_lost_with_or_without_effect(folder: Path, retcode: int, executed: bool) -> None:
    set_fault(folder, "link_lost", ms=300, retcode=retcode, executed=executed)
    result = mt5.order_send(BUY)
    assert (result.retcode, result.deal, result.order) == (retcode or 10031, 0, 0)
    if not mt5.terminal_info().connected:  # unless this process was held up for longer than the link was lost
        assert mt5.order_send(BUY).retcode == 10031
    eventually(lambda: mt5.terminal_info().connected, what="the link")
    assert mt5.positions_total() == executed


def test_without_the_link_everything_shown_stands_still(folder: Path) -> None:
    position = opened()
    set_fault(folder, "disconnect", count=None)
    before = (mt5.account_info(), mt5.positions_get(), mt5.symbol_info_tick("EURUSD"))
    deals = mt5.history_deals_total(1, FOREVER_S)
    set_fault(folder, "link_lost", ms=1, executed=True)  # somebody closes it at the broker
    assert mt5.order_send(BUY | {"position": position.ticket, "type": 1}).retcode == 10031
    balance(folder, 500.0)
    newest = mt5.symbol_info_tick("GBPUSD")
    assert (mt5.account_info(), mt5.positions_get(), mt5.symbol_info_tick("EURUSD")) == before
    assert mt5.history_deals_total(1, FOREVER_S) == deals
    assert mt5.terminal_info().connected is False, "a shorter loss of the link does not end a longer one"
    clear_faults(folder)
    assert mt5.positions_get() == ()
    assert mt5.account_info().balance > before[0].balance + 400
    assert mt5.history_deals_total(1, FOREVER_S) == deals + 2
    eventually(lambda: mt5.symbol_info_tick("GBPUSD") != newest, what="new ticks")


# Quotes, builds --------------------------------------------------------------------------------------------------


def test_a_symbol_without_quotes_has_its_last_tick_and_no_trade(folder: Path) -> None:
    position = opened()
    set_fault(folder, "no_quotes", count=None, symbols=("EURUSD",))
    tick, other = mt5.symbol_info_tick("EURUSD"), mt5.symbol_info_tick("GBPUSD")
    assert mt5.order_send(BUY).retcode == 10021
    close = {"action": 1, "position": position.ticket, "volume": 0.1, "type": 1}
    assert mt5.order_send(close).retcode == 10021
    assert mt5.order_send(BUY | {"symbol": "GBPUSD"}).retcode == 10009
    eventually(lambda: mt5.symbol_info_tick("GBPUSD") != other, what="ticks of another symbol")
    assert mt5.symbol_info_tick("EURUSD") == tick
    clear_faults(folder, "no_quotes")
    assert mt5.order_send(close).retcode == 10009
    assert mt5.Close("GBPUSD") is True
    with pytest.raises(FaultError, match="Not found"):
        set_fault(folder, "no_quotes", symbols=("NOSUCH",))
    assert list_faults(folder) == []


@pytest.mark.parametrize("ends_first", [True, False], ids=["restarted after it", "restarted in it"])
def test_what_was_not_quoted_is_not_in_the_history_after_a_restart_either(tmp_path: Path, ends_first: bool) -> None:
    with RunningTerminal(tmp_path / "terminal") as running:
        assert mt5.initialize(str(running.folder))

        def newest(symbol: str = "EURUSD") -> int:
            return int(mt5.symbol_info_tick(symbol).time_msc)

        set_fault(running.folder, "no_quotes", count=None, symbols=["EURUSD"])
        last_ms = newest()
        eventually(lambda: newest("GBPUSD") > last_ms + 1500, what="a while without quotes")
        if ends_first:
            clear_faults(running.folder)
            eventually(lambda: newest() > last_ms, what="quotes again")
        mt5.shutdown()
        running.kill()
        running.start()
        assert mt5.initialize(str(running.folder))
        eventually(lambda: newest() > last_ms, what="quotes after the restart")
        ticks = mt5.copy_ticks_range("EURUSD", last_ms // 1000, newest() // 1000 + 1, mt5.COPY_TICKS_ALL)
        after = ticks[ticks["time_msc"] > last_ms]["time_msc"]
        assert after[0] > last_ms + 1400
        mt5.shutdown()


def test_an_update_restarts_the_terminal_with_another_build(tmp_path: Path) -> None:
    with RunningTerminal(tmp_path / "terminal") as running:
        assert mt5.initialize(str(running.folder))
        before = mt5.version()
        assert mt5.order_send(BUY).retcode == 10009
        set_fault(running.folder, "update", ms=0)
        assert running.process.wait(10) == 0
        try:
            assert mt5.account_info() is None
            assert mt5.initialize(str(running.folder)), mt5.last_error()
            assert mt5.version() == (before[0], before[1] + 1, before[2])
            assert mt5.terminal_info().build == before[1] + 1
            assert mt5.positions_total() == 1
        finally:
            mt5.shutdown()
            kill_started(running.folder)


def test_a_build_may_refuse_the_module_until_it_is_cleared(tmp_path: Path) -> None:
    with RunningTerminal(tmp_path / "terminal") as running:
        set_fault(running.folder, "update", ms=0, incompatible=True)
        assert running.process.wait(10) == 0
        try:
            for _ in range(2):
                assert mt5.initialize(str(running.folder)) is False
                assert mt5.last_error()[0] == -5
                assert mt5.last_error()[1].startswith("Terminal: Incompatible versions")
            assert mt5.account_info() is None
            assert mt5.last_error() == (-10004, "No IPC connection")
            clear_faults(running.folder, "update")
            assert mt5.initialize(str(running.folder)), mt5.last_error()
        finally:
            mt5.shutdown()
            kill_started(running.folder)


# The book of faults ----------------------------------------------------------------------------------------------


def test_the_same_seed_and_calls_meet_the_same_faults(folder: Path) -> None:
    def met(seed: int) -> list[int]:
        set_fault(folder, "reject", count=None, probability=0.3, seed=seed)
        set_fault(folder, "requote", count=None, probability=0.5, seed=seed + 1)
        retcodes = [mt5.order_send(BUY | {"volume": 0.01}).retcode for _ in range(40)]
        clear_faults(folder)
        return retcodes

    first = met(5)
    assert {10004, 10006, 10009} == set(first)
    assert met(5) == first
    assert met(6) != first


def test_the_list_counts_what_has_been_used(folder: Path) -> None:
    set_fault(folder, "call_failed", functions=("symbols_total",), count=5)
    set_fault(folder, "late_history", count=None)
    for _ in range(3):
        assert mt5.symbols_total() is None
    by_name = {each.name: each for each in list_faults(folder)}
    assert (by_name["call_failed"].count, by_name["call_failed"].used) == (2, 3)
    assert by_name["late_history"].count is None


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("reject", {"fraction": 0.5}),
        ("late_fill", {"fraction": 0.0}),
        ("disconnect", {"symbols": ("EURUSD",)}),
        ("trade_off", {"functions": ("order_send",)}),
        ("hang", {"incompatible": True}),
        ("hang", {"used": 1}),
    ],
)
def test_parameters_of_other_faults_are_refused(folder: Path, name: str, params: dict[str, Any]) -> None:
    with pytest.raises(FaultError):
        set_fault(folder, name, **params)


def test_every_fault_is_described() -> None:
    import paper_terminal.faults as module

    assert module.__doc__ is not None
    for name in FAULTS:
        assert f"`{name}`" in module.__doc__, name
