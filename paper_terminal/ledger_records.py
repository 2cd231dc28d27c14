"""Positions, orders, deals, requests and results, with the API's field names in the API's order.

Times are on the server's clock. Encoded they are plain arrays, which the client turns into its struct types.
"""

from __future__ import annotations

import msgspec


class Position(msgspec.Struct, array_like=True, kw_only=True):
    """An open position."""

    ticket: int
    time: int
    time_msc: int
    time_update: int
    time_update_msc: int
    type: int
    magic: int
    identifier: int
    reason: int
    volume: float
    price_open: float
    sl: float
    tp: float
    price_current: float
    swap: float
    profit: float
    symbol: str
    comment: str
    external_id: str = ""

    @property
    def is_buy(self) -> bool:
        """Tell whether the position is long."""
        return self.type == 0


class Order(msgspec.Struct, array_like=True, kw_only=True):
    """An order, active or in history."""

    ticket: int
    time_setup: int
    time_setup_msc: int
    time_done: int = 0
    time_done_msc: int = 0
    time_expiration: int = 0
    type: int
    type_time: int = 0
    type_filling: int = 0
    state: int
    magic: int = 0
    position_id: int = 0
    position_by_id: int = 0
    reason: int
    volume_initial: float
    volume_current: float
    price_open: float
    sl: float = 0.0
    tp: float = 0.0
    price_current: float = 0.0
    price_stoplimit: float = 0.0
    symbol: str
    comment: str = ""
    external_id: str = ""


class Deal(msgspec.Struct, array_like=True, kw_only=True, frozen=True):
    """A deal: what changed the balance or a position."""

    ticket: int
    order: int = 0
    time: int
    time_msc: int
    type: int
    entry: int = 0
    magic: int = 0
    position_id: int = 0
    reason: int = 0
    volume: float = 0.0
    price: float = 0.0
    commission: float = 0.0
    swap: float = 0.0
    profit: float = 0.0
    fee: float = 0.0
    symbol: str = ""
    comment: str = ""
    external_id: str = ""


class TradeRequest(msgspec.Struct, array_like=True, frozen=True):
    """What `order_send` asks for; a missing field is 0, 0.0 or ''."""

    action: int = 0
    magic: int = 0
    order: int = 0
    symbol: str = ""
    volume: float = 0.0
    price: float = 0.0
    stoplimit: float = 0.0
    sl: float = 0.0
    tp: float = 0.0
    deviation: int = 0
    type: int = 0
    type_filling: int = 0
    type_time: int = 0
    expiration: int = 0
    comment: str = ""
    position: int = 0
    position_by: int = 0


class SendResult(msgspec.Struct, array_like=True, frozen=True):
    """The answer to `order_send`."""

    retcode: int
    deal: int
    order: int
    volume: float
    price: float
    bid: float
    ask: float
    comment: str
    request_id: int
    retcode_external: int
    request: TradeRequest


class CheckResult(msgspec.Struct, array_like=True, frozen=True):
    """The answer to `order_check`."""

    retcode: int
    balance: float
    equity: float
    profit: float
    margin: float
    margin_free: float
    margin_level: float
    comment: str
    request: TradeRequest
