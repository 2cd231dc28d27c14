"""One strategy's life in the node: join, warm up, catch up, live; and what it leaves behind for the next life.

::

    joining --snapshot complete--> warming --past bars--> catching up --missed events--> live
                                      ^                                                    |
                                      +----------- the adapter was restarted --------------+
    any of them --a callback raised, another account--> failed        any of them --stop--> ended

Whatever arrives before `live` waits, in order and bounded. Events that happened while the node was away are told
after the warm-up, from the adapter's event log: the context shows the present by then.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from market.instrument import Instrument
from mt5bus.settings import StrategySettings
from protocol.acknowledger import Acknowledger
from protocol.errors import UnknownOutcome
from protocol.event_follower import Asks
from protocol.loop import Loop
from protocol.messages import (
    MAX_PAGE,
    Account,
    BarUpdate,
    Beacon,
    Event,
    IntentEvent,
    OrderRequest,
    ReportSignal,
    Request,
    Snapshot,
    StateUpdate,
    TickBatch,
)
from protocol.numbering import EventPosition
from protocol.ticks import RECORD_BYTES
from strategy.dispatch import Dispatcher
from strategy.dispatch_log import DispatchLog
from strategy.inputs import (
    LOG_VERSION,
    BarArrived,
    Began,
    Ended,
    Fired,
    History,
    Input,
    Joined,
    Occurred,
    Refused,
    SymbolBars,
    TicksArrived,
)
from strategy.loading import packed_parameters
from strategy.market_clock import MarketClock
from strategy.observing import Observer
from strategy.order_ids import AccountKey
from strategy.outbox import FORGOTTEN, Outbox
from strategy.past import PastReader
from strategy.presence import Presence
from strategy.recovery import identity, unsettled
from strategy.saved_state import VERSION, SavedState, StateFile
from strategy.sdk import Strategy
from strategy.world import UNRESOLVED, refused

MAX_WAITING = 20_000
_LONGEST_NAME = 64

log = logging.getLogger(__name__)


class WaitedTooLong(RuntimeError):
    """More arrived before the strategy was warm than may wait: the node ends, and starting anew is recovering."""


class Wires(Protocol):
    """What a runner needs of the node."""

    @property
    def loop(self) -> Loop:
        """The node's loop."""
        ...

    @property
    def orders(self) -> Asks:
        """Asks the adapter's orders socket."""
        ...

    @property
    def queries(self) -> Asks:
        """Asks the adapter's queries socket."""
        ...

    @property
    def market(self) -> MarketClock:
        """Tells market time."""
        ...


class Runner:
    """Runs one configured strategy.

    Args:
        folder: Its own, below the home: dispatch log and saved states.
        symbols: Canonical symbols it sees.
        wall_ms: The wall clock, UTC milliseconds.
        keep_days: Dispatch logs older than this are removed.

    Attributes:
        phase: ``joining``, ``warming``, ``catching up``, ``live``, ``failed`` or ``ended``.
        detail: Why it is not live, for people; empty when it is.
        orders, signals: Decided in this life.
        presence: Shows the adapter that the strategy lives.
    """

    def __init__(
        self,
        settings: StrategySettings,
        strategy: Strategy,
        *,
        symbols: tuple[str, ...],
        folder: Path,
        wires: Wires,
        wall_ms: Callable[[], int],
        keep_days: int = 14,
    ) -> None:
        self.name = settings.name
        self.phase = "joining"
        self.detail = "waiting for the adapter"
        self.orders = 0
        self.signals = 0
        self._settings = settings
        self._strategy = strategy
        self._symbols = symbols
        self._folder = folder
        self._wires = wires
        self._log = DispatchLog(folder, wall_ms=wall_ms, keep_days=keep_days)
        self._outbox = Outbox(
            wires.loop,
            orders=wires.orders,
            queries=wires.queries,
            on_refused=self._on_refused,
            on_outcome=lambda outcome: self._arrive(Refused(outcome)),
        )
        self.presence = Presence(self.name, symbols, orders=wires.orders, is_live=lambda: self.live)
        self._past = PastReader(wires.loop, wires.queries, on_trouble=self._on_trouble)
        self._dispatcher: Dispatcher | None = None
        self._file: StateFile | None = None
        self._acknowledger: Acknowledger | None = None
        self._account: AccountKey | None = None
        self._waiting: deque[Input] = deque()
        self._heard = EventPosition("", 0)
        self._joined = EventPosition("", 0)
        self._told = EventPosition("", 0)
        self._epoch = 0
        self._observer = Observer(symbols)
        self._dirty = False
        self._wants_ticks = type(strategy).on_tick is not Strategy.on_tick

    # -- what the node asks -------------------------------------------------------------------------------------------

    @property
    def live(self) -> bool:
        """Whether live callbacks are being made."""
        return self.phase == "live"

    @property
    def callbacks(self) -> int:
        """Callbacks made so far."""
        return self._dispatcher.callbacks if self._dispatcher else 0

    @property
    def trouble(self) -> str:
        """What an operator should know though the strategy may be live; empty for nothing."""
        if self.phase == "failed":
            return f"{self.name}: {self.detail}"
        refusal = self._log.refused or (self._file.refused if self._file else "")
        return f"{self.name}: state and dispatch log cannot be written ({refusal})" if refusal else ""

    # -- what arrives ---------------------------------------------------------------------------------------------

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Take the state as of an event offset: at joining, and when the event log has become another."""
        if self.phase in {"failed", "ended"}:
            return
        if self._dispatcher is None:
            self._join(snapshot)
        elif self._is_same_account(snapshot.account):
            renewed = snapshot.log_id != self._heard.log_id
            self._heard = EventPosition(snapshot.log_id, snapshot.offset)
            self._hear(snapshot.intents)
            self._arrive(Joined(snapshot))
            if renewed:
                self._end_forgotten(self._dispatcher, snapshot)

    def _end_forgotten(self, dispatcher: Dispatcher, snapshot: Snapshot) -> None:
        """End the orders that a new journal of the adapter does not know: nothing will ever tell of them."""
        self._outbox.log_changed()
        known = {intent.client_order_id for intent in snapshot.intents}
        for order in dispatcher.world.in_flight():
            name = order.client_order_id
            if name in known or self._outbox.has(name):
                continue
            log.error("an order was forgotten by the adapter", extra={"strategy": self.name, "order": name})
            outcome = msgspec.structs.replace(
                order,
                state=UNRESOLVED,
                code=UnknownOutcome.code,
                text=FORGOTTEN,
                time_ms=self._wires.market.now_ms(),
            )
            self._arrive(Refused(outcome))

    def on_event(self, event: Event) -> None:
        """Take the next entry of the event log."""
        if event.log_id == self._heard.log_id and event.offset <= self._heard.offset:
            return
        self._heard = EventPosition(event.log_id, event.offset)
        if isinstance(event.body, IntentEvent):
            self._hear((event.body,))
        self._arrive(Occurred(event))

    def on_bar(self, symbol: str, update: BarUpdate) -> None:
        """Take a completed bar."""
        if update.timeframe == self._settings.timeframe and symbol in self._symbols:
            self._arrive(BarArrived(symbol, update.timeframe, update.revision, update.bar))

    def on_ticks(self, symbol: str, batch: TickBatch) -> None:
        """Take ticks. Before the strategy is live, and for a strategy without `on_tick`, they only move the quote."""
        count = len(batch)
        if symbol not in self._symbols or not count:
            return
        told = self._wants_ticks and self.live
        self._observer.on_ticks(symbol, batch, told=told)
        if not told:
            return
        if self._strategy.newest_tick_only and count > 1:
            self._dispatch(TicksArrived(symbol, batch.records[-RECORD_BYTES:], count - 1))
        else:
            self._dispatch(TicksArrived(symbol, batch.records))

    def on_state(self, update: StateUpdate) -> None:
        """Take what account, positions and prices are worth now."""
        self._observer.on_state(update)

    def on_instrument(self, instrument: Instrument) -> None:
        """Take a symbol's specification."""
        self._observer.on_instrument(instrument)

    def on_beacon(self, beacon: Beacon) -> None:
        """Say that the strategy lives, and note which life of the adapter speaks.

        After the adapter's restart the bars of the time between are fetched.
        """
        restarted = self._epoch not in {0, beacon.epoch}
        self._epoch = beacon.epoch
        self.presence.on_beacon(beacon)
        if restarted and self.live and self._wanted_bars():
            log.info("the adapter was restarted: fetching the bars of the time between", extra={"strategy": self.name})
            self._warm_up()

    def on_clock(self) -> None:
        """Fire the timers that are due. Called many times a second."""
        dispatcher = self._dispatcher
        if dispatcher is None or not self.live:
            return
        now_ms = self._wires.market.now_ms()
        due_ms = dispatcher.next_due_ms()
        if due_ms is None or due_ms > now_ms:
            return
        for fired in dispatcher.due(now_ms):
            self._dispatch(fired)

    def keep_house(self) -> None:
        """Hand the log to the operating system, and save the state if a bar came since. Called once a second."""
        self._log.flush()
        if self._dirty:
            self._save()

    def stop(self, reason: str) -> None:
        """End the strategy and save its state."""
        if self.phase == "ended":
            return
        if self._dispatcher is not None and self.phase != "failed":
            self._dispatch(Ended(reason))
            self._save()
        self.phase, self.detail = "ended", reason
        self._past.cancel()
        self._outbox.close()
        if self._acknowledger is not None:
            self._acknowledger.close()
        self._log.close()

    # -- joining ------------------------------------------------------------------------------------------------------

    def _join(self, snapshot: Snapshot) -> None:
        missing = [symbol for symbol in self._symbols if symbol not in {i.symbol for i in snapshot.instruments}]
        if snapshot.account is None or missing:
            self.detail = (
                f"waiting for the specification of {', '.join(missing)}" if missing else "waiting for an account"
            )
            self._past.snapshot(self._join)
            return
        self._begin(snapshot, AccountKey(snapshot.account.server, snapshot.account.login))

    def _begin(self, snapshot: Snapshot, account: AccountKey) -> None:
        self._account = account
        self._file = StateFile(self._folder, account)
        saved = self._file.load()
        open_ones = unsettled(self._folder, saved, snapshot)
        began = Began(
            version=LOG_VERSION,
            strategy=self.name,
            class_path=self._settings.class_path,
            parameters=packed_parameters(self._strategy),
            symbols=self._symbols,
            timeframe=self._settings.timeframe,
            server=account.server,
            login=account.login,
            state=saved.state,
            last_bars=saved.last_bars if saved.state is not None else {},
            unsettled=open_ones,
        )
        self._dispatcher = Dispatcher(self._strategy, began)
        self._waiting = deque(waiting for waiting in self._waiting if not _is_older(waiting, snapshot))
        self._joined = EventPosition(snapshot.log_id, snapshot.offset)
        if snapshot.log_id != self._heard.log_id or snapshot.offset > self._heard.offset:
            self._heard = self._joined
        told = saved.event_offset if saved.log_id == snapshot.log_id else snapshot.offset
        self._dispatch(began)
        self._dispatch(Joined(snapshot))
        self._told = EventPosition(snapshot.log_id, told)
        consumer = f"{self.name}/{account.login}@{account.server}"[:_LONGEST_NAME]
        self._acknowledger = Acknowledger(self._wires.loop, self._wires.queries, consumer=consumer)
        self._acknowledger.stored(self._told)
        for decision in open_ones:
            self._outbox.recover(decision.request(), same_log=saved.log_id in {"", snapshot.log_id})
        log.info(
            "a strategy joined",
            extra={
                "strategy": self.name,
                "login": account.login,
                "event_offset": snapshot.offset,
                "missed_events": max(0, snapshot.offset - told),
                "unsettled": len(open_ones),
                "with_state": saved.state is not None,
            },
        )
        if self._runs():
            self._warm_up()

    # -- warming up and catching up -----------------------------------------------------------------------------------

    def _wanted_bars(self) -> int:
        return max(0, min(self._strategy.warmup_bars(), MAX_PAGE))

    def _warm_up(self) -> None:
        self.phase, self.detail = "warming", "waiting for past bars"
        count = self._wanted_bars()
        if count:
            self._past.bars(self._symbols, self._settings.timeframe, count, self._warmed)
        else:
            self._warmed(())

    def _warmed(self, bars: tuple[SymbolBars, ...]) -> None:
        self._dispatch(History(bars))
        if not self._runs():
            return
        self.phase, self.detail = "catching up", "reading the events of the time away"
        upto = self._joined.offset if self._told.log_id == self._joined.log_id else 0
        self._past.events(
            self._told,
            upto,
            on_event=lambda event: self._dispatch(Occurred(event, missed=True)),
            on_hole=self._on_hole,
            done=self._go_live,
        )

    def _on_hole(self, first: int, last: int) -> None:
        log.warning(
            "events of the time away are no longer in the log: the strategy is not told of them",
            extra={"strategy": self.name, "first": first, "last": last},
        )

    def _go_live(self) -> None:
        self.phase, self.detail = "live", ""
        self.presence.begin()
        if self._told.log_id == self._joined.log_id:
            self._told = max(self._told, self._joined)
        self._dirty = True
        while self._waiting and self.live:
            self._dispatch(self._waiting.popleft())

    # -- dispatching --------------------------------------------------------------------------------------------------

    def _arrive(self, input: Input) -> None:  # noqa: A002  it is the input
        if self.live and not self._waiting:
            self._dispatch(input)
        elif self.phase not in {"failed", "ended"}:
            if len(self._waiting) >= MAX_WAITING:
                raise WaitedTooLong(
                    f"{self.name}: {MAX_WAITING} inputs waited while it was {self.phase}: starting anew"
                )
            self._waiting.append(input)

    def _dispatch(self, input: Input) -> None:  # noqa: A002
        dispatcher = self._dispatcher
        if dispatcher is None or not self._runs():
            return
        now_ms = self._wires.market.now_ms()
        if not isinstance(input, Began) and not self._dispatch_observed(dispatcher, now_ms):
            return
        record = dispatcher.dispatch(now_ms, input)
        self._log.append(record)
        if isinstance(input, Occurred):
            self._told = EventPosition(input.event.log_id, input.event.offset)
        elif isinstance(input, Joined):
            self._told = EventPosition(input.snapshot.log_id, input.snapshot.offset)
        if record.error:
            self._fail(f"it raised: {record.error.strip().splitlines()[-1]}")
        self._dirty = self._dirty or isinstance(input, (BarArrived, Fired, Occurred))
        for decision in record.decisions:
            self._send(decision.request())

    def _send(self, request: Request) -> None:
        if isinstance(request, ReportSignal):
            self.signals += 1
        else:
            self.orders += 1
            log.info("an order was decided", extra={"strategy": self.name, "order": identity(request)})
        self._outbox.send(request)

    def _dispatch_observed(self, dispatcher: Dispatcher, now_ms: int) -> bool:
        """Bring the world's values up to date; return whether the strategy still runs."""
        news = self._observer.news(dispatcher.world)
        if news is None:
            return True
        if not self._is_same_account(news.account):
            return False
        self._log.append(dispatcher.dispatch(now_ms, news))
        return True

    # -- helpers ------------------------------------------------------------------------------------------------------

    def _is_same_account(self, account: Account | None) -> bool:
        """Return whether this is still the account that the ids are derived from; end the strategy if not."""
        if account is None or AccountKey(account.server, account.login) == self._account:
            return True
        self._fail(f"the account changed to {account.login} at {account.server}: start the node anew to trade there")
        return False

    def _runs(self) -> bool:
        return self.phase not in {"failed", "ended"}

    def _on_trouble(self, text: str) -> None:
        self.detail = f"{self.phase}: {text}"

    def _fail(self, reason: str) -> None:
        if self._runs():
            self._past.cancel()
            self.phase, self.detail = "failed", reason
            self._waiting.clear()
            log.error(
                "a strategy was stopped; its positions keep their SL and TP",
                extra={"strategy": self.name, "reason": reason},
            )

    def _hear(self, intents: tuple[IntentEvent, ...]) -> None:
        for intent in intents:
            self._outbox.heard(intent.client_order_id)

    def _on_refused(self, request: OrderRequest, code: str, text: str) -> None:
        dispatcher = self._dispatcher
        known = dispatcher.world.orders.get(request.client_order_id) if dispatcher else None
        symbol = known.symbol if known else ""
        outcome = refused(request, symbol=symbol, code=code, text=text, time_ms=self._wires.market.now_ms())
        log.warning("an order had no effect", extra={"order": request.client_order_id, "code": code, "reason": text})
        self._arrive(Refused(outcome))

    def _save(self) -> None:
        dispatcher, file = self._dispatcher, self._file
        if dispatcher is None or file is None or not self._runs():
            return
        self._dirty = False
        try:
            state = self._strategy.save_state()
        except Exception as error:
            # A user's code may raise anything; without a state it must not go on as if it had one.
            log.exception("save_state raised", extra={"strategy": self.name})
            self._fail(f"save_state raised: {type(error).__name__}: {error}")
            return
        self._log.flush()  # the saved position lies between two records that are in the file
        saved = file.save(
            SavedState(
                version=VERSION,
                log_id=self._told.log_id,
                event_offset=self._told.offset,
                last_bars=dict(dispatcher.last_bars),
                dispatched=self._log.position,
                unsettled=self._outbox.unsettled,
                state=state or None,
            )
        )
        if saved and self._acknowledger is not None:
            self._acknowledger.stored(self._told)


def _is_older(input: Input, snapshot: Snapshot) -> bool:  # noqa: A002
    """Return whether a snapshot holds what an event that waited says."""
    return isinstance(input, Occurred) and (
        input.event.log_id != snapshot.log_id or input.event.offset <= snapshot.offset
    )
