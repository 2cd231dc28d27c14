"""The order of checks, and the rules of requests that are easily got wrong."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from paper_terminal import constants as api
from paper_terminal.ledger_records import CheckResult, SendResult, TradeRequest
from paper_terminal.price_desk import OFFER_STANDS_MS
from paper_terminal.settings import AccountSettings, FeedSettings
from paper_terminal.trading import TradeDesk
from paper_terminal.valuation import Valuation
from tests.paper_terminal.broker import EURUSD, USDJPY, Broker

BUY, SELL = api.ORDER_TYPE_BUY, api.ORDER_TYPE_SELL
PEND: dict[str, Any] = {"action": api.TRADE_ACTION_PENDING, "type": 2, "volume": 0.1, "price": 1.09, "type_filling": 2}


def changed(account: AccountSettings | None = None, **fields: Any) -> Broker:
    settings = {name: fields.pop(name) for name in list(fields) if name not in EURUSD.__struct_fields__}
    return Broker(symbols=(msgspec.structs.replace(EURUSD, **fields),), account=account, **settings)


# The order of checks -------------------------------------------------------------------------------------------

INSTANT: dict[str, Any] = {"exemode": api.SYMBOL_TRADE_EXECUTION_INSTANT, "filling_mode": 1}
# Each line cures what the line before is refused for, and is refused for the next thing that is wrong with it.
LADDER: list[tuple[dict[str, Any], int]] = [
    ({"symbol": "NOSUCH"}, api.TRADE_RETCODE_INVALID),
    ({"symbol": "EURUSD", "type": 7}, api.TRADE_RETCODE_INVALID_ORDER),
    ({"type": SELL}, api.TRADE_RETCODE_LONG_ONLY),
    ({"type": BUY}, api.TRADE_RETCODE_INVALID_VOLUME),
    ({"volume": 90.0}, api.TRADE_RETCODE_INVALID_PRICE),
    ({"price": 1.2}, api.TRADE_RETCODE_INVALID_STOPS),
    ({"sl": 1.0}, api.TRADE_RETCODE_INVALID_FILL),
    ({"type_filling": 0}, api.TRADE_RETCODE_LIMIT_VOLUME),
    ({"volume": 20.0}, api.TRADE_RETCODE_MARKET_CLOSED),
    ({}, api.TRADE_RETCODE_REQUOTE),
    ({"price": 1.1001}, api.TRADE_RETCODE_NO_MONEY),
    ({"volume": 0.1}, api.TRADE_RETCODE_DONE),
]

BY_SERVER = {
    api.TRADE_RETCODE_MARKET_CLOSED,
    api.TRADE_RETCODE_REQUOTE,
    api.TRADE_RETCODE_NO_MONEY,
    api.TRADE_RETCODE_DONE,
}


def test_a_request_wrong_in_every_way_is_refused_for_the_first_of_them() -> None:
    broker = changed(**INSTANT, trade_mode=api.SYMBOL_TRADE_MODE_LONGONLY, volume_limit=30.0)
    broker.engine.is_open = lambda _utc_ms: False
    request: dict[str, Any] = {"sl": 1.2, "type_filling": api.ORDER_FILLING_BOC, "volume": 0.001}
    told = []
    for cure, retcode in LADDER:
        request |= cure
        if retcode == api.TRADE_RETCODE_REQUOTE:
            broker.engine.is_open = lambda _utc_ms: True
        result = broker.send(**request)
        told.append(result.retcode)
        assert bool(result.request_id) is (retcode in BY_SERVER)
    assert told == [retcode for _, retcode in LADDER]
    assert len(broker.account.positions) == 1


# Prices --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("price", [math.nan, math.inf, -5.0, 0.0, 99.0])
def test_market_execution_ignores_price_and_deviation(price: float) -> None:
    assert changed().send(volume=0.1, price=price, deviation=0).price == 1.1001


def test_prices_with_more_digits_than_the_symbol_are_rounded() -> None:
    broker = changed()
    position = broker.buy(0.1, sl=1.0900000000000003, tp=1.123456)
    assert (position.sl, position.tp) == (1.09, 1.12346)


def test_prices_must_lie_on_the_tick_size() -> None:
    broker = changed(digits=2, tick_size=0.25, contract_size=10.0)
    broker.quote("EURUSD", 100.0, 100.25)
    assert broker.send(volume=0.1, sl=99.6).retcode == api.TRADE_RETCODE_INVALID_STOPS
    position = broker.buy(0.1, sl=99.5)
    stops = {"action": api.TRADE_ACTION_SLTP, "position": position.ticket}
    assert broker.send(**stops, sl=99.1).retcode == api.TRADE_RETCODE_INVALID_STOPS
    assert broker.send(**stops, sl=99.25).retcode == api.TRADE_RETCODE_DONE
    assert broker.send(**PEND | {"price": 98.1}).retcode == api.TRADE_RETCODE_INVALID_PRICE
    placed = broker.send(**PEND | {"price": 98.25})
    assert placed.retcode == api.TRADE_RETCODE_DONE
    change = {"action": api.TRADE_ACTION_MODIFY, "order": placed.order}
    assert broker.send(**change, price=98.3).retcode == api.TRADE_RETCODE_INVALID_PRICE
    assert broker.send(**change, price=98.5, tp=99.9).retcode == api.TRADE_RETCODE_INVALID_STOPS


def test_a_requote_of_a_close_that_names_no_symbol_shows_the_fresh_prices() -> None:
    broker = changed(**INSTANT)
    position = broker.buy(0.1, price=1.1001)
    broker.quote("EURUSD", 1.2, 1.2001)
    result = broker.close(position, symbol="", price=1.1)
    assert (result.retcode, result.bid, result.ask) == (api.TRADE_RETCODE_REQUOTE, 1.2, 1.2001)


# Volumes -------------------------------------------------------------------------------------------------------


def test_a_position_above_the_largest_volume_is_closed_in_pieces() -> None:
    broker = changed(account=AccountSettings(balance=1_000_000.0))
    position = broker.buy(100.0)
    broker.engine.symbols["EURUSD"] = msgspec.structs.replace(EURUSD, volume_max=60.0)
    assert broker.close(position).retcode == api.TRADE_RETCODE_INVALID_VOLUME
    assert broker.close(position, 60.0).retcode == api.TRADE_RETCODE_DONE
    assert broker.close(position, 40.0).retcode == api.TRADE_RETCODE_DONE
    assert not broker.account.positions


def test_the_rest_of_a_position_can_be_closed_whatever_its_volume() -> None:
    broker = changed()
    position = broker.buy(0.03)
    broker.engine.symbols["EURUSD"] = msgspec.structs.replace(EURUSD, volume_min=0.1, volume_step=0.1)
    assert broker.close(position, 0.02).retcode == api.TRADE_RETCODE_INVALID_VOLUME
    assert broker.close(position).retcode == api.TRADE_RETCODE_DONE


# What names nothing, and what a symbol does not take ------------------------------------------------------------


def test_on_a_hedging_account_stops_without_a_position_are_no_request() -> None:
    broker = changed()
    broker.buy(0.1)
    assert broker.send(action=api.TRADE_ACTION_SLTP, sl=1.0).retcode == api.TRADE_RETCODE_INVALID
    gone = broker.send(action=api.TRADE_ACTION_SLTP, position=99, sl=1.0)
    assert gone.retcode == api.TRADE_RETCODE_POSITION_CLOSED


def test_stops_are_refused_where_the_symbol_takes_none() -> None:
    broker = changed(order_mode=127 - 16 - 32)
    position = broker.buy(0.1)
    for stops in ({"sl": 1.0}, {"tp": 1.2}):
        assert broker.send(volume=0.1, **stops).retcode == api.TRADE_RETCODE_INVALID_ORDER
        assert broker.send(**PEND, **stops).retcode == api.TRADE_RETCODE_INVALID_ORDER
        sent = broker.send(action=api.TRADE_ACTION_SLTP, position=position.ticket, **stops)
        assert sent.retcode == api.TRADE_RETCODE_INVALID_ORDER


def test_a_disabled_symbol_refuses_everything_but_the_removal_of_orders() -> None:
    broker = changed()
    long, short = broker.buy(0.1), broker.sell(0.1)
    order = broker.send(**PEND).order
    broker.engine.symbols["EURUSD"] = msgspec.structs.replace(EURUSD, trade_mode=api.SYMBOL_TRADE_MODE_DISABLED)
    requests: list[dict[str, Any]] = [
        {"volume": 0.1},
        PEND,
        {"position": long.ticket, "type": SELL, "volume": 0.1},
        {"action": api.TRADE_ACTION_CLOSE_BY, "position": long.ticket, "position_by": short.ticket},
        {"action": api.TRADE_ACTION_SLTP, "position": long.ticket, "sl": 1.0},
        {"action": api.TRADE_ACTION_MODIFY, "order": order, "price": 1.08},
    ]
    assert {broker.send(**each).retcode for each in requests} == {api.TRADE_RETCODE_TRADE_DISABLED}
    assert broker.send(action=api.TRADE_ACTION_REMOVE, order=order).retcode == api.TRADE_RETCODE_DONE


@pytest.mark.parametrize(
    ("pending_filling", "taken"), [("any", {0, 1, 2}), ("return", {2}), ("mask", {1})], ids=["any", "return", "mask"]
)
def test_which_fillings_of_pending_orders_are_taken_is_a_switch(pending_filling: str, taken: set[int]) -> None:
    broker = changed(filling_mode=2, pending_filling=pending_filling)
    retcodes = {filling: broker.send(**PEND | {"type_filling": filling}).retcode for filling in range(4)}
    assert {filling for filling, retcode in retcodes.items() if retcode == api.TRADE_RETCODE_DONE} == taken
    assert retcodes[api.ORDER_FILLING_BOC] == api.TRADE_RETCODE_INVALID_FILL


def test_book_or_cancel_is_for_limit_orders_where_the_mask_has_its_bit() -> None:
    broker = changed(filling_mode=7)
    book = {"type_filling": api.ORDER_FILLING_BOC}
    assert broker.send(**PEND | book).retcode == api.TRADE_RETCODE_DONE
    stop_limit = {"type": 6, "price": 1.2, "stoplimit": 1.15}
    assert broker.send(**PEND | book | stop_limit).retcode == api.TRADE_RETCODE_DONE
    assert broker.send(**PEND | book | {"type": 4, "price": 1.2}).retcode == api.TRADE_RETCODE_INVALID_FILL
    assert broker.send(volume=0.1, **book).retcode == api.TRADE_RETCODE_INVALID_FILL


# order_check ---------------------------------------------------------------------------------------------------


def preview(broker: Broker, **fields: Any) -> CheckResult:
    wanted: dict[str, Any] = {"action": api.TRADE_ACTION_DEAL, "symbol": "EURUSD"} | fields
    return broker.desk.check(broker.account, TradeRequest(**wanted))


def same(checked: CheckResult, worth: Valuation) -> bool:
    return (checked.balance, checked.equity, checked.profit, checked.margin, checked.margin_free) == (
        worth.balance,
        worth.equity,
        worth.profit,
        worth.margin,
        worth.margin_free,
    )


@pytest.mark.parametrize("margin_mode", [0, 2])
@pytest.mark.parametrize("volume", [0.1, 0.3, 0.7])
@pytest.mark.parametrize("order_type", [BUY, SELL])
def test_check_tells_what_the_trade_then_leaves(margin_mode: int, volume: float, order_type: int) -> None:
    broker = Broker(account=AccountSettings(margin_mode=margin_mode), fee_per_lot=0.5)
    broker.buy(0.3)
    broker.buy(0.1, symbol="USDJPY")
    broker.quote("EURUSD", 1.1051, 1.1052)
    before = msgspec.structs.astuple(broker.account.positions_on("EURUSD")[0])
    checked = preview(broker, type=order_type, volume=volume)
    assert msgspec.structs.astuple(broker.account.positions_on("EURUSD")[0]) == before
    assert broker.send(type=order_type, volume=volume).retcode == api.TRADE_RETCODE_DONE
    assert same(checked, broker.engine.valuer.value(broker.account))


def test_check_of_closes_tells_what_they_leave() -> None:
    broker = Broker(symbols=(EURUSD, USDJPY))
    long, short = broker.buy(0.3), broker.sell(0.1)
    broker.quote("EURUSD", 1.1051, 1.1052)
    for request in (
        {"position": long.ticket, "type": SELL, "volume": 0.1},
        {"action": api.TRADE_ACTION_CLOSE_BY, "position": long.ticket, "position_by": short.ticket},
        {"action": api.TRADE_ACTION_SLTP, "position": long.ticket, "sl": 1.0},
    ):
        checked = preview(broker, **request)
        assert checked.retcode == 0
        assert broker.send(**request).retcode == api.TRADE_RETCODE_DONE
        assert same(checked, broker.engine.valuer.value(broker.account))


def test_check_of_a_limit_order_through_the_market_tells_what_its_fill_leaves() -> None:
    broker = changed(exemode=api.SYMBOL_TRADE_EXECUTION_EXCHANGE)
    request = PEND | {"price": 1.2}
    checked = preview(broker, **request)
    assert checked.margin > 0
    assert broker.send(**request).deal
    assert same(checked, broker.engine.valuer.value(broker.account))


# The dealer of Request execution --------------------------------------------------------------------------------


def dealt(**settings: Any) -> Broker:
    return changed(exemode=api.SYMBOL_TRADE_EXECUTION_REQUEST, commission_per_lot=0.0, **settings)


def ask(broker: Broker, price: float = 1.1001) -> SendResult:
    return broker.send(volume=0.1, price=price)


def test_a_dealer_without_objections_deals_at_the_price_asked() -> None:
    assert (ask(dealt()).retcode, ask(dealt()).price) == (api.TRADE_RETCODE_DONE, 1.1001)
    assert ask(dealt(), 1.1).retcode == api.TRADE_RETCODE_REQUOTE
    assert ask(dealt(), 0.0).retcode == api.TRADE_RETCODE_INVALID_PRICE


def test_the_dealer_offers_another_price_that_can_be_taken_for_a_while() -> None:
    broker = dealt(dealer_requotes=1.0, dealer_requote_points=3)
    refused = ask(broker)
    assert (refused.retcode, refused.bid, refused.ask) == (api.TRADE_RETCODE_REQUOTE, 1.1, 1.10013)
    assert not broker.account.positions
    broker.quote("EURUSD", 1.1050, 1.1051, after_ms=1000)  # the offer stands, wherever the market goes
    taken = ask(broker, 1.10013)
    assert (taken.retcode, taken.price) == (api.TRADE_RETCODE_DONE, 1.10013)
    assert ask(broker, 1.10013).retcode == api.TRADE_RETCODE_REQUOTE  # it could be taken once
    offered = ask(broker, 1.1051).ask
    broker.quote("EURUSD", 1.1050, 1.1051, after_ms=OFFER_STANDS_MS + 1)
    assert ask(broker, offered).retcode == api.TRADE_RETCODE_REQUOTE


def test_an_offer_to_buy_is_none_to_sell_and_closes_are_dealt_too() -> None:
    broker = dealt()
    position = broker.buy(0.1, price=1.1001)
    broker.engine.settings = msgspec.structs.replace(broker.engine.settings, dealer_requotes=1.0)
    broker.desk = TradeDesk(broker.engine)
    offered = broker.close(position, price=1.1)
    assert (offered.retcode, offered.bid, offered.ask) == (api.TRADE_RETCODE_REQUOTE, 1.09998, 1.1001)
    assert broker.close(position, price=1.09998).price == 1.09998
    assert broker.account.balance == pytest.approx(10_000 - 1.2)


def test_how_often_the_dealer_objects_is_a_setting_drawn_from_the_seed() -> None:
    def answers(seed: int) -> list[int]:
        broker = dealt(dealer_requotes=0.3, dealer_rejects=0.2, feed=FeedSettings(seed=seed))
        return [ask(broker).retcode for _ in range(200)]

    told = answers(7)
    assert told == answers(7)
    assert told != answers(8)
    assert 40 <= told.count(api.TRADE_RETCODE_REQUOTE) <= 80
    assert 20 <= told.count(api.TRADE_RETCODE_REJECT) <= 60


def test_a_check_does_not_ask_the_dealer() -> None:
    broker = dealt(dealer_rejects=1.0)
    assert preview(broker, volume=0.1, price=1.1001).retcode == 0
    assert ask(broker).retcode == api.TRADE_RETCODE_REJECT


# What cannot be converted ----------------------------------------------------------------------------------------


def test_a_stop_whose_profit_cannot_be_converted_is_kept_and_tried_again() -> None:
    broker = Broker(symbols=(EURUSD, USDJPY), account=AccountSettings(currency="EUR"))
    position = broker.buy(0.1, symbol="USDJPY", sl=149.0)
    gone = broker.engine.quotes.pop("EURUSD")
    broker.quote("USDJPY", 148.0, 148.01)
    assert list(broker.account.positions) == [position.ticket]
    broker.engine.quotes["EURUSD"] = gone
    broker.quote("USDJPY", 147.9, 147.91)
    assert not broker.account.positions
    assert broker.account.deals.all()[-1].price == 147.9
    assert len({order.ticket for order in broker.account.history_orders.all()}) == 2


def test_an_order_whose_profit_cannot_be_converted_is_rejected_when_it_triggers() -> None:
    account = AccountSettings(currency="EUR", margin_mode=0)
    broker = Broker(symbols=(EURUSD, USDJPY), account=account)
    broker.buy(0.1, symbol="USDJPY")
    placed = broker.send(**PEND | {"symbol": "USDJPY", "type": 5, "price": 149.0})
    del broker.engine.quotes["EURUSD"]
    broker.quote("USDJPY", 148.0, 148.01)
    filed = broker.account.history_orders.get(placed.order)
    assert filed is not None
    assert filed.state == api.ORDER_STATE_REJECTED


# Fills in parts --------------------------------------------------------------------------------------------------


def thin(**fields: Any) -> Broker:
    return changed(exemode=api.SYMBOL_TRADE_EXECUTION_EXCHANGE, liquidity_lots=0.3, commission_per_lot=0.0, **fields)


def test_stops_changed_between_two_fills_of_an_order_stay() -> None:
    for margin_mode in (0, 2):
        broker = thin(account=AccountSettings(margin_mode=margin_mode))
        broker.send(volume=0.5, sl=1.09, type_filling=api.ORDER_FILLING_RETURN)
        (position,) = broker.account.positions.values()
        sent = broker.send(action=api.TRADE_ACTION_SLTP, position=position.ticket, sl=1.05, tp=1.2)
        assert sent.retcode == api.TRADE_RETCODE_DONE
        broker.quote("EURUSD", 1.1, 1.1001)
        assert (position.volume, position.sl, position.tp) == (0.5, 1.05, 1.2)


def test_the_rest_of_a_triggered_stop_fills_at_the_market() -> None:
    broker = thin()
    placed = broker.send(**PEND | {"type": 4, "price": 1.11, "volume": 0.5})
    broker.quote("EURUSD", 1.1109, 1.1110)
    assert broker.account.orders[placed.order].state == api.ORDER_STATE_PARTIAL
    broker.quote("EURUSD", 1.1080, 1.1081)  # back below the stop
    assert not broker.account.orders
    assert [deal.price for deal in broker.account.deals.all() if deal.order] == [1.1110, 1.1081]


def test_a_hedge_that_is_forbidden_is_rejected_when_it_triggers() -> None:
    broker = changed(account=AccountSettings(hedge_prohibited=True))
    placed = broker.send(**PEND)
    broker.send(volume=0.1, type=SELL)
    broker.quote("EURUSD", 1.0898, 1.0899)
    filed = broker.account.history_orders.get(placed.order)
    assert filed is not None
    assert filed.state == api.ORDER_STATE_REJECTED
