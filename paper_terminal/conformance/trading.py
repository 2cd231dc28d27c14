"""Cases that trade the smallest volume and compare with what is known; what they leave open is closed after each."""

from __future__ import annotations

from paper_terminal.conformance.flat import MAGIC
from paper_terminal.conformance.orders import awaited, closed, limit_request, market_request, opened, sent
from paper_terminal.conformance.runner import Case, Context, Skipped


def open_and_close(c: Context) -> None:
    """A market order leaves an order, a deal and a position of one number; its close another order and deal."""
    position = opened(c, c.api.ORDER_TYPE_BUY)
    c.expect((position.magic, position.comment), (MAGIC, "conformance"), "magic and comment")
    c.expect(position.identifier, position.ticket, "identifier")
    c.expect(position.reason, c.api.POSITION_REASON_EXPERT, "reason")
    result = closed(c, position)
    awaited(lambda: len(c.api.history_deals_get(position=position.identifier)) == 2, "the deals")
    first, last = c.api.history_deals_get(position=position.identifier)
    c.expect((first.entry, last.entry), (c.api.DEAL_ENTRY_IN, c.api.DEAL_ENTRY_OUT), "entries")
    c.expect((first.reason, first.profit), (c.api.DEAL_REASON_EXPERT, 0.0), "reason and profit of the opening deal")
    c.expect((last.order, last.ticket), (result.order, result.deal), "tickets of the close")
    (order,) = c.api.history_orders_get(ticket=position.ticket)
    c.expect((order.state, order.position_id), (c.api.ORDER_STATE_FILLED, position.identifier), "order")


def partial_close(c: Context) -> None:
    """A partial close leaves the position's ticket and price, with the rest of its volume."""
    step = c.api.symbol_info(c.symbol).volume_min
    position = opened(c, c.api.ORDER_TYPE_SELL, volume=2 * step)
    closed(c, position, volume=step)
    (rest,) = awaited(
        lambda: [each for each in c.api.positions_get(ticket=position.ticket) if each.volume < position.volume],
        "the rest",
    )
    c.expect((rest.identifier, rest.price_open), (position.identifier, position.price_open), "the rest")
    c.expect(round(rest.volume, 8), step, "its volume")


def refusals(c: Context) -> None:
    """A refused order is a result with a retcode, no tickets, and the request it echoes."""
    info = c.api.symbol_info(c.symbol)
    request = market_request(c, c.api.ORDER_TYPE_BUY, volume=info.volume_min / 10)
    result = sent(c, request)
    c.expect(result.retcode, c.api.TRADE_RETCODE_INVALID_VOLUME, "retcode of too small a volume")
    c.expect((result.deal, result.order, result.volume, result.price), (0, 0, 0.0, 0.0), "numbers of a refusal")
    c.expect(result.request.volume, request["volume"], "the request")
    gone = market_request(c, c.api.ORDER_TYPE_SELL, position=1)
    if c.api.account_info().margin_mode == c.api.ACCOUNT_MARGIN_MODE_RETAIL_HEDGING:
        c.expect(sent(c, gone).retcode, c.api.TRADE_RETCODE_POSITION_CLOSED, "retcode for no such position")


def stops(c: Context) -> None:
    """SLTP sets a stop; the same again is 10025; 0 takes it away."""
    position = opened(c, c.api.ORDER_TYPE_BUY)
    stop = round(position.price_open * 0.95, c.api.symbol_info(c.symbol).digits)
    change = {"action": c.api.TRADE_ACTION_SLTP, "symbol": c.symbol, "position": position.ticket, "sl": stop}
    c.expect(sent(c, change).retcode, c.api.TRADE_RETCODE_DONE, "retcode")
    awaited(lambda: c.api.positions_get(ticket=position.ticket)[0].sl == stop, "the stop")
    c.expect(sent(c, change).retcode, c.api.TRADE_RETCODE_NO_CHANGES, "retcode of the same again")
    c.expect(sent(c, change | {"sl": 0.0}).retcode, c.api.TRADE_RETCODE_DONE, "retcode of taking it away")
    awaited(lambda: c.api.positions_get(ticket=position.ticket)[0].sl == 0.0, "the stop's end")


def pending(c: Context) -> None:
    """A pending order is placed, changed and removed; its states and times are those of the facts."""
    request = limit_request(c)
    placed = sent(c, request)
    done = {c.api.TRADE_RETCODE_DONE, c.api.TRADE_RETCODE_PLACED}
    c.expect(placed.retcode in done, True, f"retcode {placed.retcode} ({placed.comment})")
    c.expect((placed.deal, placed.order > 0), (0, True), "deal and order of the result")
    (order,) = awaited(lambda: c.api.orders_get(ticket=placed.order), "the order")
    c.expect((order.state, order.time_done), (c.api.ORDER_STATE_PLACED, 0), "state of an active order")
    c.expect(order.volume_current, order.volume_initial, "its volumes")
    price = round(request["price"] * 0.99, c.api.symbol_info(c.symbol).digits)
    change = {"action": c.api.TRADE_ACTION_MODIFY, "order": placed.order, "price": price}
    c.expect(sent(c, change).retcode, c.api.TRADE_RETCODE_DONE, "retcode of a change")
    removed = sent(c, {"action": c.api.TRADE_ACTION_REMOVE, "order": placed.order})
    c.expect(removed.retcode, c.api.TRADE_RETCODE_DONE, "retcode of the removal")
    (order,) = awaited(lambda: c.api.history_orders_get(ticket=placed.order), "the removed order")
    c.expect((order.state, order.position_id), (c.api.ORDER_STATE_CANCELED, 0), "state of a removed order")


def helpers(c: Context) -> None:
    """Buy, Sell and Close trade, and Close tells what it has closed."""
    info = c.api.symbol_info(c.symbol)
    if not info.filling_mode & 1:
        raise Skipped("the helpers send FOK, which the symbol does not take")
    volume = info.volume_min
    c.expect(c.api.Close(c.symbol), False, "Close with nothing open")
    result = c.api.Buy(c.symbol, volume, comment="conformance")
    c.expect(result.retcode, c.api.TRADE_RETCODE_DONE, f"retcode of Buy ({result.comment})")
    awaited(lambda: c.api.positions_get(ticket=result.order), "the position")
    c.expect(c.api.Close(c.symbol, ticket=result.order), True, "Close of it")


TRADING_CASES = tuple(
    Case(each.__name__, each, trades=True)
    for each in (open_and_close, partial_close, refusals, stops, pending, helpers)
)
