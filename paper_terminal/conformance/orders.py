"""What the trading cases share: orders of the smallest volume, and waiting until their effect is visible."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final

from paper_terminal.conformance.flat import MAGIC, market_filling
from paper_terminal.conformance.runner import Context, Difference, Skipped

_VISIBLE_WITHIN_S: Final = 5.0
_LOOK_EVERY_S: Final = 0.02


def market_request(c: Context, order_type: int, **fields: Any) -> dict[str, Any]:
    """Return a market order of the smallest volume."""
    info, tick = c.api.symbol_info(c.symbol), c.api.symbol_info_tick(c.symbol)
    return {
        "action": c.api.TRADE_ACTION_DEAL,
        "symbol": c.symbol,
        "volume": info.volume_min,
        "type": order_type,
        "price": tick.ask if order_type == c.api.ORDER_TYPE_BUY else tick.bid,
        "deviation": 200,
        "magic": MAGIC,
        "comment": "conformance",
        "type_filling": market_filling(c.api, info),
    } | fields


def limit_request(c: Context, **fields: Any) -> dict[str, Any]:
    """Return a buy limit of the smallest volume, a tenth below the market."""
    info, tick = c.api.symbol_info(c.symbol), c.api.symbol_info_tick(c.symbol)
    return {
        "action": c.api.TRADE_ACTION_PENDING,
        "symbol": c.symbol,
        "volume": info.volume_min,
        "type": c.api.ORDER_TYPE_BUY_LIMIT,
        "price": round(tick.bid * 0.9, info.digits),
        "magic": MAGIC,
        "type_filling": c.api.ORDER_FILLING_RETURN,
    } | fields


def sent(c: Context, request: dict[str, Any]) -> Any:
    """Return the result of a request.

    Raises:
        Difference: there is no result.
        Skipped: it cannot be tried now.
    """
    result = c.api.order_send(request)
    if result is None:
        raise Difference(f"order_send gave None, {c.api.last_error()}")
    if result.retcode == c.api.TRADE_RETCODE_MARKET_CLOSED:
        raise Skipped("the market is closed")
    if result.retcode == c.api.TRADE_RETCODE_CLIENT_DISABLES_AT:
        raise Skipped("AutoTrading is off in the terminal")
    return result


def awaited(call: Callable[[], Any], what: str, *, within_s: float = _VISIBLE_WITHIN_S) -> Any:
    """Return what a call gives as soon as it gives something: results become visible a little later.

    Raises:
        Difference: it gave nothing in that time.
    """
    deadline = time.monotonic() + within_s
    while not (found := call()):
        if time.monotonic() > deadline:
            raise Difference(f"{what} is not visible after {within_s:g} s")
        threading.Event().wait(_LOOK_EVERY_S)
    return found


def opened(c: Context, order_type: int, **fields: Any) -> Any:
    """Return a new position.

    Raises:
        Difference: it was not opened.
        Skipped: it cannot be tried now.
    """
    result = sent(c, market_request(c, order_type, **fields))
    c.expect(result.retcode, c.api.TRADE_RETCODE_DONE, f"retcode ({result.comment})")
    return awaited(lambda: c.api.positions_get(ticket=result.order), "the position")[0]


def closed(c: Context, position: Any, **fields: Any) -> Any:
    """Return the result of closing a position.

    Raises:
        Difference: it was not closed.
        Skipped: it cannot be tried now.
    """
    side = c.api.ORDER_TYPE_SELL if position.type == c.api.POSITION_TYPE_BUY else c.api.ORDER_TYPE_BUY
    closing = {"position": position.ticket, "volume": position.volume} | fields
    result = sent(c, market_request(c, side, **closing))
    c.expect(result.retcode, c.api.TRADE_RETCODE_DONE, f"retcode of the close ({result.comment})")
    return result
