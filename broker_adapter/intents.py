"""An intent: one order of ours from the request to its outcome, as the journal keeps it."""

from __future__ import annotations

import hashlib

import msgspec

from broker_adapter.order_states import FINAL, State, check
from broker_adapter.witnesses import KnownTickets
from protocol.errors import BusError, error_from_code
from protocol.messages import IntentEvent, OrderRequest

OPENING = frozenset({"open", "pending"})
"""Actions that add exposure."""
CLOSING = frozenset({"close", "close_by"})
"""Actions that take volume from positions."""
TRADING = OPENING | CLOSING
"""Actions that end in an order of their own, and deals."""
CHANGING_ORDERS = frozenset({"modify_order", "cancel"})
"""Actions whose `order` is one that was there before: they did not make it."""

_STOPS_OPEN = frozenset({"placed", "carried", "unchecked", "repairing"})


class Intent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One order of ours. Lots, prices, points; times in UTC milliseconds of market time unless they say wall.

    Attributes:
        number: Of this intent in the journal, and in its magic number; never used again.
        fingerprint: Of the request, to tell a repeat from another order under the same id.
        action: As in `IntentEvent`.
        taken_ms: Wall clock at which it was accepted; 0: it was refused.
        comment: As sent.
        ticket: The position's present ticket (close, close_by, modify_position).
        position: Its identifier, which survives changes of the ticket; for `open` once known.
        ticket_by, position_by: The same of the other position (close_by).
        order: Ticket of the order it made, or (modify_order, cancel) names.
        known: What existed before it was sent.
        details: Machine-readable fields of a refusal.
        stops: SL and TP: empty (nothing to look after); of a pending order ``placed`` and, once it was seen with them,
            ``carried``; after a fill ``unchecked``, ``repairing``, ``ok`` or ``failed``.
        watch_until_ms: Wall clock until which a late fill is looked for; 0 while it is not watched.
        parent: Number of the intent whose missing SL and TP this one sets; 0 otherwise.
        netting: It was decided on an account with one position per symbol.
        keeps_sl, keeps_tp: It names no stop of its own: where it adds to a netting position, that one's stays.
    """

    number: int
    client_order_id: str
    fingerprint: str
    server: str
    login: int
    strategy: str
    action: str
    state: State
    symbol: str
    created_ms: int
    broker_symbol: str = ""
    side: str = ""
    order_type: str = "market"
    volume: float = 0.0
    price: float = 0.0
    stoplimit: float = 0.0
    sl: float = 0.0
    tp: float = 0.0
    deviation_points: int = 0
    filling: int = 0
    expiration_ms: int = 0
    magic: int = 0
    comment: str = ""
    ticket: int = 0
    position: int = 0
    order: int = 0
    deal: int = 0
    known: KnownTickets = msgspec.field(default_factory=KnownTickets)
    retcode: int = 0
    code: str = ""
    text: str = ""
    details: dict[str, str] = msgspec.field(default_factory=dict)
    filled_volume: float = 0.0
    fill_price: float = 0.0
    updated_ms: int = 0
    stops: str = ""
    watch_until_ms: int = 0
    parent: int = 0
    netting: bool = False
    keeps_sl: bool = False
    keeps_tp: bool = False
    taken_ms: int = 0
    ticket_by: int = 0
    position_by: int = 0

    @property
    def opens(self) -> bool:
        """Whether it adds exposure."""
        return self.action in OPENING

    @property
    def live(self) -> bool:
        """Whether the desk has to go on looking at it: undecided, its stops open, or watched for a late fill."""
        return self.state not in FINAL or self.stops in _STOPS_OPEN or self.watch_until_ms > 0

    @property
    def stops_when_done(self) -> str:
        """How its stops stand when it has just been carried out."""
        asked = bool(self.sl or self.tp)
        if self.action == "open":
            return "unchecked" if asked else ""
        # The fill of any order may clear the stops of a netting position.
        return "placed" if self.action == "pending" and (asked or self.netting) else ""

    def closes_of(self, position: int) -> float:
        """Return how many lots it takes from the position of that identifier."""
        return self.volume if self.action in CLOSING and position in {self.position, self.position_by} else 0.0

    def moved(self, state: State, **changes: object) -> Intent:
        """Return it in another state, with other changes.

        Raises:
            RuntimeError: The state table has no such step.
        """
        return msgspec.structs.replace(self, state=check(self.state, state), **changes)

    def event(self) -> IntentEvent:
        """Return the event that tells where it stands."""
        return IntentEvent(
            client_order_id=self.client_order_id,
            strategy=self.strategy,
            action=self.action,
            state=self.state.value,
            symbol=self.symbol,
            side=self.side,
            volume=self.volume,
            price=self.price,
            sl=self.sl,
            tp=self.tp,
            retcode=self.retcode,
            code=self.code,
            text=self.text,
            order=self.order,
            deal=self.deal,
            position=self.position,
            filled_volume=self.filled_volume,
            fill_price=self.fill_price,
            time_ms=self.updated_ms or self.created_ms,
        )

    def error(self) -> BusError:
        """Return the error that its code stands for."""
        return error_from_code(self.code, self.text, self.details)


def fingerprint_of(request: OrderRequest) -> str:
    """Return what tells this order from another under the same client order id.

    The request's own number and its time to live are about the delivery, not the order, and do not count.
    """
    order = msgspec.structs.replace(request, id=0, ttl_ms=0)
    return hashlib.sha256(request.kind.encode("ascii") + b"\0" + msgspec.msgpack.encode(order)).hexdigest()[:32]
