"""What one strategy sees of the account: built from a snapshot and kept by events. Pure: no socket, no clock.

Events say which positions and orders exist; the state stream, newest only, says what they are worth.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping

import msgspec

from market.instrument import Instrument
from protocol.errors import UnknownOutcome
from protocol.messages import (
    Account,
    CancelOrder,
    CloseBy,
    ClosePosition,
    Deal,
    DealEvent,
    EventBody,
    IntentEvent,
    ModifyOrder,
    ModifyPosition,
    Order,
    OrderEvent,
    OrderRequest,
    Position,
    PositionEvent,
    Quote,
    Snapshot,
    SubmitOrder,
)
from strategy.inputs import PositionMark

REQUESTED = "requested"
UNRESOLVED = "unresolved"
FINAL_STATES = frozenset({"refused", "done", "rejected", "not_executed", UNRESOLVED})
_KEPT = 5_000  # outcomes and closed positions remembered: the newest
_AWAIT_MS = 30_000  # a filled order's position is awaited so long before the symbol is free again
_ENTRY_OUT = 1

_ACTIONS: dict[type[OrderRequest], str] = {
    ClosePosition: "close",
    CloseBy: "close_by",
    ModifyPosition: "modify_position",
    ModifyOrder: "modify_order",
    CancelOrder: "cancel",
}


class World:
    """The account, the strategy's own positions and orders, and the newest quotes.

    Attributes:
        account: As last seen; None before the first snapshot that has one.
        instruments: By symbol.
        positions: Own ones, by identifier.
        pending: Own active broker orders, by ticket.
        orders: Own orders by client order id, as last heard of.
        quotes: By symbol.
    """

    def __init__(self, strategy: str) -> None:
        self._strategy = strategy
        self.account: Account | None = None
        self.instruments: dict[str, Instrument] = {}
        self.positions: dict[int, Position] = {}
        self.pending: dict[int, Order] = {}
        self.orders: OrderedDict[str, IntentEvent] = OrderedDict()
        self.quotes: dict[str, Quote] = {}
        self._in_flight: dict[str, str] = {}
        self._awaited: dict[int, tuple[str, int]] = {}
        self._closed: OrderedDict[int, None] = OrderedDict()

    def join(self, snapshot: Snapshot) -> tuple[list[IntentEvent], list[PositionEvent]]:
        """Take over the state as of the snapshot; return how our orders and positions differ from what was known."""
        self.account = snapshot.account or self.account
        self.instruments = {instrument.symbol: instrument for instrument in snapshot.instruments}
        before = dict(self.positions)
        self.positions = {p.identifier: p for p in snapshot.positions if self._is_own(p.strategy)}
        self.pending = {order.ticket: order for order in snapshot.orders if self._is_own(order.strategy)}
        self._awaited.clear()
        intents = [i for i in snapshot.intents if self._is_own(i.strategy) and self.note_order(i, now_ms=0)]
        return intents, self._position_changes(before)

    def requested(self, request: OrderRequest) -> None:
        """Note that an order is on its way."""
        self._remember(_as_requested(request, self._symbol_of(request)))

    def note_order(self, outcome: IntentEvent, *, now_ms: int) -> bool:
        """Note where one of our orders stands; return whether that is news."""
        known = self.orders.get(outcome.client_order_id)
        if known is not None and known.state == outcome.state:
            return False
        if known is not None and outcome.state == UNRESOLVED and known.state in FINAL_STATES:
            return False  # what was certain stays so, whatever is forgotten later
        self._remember(outcome)
        filled = outcome.state == "done" and outcome.action == "open" and outcome.position
        if filled and outcome.position not in self.positions and outcome.position not in self._closed:
            # A position that was closed between two reads is never shown: it is not waited for any longer than that.
            recent = {name: each for name, each in self._awaited.items() if now_ms - each[1] < _AWAIT_MS}
            self._awaited = recent | {outcome.position: (outcome.symbol, now_ms)}
        return True

    def apply(self, body: EventBody, *, now_ms: int) -> bool:
        """Take over an event; return whether it is about this strategy and news to it."""
        match body:
            case IntentEvent():
                return self._is_own(body.strategy) and self.note_order(body, now_ms=now_ms)
            case PositionEvent():
                return self._apply_position(body)
            case OrderEvent(order=order):
                own = self.owns_order(order)
                self.pending.pop(order.ticket, None)
                if own and not order.time_done_ms:
                    self.pending[order.ticket] = order
                return own
            case DealEvent(deal=deal):
                if deal.entry >= _ENTRY_OUT:
                    self._awaited.pop(deal.position_id, None)
                return self.owns_deal(deal)
            case _:
                return False

    def concerns(self, body: EventBody) -> bool:
        """Return whether an event is about this strategy, without taking it over."""
        match body:
            case IntentEvent():
                return self._is_own(body.strategy)
            case PositionEvent(position=position):
                return self._is_own(position.strategy) or position.identifier in self.positions
            case OrderEvent(order=order):
                return self.owns_order(order)
            case DealEvent(deal=deal):
                return self.owns_deal(deal)
            case _:
                return False

    def observe(
        self,
        account: Account | None,
        positions: Iterable[PositionMark],
        quotes: Iterable[Quote],
        instruments: Iterable[Instrument] = (),
    ) -> None:
        """Take over what things are worth now."""
        self.account = account or self.account
        for seen in positions:
            known = self.positions.get(seen.identifier)
            if known is not None:
                self.positions[seen.identifier] = msgspec.structs.replace(
                    known, price_current=seen.price_current, profit=seen.profit, swap=seen.swap
                )
        for quote in quotes:
            self.quotes[quote.symbol] = quote
        for instrument in instruments:
            self.instruments[instrument.symbol] = instrument

    def in_flight(self) -> tuple[IntentEvent, ...]:
        """Return our orders without a final outcome, oldest first."""
        return tuple(self.orders[identifier] for identifier in self._in_flight)

    def busy(self, symbol: str, *, now_ms: int) -> bool:
        """Return whether an order of ours on `symbol` has no final outcome yet, or its position does not show yet."""
        if symbol in self._in_flight.values():
            return True
        return any(at == symbol and now_ms - since_ms < _AWAIT_MS for at, since_ms in self._awaited.values())

    def owns_deal(self, deal: Deal) -> bool:
        """Return whether a deal is ours: by its order, or because it changed one of our positions (SL, TP, by hand)."""
        return self._is_own(deal.strategy) or self._knows_position(deal.position_id)

    def owns_order(self, order: Order) -> bool:
        """Return whether a broker order is ours, or closes one of our positions."""
        return self._is_own(order.strategy) or self._knows_position(order.position_id)

    def _is_own(self, strategy: str) -> bool:
        return strategy == self._strategy

    def _knows_position(self, identifier: int) -> bool:
        return identifier != 0 and (identifier in self.positions or identifier in self._closed)

    def _apply_position(self, body: PositionEvent) -> bool:
        position = body.position
        known = position.identifier in self.positions
        if not (known or self._is_own(position.strategy)):
            return False
        self._awaited.pop(position.identifier, None)
        if body.change == "closed":
            self.positions.pop(position.identifier, None)
            self._remember_closed(position.identifier)
        else:
            self.positions[position.identifier] = position
        return True

    def _position_changes(self, before: Mapping[int, Position]) -> list[PositionEvent]:
        changes = []
        for identifier, position in before.items():
            if identifier not in self.positions:
                self._remember_closed(identifier)
                changes.append(PositionEvent("closed", position))
        for identifier, position in self.positions.items():
            known = before.get(identifier)
            if known is None:
                changes.append(PositionEvent("opened", position))
            elif (known.volume, known.sl, known.tp) != (position.volume, position.sl, position.tp):
                changes.append(PositionEvent("changed", position))
        return changes

    def _remember_closed(self, identifier: int) -> None:
        self._closed[identifier] = None
        while len(self._closed) > _KEPT:
            self._closed.popitem(last=False)

    def _remember(self, order: IntentEvent) -> None:
        identifier = order.client_order_id
        self.orders[identifier] = order
        self.orders.move_to_end(identifier)
        if order.state in FINAL_STATES:
            self._in_flight.pop(identifier, None)
        else:
            self._in_flight[identifier] = order.symbol
        while len(self.orders) - len(self._in_flight) > _KEPT:
            # Not simply the oldest: one that stays without an outcome would keep every order that came after it.
            del self.orders[next(name for name in self.orders if name not in self._in_flight)]

    def _symbol_of(self, request: OrderRequest) -> str:
        match request:
            case SubmitOrder(symbol=symbol):
                return symbol
            case ClosePosition(position=ticket) | ModifyPosition(position=ticket) | CloseBy(position=ticket):
                return next((p.symbol for p in self.positions.values() if ticket in {p.ticket, p.identifier}), "")
            case ModifyOrder(order=ticket) | CancelOrder(order=ticket):
                order = self.pending.get(ticket)
                return order.symbol if order else ""
            case _:
                return ""


def _as_requested(request: OrderRequest, symbol: str) -> IntentEvent:
    """Return an order that has only been asked for in the form in which its outcome will come."""
    side, volume, price, sl, tp = "", 0.0, 0.0, 0.0, 0.0
    action = _ACTIONS.get(type(request), "open")
    match request:
        case SubmitOrder():
            side, volume, price, sl, tp = request.side, request.volume, request.price, request.sl, request.tp
            action = "open" if request.type == "market" else "pending"
        case ClosePosition():
            volume = request.volume
        case ModifyPosition():
            sl, tp = request.sl, request.tp
        case ModifyOrder():
            price, sl, tp = request.price, request.sl, request.tp
    return IntentEvent(
        client_order_id=request.client_order_id,
        strategy=request.strategy,
        action=action,
        state=REQUESTED,
        symbol=symbol,
        side=side,
        volume=volume,
        price=price,
        sl=sl,
        tp=tp,
        position=request.position if isinstance(request, (ClosePosition, ModifyPosition, CloseBy)) else 0,
        order=request.order if isinstance(request, (ModifyOrder, CancelOrder)) else 0,
    )


def refused(request: OrderRequest, *, symbol: str, code: str, text: str, time_ms: int) -> IntentEvent:
    """Return the outcome of an order of which only this node knows: it never took effect, or nobody can tell."""
    state = UNRESOLVED if code == UnknownOutcome.code else "refused"
    return msgspec.structs.replace(_as_requested(request, symbol), state=state, code=code, text=text, time_ms=time_ms)
