"""An adapter for the node's tests: real sockets, its journal in memory, faults on request.

The journal outlives the adapter, as the real one's does: `FakeAdapter(journal, ...)` again is a restart.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Iterable

import msgspec

from market.bars import Bar
from protocol import codec
from protocol.errors import NotFound, RiskRefused
from protocol.keys import KeyStore
from protocol.loop import Loop
from protocol.messages import (
    AcknowledgeEvents,
    BarUpdate,
    Beacon,
    ClosePosition,
    Done,
    Event,
    EventBody,
    Events,
    EventsAcknowledged,
    GetEvents,
    GetIntent,
    GetRates,
    GetSnapshot,
    IntentEvent,
    Message,
    OrderReply,
    OrderRequest,
    Position,
    PositionEvent,
    Rates,
    Reply,
    ReportSignal,
    SignalEvent,
    Snapshot,
    StateUpdate,
    StrategyAlive,
    SubmitOrder,
)
from protocol.service import Caller, Service
from protocol.sockets import bind_router, bind_streams
from protocol.zap import Gatekeeper
from tests.strategy.samples import LOG_ID, START_MS, TIMEFRAME, account, batch, event, position, quote, rates, snapshot

NAME = "main"
BEACON_S = 0.1


class Journal:
    """What survives an adapter: the event log, our orders, positions, and the terminal's bars."""

    def __init__(self, symbols: tuple[str, ...] = ("EURUSD",)) -> None:
        self.symbols = symbols
        self.log_id = LOG_ID
        self.events: list[Event] = []
        self.outcomes: dict[str, IntentEvent] = {}
        self.signals: dict[str, SignalEvent] = {}
        self.positions: dict[int, Position] = {}
        self.bars: dict[str, list[Bar]] = {symbol: [] for symbol in symbols}
        self.tickets = itertools.count(100)
        self.epochs = itertools.count(1)
        self.acknowledged: dict[str, int] = {}
        self.submitted: list[str] = []
        self.repeated: list[str] = []
        self.alive: list[StrategyAlive] = []


class FakeAdapter:
    """One life of an adapter on five ports from `port` on.

    Attributes:
        lose_replies: So many orders are executed and not answered, neither by reply nor by event.
        deaf: Orders are read and thrown away.
        refuse: Orders are refused without a trace in the journal.
        silent_queries: Queries of these types are not answered.
    """

    def __init__(self, journal: Journal, keys: KeyStore, port: int) -> None:
        self.journal = journal
        self.loop = Loop()
        self.epoch = next(journal.epochs)
        self.market_ms = START_MS
        self.lose_replies = 0
        self.deaf = False
        self.refuse = False
        self.silent_queries: set[type[Message]] = set()
        self.queries_seen: list[str] = []
        self._bars_sent = dict.fromkeys(journal.symbols, 0)
        self._ticks_sent = dict.fromkeys(journal.symbols, 0)
        self._gatekeeper = Gatekeeper(self.loop, keys.admitted)
        identity = keys.identity("adapter")
        context = self.loop.context
        self._streams = bind_streams(context, f"tcp://127.0.0.1:{port}", identity=identity)
        queries = bind_router(context, f"tcp://127.0.0.1:{port + 1}", identity=identity, domain="query")
        orders = bind_router(context, f"tcp://127.0.0.1:{port + 2}", identity=identity, domain="trade")
        self._queries = Service(self.loop, queries, adapter=NAME)
        self._orders = Service(self.loop, orders, adapter=NAME)
        self._queries.handle(GetSnapshot, self._heard(self._snapshot))
        self._queries.handle(GetEvents, self._heard(self._events))
        self._queries.handle(AcknowledgeEvents, self._heard(self._acknowledge))
        self._queries.handle(GetRates, self._heard(self._rates))
        self._queries.handle(GetIntent, self._heard(self._intent))
        self._orders.handle(SubmitOrder, self._order)
        self._orders.handle(ClosePosition, self._order)
        self._orders.handle(ReportSignal, self._signal)
        self._orders.handle(StrategyAlive, self._alive)
        self.loop.every(BEACON_S, self.beacon)

    def close(self) -> None:
        """Die: every socket closed at once."""
        self._queries.close()
        self._orders.close()
        self._streams.close()
        self._gatekeeper.close()
        self.loop.close()

    # -- what it publishes --------------------------------------------------------------------------------------------

    def publish(self, message: Message, symbol: str = "") -> None:
        self._streams.send(codec.encode(message, NAME, symbol))

    def beacon(self) -> None:
        journal = self.journal
        self.publish(
            Beacon(
                epoch=self.epoch, sent_ns=self.loop.clock.monotonic_ns(), wall_ms=0,
                market_ms=self.market_ms, log_id=journal.log_id,
                event_offset=len(journal.events), ticks=dict(self._ticks_sent), bars=dict(self._bars_sent),
                connection="connected", trading_mode="active", server_offset_minutes=0,
                server_time_status="configured",
            )
        )  # fmt: skip

    def bar(self, bar: Bar, symbol: str = "EURUSD") -> None:
        """Complete a bar: the terminal has it, and it is published."""
        self.journal.bars[symbol].append(bar)
        self._bars_sent[symbol] += 1
        self.publish(BarUpdate(self.epoch, self._bars_sent[symbol], 0, TIMEFRAME, 0, bar), symbol)

    def tick(self, *quotes: tuple[int, float], symbol: str = "EURUSD") -> None:
        ticks = batch(*quotes, first=self._ticks_sent[symbol] + 1)
        self._ticks_sent[symbol] += len(ticks)
        self.publish(msgspec.structs.replace(ticks, epoch=self.epoch), symbol)

    def state(self, *, equity: float = 10_000.0) -> None:
        positions = tuple(self.journal.positions.values())
        quotes = tuple(quote(symbol) for symbol in self.journal.symbols)
        self.publish(StateUpdate(self.epoch, 1, self.market_ms, account(equity=equity), positions, quotes))

    def event(self, body: EventBody) -> None:
        entry = event(len(self.journal.events) + 1, body, log_id=self.journal.log_id)
        self.journal.events.append(entry)
        self.publish(entry)

    # -- what it answers ------------------------------------------------------------------------------------------

    def _heard(self, answer: Callable[[object], Reply]) -> Callable[[object, Caller], Reply | None]:
        def handler(request: object, _caller: Caller) -> Reply | None:
            self.queries_seen.append(type(request).__name__)
            return None if type(request) in self.silent_queries else answer(request)

        return handler

    def _snapshot(self, request: object) -> Snapshot:
        assert isinstance(request, GetSnapshot)
        journal = self.journal
        return snapshot(
            symbols=journal.symbols, offset=len(journal.events), positions=tuple(journal.positions.values()),
            intents=tuple(journal.outcomes.values()), log_id=journal.log_id, request_id=request.id,
        )  # fmt: skip

    def _events(self, request: object) -> Events:
        assert isinstance(request, GetEvents)
        found = tuple(each for each in self.journal.events if each.offset > request.after)[: request.limit]
        return Events(request.id, self.journal.log_id, 1, len(self.journal.events), found)

    def _acknowledge(self, request: object) -> EventsAcknowledged:
        assert isinstance(request, AcknowledgeEvents)
        self.journal.acknowledged[request.consumer] = request.offset
        return EventsAcknowledged(request.id, request.consumer, request.offset, 1)

    def _rates(self, request: object) -> Rates:
        assert isinstance(request, GetRates)
        bars: Iterable[Bar] = self.journal.bars[request.symbol][-request.count :]
        return Rates(request.id, request.symbol, request.timeframe, rates(bars))

    def _intent(self, request: object) -> OrderReply:
        assert isinstance(request, GetIntent)
        outcome = self.journal.outcomes.get(request.client_order_id)
        if outcome is None:
            raise NotFound(f"no order {request.client_order_id}")
        return OrderReply(request.id, outcome, repeated=True)

    def _order(self, request: OrderRequest, _caller: Caller) -> OrderReply | None:
        journal, identifier = self.journal, request.client_order_id
        if self.deaf:
            return None
        if self.refuse:
            raise RiskRefused("too large", {"limit": "max_volume_per_order"})
        if identifier in journal.outcomes:
            journal.repeated.append(identifier)
            return OrderReply(request.id, journal.outcomes[identifier], repeated=True)
        journal.submitted.append(identifier)
        lost = self.lose_replies > 0
        self.lose_replies -= lost
        outcome = self._execute(request, tell=not lost)
        return None if lost else OrderReply(request.id, outcome)

    def _execute(self, request: OrderRequest, *, tell: bool) -> IntentEvent:
        journal = self.journal
        ticket = next(journal.tickets)
        bodies: list[EventBody] = []
        if isinstance(request, ClosePosition):
            ticket = request.position
            bodies.append(PositionEvent("closed", journal.positions.pop(ticket)))
        else:
            assert isinstance(request, SubmitOrder)
            opened = position(ticket, symbol=request.symbol, strategy=request.strategy, volume=request.volume)
            journal.positions[ticket] = opened
            bodies.append(PositionEvent("opened", opened))
        outcome = IntentEvent(
            client_order_id=request.client_order_id, strategy=request.strategy,
            action="close" if isinstance(request, ClosePosition) else "open", state="done", symbol="EURUSD",
            side="buy", volume=0.1, price=0.0, sl=0.0, tp=0.0, position=ticket,
        )  # fmt: skip
        journal.outcomes[request.client_order_id] = outcome
        for body in (outcome, *bodies):
            if tell:
                self.event(body)
            else:  # in the journal, yet lost on its way
                journal.events.append(event(len(journal.events) + 1, body, log_id=journal.log_id))
        return outcome

    def _alive(self, alive: StrategyAlive, _caller: Caller) -> Done:
        self.journal.alive.append(alive)
        return Done(alive.id)

    def _signal(self, request: ReportSignal, _caller: Caller) -> Done:
        if request.signal.signal_id not in self.journal.signals:
            self.journal.signals[request.signal.signal_id] = request.signal
            self.event(request.signal)
        return Done(request.id)


def free_ports(count: int = 5) -> int:
    """Return the first of `count` consecutive ports that are free now."""
    for first in range(21_000 + hash(free_ports) % 3_000, 32_000, count):
        held: list[socket.socket] = []
        try:
            for port in range(first, first + count):
                held.append(socket.socket())
                held[-1].bind(("127.0.0.1", port))
        except OSError:
            continue
        finally:
            for each in held:
                each.close()
        return first
    raise AssertionError("no five free ports in a row")
