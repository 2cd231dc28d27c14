"""Requests on the adapter's orders ROUTER (role ``trade``), and their replies.

Each order carries a client order id: the same id again gets the stored outcome, never a second effect. A
reply comes when the outcome is known, or ``unknown``; the event stream tells the same, and later the truth
about an unknown one.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from protocol.messages.base import Reply, Request
from protocol.messages.events import IntentEvent, SignalEvent

ClientOrderId = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.\-]+\Z")]
Name = Annotated[str, Meta(max_length=64)]


class OrderRequest(Request, frozen=True, array_like=True):
    """What every order request starts with.

    `ttl_ms`: it is not sent to the terminal later than this after its arrival; 0 takes the adapter's default.
    """

    client_order_id: ClientOrderId
    strategy: Name
    ttl_ms: int


class SubmitOrder(OrderRequest, frozen=True, array_like=True):
    """Trade at market, or place a pending order.

    On a hedging account a market order opens a position; on a netting account it adds to, reduces or reverses the
    symbol's one position (docs/orders.md).

    Attributes:
        side: ``buy`` or ``sell``.
        type: ``market``, ``limit``, ``stop`` or ``stop_limit``.
        volume: Lots, on the symbol's step.
        price: Of a pending order; for ``market`` 0 or the price asked for (Instant execution).
        sl, tp: Prices; 0 = none, or those of the netting position that the order adds to.
        deviation_points: Largest slippage, points (Instant execution).
        comment: At most 29 printable ASCII characters.
        decided_ms: Market time of the tick it was decided on; 0 if none.
        expiration_ms: Of a pending order, UTC; 0 = good till cancelled.
    """

    kind: ClassVar[str] = "submit_order"
    symbol: Name
    side: Name
    volume: float
    type: Name = "market"
    price: float = 0.0
    sl: float = 0.0
    tp: float = 0.0
    deviation_points: int = 20
    comment: Name = ""
    decided_ms: int = 0
    expiration_ms: int = 0
    stoplimit: float = 0.0


class ClosePosition(OrderRequest, frozen=True, array_like=True):
    """Close a position by its ticket, wholly (`volume` 0) or in part."""

    kind: ClassVar[str] = "close_position"
    position: int
    volume: float = 0.0
    deviation_points: int = 20
    comment: Name = ""


class CloseBy(OrderRequest, frozen=True, array_like=True):
    """Close two opposite positions of a symbol against each other, as far as the smaller one goes; no spread is paid.

    Hedging accounts only. `position`, `position_by`: their tickets; the result is booked on the first one.
    """

    kind: ClassVar[str] = "close_by"
    position: int
    position_by: int


class ModifyPosition(OrderRequest, frozen=True, array_like=True):
    """Set SL and TP of a position; 0 removes."""

    kind: ClassVar[str] = "modify_position"
    position: int
    sl: float
    tp: float


class ModifyOrder(OrderRequest, frozen=True, array_like=True):
    """Change price, SL, TP or expiration of a pending order."""

    kind: ClassVar[str] = "modify_order"
    order: int
    price: float
    sl: float = 0.0
    tp: float = 0.0
    expiration_ms: int = 0
    stoplimit: float = 0.0


class CancelOrder(OrderRequest, frozen=True, array_like=True):
    """Remove a pending order."""

    kind: ClassVar[str] = "cancel_order"
    order: int


class OrderReply(Reply, frozen=True, array_like=True):
    """Where the order stands; `repeated` if the id was known already and this is the stored outcome."""

    kind: ClassVar[str] = "order_reply"
    outcome: IntentEvent
    repeated: bool = False


class ReportSignal(Request, frozen=True, array_like=True):
    """Enter a strategy's signal into the event log; the same `signal_id` again changes nothing."""

    kind: ClassVar[str] = "report_signal"
    signal: SignalEvent


class SetTradingMode(Request, frozen=True, array_like=True):
    """Switch to ``active``, ``reducing`` or ``halted``; `flatten` also closes every position of ours.

    `strategy`, with ``active``: the mode stays; what the silence of that strategy stopped is allowed again.
    """

    kind: ClassVar[str] = "set_trading_mode"
    mode: Name
    reason: Annotated[str, Meta(max_length=256)] = ""
    flatten: bool = False
    strategy: Name = ""


class ArmAccount(Request, frozen=True, array_like=True):
    """Allow orders on the real account that the terminal is on, which `login` has to name; or forbid them again."""

    kind: ClassVar[str] = "arm_account"
    login: int
    armed: bool = True


class SettleOrder(Request, frozen=True, array_like=True):
    """End an unknown or ambiguous order by the operator's word: he has looked into the terminal.

    `outcome`: ``done`` or ``not_executed``.
    """

    kind: ClassVar[str] = "settle_order"
    client_order_id: ClientOrderId
    outcome: Name
    reason: Annotated[str, Meta(max_length=256)] = ""


class StrategyAlive(Request, frozen=True, array_like=True):
    """A live strategy says so after each beacon that it has worked up to; `leaving`: it stops in order.

    `epoch` and `beacon_ns` are those of that beacon: they show that the whole way through the strategy is open.
    """

    kind: ClassVar[str] = "strategy_alive"
    strategy: Name
    symbols: tuple[Name, ...]
    epoch: int
    beacon_ns: int
    leaving: bool = False


class Reconnect(Request, frozen=True, array_like=True):
    """Attach to the terminal anew at once, closing the circuit breaker."""

    kind: ClassVar[str] = "reconnect"
