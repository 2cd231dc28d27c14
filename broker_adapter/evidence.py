"""What the broker's records say about one order of ours. Pure.

Two strengths. *Proof* names the order: its magic number, the code in its comment, or the order ticket that the answer
gave. A *fit* only looks like it: same symbol, side and volume, made by a program, not known before, and accounted for
by no other order of ours. What a fit is worth depends on the action; `reconcile` decides.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable
from enum import Enum

import msgspec

from broker_adapter.account_records import Records
from broker_adapter.broker_state import (
    ALL_ENTRIES,
    CLOSING_ENTRIES,
    DEAL_BUY,
    DEAL_SELL,
    ENTRY_IN,
    ENTRY_INOUT,
    ENTRY_OUT_BY,
    FINAL_STATES,
    OPENING_ENTRIES,
    ORDER_STATE_CANCELED,
    ORDER_STATE_REJECTED,
    PENDING_ORDER_TYPES,
    REASON_EXPERT,
    UNFILLED_STATES,
    VOLUME_EPSILON,
    BrokerRead,
    closed_at_ms,
    side_of_deal,
    side_of_order,
    side_of_position,
)
from broker_adapter.intents import Intent
from broker_adapter.witnesses import parse_comment, parse_magic
from protocol.messages import Deal, Order, Position

_PRICE_TOLERANCE = 1e-8  # relative: prices are sent on the symbol's grid and come back as they were sent
CLOCK_SLACK_MS = 60_000
"""The broker's clock may be this much off ours."""
_EXPIRATION_TOLERANCE_MS = 60_000  # a broker may round it to the minute


class Finding(Enum):
    """What the records say."""

    DONE = "it took effect"
    UNFILLED = "the broker ended it without a fill"
    IMPOSSIBLE = "its object is final, so it can take no effect any more"
    WORKING = "it is at work: wait"
    FITS = "something fits but names no order"
    NOTHING = "no trace"


class Effect(msgspec.Struct, frozen=True):
    """The finding, with tickets and figures where it took effect. `deals`: tickets that it accounts for.

    `settled`: every detail is there, and no later read can add to it. `proven`: it names the order, rather than fits.
    `opposite_volume`: lots of an exit that opened the other side of a netting position.
    """

    finding: Finding
    order: int = 0
    deal: int = 0
    position: int = 0
    volume: float = 0.0
    price: float = 0.0
    deals: tuple[int, ...] = ()
    settled: bool = True
    proven: bool = True
    text: str = ""
    opposite_volume: float = 0.0


NOTHING = Effect(Finding.NOTHING)


class Marks(msgspec.Struct, frozen=True):
    """How to tell whose something is.

    Attributes:
        tag: Of our magic numbers.
        fixed_magic: The one magic of all our orders; 0 = each has its own.
        claimed_orders: Order tickets that other orders of ours are known to have made.
        claimed_deals: Deals that other orders of ours account for.
    """

    tag: int
    fixed_magic: int = 0
    claimed_orders: Container[int] = frozenset()
    claimed_deals: Container[int] = frozenset()

    def intent_number(self, magic: int, comment: str) -> int | None:
        """Return the number of the intent that made something, by magic or comment; None if neither tells."""
        if not self.fixed_magic:
            parts = parse_magic(magic, self.tag)
            if parts is not None and parts.intent_number:
                return parts.intent_number
        return parse_comment(comment)


def effect_of(intent: Intent, read: BrokerRead, marks: Marks) -> Effect:
    """Return what `read` says about `intent`."""
    return _BY_ACTION[intent.action](intent, read, marks)


def _proves(intent: Intent, marks: Marks, *, magic: int, comment: str, order: int) -> bool:
    if intent.order and order == intent.order:
        return True
    return marks.intent_number(magic, comment) == intent.number


def _proven_deals(
    intent: Intent, read: BrokerRead, marks: Marks, entries: Container[int], orders: Collection[int]
) -> list[Deal]:
    wanted = DEAL_BUY if intent.side == "buy" else DEAL_SELL
    magic = 0 if marks.fixed_magic else intent.magic
    return [
        deal
        for deal in read.deals.naming(orders=(intent.order, *orders), magic=magic, number=intent.number)
        if deal.type == wanted
        and deal.entry in entries
        and deal.order  # a rollover's deals have the position's magic, and no order
        and (deal.order in orders or _proves(intent, marks, magic=deal.magic, comment=deal.comment, order=deal.order))
    ]


def _proven_orders(intent: Intent, orders: Iterable[Order], marks: Marks) -> list[Order]:
    return [
        order
        for order in orders
        if side_of_order(order) == intent.side
        and (
            _proves(intent, marks, magic=order.magic, comment=order.comment, order=order.ticket)
            or (_is_fixed(intent, marks, order.magic) and _order_fits(intent, order, marks))
        )
    ]


def _may_name(intent: Intent, orders: Records[Order]) -> list[Order]:
    return orders.naming(orders=(intent.order,), magic=intent.magic, number=intent.number)


def _open(intent: Intent, read: BrokerRead, marks: Marks) -> Effect:
    final = [
        o for o in _proven_orders(intent, _may_name(intent, read.history_orders), marks) if o.state in FINAL_STATES
    ]
    active = _proven_orders(intent, read.orders, marks)
    tickets = {order.ticket for order in (*final, *active)}
    deals = _proven_deals(intent, read, marks, _entries_of(intent), tickets)
    if not (deals or final or active):
        deals = _fixed_magic_deals(intent, read, marks)
    if deals:
        return _opened(intent, read, deals, ended=bool(final) and not active)
    positions = [p for p in read.positions if _position_proves(intent, p, marks)]
    if positions:
        p = positions[0]
        # The deal is not visible yet, or lost its marks: the position alone is proof.
        return Effect(Finding.DONE, p.identifier, 0, p.identifier, p.volume, p.price_open, settled=False)
    if active:
        pending = intent.action == "pending"
        return Effect(Finding.DONE if pending else Finding.WORKING, order=active[0].ticket)
    if final:
        return _without_deals(intent, final[0])
    return _fitting_open(intent, read, marks)


def _opened(intent: Intent, read: BrokerRead, deals: list[Deal], *, ended: bool) -> Effect:
    volume = sum(deal.volume for deal in deals)
    price = sum(deal.price * deal.volume for deal in deals) / volume if volume else 0.0
    position = next((deal.position_id for deal in deals if deal.position_id), 0)
    seen = _position_shows(position, deals, read) if intent.netting else _position_showed(position, read)
    whole = ended or volume >= intent.volume - VOLUME_EPSILON
    return Effect(
        Finding.DONE,
        deals[0].order,
        deals[0].ticket,
        position,
        round(volume, 8),
        price,
        tuple(deal.ticket for deal in deals),
        settled=whole and seen,
    )


def _entries_of(intent: Intent) -> Container[int]:
    """What an opening order's deals may be: where positions net, it depends on the position that they meet."""
    return ALL_ENTRIES if intent.netting else OPENING_ENTRIES


def _position_showed(position: int, read: BrokerRead) -> bool:
    return any(p.identifier == position for p in read.positions) or any(
        deal.entry in CLOSING_ENTRIES for deal in read.deals.of_position(position)
    )


def _position_shows(position: int, deals: list[Deal], read: BrokerRead) -> bool:
    """Whether the netting position shows these deals: it was there before, and may still show its volume of then."""
    held = next((p for p in read.positions if p.identifier == position), None)
    if held is not None:
        return held.time_update_ms >= max(deal.time_ms for deal in deals)
    return closed_at_ms(position, read.deals, open_ms=0) is not None


def _without_deals(intent: Intent, order: Order) -> Effect:
    """What a final order says whose deals are not to be seen."""
    untouched = abs(order.volume_current - order.volume_initial) < VOLUME_EPSILON
    if order.state not in UNFILLED_STATES or not (untouched or order.state == ORDER_STATE_REJECTED):
        # Its deals are not visible yet. If they never come, the records contradict themselves: for a person to see.
        text = f"order {order.ticket} is filled (state {order.state}), but its deals are not to be seen"
        return Effect(Finding.FITS, order=order.ticket, text=text)
    if intent.action == "pending" and order.state != ORDER_STATE_REJECTED:
        return Effect(Finding.DONE, order=order.ticket)  # it was placed; what became of it is an order event
    return Effect(Finding.UNFILLED, order=order.ticket, text=f"order {order.ticket} ended in state {order.state}")


def _position_proves(intent: Intent, position: Position, marks: Marks) -> bool:
    if side_of_position(position) != intent.side or position.identifier in intent.known.positions:
        return False
    if _proves(intent, marks, magic=position.magic, comment=position.comment, order=position.identifier):
        return True
    return (
        _is_fixed(intent, marks, position.magic)
        and position.symbol == intent.symbol
        and marks.intent_number(position.magic, position.comment) is None
        and position.identifier not in marks.claimed_orders
    )


def _is_fixed(intent: Intent, marks: Marks, magic: int) -> bool:
    # With one magic for all orders, a symbol has one opening order at a time: that makes it proof.
    return bool(marks.fixed_magic) and magic == marks.fixed_magic == intent.magic


def _fixed_magic_deals(intent: Intent, read: BrokerRead, marks: Marks) -> list[Deal]:
    return [
        deal
        for deal in read.deals.naming(orders=(), magic=intent.magic, number=0)
        if _is_fixed(intent, marks, deal.magic) and _fits(intent, deal, marks) and deal.entry in _entries_of(intent)
    ]


def _fits(intent: Intent, deal: Deal, marks: Marks) -> bool:
    """Whether a deal could be the order's: right kind, new, and nobody else's."""
    number = marks.intent_number(deal.magic, deal.comment)
    return (
        deal.symbol == intent.symbol
        and side_of_deal(deal) == intent.side
        and deal.volume <= intent.volume + VOLUME_EPSILON
        and deal.reason == REASON_EXPERT
        and deal.ticket > intent.known.newest_deal
        and deal.order not in intent.known.orders
        and number in {None, intent.number}
        and deal.order not in marks.claimed_orders
        and deal.ticket not in marks.claimed_deals
    )


def _order_fits(intent: Intent, order: Order, marks: Marks) -> bool:
    """Whether an order could be the opening one that was sent: right kind, new, and nobody else's."""
    pending = intent.action == "pending"
    closes = not intent.netting and order.position_id not in {0, order.ticket}
    return (
        intent.opens
        and order.symbol == intent.symbol
        and side_of_order(order) == intent.side
        and (order.type in PENDING_ORDER_TYPES) == pending
        and not closes
        and (not pending or any(_same(order.price_open, price) for price in (intent.price, intent.stoplimit)))
        and abs(order.volume_initial - intent.volume) < VOLUME_EPSILON
        and order.reason == REASON_EXPERT
        and order.time_setup_ms >= intent.created_ms - CLOCK_SLACK_MS
        and order.ticket not in intent.known.orders
        and order.ticket not in marks.claimed_orders
        and marks.intent_number(order.magic, order.comment) in {None, intent.number}
    )


def _fitting_open(intent: Intent, read: BrokerRead, marks: Marks) -> Effect:
    for deal in read.deals:
        if deal.entry in _entries_of(intent) and _fits(intent, deal, marks):
            text = f"deal {deal.ticket} ({deal.volume:g} lots at {deal.price:g}) fits, but carries none of our marks"
            return Effect(Finding.FITS, deal.order, deal.ticket, deal.position_id, deal.volume, deal.price, text=text)
    for position in read.positions:
        if (
            position.symbol == intent.symbol
            and side_of_position(position) == intent.side
            and position.identifier not in intent.known.positions
            and position.volume <= intent.volume + VOLUME_EPSILON
            and position.reason == REASON_EXPERT
            and marks.intent_number(position.magic, position.comment) is None
            and position.identifier not in marks.claimed_orders
        ):
            text = f"position {position.ticket} ({position.volume:g} lots) fits, but carries none of our marks"
            return Effect(
                Finding.FITS,
                position=position.identifier,
                volume=position.volume,
                price=position.price_open,
                text=text,
            )
    for order in (*read.orders, *read.history_orders):
        unfilled = intent.action == "open" and order.state in UNFILLED_STATES  # then it is nothing to look into
        if _order_fits(intent, order, marks) and not unfilled:
            what = f"order {order.ticket} ({order.volume_initial:g} lots at {order.price_open:g})"
            text = f"{what} fits, but carries none of our marks"
            return Effect(Finding.FITS, order.ticket, text=text)
    return NOTHING


def _close(intent: Intent, read: BrokerRead, marks: Marks) -> Effect:
    of_position = [d for d in read.deals.of_position(intent.position) if d.entry in CLOSING_ENTRIES]
    final = [
        o for o in _proven_orders(intent, _may_name(intent, read.history_orders), marks) if o.state in FINAL_STATES
    ]
    active = _proven_orders(intent, read.orders, marks)
    tickets = {order.ticket for order in (*final, *active)}
    if intent.netting:
        # Whatever it met: an exit that crossed with another's closes less than it should, or opens the other side.
        deals = _proven_deals(intent, read, marks, ALL_ENTRIES, tickets)
    else:
        deals = [d for d in _proven_deals(intent, read, marks, CLOSING_ENTRIES, tickets) if d in of_position]
    proven = bool(deals)
    whole = bool(final) and not active
    if not deals and not (final or active):
        deals = _fitting_close(intent, read, of_position, marks)
        whole = bool(deals) and read.history_orders.get(deals[0].order) is not None
        if not deals and intent.netting:
            return _fitting_part(intent, of_position, marks)
    if deals:
        volume = sum(deal.volume for deal in deals)
        return Effect(
            Finding.DONE,
            deals[0].order,
            deals[0].ticket,
            intent.position,
            round(volume, 8),
            sum(deal.price * deal.volume for deal in deals) / volume if volume else 0.0,
            tuple(deal.ticket for deal in deals),
            settled=whole or volume >= intent.volume - VOLUME_EPSILON,
            proven=proven,
            opposite_volume=_opposite_volume(intent, deals, read) if intent.netting else 0.0,
        )
    if active:
        return Effect(Finding.WORKING, order=active[0].ticket)
    if final:
        return _without_deals(intent, final[0])
    return NOTHING


def _fitting_close(intent: Intent, read: BrokerRead, of_position: list[Deal], marks: Marks) -> list[Deal]:
    """Return the deals of the first order that asked for just what this one did, whatever was filled of it.

    One order only: a second equal one belongs to whoever else is closing this position.
    """
    by_order: dict[int, list[Deal]] = {}
    for deal in of_position:
        if _fits(intent, deal, marks):
            by_order.setdefault(deal.order, []).append(deal)
    for ticket, deals in by_order.items():
        order = read.history_orders.get(ticket)
        volume = sum(deal.volume for deal in deals) if order is None else order.volume_initial
        if abs(volume - intent.volume) < VOLUME_EPSILON:
            return deals
    return []


def _fitting_part(intent: Intent, of_position: list[Deal], marks: Marks) -> Effect:
    # An exit from a netting position is clipped to what is open just before it is sent.
    for deal in of_position:
        if _fits(intent, deal, marks):
            text = f"deal {deal.ticket} closed {deal.volume:g} lots of the position, but carries none of our marks"
            return Effect(Finding.FITS, deal.order, deal.ticket, intent.position, deal.volume, deal.price, text=text)
    return NOTHING


def _opposite_volume(intent: Intent, deals: list[Deal], read: BrokerRead) -> float:
    reversing = [deal for deal in deals if deal.entry == ENTRY_INOUT]
    volume = sum(deal.volume for deal in deals if deal.entry == ENTRY_IN)
    for deal in reversing:
        held = next((p for p in read.positions if p.identifier == deal.position_id), None)
        # How much of a reversal opened does not stand in its deal: at most all of it.
        volume += deal.volume if held is None or side_of_position(held) != intent.side else held.volume
    return volume


def _close_by(intent: Intent, read: BrokerRead, marks: Marks) -> Effect:
    """Two positions meet in one order, and only once: it takes the last of one of them."""
    pair = {intent.position, intent.position_by}
    by_order: dict[int, dict[int, Deal]] = {}
    for identifier in pair:
        for deal in read.deals.of_position(identifier):
            if deal.entry == ENTRY_OUT_BY:
                by_order.setdefault(deal.order, {})[identifier] = deal
    for ticket, deals in by_order.items():
        if deals.keys() == pair:
            first = deals[intent.position]
            made = read.history_orders.get(ticket)
            magic, comment = (first.magic, first.comment) if made is None else (made.magic, made.comment)
            return Effect(
                Finding.DONE,
                ticket,
                first.ticket,
                intent.position,
                first.volume,
                first.price,
                tuple(deal.ticket for deal in deals.values()),
                proven=_proves(intent, marks, magic=magic, comment=comment, order=ticket),
            )
    for order in (*read.orders, *_may_name(intent, read.history_orders)):
        if _proves(intent, marks, magic=order.magic, comment=order.comment, order=order.ticket):
            if order.state in FINAL_STATES:
                return _without_deals(intent, order)
            return Effect(Finding.WORKING, order=order.ticket)
    present = {position.identifier for position in read.positions}
    for identifier in sorted(pair - present):
        if closed_at_ms(identifier, read.deals, open_ms=intent.created_ms) is not None:
            return Effect(Finding.IMPOSSIBLE, text=f"position {identifier} is gone")
    return NOTHING


def _modify_position(intent: Intent, read: BrokerRead, marks: Marks) -> Effect:
    del marks  # the values are the evidence
    for position in read.positions:
        if position.identifier == intent.position:
            equal = _same(position.sl, intent.sl) and _same(position.tp, intent.tp)
            return Effect(Finding.DONE, position=position.identifier) if equal else NOTHING
    closed = closed_at_ms(intent.position, read.deals, open_ms=intent.created_ms) is not None
    return Effect(Finding.IMPOSSIBLE if closed else Finding.NOTHING, text=f"position {intent.position} is gone")


def _modify_order(intent: Intent, read: BrokerRead, marks: Marks) -> Effect:
    del marks
    for order in read.orders:
        if order.ticket == intent.order:
            pairs = (
                (order.price_open, intent.price),
                (order.sl, intent.sl),
                (order.tp, intent.tp),
                (order.price_stoplimit, intent.stoplimit),
            )
            same = all(_same(a, b) for a, b in pairs)
            expires = abs(order.time_expiration_ms - intent.expiration_ms) < _EXPIRATION_TOLERANCE_MS
            return Effect(Finding.DONE, order=order.ticket) if same and expires else NOTHING
    return _if_final(intent, read, lambda _order: False)


def _cancel(intent: Intent, read: BrokerRead, marks: Marks) -> Effect:
    del marks
    return _if_final(intent, read, lambda order: order.state == ORDER_STATE_CANCELED)


def _if_final(intent: Intent, read: BrokerRead, done: Callable[[Order], bool]) -> Effect:
    order = read.history_orders.get(intent.order)
    if order is None or order.state not in FINAL_STATES:
        return NOTHING
    if done(order):
        return Effect(Finding.DONE, order=order.ticket)
    text = f"order {order.ticket} is final in state {order.state}"
    return Effect(Finding.IMPOSSIBLE, order=order.ticket, text=text)


def _same(found: float, asked: float) -> bool:
    return abs(found - asked) <= _PRICE_TOLERANCE * max(1.0, abs(asked))


_BY_ACTION: dict[str, Callable[[Intent, BrokerRead, Marks], Effect]] = {
    "open": _open,
    "pending": _open,
    "close": _close,
    "close_by": _close_by,
    "modify_position": _modify_position,
    "modify_order": _modify_order,
    "cancel": _cancel,
}
