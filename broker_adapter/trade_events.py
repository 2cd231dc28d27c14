"""Differences between what was last published and a new read become events. Pure.

Everything that happens on the account is seen here, ours or not: manual trades, SL and TP, stop-out, deposits. What was
last published is stored with the events in one transaction, so a restart goes on exactly there.

A thing that is missing from one read is not yet gone: a terminal that has just connected may show empty lists for a
moment. A position is closed when deals that close all of it are seen, or when it stays away for `GONE_AFTER_NS` of
connected reads; an active order is final only when the history says so.
"""

from __future__ import annotations

import math
from typing import Protocol

import msgspec

from broker_adapter.account_records import Records
from broker_adapter.broker_state import FINAL_STATES, BrokerRead, closed_at_ms
from protocol.messages import Deal, DealEvent, EventBody, Order, OrderEvent, Position, PositionEvent

GONE_AFTER_NS = 5_000_000_000
_REMEMBERED_DEALS_MS = 8 * 86_400_000


class Attribution(Protocol):
    """Tells whose something is."""

    def of(self, *, magic: int, comment: str, order: int, position: int, opening: bool) -> tuple[str, str]:
        """Return strategy and client order id, empty where they cannot be told.

        `order`: the ticket that made it, `position`: the position's identifier; `opening`: the position's opener is
        also the one who made this.
        """
        ...


class Published(msgspec.Struct, frozen=True):
    """What subscribers have been told of one account.

    Attributes:
        positions: By identifier, active orders by ticket.
        deals: Tickets of deals told, with their times; final_orders likewise.
        missing_since_ns: Since when a position (by identifier) is missing from connected reads.
        deals_seen, orders_seen: The records last looked through: only what came to them since can be new.
    """

    positions: dict[int, Position] = {}
    orders: dict[int, Order] = {}
    deals: dict[int, int] = {}
    final_orders: dict[int, int] = {}
    missing_since_ns: dict[int, int] = {}
    deals_seen: Records[Deal] | None = None
    orders_seen: Records[Order] | None = None


class Told(msgspec.Struct, frozen=True):
    """One event to publish. `key`: what it is stored under once, empty for the body's own; `market_ms`: when it was."""

    body: EventBody
    market_ms: int
    key: str = ""


class Changes(msgspec.Struct, frozen=True):
    """What a read adds: events in order, what is published after them, and which stored states change."""

    events: tuple[Told, ...]
    published: Published
    positions: tuple[tuple[int, Position | None], ...]
    orders: tuple[tuple[int, Order | None], ...]


def differences(published: Published, read: BrokerRead, whose: Attribution, *, serial: str) -> Changes:
    """Return what `read` shows that has not been told.

    Args:
        published: What was told before.
        read: The new read.
        whose: Attributes deals, orders and positions to strategies.
        serial: Unique for each read; makes events unique that may truly happen again (a stop moved there and back).
    """
    orders, order_events, order_states = _order_changes(published, read, whose, serial)
    finals, final_events = _final_orders(published, read, whose)
    for ticket in finals:
        if orders.pop(ticket, None) is not None:
            order_states.append((ticket, None))
    deals, deal_events = _new_deals(published, read, whose)
    positions, missing, position_events, position_states = _position_changes(published, read, whose, serial)
    oldest_ms = read.market_ms - _REMEMBERED_DEALS_MS
    return Changes(
        (*order_events, *final_events, *deal_events, *position_events),
        Published(
            positions,
            orders,
            _remembered(published.deals, deals, oldest_ms),
            _remembered(published.final_orders, finals, oldest_ms),
            missing,
            read.deals,
            read.history_orders,
        ),
        tuple(position_states),
        tuple(order_states),
    )


def attributed_position(position: Position, whose: Attribution) -> Position:
    """Return the position with the strategy and order that opened it."""
    strategy, order_id = whose.of(
        magic=position.magic,
        comment=position.comment,
        order=position.identifier,
        position=position.identifier,
        opening=True,
    )
    return msgspec.structs.replace(position, strategy=strategy, client_order_id=order_id)


def attributed_order(order: Order, whose: Attribution) -> Order:
    """Return the order with the strategy and request that made it."""
    strategy, order_id = whose.of(
        magic=order.magic, comment=order.comment, order=order.ticket, position=order.position_id, opening=False
    )
    return msgspec.structs.replace(order, strategy=strategy, client_order_id=order_id)


def attributed_deal(deal: Deal, whose: Attribution) -> Deal:
    """Return the deal with its strategy, and the request that made it if one of ours did."""
    strategy, order_id = whose.of(
        magic=deal.magic, comment=deal.comment, order=deal.order, position=deal.position_id, opening=False
    )
    return msgspec.structs.replace(deal, strategy=strategy, client_order_id=order_id)


def _order_changes(
    published: Published, read: BrokerRead, whose: Attribution, serial: str
) -> tuple[dict[int, Order], list[Told], list[tuple[int, Order | None]]]:
    known = dict(published.orders)
    events, states = [], list[tuple[int, Order | None]]()
    for raw in read.orders:
        before = known.get(raw.ticket)
        if raw.ticket in published.final_orders:
            continue  # the list of active orders lags behind the history
        if before is not None and _order_facts(before) == _order_facts(raw):
            continue
        order = attributed_order(raw, whose)
        known[raw.ticket] = order
        states.append((raw.ticket, order))
        body = OrderEvent(order)
        events.append(Told(body, order.time_setup_ms if before is None else read.market_ms, f"{body.key()}:{serial}"))
    return known, events, states


def _final_orders(published: Published, read: BrokerRead, whose: Attribution) -> tuple[dict[int, int], list[Told]]:
    found = read.history_orders.since(published.orders_seen)
    new = [o for o in found if o.state in FINAL_STATES and o.ticket not in published.final_orders]
    new.sort(key=lambda order: (order.time_done_ms, order.ticket))
    # Stored under the ticket alone: its time in UTC changes when the server's offset is learned.
    events = [
        Told(OrderEvent(attributed_order(order, whose)), order.time_done_ms, f"final_order:{order.ticket}")
        for order in new
    ]
    return {order.ticket: order.time_done_ms for order in new}, events


def _new_deals(published: Published, read: BrokerRead, whose: Attribution) -> tuple[dict[int, int], list[Told]]:
    found = read.deals.since(published.deals_seen)
    new = [deal for deal in found if deal.ticket not in published.deals]
    new.sort(key=lambda deal: (deal.time_ms, deal.ticket))
    events = [Told(DealEvent(attributed_deal(deal, whose)), deal.time_ms) for deal in new]
    return {deal.ticket: deal.time_ms for deal in new}, events


def _position_changes(
    published: Published, read: BrokerRead, whose: Attribution, serial: str
) -> tuple[dict[int, Position], dict[int, int], list[Told], list[tuple[int, Position | None]]]:
    known = dict(published.positions)
    missing: dict[int, int] = {}
    events, states = [], list[tuple[int, Position | None]]()
    for raw in read.positions:
        before = known.get(raw.identifier)
        unchanged = before is not None and _position_facts(before) == _position_facts(raw)
        if unchanged and before is not None and before.client_order_id:
            continue
        position = attributed_position(raw, whose)
        # Whose it is may be found out later: by evidence, or by the operator who settled an order.
        if unchanged and before is not None and _owner(before) == _owner(position):
            continue
        known[raw.identifier] = position
        states.append((raw.identifier, position))
        change, when_ms = ("opened", raw.time_ms) if before is None else ("changed", read.market_ms)
        body = PositionEvent(change, position)
        # A stop may go there and back again: the same facts, yet another change. Told once by what is stored with it.
        events.append(Told(body, when_ms, f"{body.key()}:{serial}"))
    present = {position.identifier for position in read.positions}
    for identifier in [one for one in known if one not in present]:
        since = published.missing_since_ns.get(identifier, read.started_ns)
        closed_ms = closed_at_ms(identifier, read.deals, open_ms=known[identifier].time_update_ms)
        if closed_ms is None and not (read.connected and read.started_ns - since >= GONE_AFTER_NS):
            if read.connected:  # time without a connection is no absence
                missing[identifier] = since
            continue
        last = known.pop(identifier)
        states.append((identifier, None))
        body = PositionEvent("closed", last)
        events.append(Told(body, read.market_ms if closed_ms is None else closed_ms, f"{body.key()}:{serial}"))
    return known, missing, events, states


def _remembered(old: dict[int, int], new: dict[int, int], oldest_ms: int) -> dict[int, int]:
    if not new:
        return old
    both = old | new
    if next(iter(both.values())) >= oldest_ms:
        return both  # the oldest come first, or nearly: looking through all of them at every deal would take long
    return {ticket: ms for ticket, ms in both.items() if ms >= oldest_ms or ticket in new}


def _owner(position: Position) -> tuple[str, str]:
    return position.strategy, position.client_order_id


def _position_facts(position: Position) -> tuple[object, ...]:
    p = position
    return _comparable(p.ticket, p.type, p.volume, p.price_open, p.sl, p.tp)


def _order_facts(order: Order) -> tuple[object, ...]:
    o = order
    return _comparable(
        o.type, o.state, o.volume_current, o.price_open, o.price_stoplimit, o.sl, o.tp, o.time_expiration_ms
    )


def _comparable(*facts: float) -> tuple[object, ...]:
    # A NaN equals nothing, itself included: it would be told as a change at every read.
    return tuple("NaN" if math.isnan(fact) else fact for fact in facts)
