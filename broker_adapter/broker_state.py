"""One complete look at the broker's side of the account, and what we remember of the last one.

A `BrokerRead` exists only if every call behind it succeeded: a failed read is never an empty list. The calls must be
made in this order: account, positions, active orders, then history orders, then deals. An order that turns final
between two calls is then seen twice, never not at all.
"""

from __future__ import annotations

import msgspec

from broker_adapter.account_records import Records
from protocol.messages import Account, Deal, Order, Position

# Values of MetaTrader 5 (package constants).
ORDER_BUY, ORDER_SELL = 0, 1
PENDING_ORDER_TYPES = frozenset(range(2, 8))  # limit, stop and stop-limit, each to buy and to sell
ORDER_STATE_CANCELED, ORDER_STATE_PARTIAL, ORDER_STATE_FILLED = 2, 3, 4
ORDER_STATE_REJECTED, ORDER_STATE_EXPIRED = 5, 6
DEAL_BUY, DEAL_SELL = 0, 1
DEAL_BALANCE = 2
DEAL_CREDIT = 3
DEAL_BONUS = 6
ENTRY_IN, ENTRY_OUT, ENTRY_INOUT, ENTRY_OUT_BY = 0, 1, 2, 3
REASON_EXPERT = 3
MARGIN_HEDGING = 2
TRADE_MODE_REAL = 2

VOLUME_EPSILON = 1e-8  # lots; far below any volume step
UNFILLED_STATES = frozenset({ORDER_STATE_CANCELED, ORDER_STATE_REJECTED, ORDER_STATE_EXPIRED})
FINAL_STATES = UNFILLED_STATES | {ORDER_STATE_FILLED}
CLOSING_ENTRIES = frozenset({ENTRY_OUT, ENTRY_INOUT, ENTRY_OUT_BY})
OPENING_ENTRIES = frozenset({ENTRY_IN, ENTRY_INOUT})
ALL_ENTRIES = OPENING_ENTRIES | CLOSING_ENTRIES


class BrokerRead(msgspec.Struct, frozen=True, kw_only=True):
    """A complete read. Symbols are canonical (a broker's own name where none is mapped), times UTC milliseconds.

    Attributes:
        account: Account the read was made on.
        positions, orders: All that are open or active.
        history_orders, deals: All from `history_from_ms` to beyond now, by time done and time; in no certain order.
        connected: The terminal was connected to its trade server before the first call and after the last one.
        started_ns, finished_ns: Monotonic clock before the first call and after the last one.
        market_ms: Market time of the read.
    """

    account: Account
    positions: tuple[Position, ...]
    orders: tuple[Order, ...]
    history_orders: Records[Order]
    deals: Records[Deal]
    history_from_ms: int
    connected: bool
    started_ns: int
    finished_ns: int
    market_ms: int


def nets(account: Account) -> bool:
    """Say whether the account has one position per symbol (ACCOUNT_MARGIN_MODE_RETAIL_NETTING or _EXCHANGE)."""
    return account.margin_mode != MARGIN_HEDGING


def side_of_deal(deal: Deal) -> str:
    """Return ``buy``, ``sell``, or empty for a deal that is no trade."""
    return {DEAL_BUY: "buy", DEAL_SELL: "sell"}.get(deal.type, "")


def side_of_position(position: Position) -> str:
    """Return ``buy`` or ``sell``."""
    return "buy" if position.type == 0 else "sell"


def side_of_order(order: Order) -> str:
    """Return ``buy`` or ``sell``: the even ones of ORDER_TYPE_* 0 to 7 buy."""
    return "buy" if order.type in {0, 2, 4, 6} else "sell"


def opposite(side: str) -> str:
    """Return the other side."""
    return "sell" if side == "buy" else "buy"


def closed_at_ms(identifier: int, deals: Records[Deal], *, open_ms: int) -> int | None:
    """Return when the last deal closed the position; None while its deals do not say that all of it is closed.

    A partial close leaves the rest open, and a reversal leaves the other side open: what was bought is held against
    what was sold. Where the opening deals are older than what was read, only a closing deal after `open_ms`, when it
    was last known to be open, counts.
    """
    of_position = deals.of_position(identifier)
    closing = [deal for deal in of_position if deal.entry in CLOSING_ENTRIES]
    if any(deal.entry == ENTRY_IN for deal in of_position):
        left = sum(deal.volume if deal.type == DEAL_BUY else -deal.volume for deal in of_position)
        if abs(left) > VOLUME_EPSILON:
            return None
    else:
        closing = [deal for deal in closing if deal.time_ms > open_ms]
    return max((deal.time_ms for deal in closing), default=None)
