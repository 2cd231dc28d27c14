"""Cases that trade the smallest volume, for demonstration accounts; each leaves the account flat."""

from __future__ import annotations

import time
from typing import Any

from paper_terminal.conformance.runner import Case, Context, Difference, Skipped

_MAGIC = 20_250_701
_VISIBLE_WITHIN_S = 5.0
_FAR_S = 2_000_000_000


def _deal(c: Context, order_type: int, **fields: Any) -> Any:
    info, tick = c.api.symbol_info(c.symbol), c.api.symbol_info_tick(c.symbol)
    request = {
        "action": c.api.TRADE_ACTION_DEAL,
        "symbol": c.symbol,
        "volume": info.volume_min,
        "type": order_type,
        "price": tick.ask if order_type == c.api.ORDER_TYPE_BUY else tick.bid,
        "deviation": 200,
        "magic": _MAGIC,
        "comment": "conformance",
        "type_filling": c.api.ORDER_FILLING_FOK if info.filling_mode & 1 else c.api.ORDER_FILLING_IOC,
    }
    result = c.api.order_send(request | fields)
    if result is None:
        raise Difference(f"order_send gave None, {c.api.last_error()}")
    if result.retcode == c.api.TRADE_RETCODE_MARKET_CLOSED:
        raise Skipped("the market is closed")
    return result


def _awaited(call: Any, what: str) -> Any:
    """Return what a call gives as soon as it gives something: results become visible a little later."""
    deadline = time.monotonic() + _VISIBLE_WITHIN_S
    while not (found := call()):
        if time.monotonic() > deadline:
            raise Difference(f"{what} is not visible after {_VISIBLE_WITHIN_S:g} s")
        time.sleep(0.05)
    return found


def _opened(c: Context, order_type: int, **fields: Any) -> Any:
    result = _deal(c, order_type, **fields)
    c.expect(result.retcode, c.api.TRADE_RETCODE_DONE, f"retcode ({result.comment})")
    return _awaited(lambda: c.api.positions_get(ticket=result.order), "the position")[0]


def _close(c: Context, position: Any, **fields: Any) -> Any:
    side = c.api.ORDER_TYPE_SELL if position.type == c.api.POSITION_TYPE_BUY else c.api.ORDER_TYPE_BUY
    result = _deal(c, side, position=position.ticket, volume=position.volume, **fields)
    c.expect(result.retcode, c.api.TRADE_RETCODE_DONE, f"retcode of the close ({result.comment})")
    return result


def open_and_close(c: Context) -> None:
    """A market order leaves an order, a deal and a position of one number; its close another order and deal."""
    position = _opened(c, c.api.ORDER_TYPE_BUY)
    try:
        c.expect((position.magic, position.comment), (_MAGIC, "conformance"), "magic and comment")
        c.expect(position.identifier, position.ticket, "identifier")
    finally:
        result = _close(c, position)
    _awaited(lambda: len(c.api.history_deals_get(position=position.identifier)) == 2, "the deals")
    opened, closed = c.api.history_deals_get(position=position.identifier)
    c.expect((opened.entry, closed.entry), (c.api.DEAL_ENTRY_IN, c.api.DEAL_ENTRY_OUT), "entries")
    c.expect((opened.reason, opened.profit), (c.api.DEAL_REASON_EXPERT, 0.0), "reason and profit of the opening deal")
    c.expect((closed.order, closed.ticket), (result.order, result.deal), "tickets of the close")
    (order,) = c.api.history_orders_get(ticket=position.ticket)
    c.expect((order.state, order.position_id), (c.api.ORDER_STATE_FILLED, position.identifier), "order")


def filled_volume(c: Context) -> str:
    """volume_current of a filled order."""
    position = _opened(c, c.api.ORDER_TYPE_SELL)
    _close(c, position)
    (order,) = _awaited(lambda: c.api.history_orders_get(ticket=position.ticket), "the order")
    return str(order.volume_current)


def stops(c: Context) -> str:
    """The order and deal fields of the result of SLTP."""
    position = _opened(c, c.api.ORDER_TYPE_BUY)
    try:
        info = c.api.symbol_info(c.symbol)
        stop = round(position.price_open * 0.95, info.digits)
        change = {"action": c.api.TRADE_ACTION_SLTP, "symbol": c.symbol, "position": position.ticket, "sl": stop}
        result = c.api.order_send(change)
        c.expect(result.retcode, c.api.TRADE_RETCODE_DONE, "retcode")
        c.expect(_awaited(lambda: c.api.positions_get(ticket=position.ticket), "it")[0].sl, stop, "the stop")
        again = c.api.order_send(change)
        c.expect(again.retcode, c.api.TRADE_RETCODE_NO_CHANGES, "retcode of the same again")
    finally:
        _close(c, position)
    return f"order {result.order}, deal {result.deal} (position {position.ticket})"


def pending(c: Context) -> str:
    """The retcode of a placed pending order."""
    info, tick = c.api.symbol_info(c.symbol), c.api.symbol_info_tick(c.symbol)
    request = {
        "action": c.api.TRADE_ACTION_PENDING,
        "symbol": c.symbol,
        "volume": info.volume_min,
        "type": c.api.ORDER_TYPE_BUY_LIMIT,
        "price": round(tick.bid * 0.9, info.digits),
        "magic": _MAGIC,
        "type_filling": c.api.ORDER_FILLING_RETURN,
    }
    placed = c.api.order_send(request)
    c.expect((placed.deal, placed.order > 0), (0, True), "deal and order of the result")
    (order,) = _awaited(lambda: c.api.orders_get(ticket=placed.order), "the order")
    c.expect((order.state, order.time_done), (c.api.ORDER_STATE_PLACED, 0), "state of an active order")
    change = {"action": c.api.TRADE_ACTION_MODIFY, "order": placed.order, "price": round(tick.bid * 0.89, info.digits)}
    c.expect(c.api.order_send(change).retcode, c.api.TRADE_RETCODE_DONE, "retcode of a change")
    removed = c.api.order_send({"action": c.api.TRADE_ACTION_REMOVE, "order": placed.order})
    c.expect(removed.retcode, c.api.TRADE_RETCODE_DONE, "retcode of the removal")
    (order,) = _awaited(lambda: c.api.history_orders_get(ticket=placed.order), "the removed order")
    c.expect((order.state, order.position_id), (c.api.ORDER_STATE_CANCELED, 0), "state of a removed order")
    return str(placed.retcode)


def close_by(c: Context) -> str:
    """The result's fields of CLOSE_BY."""
    if c.api.account_info().margin_mode != c.api.ACCOUNT_MARGIN_MODE_RETAIL_HEDGING:
        raise Skipped("no hedging account")
    if not c.api.symbol_info(c.symbol).order_mode & 64:
        raise Skipped("the symbol does not offer it")
    long, short = _opened(c, c.api.ORDER_TYPE_BUY), _opened(c, c.api.ORDER_TYPE_SELL)
    request = {"action": c.api.TRADE_ACTION_CLOSE_BY, "position": long.ticket, "position_by": short.ticket}
    result = c.api.order_send(request)
    c.expect(result.retcode, c.api.TRADE_RETCODE_DONE, "retcode")
    _awaited(lambda: len(c.api.history_deals_get(position=long.ticket)) == 2, "the deals")
    deal = c.api.history_deals_get(position=long.ticket)[-1]
    other = c.api.history_deals_get(position=short.ticket)[-1]
    c.expect((deal.entry, other.entry), (c.api.DEAL_ENTRY_OUT_BY,) * 2, "entries")
    c.expect((deal.price, other.price), (short.price_open, long.price_open), "prices")
    c.expect(other.profit, 0.0, "profit of the second deal")
    return f"deal {result.deal}, order {result.order}, volume {result.volume}, price {result.price}"


def balance_is_its_deals(c: Context) -> None:
    """The balance is the sum over all deals of profit, commission, swap and fee."""
    deals = c.api.history_deals_get(1, _FAR_S)
    total = sum(each.profit + each.commission + each.swap + each.fee for each in deals)
    c.expect(abs(c.api.account_info().balance - total) < 0.005, True, "balance against the deals")


TRADING_CASES = tuple(
    Case(each.__name__, each, trades=True)
    for each in (open_and_close, filled_volume, stops, pending, close_by, balance_is_its_deals)
)
