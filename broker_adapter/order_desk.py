"""An order's life from request to outcome: validate, gate, write down, send once, find out, tell.

`order_send` is never called twice for one intent, and an intent is on disk before it is sent. What the answer leaves
open is decided by `account_watch` from what the account shows. See docs/orders.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import msgspec

from broker_adapter.account_watch import AccountWatch
from broker_adapter.broker_state import BrokerRead, nets
from broker_adapter.disk_watch import DiskWatch
from broker_adapter.intent_book import IntentBook
from broker_adapter.intents import Intent, fingerprint_of
from broker_adapter.journal import Journal
from broker_adapter.link_messages import Clip, KeepStops, Send
from broker_adapter.link_results import LinkResult
from broker_adapter.new_intents import Named, accepted_intent, refused_intent
from broker_adapter.order_checks import check_before_sending, check_conflicts
from broker_adapter.order_ledger import Batch, OrderLedger
from broker_adapter.order_market import Market
from broker_adapter.order_requests import Draft, draft, trade_request
from broker_adapter.order_states import OPEN, UNDECIDED, State
from broker_adapter.outcomes import Judgement, judge, refusal, unknown, with_tickets
from broker_adapter.retcodes import Verdict
from broker_adapter.risk_gate import Exposure, RiskGate, is_working
from broker_adapter.send_queue import LinkCaller, SendQueue
from broker_adapter.stops_watch import stops_id
from broker_adapter.witnesses import KnownTickets, make_magic
from market.instrument import Instrument
from market.risk import TradingMode
from mt5bus.settings import Settings
from protocol.clock import Clock
from protocol.errors import BusError, NotFound, NotReady, StateConflict, TryAgainLater, ValidationFailed
from protocol.messages import (
    Account,
    Deal,
    Event,
    IntentEvent,
    Order,
    OrderCounts,
    OrderRequest,
    Position,
    Quote,
    UnsettledOrder,
)
from protocol.service import Caller

FLATTEN_PREFIX = "~flatten:"
_STALE_READ_S = 5.0  # an account read longer ago than this says nothing about now
_MINUTE_MS = 60_000
_DAY_MS = 86_400_000

log = logging.getLogger(__name__)


class OrderDesk:
    """Takes orders, and answers for each of them.

    Args:
        links: Carries `Send` to the trade link.
        publish: Gets every new event in offset order, once it is durable.
        poll_now: Has the account read as soon as possible.

    Attributes:
        after_read: Called after every read that was taken.
        still_flattens: Says of an order of flattening, by its client order id, whether it is still wanted.
    """

    def __init__(
        self,
        clock: Clock,
        journal: Journal,
        links: LinkCaller,
        settings: Settings,
        *,
        market: Market,
        publish: Callable[[Event], None],
        poll_now: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._journal = journal
        self._market = market
        self._poll_now = poll_now
        self._adapter = settings.adapter
        self._strategy_numbers = {strategy.name: strategy.number for strategy in settings.strategy}
        self.book = IntentBook(
            journal,
            tag=settings.adapter.magic_base,
            fixed_magic=settings.adapter.fixed_magic,
            strategies={number: name for name, number in self._strategy_numbers.items()},
        )
        self.ledger = OrderLedger(journal, self.book, publish=publish, market_ms=market.market_ms)
        self.gate = RiskGate(settings.adapter.risk, journal)
        self._watch = AccountWatch(
            clock, journal, self.book, self.ledger, settings.adapter, repair_stops=self._repair_stops
        )
        self._queue = SendQueue(
            clock,
            links,
            deadline_s=settings.adapter.deadlines.order_send_s,
            make=self._command,
            on_answer=self._on_answer,
        )
        self.disk: DiskWatch | None = None
        """Says whether only exits are taken; None watches no disk."""
        self._reconciled = False
        self.after_read: Callable[[], None] = lambda: None
        self.still_flattens: Callable[[str], bool] = lambda _client_order_id: True
        self._recover()

    # --- What others ask ----------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether what an earlier life left open was compared with the account, so that orders are taken."""
        return self._reconciled

    @property
    def account(self) -> Account | None:
        """The account as last read."""
        return self._watch.account

    @property
    def last_deals(self) -> tuple[Deal, ...]:
        """The newest deals of the account, oldest first."""
        return self._watch.last_deals

    @property
    def positions(self) -> tuple[Position, ...]:
        """Open positions as last read, each with its strategy and order."""
        return self._watch.positions

    @property
    def orders(self) -> tuple[Order, ...]:
        """Active orders as last read, each with its strategy and request."""
        return self._watch.orders

    @property
    def misses_something(self) -> bool:
        """Whether a position or active order that was told is not in the last read, and not known to be gone."""
        return self._watch.misses_something

    @property
    def in_flight(self) -> bool:
        """Whether an order is with the terminal, or on its way there."""
        # One that was answered some time ago, and whose effect no read shows, is with nobody: a terminal that hung
        # right after its answer may be restarted.
        with_link = self._queue.with_link
        return any(
            intent.state in OPEN
            and (intent.state is not State.SENT or intent.number == with_link or self._watch.expects(intent.number))
            for intent in self.book.held()
        )

    @property
    def mode(self) -> TradingMode:
        """What orders may do at all: as it was set, or only reduce while the disk is nearly full."""
        low = self.disk is not None and self.disk.low
        return TradingMode.REDUCING if low and self.gate.mode is TradingMode.ACTIVE else self.gate.mode

    def check_disk(self) -> None:
        """Return if there is room on the disk for more than exits. Raises NotReady."""
        if self.disk is not None:
            self.disk.check()

    @property
    def oldest_undecided_ms(self) -> int:
        """When the oldest order whose outcome is open was made, market time; 0 if there is none."""
        return min((i.created_ms for i in self.book.held() if i.state in UNDECIDED), default=0)

    def counts(self) -> OrderCounts:
        """Return how our orders fared since the journal began."""
        return self.book.counts()

    def intent(self, client_order_id: str) -> IntentEvent | None:
        """Return where one of our orders stands, as far as it is on disk.

        Raises:
            NotReady: The order is just being written down.
        """
        found = self.book.find(client_order_id)
        if found is None:
            return None
        told = self._durably(found)
        if told is None:
            raise NotReady(f"the order {client_order_id} is just being written down: ask again in a moment")
        return told.event()

    def intents(self, strategy: str = "") -> tuple[IntentEvent, ...]:
        """Return open, undecided and watched orders and those of the last day, of one strategy or (empty) of all."""
        found = {i.number: i for i in self._journal.recent_intents(self._clock.wall_ms() - _DAY_MS)}
        # What is not on disk yet may be lost with this process: nobody is told of it.
        found.update((i.number, i) for each in self.book.held() if (i := self._durably(each)) is not None)
        return tuple(i.event() for _, i in sorted(found.items()) if strategy in {"", i.strategy})

    def unsettled(self) -> tuple[UnsettledOrder, ...]:
        """Return the orders without an outcome and those watched for a late fill, each with its evidence."""
        return self._watch.unsettled()

    def settle(self, client_order_id: str, outcome: str, reason: str, batch: Batch) -> IntentEvent:
        """Enter what the operator says became of an unknown or ambiguous order; return it as it stands then.

        Raises:
            NotFound: There is no such order.
            StateConflict: Its outcome is known, or still to come.
        """
        intent = self.book.find(client_order_id)
        if intent is None:
            raise NotFound(f"there is no order {client_order_id}: `mt5bus orders` lists those without an outcome")
        return self._watch.settle_as(intent, outcome, reason, batch).event()

    def _durably(self, intent: Intent) -> Intent | None:
        return intent if self.book.is_durable(intent.number) else self._journal.intent_by_number(intent.number)

    def is_ours(self, magic: int, comment: str, position: int) -> bool:
        """Say whether a position or order was made by an order of ours."""
        return self.book.is_ours(magic, comment, position)

    # --- Requests -----------------------------------------------------------------------------------------------

    def on_order(self, request: OrderRequest, caller: Caller) -> None:
        """Take an order; the answer goes to `caller` when its outcome is known, or known to be unknown.

        Raises:
            ValidationFailed: The id stands for another order already.
            TryAgainLater: Nothing was taken, and the same id may be used again.
        """
        known = self.book.find(request.client_order_id)
        if known is not None:
            if known.fingerprint != fingerprint_of(request):
                raise ValidationFailed(
                    f"client_order_id: {request.client_order_id} stands for another order already ({known.action} "
                    f"{known.symbol}, {known.state}): give every order an id of its own",
                    {"field": "client_order_id"},
                )
            self.ledger.wait_for(known, caller, repeated=True)
            return
        self.check_ready()
        try:
            order = draft(request, self)
            self._pass(order, request.strategy)
        except TryAgainLater:
            raise
        except BusError as error:
            intent = self._refuse(request, error)
        else:
            if order.opens:
                self.gate.count_order(self._clock.monotonic_ns())
            intent = self._accept(
                order,
                client_order_id=request.client_order_id,
                fingerprint=fingerprint_of(request),
                strategy=request.strategy,
                ttl_ms=request.ttl_ms,
                asked_ns=caller.waiting_since_ns,
            )
        self.ledger.wait_for(intent, caller, repeated=False)

    def submit_internal(
        self, order: Draft, *, client_order_id: str, strategy: str, parent: int = 0, ttl_ms: int = 0
    ) -> None:
        """Send an order of the desk's own or the operator's: an exit or a missing stop. An id is used once."""
        if self.book.find(client_order_id) is None:
            self._accept(
                order,
                client_order_id=client_order_id,
                fingerprint="",
                strategy=strategy,
                parent=parent,
                ttl_ms=ttl_ms,
                asked_ns=self._clock.monotonic_ns(),
            )

    def commit_new(self, batch: Batch) -> None:
        """Write something new that is no outcome of an order.

        Raises:
            NotReady: The journal has no room; nothing was taken.
        """
        if not self._journal.has_room:
            raise NotReady(f"the journal's disk does not keep up {self._journal.trouble}: try again later")
        self.ledger.commit(batch)

    def check_ready(self) -> None:
        """Return if orders can be taken now.

        Raises:
            NotReady: Not now; the text says why.
            CircuitOpen: The terminal could not be attached to several times in a row.
        """
        last = self._watch.last
        if last is None or not self._reconciled:
            raise NotReady("the account has not been read yet since the adapter started: try again in a moment")
        age_s = (self._clock.monotonic_ns() - last.finished_ns) / 1e9
        if age_s > _STALE_READ_S:
            raise NotReady(
                f"the account was last read {age_s:.1f} s ago: the terminal does not answer; try again later"
            )
        self._market.check_connection()
        if not last.connected:
            raise NotReady("the terminal is not connected to the broker: try again later")
        if not self._journal.has_room:
            raise NotReady(f"the journal's disk does not keep up {self._journal.trouble}: try again later".strip())

    def exposure(self) -> Exposure:
        """Return what is open, on its way, or may be open."""
        last = self._watch.last
        account = ("", 0) if last is None else (last.account.server, last.account.login)
        working = [i for i in self.book.held() if is_working(i) and i.live and (i.server, i.login) == account]
        numbers = {i.number for i in working}
        working.extend(i for i in self._watch.unseen() if i.number not in numbers)
        if last is None:
            return Exposure(positions=(), intents=tuple(working))
        return Exposure(positions=self._watch.positions, orders=self._watch.orders, intents=tuple(working))

    # --- The view that requests are checked against ---------------------------------------------------------------

    def instrument(self, symbol: str) -> Instrument:
        """Return the specification. Raises NotFound or NotReady."""
        return self._market.instrument(symbol)

    def quote(self, symbol: str) -> Quote | None:
        """Return the newest quote."""
        return self._market.quote(symbol)

    def position(self, ticket: int) -> Position | None:
        """Return an open position by its ticket."""
        return next((each for each in self._watch.positions if each.ticket == ticket), None)

    def order(self, ticket: int) -> Order | None:
        """Return an active order by its ticket."""
        return next((each for each in self._watch.orders if each.ticket == ticket), None)

    @property
    def now_ms(self) -> int:
        """Market time, UTC."""
        return self._market.market_ms()

    @property
    def netting(self) -> bool:
        """Whether the account has one position per symbol."""
        account = self._watch.account
        return account is not None and nets(account)

    def net_position(self, symbol: str) -> Position | None:
        """Return the open position on a symbol of a netting account; None on a hedging account."""
        if not self.netting:
            return None
        return next((each for each in self._watch.positions if each.symbol == symbol), None)

    # --- Before sending -----------------------------------------------------------------------------------------

    def _pass(self, order: Draft, strategy: str) -> None:
        """Let an order through the gate, or raise what forbids it."""
        account = self._watch.account
        assert account is not None
        if order.opens:
            self.check_disk()
        exposure = self.exposure()
        check_conflicts(
            order,
            exposure,
            held=self._lots_of(order.ticket),
            held_by=self._lots_of(order.ticket_by),
            one_magic=bool(self._adapter.fixed_magic),
            netting=self.netting,
        )
        self.gate.check(
            order,
            account=account,
            exposure=exposure,
            quote=self._market.quote(order.symbol),
            point=self._market.instrument(order.symbol).point,
            now_ms=self._market.market_ms(),
            now_ns=self._clock.monotonic_ns(),
            server_time_known=self._market.server_time_known,
            strategy=strategy,
            gap=self._market.has_gap(order.symbol),
        )

    def _lots_of(self, ticket: int) -> float:
        position = self.position(ticket)
        return 0.0 if position is None else position.volume

    def _refuse(self, request: OrderRequest, error: BusError) -> Intent:
        account = self._watch.account
        assert account is not None
        number = self._journal.next_intent_number()
        intent = refused_intent(request, error, account, number=number, now_ms=self._market.market_ms())
        batch = Batch()
        entered = self.ledger.change(batch, intent)
        self.ledger.commit(batch)
        return entered

    def _accept(
        self,
        order: Draft,
        *,
        client_order_id: str,
        fingerprint: str,
        strategy: str,
        asked_ns: int,
        ttl_ms: int = 0,
        parent: int = 0,
    ) -> Intent:
        account = self._watch.account
        assert account is not None
        number = self._journal.next_intent_number()
        intent = accepted_intent(
            order,
            account,
            Named(number, client_order_id, fingerprint, strategy, parent),
            magic=self._magic(strategy, number),
            known=self._known_tickets(order.symbol),
            now_ms=self._market.market_ms(),
            wall_ms=self._clock.wall_ms(),
        )
        batch = Batch()
        entered = self.ledger.change(batch, intent)
        if order.action == "modify_position" and not parent:
            self._leave_stops_to(entered, batch)
        deadline_ns = asked_ns + (ttl_ms or self._adapter.order_ttl_ms) * 1_000_000
        batch.then.append(partial(self._queue.add, entered, deadline_ns))
        self.ledger.commit(batch)
        return entered

    def _magic(self, strategy: str, number: int) -> int:
        if self._adapter.fixed_magic:
            return self._adapter.fixed_magic
        return make_magic(self._adapter.magic_base, self._strategy_numbers.get(strategy, 0), number)

    def _known_tickets(self, symbol: str) -> KnownTickets:
        last = self._watch.last
        assert last is not None
        return KnownTickets(
            tuple(p.identifier for p in last.positions if p.symbol == symbol),
            tuple(o.ticket for o in last.orders if o.symbol == symbol),
            self._watch.newest_deal,
        )

    # --- Sending ------------------------------------------------------------------------------------------------

    def _command(self, number: int, deadline_ns: int) -> Send | None:
        """Return what the link gets for a durable intent, or None after rejecting it."""
        intent = self.book.by_number(number)
        if intent is None or intent.state is not State.INTENDED:
            return None
        try:
            late_ms = (self._clock.monotonic_ns() - deadline_ns) // 1_000_000
            check_before_sending(intent, self._watch.account, self.gate, late_ms=late_ms)
            self._check_still_wanted(intent)
            request = trade_request(intent, self._market.quote(intent.symbol), self._market.to_server_ms)
        except BusError as error:
            self._enter(refusal(intent, Judgement(Verdict.REFUSED, type(error), error.text)))
            return None
        self.book.note(intent.moved(State.SENT))
        clip, keep = None, None
        if intent.netting and intent.action == "close":
            clip = Clip(intent.position, intent.broker_symbol)
        elif intent.netting and intent.action == "open" and (intent.keeps_sl or intent.keeps_tp):
            keep = KeepStops(intent.broker_symbol, intent.keeps_sl, intent.keeps_tp)
        return Send(request, intent.login, intent.server, self._market.data_path, deadline_ns, clip, keep)

    def _check_still_wanted(self, intent: Intent) -> None:
        if intent.client_order_id.startswith(FLATTEN_PREFIX) and not self.still_flattens(intent.client_order_id):
            raise StateConflict("not sent: flattening was ended before its turn came")

    def _on_answer(self, number: int, answer: LinkResult) -> None:
        intent = self.book.by_number(number)
        if intent is None or intent.state is not State.SENT:
            log.error("an answer for an order that was not sent", extra={"intent": number})
            return
        judgement = judge(answer)
        intent = with_tickets(intent, judgement.result)
        self.book.note(intent)
        values_only = intent.action in {"modify_position", "modify_order", "cancel"}
        if judgement.verdict is Verdict.REFUSED:
            self._enter(refusal(intent, judgement))
        elif judgement.verdict in {Verdict.DONE, Verdict.NO_CHANGE} and values_only:
            after = intent.moved(State.DONE, text=judgement.text)
            self._watch.note_unseen(after)
            self._enter(after)
            self._poll_now()
        elif judgement.verdict in {Verdict.DONE, Verdict.PLACED}:
            self._watch.settle(intent, judgement)
            self._poll_now()
        else:
            self._watch.note_unknown(number)
            self._enter(unknown(intent, judgement.text, retcode=judgement.retcode))
            log.warning("the outcome of an order is unknown", extra={"order_id": intent.client_order_id})
            self._poll_now()

    def _enter(self, intent: Intent) -> None:
        batch = Batch()
        self.ledger.change(batch, intent)
        self.ledger.commit(batch)

    # --- Reads --------------------------------------------------------------------------------------------------

    def on_read(self, read: BrokerRead) -> bool:
        """Take a complete read of the account; return False if it was left, since the disk does not keep up."""
        if not self._journal.has_room:
            return False  # the next read shows the same differences
        batch = Batch()
        self._watch.on_read(read, batch)
        if self._market.server_time_known:
            server_ms = self._market.to_server_ms(read.market_ms)
            midnight_ms = self._market.to_utc_ms(server_ms - server_ms % _DAY_MS)
            batch.records.extend(self.gate.on_read(read, midnight_ms=midnight_ms))
        self.ledger.commit(batch)
        self._reconciled = True
        self._queue.pump()
        self.after_read()
        return True

    def _recover(self) -> None:
        """Take what an earlier life left in flight for unknown, and count its orders of the last minute."""
        wall_ms = self._clock.wall_ms()
        recent = self._journal.recent_intents(wall_ms - _MINUTE_MS)
        self.gate.recount(recent, wall_ms=wall_ms, now_ns=self._clock.monotonic_ns())
        batch = Batch()
        for intent in self.book.recover():
            self.ledger.change(batch, intent)
        for intent in self.book.held():
            self._watch.note_unknown(intent.number)
        self.ledger.commit(batch)

    def _repair_stops(self, intent: Intent, position: Position) -> None:
        order = Draft(
            action="modify_position",
            symbol=intent.symbol,
            broker_symbol=intent.broker_symbol,
            side=intent.side,
            sl=position.sl or intent.sl,
            tp=position.tp or intent.tp,
            ticket=position.ticket,
            position=position.identifier,
            reduces=True,
        )
        log.warning("SL or TP is missing and is being set", extra={"order_id": intent.client_order_id})
        self.submit_internal(order, client_order_id=stops_id(intent), strategy=intent.strategy, parent=intent.number)

    def _leave_stops_to(self, change: Intent, batch: Batch) -> None:
        # Who changes the stops of a new position has taken them over: what the order asked for no longer counts.
        for intent in self.book.held():
            if intent.position == change.position and intent.state is State.DONE and intent.stops == "unchecked":
                self.ledger.amend(batch, msgspec.structs.replace(intent, stops="ok"))
