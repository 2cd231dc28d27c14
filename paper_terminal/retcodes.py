"""Refusals of trade requests, with the comments seen beside each return code."""

from __future__ import annotations

from typing import Final

from paper_terminal import constants as api
from paper_terminal.margin import Quote

EXECUTED_COMMENT: Final = "Request executed"
PLACED_COMMENT: Final = "Order placed"
CHECKED_COMMENT: Final = "Done"

_COMMENTS: Final = {
    api.TRADE_RETCODE_REQUOTE: "Requote",
    api.TRADE_RETCODE_REJECT: "Request rejected",
    api.TRADE_RETCODE_CANCEL: "Request canceled",
    api.TRADE_RETCODE_PLACED: "Order placed",
    api.TRADE_RETCODE_ERROR: "Common error",
    api.TRADE_RETCODE_TIMEOUT: "Request timed out",
    api.TRADE_RETCODE_PRICE_CHANGED: "Price changed",
    api.TRADE_RETCODE_ORDER_CHANGED: "Order changed",
    api.TRADE_RETCODE_TOO_MANY_REQUESTS: "Too many requests",
    api.TRADE_RETCODE_SERVER_DISABLES_AT: "AutoTrading disabled by server",
    api.TRADE_RETCODE_LOCKED: "Request locked",
    api.TRADE_RETCODE_ONLY_REAL: "Only real accounts allowed",
    api.TRADE_RETCODE_CLOSE_ORDER_EXIST: "Close order already exists",
    api.TRADE_RETCODE_LIMIT_POSITIONS: "Positions limit reached",
    api.TRADE_RETCODE_REJECT_CANCEL: "Activation rejected",
    api.TRADE_RETCODE_FIFO_CLOSE: "Only FIFO closing allowed",
    10046: "Hedge positions prohibited",
    api.TRADE_RETCODE_INVALID: "Invalid request",
    api.TRADE_RETCODE_INVALID_VOLUME: "Invalid volume",
    api.TRADE_RETCODE_INVALID_PRICE: "Invalid price",
    api.TRADE_RETCODE_INVALID_STOPS: "Invalid stops",
    api.TRADE_RETCODE_TRADE_DISABLED: "Trade disabled",
    api.TRADE_RETCODE_MARKET_CLOSED: "Market closed",
    api.TRADE_RETCODE_NO_MONEY: "No money",
    api.TRADE_RETCODE_PRICE_OFF: "No prices",
    api.TRADE_RETCODE_INVALID_EXPIRATION: "Invalid expiration",
    api.TRADE_RETCODE_NO_CHANGES: "No changes",
    api.TRADE_RETCODE_CLIENT_DISABLES_AT: "AutoTrading disabled by client",
    api.TRADE_RETCODE_FROZEN: "Order or position frozen",
    api.TRADE_RETCODE_INVALID_FILL: "Unsupported filling mode",
    api.TRADE_RETCODE_CONNECTION: "No connection",
    api.TRADE_RETCODE_LIMIT_ORDERS: "Orders limit reached",
    api.TRADE_RETCODE_LIMIT_VOLUME: "Volume limit reached",
    api.TRADE_RETCODE_INVALID_ORDER: "Invalid order",
    api.TRADE_RETCODE_POSITION_CLOSED: "Position doesn't exist",
    api.TRADE_RETCODE_INVALID_CLOSE_VOLUME: "Invalid close volume",
    api.TRADE_RETCODE_LONG_ONLY: "Only long positions allowed",
    api.TRADE_RETCODE_SHORT_ONLY: "Only short positions allowed",
    api.TRADE_RETCODE_CLOSE_ONLY: "Only position closing allowed",
}

SERVER_SIDE: Final = frozenset({
    api.TRADE_RETCODE_REQUOTE,
    api.TRADE_RETCODE_REJECT,
    api.TRADE_RETCODE_CANCEL,
    api.TRADE_RETCODE_ERROR,
    api.TRADE_RETCODE_TIMEOUT,
    api.TRADE_RETCODE_PRICE_CHANGED,
    api.TRADE_RETCODE_TOO_MANY_REQUESTS,
    api.TRADE_RETCODE_MARKET_CLOSED,
    api.TRADE_RETCODE_NO_MONEY,
})
"""Codes that come from the server, so that the result has a request_id; the rest the terminal decides itself."""


class Refusal(Exception):
    """A trade request is refused with this return code; a requote names the fresh prices."""

    def __init__(self, retcode: int, quote: Quote | None = None) -> None:
        super().__init__(retcode, comment_of(retcode))
        self.retcode = retcode
        self.quote = quote


def comment_of(retcode: int) -> str:
    """Return the comment beside a return code."""
    return _COMMENTS.get(retcode, "Request rejected")
