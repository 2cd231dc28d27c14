"""Checks of a trade request against the symbol's rules and the market: pure, each raises `Refusal`."""

from __future__ import annotations

import math

from paper_terminal import constants as api
from paper_terminal.ledger_records import Order, Position, TradeRequest
from paper_terminal.margin import Quote
from paper_terminal.retcodes import Refusal
from paper_terminal.specifications import (
    FILLING_BOC,
    FILLING_FOK,
    FILLING_IOC,
    ORDER_CLOSE_BY,
    ORDER_LIMIT,
    ORDER_MARKET,
    ORDER_SL,
    ORDER_STOP,
    ORDER_STOP_LIMIT,
    ORDER_TP,
    Specification,
)

BUY_TYPES = frozenset({
    api.ORDER_TYPE_BUY,
    api.ORDER_TYPE_BUY_LIMIT,
    api.ORDER_TYPE_BUY_STOP,
    api.ORDER_TYPE_BUY_STOP_LIMIT,
})
MARKET_TYPES = frozenset({api.ORDER_TYPE_BUY, api.ORDER_TYPE_SELL})
LIMIT_TYPES = frozenset({api.ORDER_TYPE_BUY_LIMIT, api.ORDER_TYPE_SELL_LIMIT})
STOP_TYPES = frozenset({api.ORDER_TYPE_BUY_STOP, api.ORDER_TYPE_SELL_STOP})
STOP_LIMIT_TYPES = frozenset({api.ORDER_TYPE_BUY_STOP_LIMIT, api.ORDER_TYPE_SELL_STOP_LIMIT})
PRICED_EXECUTION = frozenset({api.SYMBOL_TRADE_EXECUTION_REQUEST, api.SYMBOL_TRADE_EXECUTION_INSTANT})

_TOLERANCE = 1e-6
_FILLING_BITS = {api.ORDER_FILLING_FOK: FILLING_FOK, api.ORDER_FILLING_IOC: FILLING_IOC}


def check_volume(symbol: Specification, volume: float) -> None:
    """Refuse a volume outside the symbol's limits or off its step (10014)."""
    if not math.isfinite(volume) or not (symbol.volume_min - 1e-9 <= volume <= symbol.volume_max + 1e-9):
        raise Refusal(api.TRADE_RETCODE_INVALID_VOLUME)
    steps = volume / symbol.volume_step
    if abs(steps - round(steps)) > _TOLERANCE:
        raise Refusal(api.TRADE_RETCODE_INVALID_VOLUME)


def check_close_volume(symbol: Specification, position: Position, volume: float) -> None:
    """Refuse to close more than the position (10038) or an impossible part of it (10014).

    All of a position can be closed whatever its volume, but never more than the largest volume at once.
    """
    if math.isfinite(volume) and volume > position.volume + 1e-9:
        raise Refusal(api.TRADE_RETCODE_INVALID_CLOSE_VOLUME)
    if abs(volume - position.volume) > 1e-9 or volume > symbol.volume_max + 1e-9:
        check_volume(symbol, volume)


def check_not_disabled(symbol: Specification) -> None:
    """Refuse to touch anything of a symbol whose trading is disabled (10017)."""
    if symbol.trade_mode == api.SYMBOL_TRADE_MODE_DISABLED:
        raise Refusal(api.TRADE_RETCODE_TRADE_DISABLED)


def check_direction(symbol: Specification, *, buy: bool, reduces: bool = False) -> None:
    """Refuse what the symbol's trade mode forbids (10017, 10042 to 10044); an order that `reduces` is a close."""
    mode = symbol.trade_mode
    check_not_disabled(symbol)
    if reduces:
        return
    if symbol.calc_mode == api.SYMBOL_CALC_MODE_SERV_COLLATERAL:  # an asset that only backs other positions
        raise Refusal(api.TRADE_RETCODE_TRADE_DISABLED)
    if mode == api.SYMBOL_TRADE_MODE_CLOSEONLY:
        raise Refusal(api.TRADE_RETCODE_CLOSE_ONLY)
    if mode == api.SYMBOL_TRADE_MODE_LONGONLY and not buy:
        raise Refusal(api.TRADE_RETCODE_LONG_ONLY)
    if mode == api.SYMBOL_TRADE_MODE_SHORTONLY and buy:
        raise Refusal(api.TRADE_RETCODE_SHORT_ONLY)


def check_order_mode(symbol: Specification, request: TradeRequest) -> None:
    """Refuse an order type, or a stop or take profit, that the symbol does not take (10035)."""
    if request.type in MARKET_TYPES:
        needed = ORDER_MARKET
    elif request.type in LIMIT_TYPES:
        needed = ORDER_LIMIT
    elif request.type in STOP_TYPES:
        needed = ORDER_STOP
    elif request.type in STOP_LIMIT_TYPES:
        needed = ORDER_STOP_LIMIT
    else:
        raise Refusal(api.TRADE_RETCODE_INVALID_ORDER)
    if not symbol.order_mode & needed:
        raise Refusal(api.TRADE_RETCODE_INVALID_ORDER)
    check_stop_modes(symbol, request)


def check_stop_modes(symbol: Specification, request: TradeRequest) -> None:
    """Refuse a stop loss or take profit where the symbol does not take them (10035)."""
    needed = (ORDER_SL if request.sl else 0) | (ORDER_TP if request.tp else 0)
    if symbol.order_mode & needed != needed:
        raise Refusal(api.TRADE_RETCODE_INVALID_ORDER)


def check_close_by(symbol: Specification) -> None:
    """Refuse to close positions against each other where the symbol does not offer it (10035)."""
    if not symbol.order_mode & ORDER_CLOSE_BY:
        raise Refusal(api.TRADE_RETCODE_INVALID_ORDER)


def check_filling(symbol: Specification, request: TradeRequest, *, pending_filling: str = "any") -> None:
    """Refuse a filling the symbol does not offer (10030).

    The documents ask for RETURN of pending orders; brokers were seen to take any value, which decides only how the
    order fills, or only those of the symbol's mask. `pending_filling` says which: `any`, `return`, `mask`.
    """
    filling = request.type_filling
    if request.action == api.TRADE_ACTION_PENDING:
        offered = {
            "any": {api.ORDER_FILLING_FOK, api.ORDER_FILLING_IOC, api.ORDER_FILLING_RETURN},
            "return": {api.ORDER_FILLING_RETURN},
            "mask": {filling for filling, bit in _FILLING_BITS.items() if symbol.filling_mode & bit},
        }[pending_filling]
        book_only = bool(symbol.filling_mode & FILLING_BOC) and request.type in LIMIT_TYPES | STOP_LIMIT_TYPES
        allowed = book_only if filling == api.ORDER_FILLING_BOC else filling in offered
    elif symbol.exemode in PRICED_EXECUTION:
        allowed = filling in {api.ORDER_FILLING_FOK, api.ORDER_FILLING_IOC, api.ORDER_FILLING_RETURN}
    elif filling == api.ORDER_FILLING_FOK:
        allowed = bool(symbol.filling_mode & FILLING_FOK)
    elif filling == api.ORDER_FILLING_IOC:
        allowed = bool(symbol.filling_mode & FILLING_IOC)
    else:
        exchange = symbol.exemode == api.SYMBOL_TRADE_EXECUTION_EXCHANGE
        allowed = filling == api.ORDER_FILLING_RETURN and exchange
    if not allowed:
        raise Refusal(api.TRADE_RETCODE_INVALID_FILL)


def check_price_given(symbol: Specification, request: TradeRequest) -> None:
    """Refuse a market order without a price where execution needs one (10015)."""
    if symbol.exemode in PRICED_EXECUTION and not (math.isfinite(request.price) and request.price > 0):
        raise Refusal(api.TRADE_RETCODE_INVALID_PRICE)


def check_requote(symbol: Specification, request: TradeRequest, current: float, quote: Quote) -> None:
    """Refuse a price the market has left by more than the deviation (10004), where execution needs a price."""
    if symbol.exemode not in PRICED_EXECUTION:
        return
    if abs(request.price - current) > request.deviation * symbol.point + symbol.point * 1e-3:
        raise Refusal(api.TRADE_RETCODE_REQUOTE, quote)


def check_on_step(symbol: Specification, request: TradeRequest) -> None:
    """Refuse a pending price off the symbol's tick size (10015)."""
    if not (symbol.on_step(request.price) and symbol.on_step(request.stoplimit)):
        raise Refusal(api.TRADE_RETCODE_INVALID_PRICE)


def check_stops_finite(request: TradeRequest) -> None:
    """Refuse stops that are no numbers (10016)."""
    if not (math.isfinite(request.sl) and math.isfinite(request.tp)):
        raise Refusal(api.TRADE_RETCODE_INVALID_STOPS)


def check_stops(symbol: Specification, *, buy: bool, sl: float, tp: float, price: float) -> None:
    """Refuse stops on the wrong side of `price`, nearer to it than the stops level, or off the tick size (10016)."""
    if not (math.isfinite(sl) and math.isfinite(tp)) or sl < 0 or tp < 0:
        raise Refusal(api.TRADE_RETCODE_INVALID_STOPS)
    if not (symbol.on_step(sl) and symbol.on_step(tp)):
        raise Refusal(api.TRADE_RETCODE_INVALID_STOPS)
    near = symbol.stops_level * symbol.point - symbol.point * 1e-3
    side = 1.0 if buy else -1.0
    for stop, distance in ((sl, (price - sl) * side), (tp, (tp - price) * side)):
        if stop and (distance < near or distance * 1e9 <= symbol.point):
            raise Refusal(api.TRADE_RETCODE_INVALID_STOPS)


def check_pending_price(symbol: Specification, request: TradeRequest, quote: Quote) -> None:
    """Refuse a pending price on the wrong side of the market or nearer than the stops level (10015)."""
    buy = request.type in BUY_TYPES
    current = quote.ask if buy else quote.bid
    if not (math.isfinite(request.price) and request.price > 0 and math.isfinite(request.stoplimit)):
        raise Refusal(api.TRADE_RETCODE_INVALID_PRICE)
    below = buy if request.type in LIMIT_TYPES else not buy
    distance = (current - request.price) * (1.0 if below else -1.0)
    if distance < symbol.stops_level * symbol.point - symbol.point * 1e-3 or distance * 1e9 <= symbol.point:
        raise Refusal(api.TRADE_RETCODE_INVALID_PRICE)
    if request.type in STOP_LIMIT_TYPES:
        behind = (request.price - request.stoplimit) * (1.0 if buy else -1.0)
        if request.stoplimit <= 0 or behind < 0:
            raise Refusal(api.TRADE_RETCODE_INVALID_PRICE)


def check_expiration(symbol: Specification, request: TradeRequest, now_s: int) -> None:
    """Refuse a lifetime the symbol does not offer or one already over (10022). `now_s` is server time."""
    if (
        not 0 <= request.type_time <= api.ORDER_TIME_SPECIFIED_DAY
        or not symbol.expiration_mode >> request.type_time & 1
    ):
        raise Refusal(api.TRADE_RETCODE_INVALID_EXPIRATION)
    dated = request.type_time in {api.ORDER_TIME_SPECIFIED, api.ORDER_TIME_SPECIFIED_DAY}
    if dated and request.expiration <= now_s:
        raise Refusal(api.TRADE_RETCODE_INVALID_EXPIRATION)


def check_freeze(symbol: Specification, quote: Quote, *, buy: bool, sl: float, tp: float) -> None:
    """Refuse to touch a position whose stop or take profit is within the freeze level (10029)."""
    current = quote.bid if buy else quote.ask
    level = symbol.freeze_level * symbol.point
    if level and any(stop and abs(current - stop) < level for stop in (sl, tp)):
        raise Refusal(api.TRADE_RETCODE_FROZEN)


def check_order_freeze(symbol: Specification, quote: Quote, order: Order) -> None:
    """Refuse to touch a pending order whose price is within the freeze level (10029)."""
    current = quote.ask if order.type in BUY_TYPES else quote.bid
    if symbol.freeze_level and abs(current - order.price_open) < symbol.freeze_level * symbol.point:
        raise Refusal(api.TRADE_RETCODE_FROZEN)
