"""SL and TP after every fill: read back, set once where they are missing, else alerted.

A market order is looked after from its outcome on. A pending order is followed until it is final: what it carries then
counts, for it may have been changed since. Where positions net, the fill of an order without stops clears those of the
position that it adds to: they are noted while the order waits, and set again.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from broker_adapter.broker_state import (
    ALL_ENTRIES,
    FINAL_STATES,
    OPENING_ENTRIES,
    VOLUME_EPSILON,
    BrokerRead,
    closed_at_ms,
    side_of_position,
)
from broker_adapter.intent_book import IntentBook
from broker_adapter.intents import Intent
from broker_adapter.order_ledger import Batch, OrderLedger
from broker_adapter.order_states import OPEN, UNDECIDED, State
from protocol.messages import Order, Position

STOPS_GRACE_S = 1.0
"""How long SL and TP may take to show on a new position before they count as missing."""
UNSEEN_S = 60.0
"""How long a filled order's position may take to show before a person has to see whether it has its SL and TP."""


class StopsWatch:
    """Looks after the stops of orders that are done.

    Args:
        repair: Sets the SL and TP of an intent whose position lacks them; the child intent comes back through the book
            under `stops_id`.
    """

    def __init__(self, book: IntentBook, ledger: OrderLedger, *, repair: Callable[[Intent, Position], None]) -> None:
        self._book = book
        self._ledger = ledger
        self._repair = repair
        self._since_ns: dict[int, int] = {}
        self._repairs: set[int] = set()

    def check(self, read: BrokerRead, batch: Batch, *, connected_since_ns: int | None) -> None:
        """Compare every order that is looked after with a read; what it leads to is added to `batch`."""
        account = (read.account.server, read.account.login)
        for intent in self._book.held():
            if intent.state is not State.DONE or (intent.server, intent.login) != account:
                continue
            if intent.stops in {"placed", "carried"}:
                self._follow_pending(intent, read, batch)
            elif intent.stops == "unchecked":
                self._check_position_of(intent, read, batch, connected_since_ns)
            elif intent.stops == "repairing":
                self._check_repair_of(intent, read, batch)

    # --- While a pending order waits ----------------------------------------------------------------------------

    def _follow_pending(self, intent: Intent, read: BrokerRead, batch: Batch) -> None:
        active = next((o for o in read.orders if o.ticket == intent.order), None)
        if active is not None and _is_untouched(active):
            following = self._carried(intent, active, read)
            if following != intent:
                self._ledger.amend(batch, following)
            return
        entries = ALL_ENTRIES if intent.netting else OPENING_ENTRIES
        deal = next((d for d in read.deals.of_order(intent.order) if d.entry in entries), None)
        final = next((o for o in read.history_orders.of_order(intent.order) if o.state in FINAL_STATES), None)
        if deal is not None:
            wanted = self._wanted(intent, final or active)
            self._ledger.amend(batch, msgspec.structs.replace(wanted, position=deal.position_id, stops="unchecked"))
        elif final is not None and _is_untouched(final):
            self._are(intent, "ok", batch)  # cancelled, expired or refused without a fill

    @staticmethod
    def _wanted(intent: Intent, order: Order | None) -> Intent:
        """Return the intent with the stops that its order had in the end, where they were seen on it."""
        if intent.stops != "carried" or order is None:
            return intent
        sl = intent.sl if intent.keeps_sl and not order.sl else order.sl
        tp = intent.tp if intent.keeps_tp and not order.tp else order.tp
        return msgspec.structs.replace(intent, sl=sl, tp=tp)

    @staticmethod
    def _carried(intent: Intent, order: Order, read: BrokerRead) -> Intent:
        """Return the intent as the waiting order shows it: with its stops seen, and those of the netting position."""
        seen = bool(order.sl or intent.keeps_sl or not intent.sl) and bool(order.tp or intent.keeps_tp or not intent.tp)
        stops = "carried" if seen else intent.stops
        if not (intent.keeps_sl or intent.keeps_tp):
            return msgspec.structs.replace(intent, stops=stops)
        held = next(
            (p for p in read.positions if p.symbol == intent.symbol and side_of_position(p) == intent.side), None
        )
        sl, tp = (0.0, 0.0) if held is None else (held.sl, held.tp)
        return msgspec.structs.replace(
            intent,
            sl=sl if intent.keeps_sl else intent.sl,
            tp=tp if intent.keeps_tp else intent.tp,
            stops=stops,
        )

    # --- After a fill -------------------------------------------------------------------------------------------

    def _check_position_of(
        self, intent: Intent, read: BrokerRead, batch: Batch, connected_since_ns: int | None
    ) -> None:
        since_ns = self._since_ns.setdefault(intent.number, read.started_ns)
        waited = read.started_ns - since_ns >= STOPS_GRACE_S * 1e9
        position = next((p for p in read.positions if p.identifier == intent.position), None)
        if position is None:
            connected_ns = 0 if connected_since_ns is None else read.started_ns - max(since_ns, connected_since_ns)
            if closed_at_ms(intent.position, read.deals, open_ms=intent.created_ms) is not None:
                self._are(intent, "ok", batch)
            elif connected_ns >= UNSEEN_S * 1e9:
                self._are(intent, "failed", batch)
                text = (
                    f"the terminal called {intent.volume:g} {intent.symbol} ({intent.client_order_id}) filled, but "
                    f"does not show position {intent.position}: whether it has its SL {intent.sl:g} and TP "
                    f"{intent.tp:g} is not known. Look into the terminal"
                )
                self._ledger.alert(batch, intent, "stops_missing", text)
            return
        # A netting position of the other side has other stops than this order asked for.
        if has_stops(intent, position) or (intent.netting and side_of_position(position) != intent.side):
            self._are(intent, "ok", batch)
        elif waited:
            self._are(intent, "repairing", batch)
            self._repairs.add(intent.number)
            batch.then.append(lambda: self._repair(intent, position))

    def _check_repair_of(self, intent: Intent, read: BrokerRead, batch: Batch) -> None:
        child = self._book.find(stops_id(intent))
        if child is None:
            if intent.number not in self._repairs:  # a restart came between the decision to repair and the repair
                self._are(intent, "unchecked", batch)
        elif child.state is State.DONE:
            self._are(intent, "ok", batch)
        elif child.state not in OPEN | UNDECIDED and not any(p.identifier == intent.position for p in read.positions):
            self._are(intent, "unchecked", batch)  # closed meanwhile, as its deals will say
        elif child.state not in OPEN | UNDECIDED:
            self._are(intent, "failed", batch)
            text = (
                f"position {intent.position} on {intent.symbol} lacks its stops: SL {intent.sl:g} and TP {intent.tp:g} "
                f"were not set with the order, nor could they be set later ({child.text}). Set them by hand, or close"
            )
            self._ledger.alert(batch, intent, "stops_missing", text)

    def _are(self, intent: Intent, stops: str, batch: Batch) -> None:
        if stops != "unchecked":
            self._since_ns.pop(intent.number, None)
        if stops != "repairing":
            self._repairs.discard(intent.number)
        self._ledger.amend(batch, msgspec.structs.replace(intent, stops=stops))


def _is_untouched(order: Order) -> bool:
    return order.volume_current >= order.volume_initial - VOLUME_EPSILON


def stops_id(intent: Intent) -> str:
    """Return the client order id of the request that sets an order's missing stops. No caller's id has a tilde."""
    return f"~stops:{intent.number}"


def has_stops(intent: Intent, position: Position) -> bool:
    """Whether the position has a stop and a target where the order asked for them."""
    return bool(position.sl or not intent.sl) and bool(position.tp or not intent.tp)
