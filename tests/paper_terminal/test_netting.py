"""Netting accounts, closing positions against each other, partial fills, and the limits of accounts."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from paper_terminal import constants as api
from paper_terminal.ledger_records import Deal
from paper_terminal.settings import AccountSettings
from tests.paper_terminal.broker import EURUSD, Broker

BUY, SELL = api.ORDER_TYPE_BUY, api.ORDER_TYPE_SELL
FOK, IOC, RETURN = api.ORDER_FILLING_FOK, api.ORDER_FILLING_IOC, api.ORDER_FILLING_RETURN
DAY_MS = 86_400_000


def netting(margin_mode: int = 0, **fields: Any) -> Broker:
    symbol = msgspec.structs.replace(EURUSD, **fields)
    return Broker(symbols=(symbol,), account=AccountSettings(margin_mode=margin_mode), commission_per_lot=0.0)


def thin(lots: float = 0.3, **account: Any) -> Broker:
    """Return a broker whose market fills a few lots a tick, under exchange execution."""
    symbol = msgspec.structs.replace(EURUSD, liquidity_lots=lots, exemode=api.SYMBOL_TRADE_EXECUTION_EXCHANGE)
    return Broker(symbols=(symbol,), account=AccountSettings(**account), commission_per_lot=0.0)


def last_deal(broker: Broker) -> Deal:
    return broker.account.deals.all()[-1]


def test_a_second_order_of_the_same_side_adds_at_the_mean_price() -> None:
    broker = netting()
    first = broker.buy(0.1, sl=1.09, tp=1.2)
    broker.quote("EURUSD", 1.10300, 1.10310)
    second = broker.send(type=BUY, volume=0.2)
    (position,) = broker.account.positions.values()
    assert (position.ticket, position.identifier) == (first.ticket, first.identifier)
    assert position.volume == pytest.approx(0.3)
    assert position.price_open == pytest.approx((1.1001 + 2 * 1.1031) / 3)
    assert (position.sl, position.tp) == (0.0, 0.0)
    deal = last_deal(broker)
    assert (deal.entry, deal.position_id, deal.order) == (api.DEAL_ENTRY_IN, first.identifier, second.order)


def test_a_smaller_opposite_order_closes_a_part_and_keeps_stops() -> None:
    broker = netting()
    position = broker.buy(0.3, sl=1.09)
    broker.quote("EURUSD", 1.10210, 1.10220)
    broker.send(type=SELL, volume=0.1)
    deal = last_deal(broker)
    assert (deal.entry, deal.profit, deal.volume) == (api.DEAL_ENTRY_OUT, 20.0, 0.1)
    assert (position.volume, position.sl) == (0.2, 1.09)
    broker.send(type=SELL, volume=0.2)
    assert not broker.account.positions


def test_a_larger_opposite_order_reverses_in_one_deal() -> None:
    broker = netting()
    before = broker.buy(0.1, sl=1.09)
    broker.quote("EURUSD", 1.10110, 1.10120)
    result = broker.send(type=SELL, volume=0.4, magic=9)
    (position,) = broker.account.positions.values()
    assert (position.ticket, position.identifier) == (result.order, before.identifier)
    assert (position.type, position.volume, position.price_open) == (api.POSITION_TYPE_SELL, 0.3, 1.1011)
    assert (position.sl, position.magic) == (0.0, 9)
    deal = last_deal(broker)
    assert (deal.entry, deal.volume, deal.profit) == (api.DEAL_ENTRY_INOUT, 0.4, 10.0)
    assert broker.engine.valuer.value(broker.account).margin == pytest.approx(0.3 * 1000 * 1.1011)


def test_stops_are_set_by_symbol() -> None:
    broker = netting()
    position = broker.buy(0.1)
    assert broker.send(action=api.TRADE_ACTION_SLTP, sl=1.09, tp=1.2).retcode == api.TRADE_RETCODE_DONE
    assert (position.sl, position.tp) == (1.09, 1.2)


def test_pending_orders_net_when_they_fill() -> None:
    broker = netting()
    broker.buy(0.3)
    pend = {"action": api.TRADE_ACTION_PENDING, "type_filling": RETURN, "volume": 0.3}
    broker.send(**pend, type=api.ORDER_TYPE_SELL_LIMIT, price=1.11)
    broker.quote("EURUSD", 1.1101, 1.1102)
    assert not broker.account.positions
    assert last_deal(broker).entry == api.DEAL_ENTRY_OUT


def test_an_exchange_account_loses_stops_at_the_days_end() -> None:
    for margin_mode, kept in ((0, 1.09), (1, 0.0)):
        broker = netting(margin_mode)
        position = broker.buy(0.1, sl=1.09)
        broker.quote("EURUSD", 1.1, 1.1001, after_ms=DAY_MS)
        assert position.sl == kept


@pytest.mark.parametrize(("mode", "orders", "sl"), [(0, 1, 1.09), (1, 0, 0.0), (2, 0, 1.09)])
def test_orders_that_live_for_the_day(mode: int, orders: int, sl: float) -> None:
    broker = netting(2, order_gtc_mode=mode)
    position = broker.buy(0.1, sl=1.09)
    broker.send(
        action=api.TRADE_ACTION_PENDING, type=api.ORDER_TYPE_BUY_LIMIT, volume=0.1, price=1.05, type_filling=RETURN
    )
    broker.quote("EURUSD", 1.1, 1.1001, after_ms=DAY_MS)
    assert (len(broker.account.orders), position.sl) == (orders, sl)


def test_netting_closes_only_where_only_closing_is_allowed() -> None:
    broker = netting()
    broker.buy(0.1)
    broker.engine.symbols["EURUSD"] = msgspec.structs.replace(EURUSD, trade_mode=api.SYMBOL_TRADE_MODE_CLOSEONLY)
    assert broker.send(type=SELL, volume=0.2).retcode == api.TRADE_RETCODE_CLOSE_ONLY
    assert broker.send(type=SELL, volume=0.1).retcode == api.TRADE_RETCODE_DONE


def test_close_by_makes_one_order_and_two_deals_at_each_others_prices() -> None:
    broker = Broker()
    long, short = broker.buy(0.3), broker.sell(0.1)
    broker.quote("EURUSD", 1.2, 1.3)
    before = len(broker.account.deals)
    by = {"action": api.TRADE_ACTION_CLOSE_BY, "symbol": ""}
    result = broker.send(**by, position=long.ticket, position_by=short.ticket)
    assert (result.retcode, result.deal) == (api.TRADE_RETCODE_DONE, 0)
    first, second = broker.account.deals.all()[before:]
    assert (first.entry, first.position_id, first.price, first.type) == (3, long.identifier, short.price_open, SELL)
    assert (second.entry, second.position_id, second.price, second.type) == (3, short.identifier, long.price_open, BUY)
    assert [first.profit, second.profit] == pytest.approx([-1.0, 0.0])
    assert first.order == second.order == result.order
    order = broker.account.history_orders.get(result.order)
    assert order is not None
    assert (order.type, order.position_id, order.position_by_id) == (8, long.identifier, short.identifier)
    assert list(broker.account.positions.values()) == [long]
    assert (long.volume, long.price_open) == (0.2, 1.1001)
    assert broker.send(**by, position=long.ticket, position_by=long.ticket).retcode == api.TRADE_RETCODE_INVALID


def test_close_by_is_refused_where_it_is_not_offered() -> None:
    broker = Broker(symbols=(msgspec.structs.replace(EURUSD, order_mode=63),))
    long, short = broker.buy(0.1), broker.sell(0.1)
    by = {"action": api.TRADE_ACTION_CLOSE_BY, "position": long.ticket, "position_by": short.ticket}
    assert broker.send(**by).retcode == api.TRADE_RETCODE_INVALID_ORDER


def test_fok_is_all_or_nothing() -> None:
    broker = thin()
    assert broker.send(volume=0.5, type_filling=FOK).retcode == api.TRADE_RETCODE_REJECT
    assert not len(broker.account.history_orders)
    assert broker.send(volume=0.3, type_filling=FOK).retcode == api.TRADE_RETCODE_DONE


def test_ioc_fills_a_part_and_cancels_the_rest() -> None:
    broker = thin()
    result = broker.send(volume=0.5, type_filling=IOC)
    assert (result.retcode, result.volume) == (api.TRADE_RETCODE_DONE_PARTIAL, 0.3)
    order = broker.account.history_orders.get(result.order)
    assert order is not None
    assert (order.state, order.volume_current, order.position_id) == (2, 0.2, result.order)
    assert not broker.account.orders


def test_return_leaves_the_rest_working() -> None:
    broker = thin()
    result = broker.send(volume=0.5, type_filling=RETURN)
    assert result.retcode == api.TRADE_RETCODE_DONE_PARTIAL
    assert broker.account.orders[result.order].state == api.ORDER_STATE_PARTIAL
    broker.quote("EURUSD", 1.1004, 1.1005)
    (position,) = broker.account.positions.values()
    assert (position.ticket, position.volume) == (result.order, 0.5)
    assert position.price_open == pytest.approx((0.3 * 1.1001 + 0.2 * 1.1005) / 0.5)
    assert not broker.account.orders
    deals = [deal for deal in broker.account.deals.all() if deal.order == result.order]
    assert [(deal.entry, deal.volume, deal.position_id) for deal in deals] == [
        (0, 0.3, result.order),
        (0, 0.2, result.order),
    ]


def test_a_working_close_refuses_another() -> None:
    broker = thin()
    broker.buy(0.3)
    position = broker.buy(0.3)
    broker.engine.symbols["EURUSD"] = msgspec.structs.replace(broker.engine.symbols["EURUSD"], liquidity_lots=0.1)
    assert broker.close(position, type_filling=RETURN).retcode == api.TRADE_RETCODE_DONE_PARTIAL
    assert broker.close(position, 0.1).retcode == api.TRADE_RETCODE_CLOSE_ORDER_EXIST
    broker.quote("EURUSD", 1.1, 1.1001)
    broker.quote("EURUSD", 1.1, 1.1001)
    assert position.ticket not in broker.account.positions
    assert not broker.account.orders


def test_a_limit_order_through_the_market_is_filled_at_once_on_an_exchange() -> None:
    broker = thin(0.0)
    result = broker.send(
        action=api.TRADE_ACTION_PENDING, type=api.ORDER_TYPE_BUY_LIMIT, volume=0.1, price=1.2, type_filling=RETURN
    )
    assert (result.retcode, result.price) == (api.TRADE_RETCODE_DONE, 1.1001)
    assert broker.account.positions[result.order].price_open == 1.1001


@pytest.mark.parametrize(
    ("settings", "retcode"),
    [
        ({"limit_positions": 1}, api.TRADE_RETCODE_LIMIT_POSITIONS),
        ({"hedge_prohibited": True}, 10046),
        ({"trade_allowed": False}, api.TRADE_RETCODE_TRADE_DISABLED),
        ({"trade_expert": False}, api.TRADE_RETCODE_SERVER_DISABLES_AT),
    ],
)
def test_accounts_refuse_what_their_settings_forbid(settings: dict[str, Any], retcode: int) -> None:
    broker = Broker()
    broker.buy(0.1)
    broker.account.settings = msgspec.structs.replace(broker.account.settings, **settings)
    assert broker.send(type=SELL, volume=0.1).retcode == retcode


def test_fifo_accounts_close_the_oldest_first() -> None:
    broker = Broker(account=AccountSettings(fifo_close=True))
    first, second = broker.buy(0.1), broker.buy(0.1)
    assert broker.close(second).retcode == api.TRADE_RETCODE_FIFO_CLOSE
    assert broker.close(first).retcode == api.TRADE_RETCODE_DONE
    assert broker.close(second).retcode == api.TRADE_RETCODE_DONE


def test_too_many_requests_in_a_second() -> None:
    broker = Broker(max_requests_per_second=2)
    codes = [broker.send(volume=0.1).retcode for _ in range(3)]
    assert codes == [10009, 10009, api.TRADE_RETCODE_TOO_MANY_REQUESTS]
    broker.quote("EURUSD", 1.1, 1.1001)
    assert broker.send(volume=0.1).retcode == 10009


def test_orders_near_their_price_are_frozen() -> None:
    broker = Broker(symbols=(msgspec.structs.replace(EURUSD, freeze_level=50),))
    placed = broker.send(
        action=api.TRADE_ACTION_PENDING, type=api.ORDER_TYPE_BUY_LIMIT, volume=0.1, price=1.0997, type_filling=RETURN
    )
    change = {"order": placed.order, "price": 1.09}
    assert broker.send(action=api.TRADE_ACTION_MODIFY, **change).retcode == api.TRADE_RETCODE_FROZEN
    assert broker.send(action=api.TRADE_ACTION_REMOVE, order=placed.order).retcode == api.TRADE_RETCODE_FROZEN
    broker.quote("EURUSD", 1.11, 1.1101)
    assert broker.send(action=api.TRADE_ACTION_MODIFY, **change).retcode == api.TRADE_RETCODE_DONE


def test_a_night_may_reopen_a_position_under_another_ticket() -> None:
    symbol = msgspec.structs.replace(EURUSD, swap_mode=api.SYMBOL_SWAP_MODE_REOPEN_CURRENT, swap_long=-5.0)
    broker = Broker(symbols=(symbol,), server_time="utc", commission_per_lot=0.0)
    before = broker.buy(0.1)
    broker.quote("EURUSD", 1.1, 1.1001, after_ms=DAY_MS)  # a Wednesday: three nights
    (position,) = broker.account.positions.values()
    assert position.ticket != before.ticket
    assert position.identifier == before.identifier
    assert position.price_open == pytest.approx(1.1 + 15e-5)
    assert broker.close(position).retcode == api.TRADE_RETCODE_DONE
    assert broker.account.balance == pytest.approx(10_000 - 1.0 - 1.5)


def test_costs_are_charged_as_set() -> None:
    broker = Broker(commission_per_lot=3.0, commission_on="in", fee_per_lot=1.0)
    position = broker.buy(1.0)
    broker.close(position)
    opened, closed = broker.account.deals.all()[-2:]
    assert (opened.commission, opened.fee, closed.commission, closed.fee) == (-3.0, -1.0, 0.0, -1.0)
