"""Values that several messages carry: account, position, order, deal, quote.

Times end in ``_ms``: UTC milliseconds since 1970 (the broker's server-time offset is already removed).
Symbols are canonical. Volumes are lots, money is in the account's currency. `type`, `state`, `entry` and `reason` are
MetaTrader 5's own numbers (``ORDER_TYPE_*``, ``ORDER_STATE_*``, ``DEAL_ENTRY_*``, ...).
`strategy` and `client_order_id` are empty where the adapter cannot attribute the object to one of our orders.
"""

from __future__ import annotations

import msgspec


class Value(msgspec.Struct, frozen=True, array_like=True):
    """Root of the values inside messages."""


class Account(Value, frozen=True, array_like=True):
    """The trading account as last seen. `margin_level` is percent, 0 with no margin in use."""

    server: str
    login: int
    name: str
    currency: str
    leverage: int
    trade_mode: int
    margin_mode: int
    balance: float
    credit: float
    profit: float
    equity: float
    margin: float
    margin_free: float
    margin_level: float
    trade_allowed: bool
    trade_expert: bool


class Position(Value, frozen=True, array_like=True):
    """An open position. `identifier` survives what changes the `ticket`; reconcile by it."""

    ticket: int
    identifier: int
    symbol: str
    type: int
    volume: float
    price_open: float
    sl: float
    tp: float
    price_current: float
    profit: float
    swap: float
    magic: int
    comment: str
    reason: int
    time_ms: int
    time_update_ms: int
    strategy: str = ""
    client_order_id: str = ""


class Order(Value, frozen=True, array_like=True):
    """An active or final order. `time_done_ms` is 0 while it is active."""

    ticket: int
    symbol: str
    type: int
    state: int
    volume_initial: float
    volume_current: float
    price_open: float
    price_stoplimit: float
    sl: float
    tp: float
    type_filling: int
    type_time: int
    position_id: int
    position_by_id: int
    magic: int
    comment: str
    reason: int
    time_setup_ms: int
    time_done_ms: int
    time_expiration_ms: int
    strategy: str = ""
    client_order_id: str = ""


class Deal(Value, frozen=True, array_like=True):
    """An executed deal, final. The realised result is ``profit + commission + swap + fee``."""

    ticket: int
    order: int
    position_id: int
    symbol: str
    type: int
    entry: int
    reason: int
    volume: float
    price: float
    profit: float
    commission: float
    swap: float
    fee: float
    magic: int
    comment: str
    time_ms: int
    strategy: str = ""
    client_order_id: str = ""


class Quote(Value, frozen=True, array_like=True):
    """The newest tick of a symbol, as the adapter last saw it."""

    symbol: str
    time_ms: int
    bid: float
    ask: float


class SymbolMatch(Value, frozen=True, array_like=True):
    """One symbol of the broker; `symbol` is the canonical name or empty while none is mapped to it."""

    broker_symbol: str
    symbol: str
    description: str
    path: str
    selected: bool
