"""Trading on a hedging account: what each request does, and what it leaves in orders, deals and positions."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from paper_terminal import constants as api
from paper_terminal.settings import AccountSettings
from tests.paper_terminal.broker import EURUSD, Broker

BUY, SELL = api.ORDER_TYPE_BUY, api.ORDER_TYPE_SELL


@pytest.fixture
def broker() -> Broker:
    return Broker()


def changed(**fields: Any) -> Broker:
    """Return a broker whose EURUSD has another specification."""
    return Broker(symbols=(msgspec.structs.replace(EURUSD, **fields),))


def test_opening_leaves_order_deal_and_position_joined(broker: Broker) -> None:
    result = broker.send(type=BUY, volume=0.1, magic=7, comment="first", sl=1.09, tp=1.11)
    assert (result.retcode, result.volume, result.price, result.comment) == (10009, 0.1, 1.1001, "Request executed")
    position = broker.account.positions[result.order]
    order = broker.account.history_orders.get(result.order)
    deal = broker.account.deals.get(result.deal)
    assert order is not None
    assert deal is not None
    assert (position.price_open, position.price_current, position.profit) == (1.1001, 1.1, -1.0)
    assert (position.sl, position.tp, position.magic, position.comment) == (1.09, 1.11, 7, "first")
    assert (order.state, order.position_id, order.volume_current) == (api.ORDER_STATE_FILLED, position.identifier, 0.0)
    assert (deal.entry, deal.position_id, deal.order, deal.profit) == (0, position.identifier, order.ticket, 0.0)
    assert deal.commission == -0.3
    assert broker.account.balance == 9999.7


def test_opposite_orders_are_separate_positions(broker: Broker) -> None:
    broker.buy()
    broker.sell()
    assert len(broker.account.positions) == 2


def test_partial_close_keeps_ticket_and_price(broker: Broker) -> None:
    position = broker.buy(0.3)
    broker.quote("EURUSD", 1.1021, 1.1022)
    result = broker.close(position, 0.1)
    deal = broker.account.deals.get(result.deal)
    assert deal is not None
    assert (deal.entry, deal.position_id, deal.volume, deal.profit) == (1, position.identifier, 0.1, 20.0)
    assert broker.account.positions[position.ticket].volume == 0.2
    assert position.time_update > position.time
    broker.close(position)
    assert not broker.account.positions


def test_profit_in_another_currency_is_converted_at_the_close(broker: Broker) -> None:
    position = broker.buy(0.1, symbol="USDJPY")
    broker.quote("USDJPY", 151.010, 151.020)
    deal = broker.account.deals.get(broker.close(position).deal)
    assert deal is not None
    assert deal.profit == round(1.0 * 100_000 * 0.1 / 151.010, 2)


@pytest.mark.parametrize(
    ("fields", "retcode"),
    [
        ({"action": 0}, api.TRADE_RETCODE_INVALID),
        ({"action": api.TRADE_ACTION_CLOSE_BY, "position": 1, "position_by": 2}, api.TRADE_RETCODE_POSITION_CLOSED),
        ({"symbol": "NOSUCH"}, api.TRADE_RETCODE_INVALID),
        ({"volume": 0.0}, api.TRADE_RETCODE_INVALID_VOLUME),
        ({"volume": 0.015}, api.TRADE_RETCODE_INVALID_VOLUME),
        ({"volume": 101.0}, api.TRADE_RETCODE_INVALID_VOLUME),
        ({"volume": math.nan}, api.TRADE_RETCODE_INVALID_VOLUME),
        ({"type": api.ORDER_TYPE_BUY_LIMIT}, api.TRADE_RETCODE_INVALID_ORDER),
        ({"type_filling": api.ORDER_FILLING_RETURN}, api.TRADE_RETCODE_INVALID_FILL),
        ({"sl": 1.2}, api.TRADE_RETCODE_INVALID_STOPS),
        ({"tp": 1.0}, api.TRADE_RETCODE_INVALID_STOPS),
        ({"sl": math.inf}, api.TRADE_RETCODE_INVALID_STOPS),
        ({"volume": 50.0}, api.TRADE_RETCODE_NO_MONEY),
        ({"position": 12345}, api.TRADE_RETCODE_POSITION_CLOSED),
    ],
)
def test_a_bad_request_is_refused_and_changes_nothing(broker: Broker, fields: dict[str, Any], retcode: int) -> None:
    result = broker.send(**({"type": BUY, "volume": 0.1} | fields))
    assert (result.retcode, result.deal, result.order, result.volume, result.price) == (retcode, 0, 0, 0.0, 0.0)
    assert not broker.account.positions
    assert broker.account.balance == 10_000.0


def test_a_close_is_checked_against_its_position(broker: Broker) -> None:
    position = broker.buy(0.1)
    assert broker.close(position, 0.2).retcode == api.TRADE_RETCODE_INVALID_CLOSE_VOLUME
    assert broker.close(position, 0.005).retcode == api.TRADE_RETCODE_INVALID_VOLUME
    assert broker.close(position, type=BUY).retcode == api.TRADE_RETCODE_INVALID
    assert broker.close(position, symbol="USDJPY").retcode == api.TRADE_RETCODE_INVALID
    assert position.volume == 0.1


@pytest.mark.parametrize(
    ("filling_mode", "filling", "retcode"),
    [(1, 0, 10009), (1, 1, 10030), (2, 1, 10009), (2, 0, 10030), (3, 0, 10009), (3, 2, 10030)],
)
def test_market_execution_takes_only_the_fillings_of_the_mask(filling_mode: int, filling: int, retcode: int) -> None:
    assert changed(filling_mode=filling_mode).send(volume=0.1, type_filling=filling).retcode == retcode


def test_instant_execution_needs_a_price_and_requotes(broker: Broker) -> None:
    broker = changed(exemode=api.SYMBOL_TRADE_EXECUTION_INSTANT)
    assert broker.send(volume=0.1).retcode == api.TRADE_RETCODE_INVALID_PRICE
    stale = broker.send(volume=0.1, price=1.1, deviation=9)
    assert (stale.retcode, stale.bid, stale.ask) == (api.TRADE_RETCODE_REQUOTE, 1.1, 1.1001)
    assert stale.request_id > 0
    assert broker.send(volume=0.1, price=1.1, deviation=10).price == 1.1001


@pytest.mark.parametrize(
    ("trade_mode", "order_type", "retcode"),
    [(0, BUY, 10017), (1, SELL, 10042), (1, BUY, 10009), (2, BUY, 10043), (3, BUY, 10044)],
)
def test_trade_modes(trade_mode: int, order_type: int, retcode: int) -> None:
    assert changed(trade_mode=trade_mode).send(type=order_type, volume=0.1).retcode == retcode


def test_stops_level_is_kept_from_the_closing_price() -> None:
    broker = changed(stops_level=50)
    assert broker.send(volume=0.1, sl=1.0996).retcode == api.TRADE_RETCODE_INVALID_STOPS
    assert broker.send(volume=0.1, sl=1.0995).retcode == api.TRADE_RETCODE_DONE


def test_volume_limit_counts_one_direction() -> None:
    broker = changed(volume_limit=0.3)
    broker.buy(0.2)
    assert broker.send(type=BUY, volume=0.2).retcode == api.TRADE_RETCODE_LIMIT_VOLUME
    assert broker.send(type=SELL, volume=0.2).retcode == api.TRADE_RETCODE_DONE


@pytest.mark.parametrize(
    ("order_type", "stops", "quote", "reason", "price"),
    [
        (BUY, {"sl": 1.09}, (1.0898, 1.0899), api.DEAL_REASON_SL, 1.0898),
        (BUY, {"tp": 1.11}, (1.1105, 1.1106), api.DEAL_REASON_TP, 1.11),
        (SELL, {"sl": 1.11}, (1.1100, 1.1102), api.DEAL_REASON_SL, 1.1102),
        (SELL, {"tp": 1.09}, (1.0898, 1.09), api.DEAL_REASON_TP, 1.09),
    ],
)
def test_stops_trigger_on_the_closing_side(
    broker: Broker, order_type: int, stops: dict[str, float], quote: tuple[float, float], reason: int, price: float
) -> None:
    result = broker.send(type=order_type, volume=0.1, magic=5, **stops)
    broker.quote("EURUSD", *quote)
    assert not broker.account.positions
    deal = broker.account.deals.all()[-1]
    assert (deal.reason, deal.price, deal.position_id, deal.magic) == (reason, price, result.order, 5)
    order = broker.account.history_orders.get(deal.order)
    assert order is not None
    assert order.reason == reason


def test_a_stop_is_hit_by_a_tick_between_two_looks(broker: Broker) -> None:
    from tests.paper_terminal.broker import ticks

    broker.buy(sl=1.09)
    now = broker.now_ms
    spike = ticks((now + 1, 1.1, 1.1001), (now + 2, 1.0899, 1.09), (now + 3, 1.1, 1.1001))
    broker.engine.on_ticks([("EURUSD", spike)], now + 10)
    assert not broker.account.positions


def test_stops_are_set_changed_and_removed(broker: Broker) -> None:
    position = broker.buy()
    change = {"action": api.TRADE_ACTION_SLTP, "position": position.ticket}
    assert broker.send(**change).retcode == api.TRADE_RETCODE_NO_CHANGES
    assert broker.send(**change, sl=1.09, tp=1.12).retcode == api.TRADE_RETCODE_DONE
    assert (position.sl, position.tp) == (1.09, 1.12)
    assert broker.send(**change, sl=1.2).retcode == api.TRADE_RETCODE_INVALID_STOPS
    assert broker.send(**change, sl=0.0, tp=1.12).retcode == api.TRADE_RETCODE_DONE
    assert (position.sl, position.tp) == (0.0, 1.12)


PENDING: dict[str, Any] = {"action": api.TRADE_ACTION_PENDING, "volume": 0.1, "type_filling": 2}


@pytest.mark.parametrize(
    ("order_type", "price", "quote", "filled"),
    [
        (api.ORDER_TYPE_BUY_LIMIT, 1.09, (1.0897, 1.0898), 1.09),
        (api.ORDER_TYPE_SELL_LIMIT, 1.11, (1.1101, 1.1102), 1.11),
        (api.ORDER_TYPE_BUY_STOP, 1.11, (1.1101, 1.1102), 1.1102),
        (api.ORDER_TYPE_SELL_STOP, 1.09, (1.0897, 1.0898), 1.0897),
    ],
)
def test_pending_orders_wait_and_fill(
    broker: Broker, order_type: int, price: float, quote: tuple[float, float], filled: float
) -> None:
    placed = broker.send(**PENDING, type=order_type, price=price)
    assert (placed.retcode, placed.deal) == (api.TRADE_RETCODE_DONE, 0)
    assert broker.account.orders[placed.order].state == api.ORDER_STATE_PLACED
    assert broker.account.orders[placed.order].time_done == 0
    broker.quote("EURUSD", *quote)
    assert not broker.account.orders
    position = broker.account.positions[placed.order]
    assert position.price_open == filled
    order = broker.account.history_orders.get(placed.order)
    assert order is not None
    assert order.state == api.ORDER_STATE_FILLED


def test_a_stop_limit_order_turns_into_a_limit(broker: Broker) -> None:
    placed = broker.send(**PENDING, type=api.ORDER_TYPE_BUY_STOP_LIMIT, price=1.11, stoplimit=1.105)
    broker.quote("EURUSD", 1.1105, 1.1106)
    order = broker.account.orders[placed.order]
    assert (order.type, order.price_open) == (api.ORDER_TYPE_BUY_LIMIT, 1.105)
    broker.quote("EURUSD", 1.1045, 1.1046)
    assert broker.account.positions[placed.order].price_open == 1.105


@pytest.mark.parametrize(
    ("order_type", "price"),
    [
        (api.ORDER_TYPE_BUY_LIMIT, 1.2),
        (api.ORDER_TYPE_SELL_LIMIT, 1.0),
        (api.ORDER_TYPE_BUY_STOP, 1.0),
        (api.ORDER_TYPE_SELL_STOP, 1.2),
        (api.ORDER_TYPE_BUY_LIMIT, 0.0),
    ],
)
def test_a_pending_price_on_the_wrong_side_is_refused(broker: Broker, order_type: int, price: float) -> None:
    assert broker.send(**PENDING, type=order_type, price=price).retcode == api.TRADE_RETCODE_INVALID_PRICE


def test_pending_orders_are_modified_and_removed(broker: Broker) -> None:
    placed = broker.send(**PENDING, type=api.ORDER_TYPE_BUY_LIMIT, price=1.09)
    change = {"action": api.TRADE_ACTION_MODIFY, "order": placed.order}
    assert broker.send(**change, price=1.09).retcode == api.TRADE_RETCODE_NO_CHANGES
    assert broker.send(**change, price=1.08, sl=1.07).retcode == api.TRADE_RETCODE_DONE
    order = broker.account.orders[placed.order]
    assert (order.price_open, order.sl) == (1.08, 1.07)
    remove = {"action": api.TRADE_ACTION_REMOVE, "order": placed.order}
    assert broker.send(**remove).retcode == api.TRADE_RETCODE_DONE
    assert broker.send(**remove).retcode == api.TRADE_RETCODE_INVALID
    filed = broker.account.history_orders.get(placed.order)
    assert filed is not None
    assert (filed.state, filed.position_id) == (api.ORDER_STATE_CANCELED, 0)
    assert filed.volume_current == filed.volume_initial


def test_a_pending_order_expires_on_the_servers_clock(broker: Broker) -> None:
    now_s = broker.engine.moment().seconds
    until = {"type": api.ORDER_TYPE_BUY_LIMIT, "price": 1.09, "type_time": api.ORDER_TIME_SPECIFIED}
    assert broker.send(**PENDING, **until, expiration=now_s).retcode == api.TRADE_RETCODE_INVALID_EXPIRATION
    placed = broker.send(**PENDING, **until, expiration=now_s + 60)
    broker.quote("EURUSD", 1.1, 1.1001, after_ms=61_000)
    filed = broker.account.history_orders.get(placed.order)
    assert filed is not None
    assert filed.state == api.ORDER_STATE_EXPIRED


def test_a_triggered_order_without_money_is_rejected(broker: Broker) -> None:
    placed = broker.send(**(PENDING | {"volume": 50.0}), type=api.ORDER_TYPE_BUY_LIMIT, price=1.09)
    broker.quote("EURUSD", 1.0897, 1.0898)
    filed = broker.account.history_orders.get(placed.order)
    assert filed is not None
    assert filed.state == api.ORDER_STATE_REJECTED
    assert not broker.account.positions


def test_stop_out_closes_the_largest_loss_first() -> None:
    broker = Broker(account=AccountSettings(balance=1000.0))
    broker.sell(0.1)
    loser = broker.buy(0.8)
    broker.quote("EURUSD", 1.0915, 1.0916)
    deals = [deal for deal in broker.account.deals.all() if deal.reason == api.DEAL_REASON_SO]
    assert [deal.position_id for deal in deals] == [loser.identifier]
    assert len(broker.account.positions) == 1


def test_covered_volume_is_charged_once(broker: Broker) -> None:
    broker.buy(0.2)
    alone = broker.engine.valuer.value(broker.account).margin
    broker.sell(0.2)
    assert broker.engine.valuer.value(broker.account).margin == pytest.approx(alone, abs=0.02)
    assert alone == pytest.approx(0.2 * 100_000 / 100 * 1.1001, abs=0.01)


def test_a_closed_market_refuses(broker: Broker) -> None:
    broker.engine.is_open = lambda _utc_ms: False
    assert broker.send(volume=0.1).retcode == api.TRADE_RETCODE_MARKET_CLOSED


def test_check_shows_the_account_after_the_trade_and_changes_nothing(broker: Broker) -> None:
    from paper_terminal.ledger_records import TradeRequest

    request = TradeRequest(action=1, symbol="EURUSD", volume=0.1)
    checked = broker.desk.check(broker.account, request)
    assert (checked.retcode, checked.comment, checked.balance) == (0, "Done", 9999.7)
    assert checked.margin == pytest.approx(110.01)
    assert checked.equity == pytest.approx(9998.7)
    assert not broker.account.positions
    broker.buy(0.1)
    worth = broker.engine.valuer.value(broker.account)
    assert (worth.equity, worth.margin) == (checked.equity, checked.margin)


DAY_MS = 86_400_000


def test_a_night_charges_swap_and_the_close_books_it() -> None:
    broker = Broker(server_time="utc")  # it begins on a Wednesday, the triple day
    position = broker.buy(0.2)
    next_midnight = (broker.now_ms // DAY_MS + 1) * DAY_MS
    broker.quote("EURUSD", 1.1, 1.1001, after_ms=next_midnight - broker.now_ms - 1)
    assert position.swap == 0.0
    broker.quote("EURUSD", 1.1, 1.1001, after_ms=1)
    night = EURUSD.swap_long * 1e-5 * 100_000 * 0.2
    assert position.swap == pytest.approx(3 * night)
    equity = broker.engine.valuer.value(broker.account).equity
    assert equity == pytest.approx(broker.account.balance + position.profit + position.swap)
    half = broker.account.deals.get(broker.close(position, 0.1).deal)
    assert half is not None
    assert half.swap == pytest.approx(1.5 * night)
    assert position.swap == pytest.approx(1.5 * night)


def test_a_week_charges_seven_nights() -> None:
    broker = Broker(server_time="utc")
    position = broker.sell(1.0)
    broker.quote("EURUSD", 1.1, 1.1001, after_ms=7 * DAY_MS)
    assert position.swap == pytest.approx(7 * EURUSD.swap_short)
