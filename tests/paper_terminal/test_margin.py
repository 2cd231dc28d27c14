"""Margin and profit of every calculation mode, of orders that wait, and of accounts that net or hedge."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from paper_terminal import constants as api
from paper_terminal.info import account_info, symbol_info
from paper_terminal.ledger_records import TradeRequest
from paper_terminal.session_day import Day
from paper_terminal.settings import AccountSettings, Settings, SettingsError
from paper_terminal.specifications import Specification
from paper_terminal.structs import AccountInfo, SymbolInfo
from tests.paper_terminal.broker import EURUSD, USDJPY, Broker

BUY, SELL = api.ORDER_TYPE_BUY, api.ORDER_TYPE_SELL
LIMIT, SELL_LIMIT, STOP, SELL_STOP = 2, 3, 4, 5
NETTING = AccountSettings(margin_mode=api.ACCOUNT_MARGIN_MODE_RETAIL_NETTING, balance=100_000.0)
HEDGING = AccountSettings(balance=100_000.0)
LOT = 1000.0
"""Margin of a lot of EURUSD at leverage 100, in euros."""


def broker(*, account: AccountSettings = HEDGING, **fields: Any) -> Broker:
    return Broker(symbols=(msgspec.structs.replace(EURUSD, **fields),), account=account, commission_per_lot=0.0)


def margin(broker: Broker) -> float:
    return broker.engine.valuer.value(broker.account).margin


def pend(broker: Broker, kind: int, price: float, volume: float = 1.0, **fields: Any) -> int:
    wanted = {"action": api.TRADE_ACTION_PENDING, "type": kind, "price": price, "type_filling": 2}
    return broker.send(**(wanted | {"volume": volume} | fields)).retcode


MODES: list[tuple[dict[str, Any], float, float]] = [
    # fields, margin of 2 lots at 150.0, profit of them from 150.0 to 151.5; leverage 100, all in US dollars
    ({"calc_mode": api.SYMBOL_CALC_MODE_FOREX_NO_LEVERAGE}, 2 * 10.0, 2 * 1.5 * 10),
    ({"calc_mode": api.SYMBOL_CALC_MODE_FOREX}, 2 * 10.0 / 100, 2 * 1.5 * 10),
    ({"calc_mode": api.SYMBOL_CALC_MODE_CFD}, 2 * 10 * 150.0, 2 * 1.5 * 10),
    ({"calc_mode": api.SYMBOL_CALC_MODE_CFDLEVERAGE}, 2 * 10 * 150.0 / 100, 2 * 1.5 * 10),
    ({"calc_mode": api.SYMBOL_CALC_MODE_CFDINDEX, "tick_value": 0.5}, 2 * 10 * 150.0 * 0.5 / 0.01, 2 * 1.5 * 10),
    ({"calc_mode": api.SYMBOL_CALC_MODE_FUTURES, "margin_initial": 700.0, "tick_value": 0.5}, 1400.0, 2 * 1.5 * 50),
    ({"calc_mode": api.SYMBOL_CALC_MODE_EXCH_FUTURES, "margin_initial": 700.0, "tick_value": 0.5}, 1400.0, 150.0),
    ({"calc_mode": api.SYMBOL_CALC_MODE_EXCH_STOCKS}, 2 * 10 * 150.0, 2 * 1.5 * 10),
    ({"calc_mode": api.SYMBOL_CALC_MODE_EXCH_STOCKS_MOEX}, 2 * 10 * 150.0, 2 * 1.5 * 10),
    ({"calc_mode": api.SYMBOL_CALC_MODE_EXCH_BONDS, "face_value": 1000.0}, 2 * 10 * 1000 * 1.5, 2 * 10 * 1000 * 0.015),
    ({"calc_mode": api.SYMBOL_CALC_MODE_EXCH_BONDS_MOEX, "face_value": 1000.0}, 30_000.0, 300.0),
    ({"calc_mode": api.SYMBOL_CALC_MODE_SERV_COLLATERAL, "liquidity_rate": 0.5}, 0.0, 2 * 10 * 151.5 * 0.5),
    ({"calc_mode": api.SYMBOL_CALC_MODE_CFD, "margin_initial": 40.0}, 80.0, 30.0),
    ({"calc_mode": api.SYMBOL_CALC_MODE_FOREX, "margin_initial": 40.0, "margin_rate": 1.5}, 120.0, 30.0),
]


@pytest.mark.parametrize(("fields", "margin_usd", "profit_usd"), MODES)
def test_each_calculation_mode_by_its_formula(fields: dict[str, Any], margin_usd: float, profit_usd: float) -> None:
    symbol = Specification(name="X", currency_base="USD", currency_profit="USD", digits=2, contract_size=10.0, **fields)
    Settings(symbols=(symbol,)).check()
    converter = Broker().engine.converter
    common: dict[str, Any] = {"volume": 2.0, "to": "USD"}
    assert converter.margin(symbol, price=150.0, leverage=100, **common) == pytest.approx(margin_usd)
    assert converter.profit(symbol, buy=True, opened=150.0, closed=151.5, **common) == pytest.approx(profit_usd)


@pytest.mark.parametrize("mode", [api.SYMBOL_CALC_MODE_EXCH_OPTIONS, api.SYMBOL_CALC_MODE_EXCH_OPTIONS_MARGIN])
def test_options_are_refused_with_the_reason(mode: int) -> None:
    with pytest.raises(SettingsError, match=r"options.*not documented"):
        Settings(symbols=(msgspec.structs.replace(EURUSD, calc_mode=mode),)).check()


def test_a_collateral_asset_cannot_be_bought() -> None:
    asset = broker(calc_mode=api.SYMBOL_CALC_MODE_SERV_COLLATERAL, liquidity_rate=0.9)
    assert asset.send(type=BUY, volume=1.0).retcode == api.TRADE_RETCODE_TRADE_DISABLED
    assert pend(asset, LIMIT, 1.09) == api.TRADE_RETCODE_TRADE_DISABLED


def test_margin_goes_by_the_last_price_of_a_share() -> None:
    shares = broker(calc_mode=api.SYMBOL_CALC_MODE_EXCH_STOCKS, contract_size=10.0, currency_base="USD")
    shares.buy(2.0)
    assert margin(shares) == pytest.approx(2 * 10 * 1.1001, abs=0.01)
    quote = shares.engine.quotes["EURUSD"]
    shares.engine.quotes["EURUSD"] = quote._replace(last=1.5)
    assert margin(shares) == pytest.approx(2 * 10 * 1.5)


def test_margin_is_converted_by_a_cross_rate() -> None:
    account = AccountSettings(currency="USD", balance=100_000.0)
    eurjpy = msgspec.structs.replace(USDJPY, name="EURJPY", currency_base="EUR")
    crossed = Broker(symbols=(eurjpy, EURUSD), account=account, commission_per_lot=0.0)
    crossed.quote("EURJPY", 165.0, 165.01)
    crossed.buy(1.0, symbol="EURJPY")
    # 1,000 euros are sold for dollars at the bid of EURUSD.
    assert margin(crossed) == pytest.approx(LOT * 1.1)


# Orders that wait ----------------------------------------------------------------------------------------------


def test_waiting_orders_cost_nothing_unless_the_symbol_says_so() -> None:
    free = broker()
    assert pend(free, LIMIT, 1.09, 50.0) == api.TRADE_RETCODE_DONE
    assert margin(free) == 0.0


def test_hedging_charges_each_waiting_order_by_the_rate_of_its_type() -> None:
    charged = broker(margin_rate_limit=1.0, margin_rate_stop=0.5)
    charged.buy(1.0)
    held = margin(charged)
    for kind, price, rate in ((LIMIT, 1.09, 1.0), (SELL_LIMIT, 1.2, 1.0), (STOP, 1.2, 0.5), (6, 1.2, 0.0)):
        before = margin(charged)
        assert pend(charged, kind, price, stoplimit=1.15 if kind == 6 else 0.0) == api.TRADE_RETCODE_DONE
        assert margin(charged) - before == pytest.approx(LOT * price * rate, abs=0.011)
    worth = charged.engine.valuer.value(charged.account)
    assert worth.margin_initial == pytest.approx(worth.margin - held)
    values: Any = AccountInfo(tuple(account_info(charged.account, worth)))
    assert (values.margin_initial, values.margin_maintenance) == (worth.margin_initial, 0.0)
    assert values.margin_free == pytest.approx(worth.equity - worth.margin)


def test_an_order_that_the_account_cannot_pay_for_is_not_placed() -> None:
    poor = broker(account=AccountSettings(balance=1500.0), margin_rate_limit=1.0)
    assert pend(poor, LIMIT, 1.09) == api.TRADE_RETCODE_DONE
    assert pend(poor, LIMIT, 1.08) == api.TRADE_RETCODE_NO_MONEY
    assert len(poor.account.orders) == 1


def test_margin_of_a_waiting_order_becomes_the_positions() -> None:
    charged = broker(account=AccountSettings(balance=1200.0), margin_rate_limit=1.0)
    pend(charged, LIMIT, 1.09)
    charged.quote("EURUSD", 1.0898, 1.0899)
    assert len(charged.account.positions) == 1
    worth = charged.engine.valuer.value(charged.account)
    assert worth.margin == pytest.approx(1090.0)
    assert worth.margin_initial == 0.0


def test_check_tells_what_a_waiting_order_would_hold() -> None:
    charged = broker(margin_rate_stop=1.0)
    request = TradeRequest(
        action=api.TRADE_ACTION_PENDING, symbol="EURUSD", volume=1.0, type=STOP, price=1.2, type_filling=2
    )
    checked = charged.desk.check(charged.account, request)
    assert checked.retcode == 0
    assert checked.margin == pytest.approx(1200.0)
    assert not charged.account.orders


# Netting: the rules of the platform's help ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("orders", "margin_lots"),
    [
        ([], 1.0),
        ([(SELL_LIMIT, 1.2, 1.0)], 1.0),  # against the position and no larger: the position's alone
        ([(SELL_STOP, 1.0, 0.5)], 1.0),
        ([(LIMIT, 1.1, 1.0)], 2.0),  # along with the position: the sum
        ([(STOP, 1.2, 1.0)], 1.0 + 1.2 / 1.1),
        ([(SELL_LIMIT, 1.2, 3.0)], 3 * 1.2 / 1.1),  # against it and larger: the larger of the two
        ([(LIMIT, 1.1, 1.0), (SELL_LIMIT, 1.2, 1.5)], 2.0),  # both ways: the larger side
    ],
)
def test_netting_charges_the_larger_side(orders: list[tuple[int, float, float]], margin_lots: float) -> None:
    rates = dict.fromkeys(("margin_rate_limit", "margin_rate_stop", "margin_rate_stop_limit"), 1.0)
    netted = broker(account=NETTING, **rates)
    netted.quote("EURUSD", 1.0999, 1.1)
    netted.buy(1.0)
    netted.quote("EURUSD", 1.15, 1.1501)
    for kind, price, volume in orders:
        assert pend(netted, kind, price, volume) == api.TRADE_RETCODE_DONE
    assert margin(netted) == pytest.approx(margin_lots * LOT * 1.1, abs=0.02)


def test_netting_charges_every_stop_where_nothing_is_open() -> None:
    netted = broker(account=NETTING, margin_rate_stop=1.0, margin_rate_limit=1.0)
    pend(netted, STOP, 1.2)
    pend(netted, SELL_STOP, 1.0)
    assert margin(netted) == pytest.approx(LOT * (1.2 + 1.0), abs=0.02)
    pend(netted, LIMIT, 1.0)
    pend(netted, SELL_LIMIT, 1.2)
    assert margin(netted) == pytest.approx(LOT * (1.2 + 1.0 + 1.2), abs=0.02)


# Hedged volume -------------------------------------------------------------------------------------------------


def hedged(buys: float, sells: float, **fields: Any) -> Broker:
    both = broker(**fields)
    both.quote("EURUSD", 1.0999, 1.1)
    both.buy(buys)
    both.quote("EURUSD", 1.2, 1.2001)
    both.sell(sells)
    return both


def test_hedged_volume_is_charged_by_its_own_size() -> None:
    mean = (2 * 1.1 + 3 * 1.2) / 5
    assert margin(hedged(2.0, 3.0)) == pytest.approx(LOT * (1 * 1.2 + 2 * mean), abs=0.02)
    assert margin(hedged(2.0, 3.0, margin_hedged=50_000.0)) == pytest.approx(LOT * (1.2 + mean), abs=0.02)
    assert margin(hedged(2.0, 3.0, margin_hedged=0.0)) == pytest.approx(LOT * 1.2, abs=0.02)
    assert margin(hedged(2.0, 2.0, margin_hedged=0.0)) == 0.0


def test_hedged_margin_is_an_amount_where_the_initial_margin_is_one() -> None:
    fields: dict[str, Any] = {"margin_initial": 500.0, "currency_margin": "USD"}
    assert margin(hedged(2.0, 3.0, **fields)) == pytest.approx(500 + 2 * 500)
    assert margin(hedged(2.0, 3.0, margin_hedged=100.0, **fields)) == pytest.approx(500 + 2 * 100)


def test_the_larger_leg_counts_its_waiting_orders_too() -> None:
    legs = hedged(2.0, 3.0, margin_hedged_use_leg=True, margin_rate_limit=1.0)
    assert margin(legs) == pytest.approx(LOT * 3 * 1.2, abs=0.02)
    pend(legs, LIMIT, 1.15, 2.0)
    assert margin(legs) == pytest.approx(LOT * (2 * 1.1 + 2 * 1.15), abs=0.02)


def test_the_short_side_may_have_a_rate_of_its_own() -> None:
    rated = broker(margin_rate=1.0, margin_rate_short=2.0)
    rated.sell(1.0)
    assert margin(rated) == pytest.approx(2 * LOT * 1.1, abs=0.02)
    rated.buy(1.0)
    mean = (1.1 + 1.1001) / 2
    assert margin(rated) == pytest.approx(1.5 * LOT * mean, abs=0.02)


# Maintenance ---------------------------------------------------------------------------------------------------


def test_opening_costs_the_initial_margin_and_holding_the_maintenance() -> None:
    future: dict[str, Any] = {
        "calc_mode": api.SYMBOL_CALC_MODE_EXCH_FUTURES,
        "currency_margin": "USD",
        "margin_initial": 1000.0,
        "margin_maintenance": 600.0,
        "tick_value": 1.0,
    }
    traded = broker(account=AccountSettings(balance=1550.0), **future)
    traded.buy(1.0)
    worth = traded.engine.valuer.value(traded.account)
    assert (worth.margin, worth.margin_maintenance) == (600.0, 600.0)
    # A second lot would be held for 600 more, but is opened for 1,000, and 950 are free less the spread.
    assert traded.send(type=BUY, volume=1.0).retcode == api.TRADE_RETCODE_NO_MONEY
    assert traded.desk.check(traded.account, TradeRequest(action=1, symbol="EURUSD", volume=1.0)).retcode == 10019


def test_symbol_info_shows_what_margin_is_reckoned_by() -> None:
    bond = msgspec.structs.replace(
        EURUSD,
        calc_mode=api.SYMBOL_CALC_MODE_EXCH_BONDS,
        face_value=1000.0,
        accrued_interest=12.5,
        liquidity_rate=0.8,
        margin_initial=40.0,
    )
    values: Any = SymbolInfo(
        tuple(
            symbol_info(
                "EURUSD",
                bond,
                selected=True,
                tick=None,
                day=Day(),
                converter=Broker().engine.converter,
                currency="USD",
            )
        )
    )
    assert (values.trade_face_value, values.trade_accrued_interest, values.trade_liquidity_rate) == (1000.0, 12.5, 0.8)
    assert (values.margin_initial, values.margin_hedged) == (40.0, 40.0)
