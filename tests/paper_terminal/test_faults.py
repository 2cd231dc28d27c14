"""Faults beyond the process's death, market depth and balance operations, seen through the client module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

import paper_terminal.client as client_module
from paper_terminal.cli import main
from paper_terminal.faults import FaultError, balance, clear_faults, set_fault
from paper_terminal.settings import AccountSettings
from tests.paper_terminal.running import QUICK, RunningTerminal

mt5: Any = client_module
BUY = {"action": 1, "symbol": "EURUSD", "volume": 0.1, "type": 0}
FOREVER_S = 2_000_000_000
DEEP = msgspec.structs.replace(QUICK.symbols[0], book_depth=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    accounts = (AccountSettings(), AccountSettings(login=22, password="two"))
    settings = msgspec.structs.replace(QUICK, accounts=accounts, symbols=(DEEP, *QUICK.symbols[1:]))
    with RunningTerminal(tmp_path_factory.mktemp("faults") / "terminal", settings) as running:
        yield running.folder
    mt5.shutdown()


@pytest.fixture(autouse=True)
def attached(folder: Path) -> Iterator[None]:
    assert mt5.initialize(str(folder)), mt5.last_error()
    yield
    clear_faults(folder)
    mt5.shutdown()


@pytest.mark.parametrize("executed", [False, True])
@pytest.mark.parametrize("retcode", [10011, 10031, 10008])
def test_an_ambiguous_answer_may_hide_a_fill(folder: Path, retcode: int, executed: bool) -> None:
    before = mt5.positions_total()
    set_fault(folder, "retcode", retcode=retcode, executed=executed)
    result = mt5.order_send(BUY)
    assert (result.retcode, result.deal, result.order) == (retcode, 0, 0)
    assert mt5.positions_total() == before + executed


def test_a_reply_out_of_step_ends_the_connection(folder: Path) -> None:
    set_fault(folder, "out_of_step", functions=("account_info",))
    assert mt5.account_info() is None
    assert mt5.last_error() == (-10000, "IPC call failed")
    assert mt5.initialize(str(folder))
    assert mt5.account_info() is not None


def test_a_copy_call_may_fail_once(folder: Path) -> None:
    set_fault(folder, "call_failed", functions=("copy_rates_from_pos",))
    assert mt5.copy_rates_from_pos("EURUSD", 1, 0, 5) is None
    assert mt5.last_error() == (-1, "Terminal: Call failed")
    assert len(mt5.copy_rates_from_pos("EURUSD", 1, 0, 5)) == 5


def test_the_switch_of_the_python_api(folder: Path) -> None:
    set_fault(folder, "api_off", count=None)
    assert mt5.terminal_info().tradeapi_disabled is True
    assert mt5.order_send(BUY) is None
    assert mt5.last_error() == (-8, "Auto-Trading using Python API disabled in Terminal")
    clear_faults(folder, "api_off")
    assert mt5.order_send(BUY).retcode == 10009


def test_late_history_shows_nothing_new_until_it_ends(folder: Path) -> None:
    before = mt5.history_deals_total(1, FOREVER_S)
    set_fault(folder, "late_history", count=None)
    result = mt5.order_send(BUY)
    assert len(mt5.positions_get(ticket=result.order)) == 1
    assert mt5.history_deals_total(1, FOREVER_S) == before
    assert mt5.history_orders_get(ticket=result.order) == ()
    assert mt5.history_deals_get(position=result.order) == ()
    clear_faults(folder)
    assert mt5.history_deals_total(1, FOREVER_S) == before + 1
    assert mt5.history_orders_get(ticket=result.order)[0].state == mt5.ORDER_STATE_FILLED


def test_a_swapped_account_is_another_account(folder: Path) -> None:
    login = mt5.account_info().login
    set_fault(folder, "account_swapped", count=None)
    assert mt5.account_info().login == 22
    assert mt5.positions_total() == 0
    clear_faults(folder)
    assert mt5.account_info().login == login
    set_fault(folder, "account_swapped", count=None)
    assert mt5.login(login)
    clear_faults(folder)
    assert mt5.account_info().login == login


def test_a_retcode_belongs_to_faults_that_answer_one(folder: Path) -> None:
    with pytest.raises(FaultError, match="takes no retcode"):
        set_fault(folder, "reject", retcode=10011)


def test_depth_lists_sells_then_buys_with_prices_descending() -> None:
    assert mt5.market_book_get("EURUSD") is None
    assert mt5.market_book_release("EURUSD") is False
    assert mt5.market_book_add("GBPUSD") is False
    assert mt5.market_book_add("EURUSD") is True
    book = mt5.market_book_get("EURUSD")
    tick = mt5.symbol_info_tick("EURUSD")
    assert [each.type for each in book] == [mt5.BOOK_TYPE_SELL] * 5 + [mt5.BOOK_TYPE_BUY] * 5
    prices = [each.price for each in book]
    assert prices == sorted(prices, reverse=True)
    assert prices[4] > prices[5]
    assert abs(prices[5] - tick.bid) < 0.001
    assert all(each.volume == each.volume_dbl > 0 for each in book)
    assert mt5.market_book_release("EURUSD") is True
    assert mt5.market_book_get("EURUSD") is None


def test_money_comes_and_goes(folder: Path) -> None:
    before = mt5.account_info().balance
    ticket = balance(folder, 250.5, comment="bonus")
    (deal,) = mt5.history_deals_get(ticket=ticket)
    assert (deal.type, deal.order, deal.profit, deal.symbol, deal.comment) == (2, 0, 250.5, "", "bonus")
    ended = CliRunner().invoke(main, ["balance", str(folder), "-250.5"])
    assert ended.exit_code == 0, ended.output
    assert mt5.account_info().balance == pytest.approx(before)
    with pytest.raises(FaultError):
        balance(folder, 1.0, login=5)
    for of_trading in (mt5.DEAL_TYPE_BUY, mt5.DEAL_TYPE_SELL_CANCELED):
        with pytest.raises(FaultError):
            balance(folder, 1.0, kind=of_trading)
    for amount in ("100", "-100"):
        ended = CliRunner().invoke(main, ["balance", str(folder), amount, "--kind", "credit"])
        assert ended.exit_code == 0, ended.output
        assert mt5.account_info().credit == max(0.0, float(amount))
