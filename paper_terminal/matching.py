"""Which quote triggers what: stops of positions, pending orders, expiry. Pure."""

from __future__ import annotations

from typing import Final

from paper_terminal import constants as api
from paper_terminal.checks import BUY_TYPES, LIMIT_TYPES
from paper_terminal.ledger_records import Order, Position
from paper_terminal.margin import EXCHANGE_MODES, Quote
from paper_terminal.specifications import Specification

_DAY_S: Final = 86_400


def closing_price(position: Position, quote: Quote) -> float:
    """Return the price a position closes at: bid for a long one, ask for a short one."""
    return quote.bid if position.is_buy else quote.ask


def stop_hit(symbol: Specification, position: Position, quote: Quote) -> tuple[int, float] | None:
    """Return the reason and price at which a stop closes the position now, or None.

    Stops watch the price the position closes at, on exchange symbols the last price. A stop loss fills at the market
    (beyond its price after a gap), a take profit at its own price.
    """
    market = closing_price(position, quote)
    price = quote.last if symbol.calc_mode in EXCHANGE_MODES and quote.last > 0 else market
    side = 1.0 if position.is_buy else -1.0
    if position.sl and (price - position.sl) * side <= 0:
        return api.DEAL_REASON_SL, market
    if position.tp and (price - position.tp) * side >= 0:
        return api.DEAL_REASON_TP, position.tp
    return None


def trigger_price(symbol: Specification, order: Order, quote: Quote) -> float:
    """Return the price a pending order waits for: ask or bid of its side, on exchange symbols the last price."""
    if symbol.calc_mode in EXCHANGE_MODES and quote.last > 0:
        return quote.last
    return quote.ask if order.type in BUY_TYPES else quote.bid


def order_hit(order: Order, price: float) -> bool:
    """Tell whether a price triggers a pending order."""
    buy = order.type in BUY_TYPES
    falling = buy if order.type in LIMIT_TYPES else not buy
    return price <= order.price_open if falling else price >= order.price_open


def fill_price(order: Order, quote: Quote, *, better: bool = False) -> float:
    """Return what a triggered order fills at: a limit at its own price (or at a better one), a stop at the market."""
    market = quote.ask if order.type in BUY_TYPES else quote.bid
    if order.type not in LIMIT_TYPES:
        return market
    if not better:
        return order.price_open
    return min(market, order.price_open) if order.type in BUY_TYPES else max(market, order.price_open)


def activated(order: Order) -> int:
    """Return the limit type a triggered stop-limit order turns into."""
    return api.ORDER_TYPE_BUY_LIMIT if order.type in BUY_TYPES else api.ORDER_TYPE_SELL_LIMIT


def expires_at_s(type_time: int, expiration_s: int, placed_s: int) -> int:
    """Return the server second from which an order is expired, 0 for never."""
    if type_time == api.ORDER_TIME_SPECIFIED:
        return expiration_s
    if type_time == api.ORDER_TIME_DAY:
        return (placed_s // _DAY_S + 1) * _DAY_S
    if type_time == api.ORDER_TIME_SPECIFIED_DAY:
        return (expiration_s // _DAY_S + 1) * _DAY_S
    return 0
