"""Which quote triggers what: stops of positions, pending orders, expiry. Pure."""

from __future__ import annotations

import math
from typing import Final

from paper_terminal import constants as api
from paper_terminal.checks import BUY_TYPES, LIMIT_TYPES, MARKET_TYPES, STOP_TYPES
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


class Triggers:
    """The nearest prices at which a stop of a position or an order of one symbol is hit.

    Each side has a floor, which a price at or below it hits, and a ceiling, which one at or above it does. Long
    positions and selling orders watch the bid, the others the ask; on exchange symbols all watch the last price.
    """

    __slots__ = ("always", "ask_ceiling", "ask_floor", "bid_ceiling", "bid_floor")

    def __init__(self) -> None:
        """Begin with none."""
        self.bid_floor = self.ask_floor = -math.inf
        self.bid_ceiling = self.ask_ceiling = math.inf
        self.always = False
        """Whether an order goes on filling at the next tick, whatever its price."""

    def add_position(self, position: Position) -> None:
        """Watch for a position's stops."""
        if position.is_buy:
            self._watch_bid(position.sl or -math.inf, position.tp or math.inf)
        else:
            self._watch_ask(position.tp or -math.inf, position.sl or math.inf)

    def add_order(self, order: Order) -> None:
        """Watch for an order's price."""
        if goes_on(order):
            self.always = True
            return
        buy = order.type in BUY_TYPES
        floor, ceiling = (order.price_open, math.inf) if _falling(order) else (-math.inf, order.price_open)
        if buy:
            self._watch_ask(floor, ceiling)
        else:
            self._watch_bid(floor, ceiling)

    def _watch_bid(self, floor: float, ceiling: float) -> None:
        self.bid_floor = max(self.bid_floor, floor)
        self.bid_ceiling = min(self.bid_ceiling, ceiling)

    def _watch_ask(self, floor: float, ceiling: float) -> None:
        self.ask_floor = max(self.ask_floor, floor)
        self.ask_ceiling = min(self.ask_ceiling, ceiling)

    def hit(self, symbol: Specification, quote: Quote) -> bool:
        """Tell whether anything happens at a quote."""
        bid, ask = quote.bid, quote.ask
        if quote.last > 0 and symbol.calc_mode in EXCHANGE_MODES:
            bid = ask = quote.last
        return self.always or not self.bid_floor < bid < self.bid_ceiling or not self.ask_floor < ask < self.ask_ceiling


def goes_on(order: Order) -> bool:
    """Tell whether an order fills more at each tick: a market order, or a stop that became one by its first fill."""
    return order.type in MARKET_TYPES or (order.type in STOP_TYPES and order.state == api.ORDER_STATE_PARTIAL)


def _falling(order: Order) -> bool:
    """Tell whether an order waits for the price to fall."""
    return (order.type in LIMIT_TYPES) == (order.type in BUY_TYPES)


def order_hit(order: Order, price: float) -> bool:
    """Tell whether a price triggers a pending order."""
    return price <= order.price_open if _falling(order) else price >= order.price_open


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
