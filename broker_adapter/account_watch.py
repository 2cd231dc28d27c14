"""Every read of the account: what happened is told, what is unknown is decided, what was filled is completed.

Kept apart from sending: it works from reads alone, after a restart just as in normal life.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import msgspec

from broker_adapter.broker_state import BrokerRead
from broker_adapter.evidence import NOTHING, Effect, Finding, effect_of
from broker_adapter.intent_book import IntentBook
from broker_adapter.intents import Intent
from broker_adapter.journal import Journal
from broker_adapter.journal_records import EventRecord, KnownRecord
from broker_adapter.order_ledger import Batch, OrderLedger
from broker_adapter.order_states import UNDECIDED, State
from broker_adapter.outcomes import Judgement, done_as_told, unknown
from broker_adapter.reconcile import Circumstances, Decision, done, reconcile
from broker_adapter.retcodes import Verdict
from broker_adapter.stops_watch import StopsWatch
from broker_adapter.trade_events import Published, attributed_order, attributed_position, differences
from broker_adapter.unsettled import describe, is_unsettled, settled
from mt5bus.settings import Adapter
from protocol.clock import Clock
from protocol.messages import Account, Deal, Order, Position, UnsettledOrder

LAST_DEALS = 10
SETTLE_S = 2.0
"""How long the effect of an accepted order may take to show before the answer alone is reported."""
_UNBROKEN_NS = 10_000_000_000  # reads further apart than this do not show an unbroken connection
_DAY_MS = 86_400_000

log = logging.getLogger(__name__)


class _Settling(msgspec.Struct, frozen=True):
    """An accepted order whose effect is looked for. `recorded`: the tickets of its answer are on their way to disk."""

    judgement: Judgement
    answered_ns: int
    recorded: bool = False


class AccountWatch:
    """Compares each read with what was told and what is open.

    Args:
        repair_stops: Sets the SL and TP of an intent whose position lacks them; see `StopsWatch`.
    """

    def __init__(
        self,
        clock: Clock,
        journal: Journal,
        book: IntentBook,
        ledger: OrderLedger,
        settings: Adapter,
        *,
        repair_stops: Callable[[Intent, Position], None],
    ) -> None:
        self.last: BrokerRead | None = None
        self.positions: tuple[Position, ...] = ()
        self.orders: tuple[Order, ...] = ()
        self.newest_deal = 0
        self.last_deals: tuple[Deal, ...] = ()
        self.connected_since_ns: int | None = None
        self._clock = clock
        self._journal = journal
        self._book = book
        self._ledger = ledger
        self._settings = settings
        self._stops = StopsWatch(book, ledger, repair=repair_stops)
        self._account: tuple[str, int] | None = None
        self._published = Published()
        self._reads = 0
        self._unknown_since_ns: dict[int, int] = {}
        self._settling: dict[int, _Settling] = {}
        self._unseen: dict[int, tuple[Intent, int]] = {}
        self._alerted: set[int] = set()

    @property
    def account(self) -> Account | None:
        """The account as last read."""
        return None if self.last is None else self.last.account

    @property
    def misses_something(self) -> bool:
        """Whether a position or active order that was told is not in the last read, and not known to be gone."""
        shown = {position.identifier for position in self.positions}
        active = {order.ticket for order in self.orders}
        return not (self._published.positions.keys() <= shown and self._published.orders.keys() <= active)

    def note_unknown(self, number: int) -> None:
        """Note that from now on nothing of ours can reach the terminal for this intent."""
        self._unknown_since_ns[number] = self._clock.monotonic_ns()

    def settle(self, intent: Intent, judgement: Judgement) -> None:
        """Look for the effect of an order that the terminal accepted."""
        self._settling[intent.number] = _Settling(judgement, self._clock.monotonic_ns())

    def expects(self, number: int) -> bool:
        """Say whether the effect of an accepted order may still show, were the account only read."""
        settling = self._settling.get(number)
        return settling is not None and self._clock.monotonic_ns() - settling.answered_ns < SETTLE_S * 1e9

    def unseen(self) -> tuple[Intent, ...]:
        """Return done orders that the last read's positions may not show yet."""
        return tuple(intent for intent, _ in self._unseen.values())

    def note_unseen(self, intent: Intent) -> None:
        """Note that `intent` changed the account after the last read."""
        self._unseen[intent.number] = (intent, self._clock.monotonic_ns())

    def unsettled(self) -> tuple[UnsettledOrder, ...]:
        """Return the orders without an outcome and those watched, oldest first, each with what the account shows."""
        by = self._circumstances()
        found = sorted((i for i in self._book.held() if is_unsettled(i)), key=lambda intent: intent.number)
        return tuple(describe(intent, self.last, by) for intent in found)

    def settle_as(self, intent: Intent, outcome: str, reason: str, batch: Batch) -> Intent:
        """Enter the outcome that the operator names; return the order as entered.

        Raises:
            StateConflict: Its outcome is known, or still to come.
        """
        after, _ = settled(intent, outcome, reason, read=self.last, by=self._circumstances())
        self._unknown_since_ns.pop(after.number, None)
        entered = self._ledger.change(batch, after)
        text = f"{entered.client_order_id}: {after.text}"
        self._ledger.alert(batch, entered, "order_settled", text, severity="warning")
        return entered

    def on_read(self, read: BrokerRead, batch: Batch) -> None:
        """Work through a read; what it leads to is added to `batch`."""
        self._reads += 1
        self._switch_account(read)
        self._note_connection(read)
        self._note_deals(read.deals.since(None if self.last is None else self.last.deals))
        self.last = read
        self._unseen = {n: (i, ns) for n, (i, ns) in self._unseen.items() if read.started_ns < ns}
        # The outcomes first: they say whose the deals are. The events of the deals first on the wire: whoever hears
        # "done" knows the position already.
        outcomes = Batch()
        self._settle_all(read, outcomes)
        self._reconcile(read, outcomes)
        self._tell(read, batch)
        batch.numbers.extend(outcomes.numbers)
        batch.records.extend(outcomes.records)
        batch.then.extend(outcomes.then)
        self._stops.check(read, batch, connected_since_ns=self.connected_since_ns)

    # --- What happened ------------------------------------------------------------------------------------------

    def _switch_account(self, read: BrokerRead) -> None:
        account = (read.account.server, read.account.login)
        if account == self._account:
            return
        self._account = account
        self._published = Published(
            {p.identifier: p for p in self._journal.known_positions(*account)},
            {o.ticket: o for o in self._journal.known_orders(*account)},
        )
        self.connected_since_ns = None
        self.newest_deal = 0
        self.last_deals = ()
        self.last = None

    def _note_deals(self, news: Iterable[Deal]) -> None:
        newest = {deal.ticket: deal for deal in (*self.last_deals, *news)}
        self.newest_deal = max((self.newest_deal, *newest))
        by_time = sorted(newest.values(), key=lambda deal: (deal.time_ms, deal.ticket))
        self.last_deals = tuple(by_time[-LAST_DEALS:])

    def _note_connection(self, read: BrokerRead) -> None:
        if not read.connected:
            self.connected_since_ns = None
            return
        broken = self.last is None or read.started_ns - self.last.finished_ns > _UNBROKEN_NS
        if self.connected_since_ns is None or broken:
            self.connected_since_ns = read.started_ns
        if read.finished_ns - read.started_ns > _UNBROKEN_NS:
            # Its answer waited while we were frozen (sleep, a machine that was paused): it says nothing of that time.
            self.connected_since_ns = read.finished_ns

    def _tell(self, read: BrokerRead, batch: Batch) -> None:
        assert self._account is not None
        server, login = self._account
        serial = f"{self._journal.epoch}-{self._reads}"
        changes = differences(self._published, read, self._book, serial=serial)
        self._published = changes.published
        batch.records.extend(EventRecord(told.body, server, login, told.market_ms, told.key) for told in changes.events)
        for identifier, position in changes.positions:
            batch.records.append(KnownRecord(server, login, "position", identifier, position))
        for ticket, order in changes.orders:
            batch.records.append(KnownRecord(server, login, "order", ticket, order))
        self.positions = tuple(attributed_position(each, self._book) for each in read.positions)
        self.orders = tuple(attributed_order(each, self._book) for each in read.orders)

    # --- Orders that were accepted ------------------------------------------------------------------------------

    def _settle_all(self, read: BrokerRead, batch: Batch) -> None:
        for number, settling in list(self._settling.items()):
            intent = self._book.by_number(number)
            if intent is None or intent.state is not State.SENT:
                del self._settling[number]
                continue
            if read.started_ns < settling.answered_ns:
                continue  # its positions may be older than its deals: who hears "done" must find both
            if self._settle_one(intent, settling, read, batch):
                del self._settling[number]

    def _settle_one(self, intent: Intent, settling: _Settling, read: BrokerRead, batch: Batch) -> bool:
        judgement = settling.judgement
        on_account = (intent.server, intent.login) == self._account
        effect = effect_of(intent, read, self._book.marks) if on_account else NOTHING
        waited_s = (read.started_ns - settling.answered_ns) / 1e9
        if effect.finding is Finding.DONE and effect.settled:
            after = done(intent, effect, judgement.text)
            self._finish(after, effect, read, batch, since_ns=settling.answered_ns)
            return True
        if effect.finding is Finding.UNFILLED:
            text = f"the broker did not fill it: {effect.text}"
            after = intent.moved(State.REJECTED, order=effect.order, code="market_refused", text=text)
            self._ledger.change(batch, after)
            return True
        if waited_s < SETTLE_S:
            if not settling.recorded and (intent.order or intent.deal):
                # Should the adapter end now, these tickets find the effect even if magic and comment were changed.
                self._ledger.amend(batch, intent)
                self._settling[intent.number] = msgspec.structs.replace(settling, recorded=True)
            return False
        if judgement.verdict is Verdict.DONE and (effect.finding is Finding.DONE or intent.order or intent.deal):
            after = self._as_told(intent, effect, judgement)
            self._finish(after, effect, read, batch, since_ns=read.finished_ns)
        else:
            self.note_unknown(intent.number)
            self._ledger.change(batch, unknown(intent, judgement.text))
        return True

    @staticmethod
    def _as_told(intent: Intent, effect: Effect, judgement: Judgement) -> Intent:
        text = f"{judgement.text}; its deals are not all visible yet"
        if effect.finding is Finding.DONE:
            return done(intent, effect, text)
        return done_as_told(intent, judgement.result, text)

    def _finish(self, intent: Intent, effect: Effect, read: BrokerRead, batch: Batch, *, since_ns: int) -> None:
        """Enter an order as done; unless the read began at `since_ns` or later, its positions may not show it yet."""
        entered = self._ledger.change(batch, intent)
        if read.started_ns < since_ns:
            self._unseen[entered.number] = (entered, since_ns)
        if effect.opposite_volume:
            text = (
                f"{intent.action} {intent.volume:g} {intent.symbol} ({intent.client_order_id}) met less than it should "
                f"have closed, and {effect.opposite_volume:g} lots are open on the other side ({intent.side}) now: "
                "decide about them"
            )
            self._ledger.alert(batch, intent, "exit_reversed", text)

    # --- Orders of unknown outcome ------------------------------------------------------------------------------

    def _reconcile(self, read: BrokerRead, batch: Batch) -> None:
        intents = tuple(i for i in self._book.held() if i.state in UNDECIDED or i.watch_until_ms)
        if not intents:
            return
        for decision in reconcile(intents, read, self._circumstances()):
            self._apply(decision, read, batch)
        self._alert_lasting(read, batch)

    def _circumstances(self) -> Circumstances:
        return Circumstances(
            marks=self._book.marks,
            unknown_since_ns=self._unknown_since_ns,
            connected_since_ns=self.connected_since_ns,
            not_executed_after_s=self._settings.not_executed_after_s,
            wall_ms=self._clock.wall_ms(),
            watch_ms=self._settings.watch_days * _DAY_MS,
        )

    def _alert_lasting(self, read: BrokerRead, batch: Batch) -> None:
        """Tell a person of orders that stay unknown for longer than evidence should take."""
        limit_ns = round(2 * self._settings.not_executed_after_s * 1e9)
        self._alerted &= self._unknown_since_ns.keys()
        for number, since_ns in self._unknown_since_ns.items():
            intent = self._book.by_number(number)
            lasting = read.started_ns - since_ns >= limit_ns and number not in self._alerted
            if lasting and intent is not None and intent.state is State.UNKNOWN:
                self._alerted.add(number)
                text = (
                    f"{intent.action} {intent.volume:g} {intent.symbol} ({intent.client_order_id}) is still unknown: "
                    f"the connection breaks, or an order is at work at the broker. Look into the terminal"
                )
                self._ledger.alert(batch, intent, "order_unknown", text)

    def _apply(self, decision: Decision, read: BrokerRead, batch: Batch) -> None:
        after = decision.after
        if after.state is decision.before.state:
            self._ledger.amend(batch, after)
            return
        log.warning(
            "an order of unknown outcome was decided",
            extra={"order_id": after.client_order_id, "state": after.state.value, "reason": after.text},
        )
        since_ns = self._unknown_since_ns.pop(after.number, read.finished_ns)
        if after.state is State.DONE:
            self._finish(after, decision.effect, read, batch, since_ns=since_ns)
        else:
            self._ledger.change(batch, after)
        if decision.alert:
            text = f"{after.action} {after.volume:g} {after.symbol} ({after.client_order_id}): {after.text}"
            self._ledger.alert(batch, after, decision.alert, text)
