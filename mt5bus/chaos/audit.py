"""What was promised against what the records show. Pure: records in, rows of the table out.

The broker's records are the paper terminal's own, read through its client module; ours are the event log, what a
subscriber was told of it, the store and the strategy's dispatch log. A magic number is one order's alone, so an order
that took effect twice shows as two broker orders of one magic number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise

import msgspec

from protocol.messages import AlertEvent, DealEvent, Event, IntentEvent, OrderEvent

_EXPERT = 3  # ORDER_REASON_EXPERT, DEAL_REASON_EXPERT: sent by a program, not the effect of SL, TP or stop-out
_REFUSED = 5  # ORDER_STATE_REJECTED: the broker never took it
_CANCELED = 2  # ORDER_STATE_CANCELED
_FINAL = frozenset({"refused", "done", "rejected", "not_executed"})
_WITH_EFFECT = frozenset({"open", "close", "pending"})  # those that leave a broker order of their own
_ACTIONS = frozenset({"open", "close", "modify_position", "pending", "modify_order", "cancel"})
_UNKNOWN_ALERTS = frozenset({"order_unknown", "order_ambiguous"})
_SHOWN = 5
_LOTS = 1e-8


class BrokerOrder(msgspec.Struct, frozen=True):
    """An active or final order as the terminal has it."""

    ticket: int
    state: int
    reason: int
    magic: int
    position_id: int
    final: bool
    sl: float
    tp: float


class BrokerDeal(msgspec.Struct, frozen=True):
    """A deal as the terminal, or the store, has it."""

    ticket: int
    order: int
    position_id: int
    volume: float
    price: float
    profit: float


class BrokerPosition(msgspec.Struct, frozen=True):
    """An open position as the terminal, or the adapter, has it."""

    ticket: int
    volume: float
    sl: float
    tp: float


class Decided(msgspec.Struct, frozen=True):
    """One order that the strategy decided on: what triggered it, what it says without its id, and its id."""

    trigger: str
    content: bytes
    client_order_id: str


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """All records, read after the system has settled.

    Attributes:
        followed: What the harness's subscriber was told, in that order.
        resyncs: How often it had to begin anew.
        ticks: How many it was given, healed ones included.
        ticks_given_up: How many of those that the adapter numbered could not be had.
        ticks_unseen: How many of the broker's it never got, from its first to its last, over every life of the adapter.
        ticks_wrong: How many it got twice, out of order, or though the broker has none.
        logged: The adapter's event log.
        dispatched: By strategy, for each of its lives, the offsets of the event log that it was told, in that order;
            the very first is that of the first state it read.
        told_refused: Orders of which the strategy was told that they never took effect, and the log may know nothing.
        replayed_otherwise: Where a replay of the dispatch log first decides something else; empty if nowhere.
        not_settled: What did not come to rest in time; empty if all did.
    """

    followed: tuple[Event, ...]
    resyncs: int
    ticks: int
    ticks_given_up: int
    ticks_unseen: int
    ticks_wrong: int
    logged: tuple[Event, ...]
    decisions: tuple[Decided, ...]
    dispatched: Mapping[str, tuple[tuple[int, ...], ...]]
    told_refused: frozenset[str]
    broker_orders: tuple[BrokerOrder, ...]
    broker_deals: tuple[BrokerDeal, ...]
    broker_positions: tuple[BrokerPosition, ...]
    our_positions: tuple[BrokerPosition, ...]
    stored_deals: tuple[BrokerDeal, ...]
    replayed_otherwise: str
    not_settled: str


class Row(msgspec.Struct, frozen=True):
    """One line of the table. `promised`: the value has to be 0."""

    name: str
    value: int
    promised: bool = False
    examples: tuple[str, ...] = ()

    @property
    def broken(self) -> bool:
        """Whether a promise is broken."""
        return self.promised and self.value != 0


def audit(found: Evidence) -> tuple[Row, ...]:
    """Return the table."""
    intents = _intents(found.logged)
    last = {order_id: history[-1] for order_id, history in intents.items()}
    claims = _claims(last.values(), found.broker_deals)
    effects = _effects(found)
    unknown = [order_id for order_id, body in last.items() if body.state not in _FINAL]
    alerted = _alerted(found.logged)
    return (
        Row("orders decided on by the strategy", len({each.client_order_id for each in found.decisions})),
        Row("orders submitted", sum(1 for history in intents.values() if _was_sent(history))),
        *(
            Row(f"  {state.replace('_', ' ')}", count)
            for state, count in sorted(Counter(body.state for body in last.values()).items())
        ),
        Row("  once unknown", sum(1 for history in intents.values() if any(b.state == "unknown" for b in history))),
        _broken("kinds of order of which none was done: nothing is proven", _untried(last.values())),
        Row("effects at the broker", len(effects)),
        _broken("effects doubled", _doubled(effects)),
        _broken("effects that no order of ours accounts for", _unclaimed(effects, claims)),
        _broken("orders done without an effect", _without_effect(last, claims, found.broker_orders)),
        _broken("fills that differ", _other_fills(last.values(), found.broker_deals)),
        _broken("stops set that the broker does not show", _other_stops(intents, found.broker_positions)),
        _broken("two orders with one effect", [f"order {t}: {ids}" for t, ids in claims.items() if len(ids) > 1]),
        _broken("orders lost on the way", _lost(found, last)),
        _broken("unknown left without an alert", [each for each in unknown if each not in alerted]),
        Row("unknown left, alerted", sum(1 for each in unknown if each in alerted)),
        _broken("decisions repeated under another id", _repeated(found.decisions)),
        _broken("decisions that a replay does not repeat", filter(None, [found.replayed_otherwise])),
        Row("events in the log", len(found.logged)),
        _broken("events missing or out of order in the log", _out_of_order(found.logged)),
        _broken("events missing or out of order at the subscriber", _follower_faults(found)),
        _broken("events missing or out of order at a strategy", _strategy_faults(found)),
        _broken("facts told twice", _told_twice(found.logged)),
        Row("ticks at the subscriber", found.ticks),
        Row("ticks given up after healing", found.ticks_given_up, True),
        Row("ticks of the broker that never came", found.ticks_unseen, True),
        Row("ticks told twice, out of order or wrongly", found.ticks_wrong, True),
        Row("deals at the broker", len(found.broker_deals)),
        _broken("deals not told as events", _untold_deals(found)),
        _broken("final orders not told as events", _untold_orders(found)),
        _broken("deals that differ in the store", _differences(found.broker_deals, found.stored_deals)),
        _broken("open positions that differ from ours", _differences(found.broker_positions, found.our_positions)),
        _broken("did not settle", filter(None, [found.not_settled])),
    )


def _broken(name: str, examples: Iterable[str]) -> Row:
    found = list(examples)
    return Row(name, len(found), True, tuple(found[:_SHOWN]))


def _intents(events: Iterable[Event]) -> dict[str, list[IntentEvent]]:
    intents: dict[str, list[IntentEvent]] = {}
    for event in events:
        if isinstance(event.body, IntentEvent):
            intents.setdefault(event.body.client_order_id, []).append(event.body)
    return intents


def _was_sent(history: list[IntentEvent]) -> bool:
    return any(body.state != "refused" for body in history)


def _untried(bodies: Iterable[IntentEvent]) -> list[str]:
    return sorted(_ACTIONS - {body.action for body in bodies if body.state == "done"})


def _claims(bodies: Iterable[IntentEvent], deals: Iterable[BrokerDeal]) -> dict[int, list[str]]:
    """Return by broker order which of our orders say that it is theirs."""
    order_of_deal = {deal.ticket: deal.order for deal in deals}
    claims: dict[int, list[str]] = {}
    for body in bodies:
        if body.action in _WITH_EFFECT and body.state == "done":
            ticket = body.order or order_of_deal.get(body.deal, 0)
            claims.setdefault(ticket, []).append(body.client_order_id)
    return claims


def _effects(found: Evidence) -> list[BrokerOrder]:
    """Return what our program brought about: orders that were filled or placed, not those of SL, TP and stop-out."""
    filled = {deal.order for deal in found.broker_deals}
    return [
        order
        for order in found.broker_orders
        if order.reason == _EXPERT and (order.ticket in filled or order.state != _REFUSED)
    ]


def _doubled(effects: Iterable[BrokerOrder]) -> list[str]:
    tickets: dict[int, list[int]] = {}
    for order in effects:
        tickets.setdefault(order.magic, []).append(order.ticket)
    return [f"magic {magic}: orders {found}" for magic, found in tickets.items() if len(found) > 1]


def _unclaimed(effects: Iterable[BrokerOrder], claims: Mapping[int, list[str]]) -> list[str]:
    return [f"order {order.ticket}, magic {order.magic}" for order in effects if order.ticket not in claims]


def _without_effect(
    last: Mapping[str, IntentEvent], claims: Mapping[int, list[str]], orders: Iterable[BrokerOrder]
) -> list[str]:
    known = {order.ticket: order for order in orders}
    missing = [f"{ids} say broker order {ticket}" for ticket, ids in claims.items() if ticket not in known]
    for order_id, body in last.items():
        if body.action == "cancel" and body.state == "done":
            order = known.get(body.order)
            if order is None or order.state != _CANCELED:
                missing.append(f"{order_id} says order {body.order} is cancelled: {order}")
    return missing


def _other_fills(bodies: Iterable[IntentEvent], deals: Iterable[BrokerDeal]) -> list[str]:
    filled: dict[int, float] = {}
    for deal in deals:
        filled[deal.order] = filled.get(deal.order, 0.0) + deal.volume
    return [
        f"{body.client_order_id} says {body.filled_volume:g} of order {body.order}: {filled.get(body.order, 0.0):g}"
        for body in bodies
        if body.action in {"open", "close"}
        and body.state == "done"
        and abs(body.filled_volume - filled.get(body.order, 0.0)) > _LOTS
    ]


def _other_stops(intents: Mapping[str, list[IntentEvent]], positions: Iterable[BrokerPosition]) -> list[str]:
    """Compare each open position with the last change of its SL and TP that we took for done."""
    wanted: dict[int, IntentEvent] = {}
    for history in intents.values():  # in the order in which they were begun
        body = history[-1]
        if body.state == "done" and body.action in {"open", "modify_position"}:
            wanted[body.position] = body
    return [
        f"position {each.ticket}: {each.sl:g}, {each.tp:g}; {asked.client_order_id} set {asked.sl:g}, {asked.tp:g}"
        for each in positions
        if (asked := wanted.get(each.ticket)) and abs(each.sl - asked.sl) + abs(each.tp - asked.tp) > _LOTS
    ]


def _lost(found: Evidence, last: Mapping[str, IntentEvent]) -> list[str]:
    decided = dict.fromkeys(each.client_order_id for each in found.decisions)
    return [each for each in decided if each not in last and each not in found.told_refused]


def _alerted(events: Iterable[Event]) -> set[str]:
    bodies = (event.body for event in events)
    return {
        body.fields.get("client_order_id", "")
        for body in bodies
        if isinstance(body, AlertEvent) and body.code in _UNKNOWN_ALERTS
    }


def _repeated(decisions: Iterable[Decided]) -> list[str]:
    ids: dict[tuple[str, bytes], set[str]] = {}
    for each in decisions:
        ids.setdefault((each.trigger, each.content), set()).add(each.client_order_id)
    return [f"{trigger}: {sorted(found)}" for (trigger, _), found in ids.items() if len(found) > 1]


def _out_of_order(events: Iterable[Event]) -> list[str]:
    return [
        f"offset {event.offset} in the place of {place}"
        for place, event in enumerate(events, start=1)
        if event.offset != place
    ]


def _follower_faults(found: Evidence) -> list[str]:
    faults = [f"began anew {found.resyncs} times"] if found.resyncs else []
    pairs = zip(found.followed, found.logged, strict=False)
    faults += [f"offset {a.offset} where the log has {b.offset}, or another content" for a, b in pairs if a != b]
    missing = len(found.logged) - len(found.followed)
    return faults + ([f"{missing} events fewer than the log"] if missing > 0 else [])


def _strategy_faults(found: Evidence) -> list[str]:
    """Look for holes and repeats, and for a tail that never came: at least the last word on an order must have come.

    A new life goes on from the state that was saved last, so it is told again what came after that.
    """
    decided = max((event.offset for event in found.logged if isinstance(event.body, IntentEvent)), default=0)
    faults = []
    for name, lives in found.dispatched.items():
        told = 0
        for offsets in filter(None, lives):
            if told and offsets[0] > told + 1:
                faults.append(f"{name}: a life begins with {offsets[0]} after {told}")
            faults += [f"{name}: {after} after {before}" for before, after in pairwise(offsets) if after != before + 1]
            told = max(told, offsets[-1])
        if told < decided:
            faults.append(f"{name}: told up to {told}, the last about an order is {decided}")
    return faults


def _told_twice(events: Iterable[Event]) -> list[str]:
    keys = Counter(event.body.key() for event in events if isinstance(event.body, DealEvent))
    keys += Counter(event.body.key() for event in events if _is_final(event.body))
    return [f"{key}: {count} times" for key, count in keys.items() if count > 1]


def _is_final(body: object) -> bool:
    return isinstance(body, OrderEvent) and body.order.time_done_ms > 0


def _untold_deals(found: Evidence) -> list[str]:
    told = {event.body.deal.ticket for event in found.logged if isinstance(event.body, DealEvent)}
    return [f"deal {deal.ticket}" for deal in found.broker_deals if deal.ticket not in told]


def _untold_orders(found: Evidence) -> list[str]:
    told = {
        event.body.order.ticket
        for event in found.logged
        if isinstance(event.body, OrderEvent) and event.body.order.time_done_ms > 0
    }
    return [f"order {order.ticket}" for order in found.broker_orders if order.final and order.ticket not in told]


def _differences(
    theirs: Iterable[BrokerDeal] | Iterable[BrokerPosition], ours: Iterable[BrokerDeal] | Iterable[BrokerPosition]
) -> list[str]:
    at_broker = {each.ticket: each for each in theirs}
    with_us = {each.ticket: each for each in ours}
    return [
        f"{ticket}: broker {at_broker.get(ticket)}, ours {with_us.get(ticket)}"
        for ticket in sorted(at_broker.keys() | with_us.keys())
        if not _same(at_broker.get(ticket), with_us.get(ticket))
    ]


def _same(one: msgspec.Struct | None, other: msgspec.Struct | None) -> bool:
    if one is None or other is None:
        return False
    pairs = zip(msgspec.structs.astuple(one), msgspec.structs.astuple(other), strict=True)
    return all(abs(a - b) <= _LOTS for a, b in pairs)
