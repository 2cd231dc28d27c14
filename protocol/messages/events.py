"""The event stream: everything that must never be lost, in one numbered log.

An event is durable before it is published. `Event.offset` has no holes within a `log_id`: what was handled up to an
offset is never handled again. Across logs (a new journal, a capture beside a store) the same fact is recognised by
(server, login, body key): a deal or a final order by its ticket. A position or active order that returns to
values it had before repeats its key; only the offset tells those apart.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from protocol.messages.base import Message
from protocol.messages.values import Deal, Order, Position


class DealEvent(msgspec.Struct, frozen=True, array_like=True, tag="deal"):
    """A deal was executed (ours, manual, SL/TP, stop-out, balance)."""

    deal: Deal

    def key(self) -> str:
        """Return what identifies the fact, for deduplication."""
        return f"deal:{self.deal.ticket}"


class OrderEvent(msgspec.Struct, frozen=True, array_like=True, tag="order"):
    """A broker order appeared, changed or became final."""

    order: Order

    def key(self) -> str:
        """Return what identifies the fact, for deduplication."""
        done = self.order.time_done_ms
        return f"order:{self.order.ticket}:{self.order.state}:{self.order.volume_current}:{done}"


class PositionEvent(msgspec.Struct, frozen=True, array_like=True, tag="position"):
    """A position was ``opened``, ``changed`` (volume, SL, TP, ticket) or ``closed`` (`position`: its last state)."""

    change: str
    position: Position

    def key(self) -> str:
        """Return what identifies the fact, for deduplication."""
        p = self.position
        return f"position:{p.identifier}:{self.change}:{p.volume}:{p.sl}:{p.tp}:{p.time_update_ms}"


class IntentEvent(msgspec.Struct, frozen=True, array_like=True, tag="intent"):
    """One of our own orders moved to another state (see docs/orders.md).

    Attributes:
        client_order_id: The caller's id, unique for 90 days.
        action: ``open``, ``close``, ``close_by``, ``modify_position``, ``pending``, ``modify_order``, ``cancel``.
        state: ``refused``, ``intended``, ``sent``, ``done``, ``rejected``, ``unknown``, ``ambiguous``,
            ``not_executed`` or ``unresolved``.
        side: ``buy``, ``sell`` or empty.
        volume, price, sl, tp: As requested (lots; 0 = none); an addition to a netting position has that one's SL, TP.
        retcode: The terminal's trade retcode, 0 where none was given.
        code, text: Error code of `protocol.errors` and its text, empty on success.
        order, deal, position: Tickets, 0 while not known.
        filled_volume, fill_price: What was executed, 0 if nothing.
    """

    client_order_id: str
    strategy: str
    action: str
    state: str
    symbol: str
    side: str
    volume: float
    price: float
    sl: float
    tp: float
    retcode: int = 0
    code: str = ""
    text: str = ""
    order: int = 0
    deal: int = 0
    position: int = 0
    filled_volume: float = 0.0
    fill_price: float = 0.0
    time_ms: int = 0

    def key(self) -> str:
        """Return what identifies the fact, for deduplication."""
        return f"intent:{self.client_order_id}:{self.state}"


class SignalEvent(msgspec.Struct, frozen=True, array_like=True, tag="signal"):
    """A strategy saw a signal, with the exact features it saw.

    Attributes:
        signal_id: Derived from strategy and trigger, hence the same when the decision is repeated.
        direction: 1 long, -1 short.
        strength: 0 to 1.
        price: Bid at the decision.
        client_order_id: Of the order it led to; empty if `taken` is false.
        reason: Why it was not taken, empty otherwise.
        model_version, model_score: Of the filter; empty and 0 without one.
    """

    signal_id: str
    strategy: str
    symbol: str
    timeframe: str
    bar_open_time_ms: int
    direction: Annotated[int, Meta(ge=-1, le=1)]
    strength: float
    price: float
    features: dict[str, float]
    taken: bool
    client_order_id: str = ""
    reason: str = ""
    model_version: str = ""
    model_score: float = 0.0

    def key(self) -> str:
        """Return what identifies the fact, for deduplication."""
        return f"signal:{self.signal_id}"


class ModeEvent(msgspec.Struct, frozen=True, array_like=True, tag="mode"):
    """The trading mode changed to ``active``, ``reducing`` or ``halted``."""

    mode: str
    reason: str
    serial: int

    def key(self) -> str:
        """Return what identifies the fact, for deduplication."""
        return f"mode:{self.serial}"


class AlertEvent(msgspec.Struct, frozen=True, array_like=True, tag="alert"):
    """Something a person should know: `severity` ``warning`` or ``critical``, a stable `code`, a unique `alert_id`."""

    alert_id: str
    severity: str
    code: str
    text: str
    fields: dict[str, str] = {}

    def key(self) -> str:
        """Return what identifies the fact, for deduplication."""
        return f"alert:{self.alert_id}"


EventBody = DealEvent | OrderEvent | PositionEvent | IntentEvent | SignalEvent | ModeEvent | AlertEvent


class Event(Message, frozen=True, array_like=True):
    """One entry of the event log.

    Attributes:
        log_id: Identity of the log.
        offset: From 1, without holes.
        epoch: Life of the adapter that wrote it.
        recorded_ms: Wall clock at writing, UTC.
        market_ms: When it happened, in market time, UTC.
        server, login: The account it belongs to.
    """

    kind: ClassVar[str] = "event"
    log_id: str
    offset: int
    epoch: int
    recorded_ms: int
    market_ms: int
    server: str
    login: int
    body: EventBody
