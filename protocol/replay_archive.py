"""What a replay knows: the answers recorded in a capture, and how far it has been played.

Answers are as of the play head, never of later: a node that is played to sees no future.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from market.bars import Bar
from protocol.captures import QUERIES, STREAMS, Capture
from protocol.errors import DataInvalid, NotFound
from protocol.messages import (
    MAX_PAGE,
    AccountReply,
    BarUpdate,
    Beacon,
    Deal,
    DealEvent,
    Deals,
    Event,
    Events,
    GetAccount,
    GetDeals,
    GetEvents,
    GetHistoryOrders,
    GetInstrument,
    GetIntent,
    GetOrders,
    GetPositions,
    GetPrices,
    GetRates,
    GetSnapshot,
    GetTickRange,
    InstrumentReply,
    IntentEvent,
    Message,
    Order,
    OrderEvent,
    OrderReply,
    Orders,
    Positions,
    Prices,
    Quote,
    Rates,
    Reply,
    Request,
    Snapshot,
    StateUpdate,
    TickBatch,
    Ticks,
)
from protocol.ticks import RATE_DTYPE, RECORD_BYTES, rates_array

KEPT_TICKS = 100_000  # of a symbol, to heal gaps

Bars = dict[int, bytes]  # open time, UTC seconds, to its 60-byte record


class Archive:
    """The recorded answers, gathered in one reading of a capture.

    Raises:
        DataInvalid: The capture holds no snapshot: nothing could join its replay.
        OSError: The file cannot be read.
    """

    def __init__(self, capture: Capture) -> None:
        self.capture = capture
        self.adapter = capture.header.adapter
        self.rates: dict[tuple[str, str], Bars] = {}
        self.events: dict[int, Event] = {}
        self.outcomes: dict[str, IntentEvent] = {}
        self.first_ticks: dict[str, int] = {}
        self.first_bars: dict[str, int] = {}
        self.first_ns = self.last_ns = 0
        self.messages = 0
        self._snapshot: Snapshot | None = None
        self._beacon: Beacon | None = None
        for record, topic, message in capture.decoded():
            if record.stream == QUERIES:
                self._keep_answer(message)
            elif record.stream == STREAMS:
                self.first_ns = self.first_ns or record.monotonic_ns
                self.last_ns = record.monotonic_ns
                self.messages += 1
                self._keep_first(topic.symbol, message)
        if self._snapshot is None:
            raise DataInvalid(f"{capture.path} holds no snapshot: a node could not join its replay. Record longer")
        self.snapshot: Snapshot = self._snapshot
        self.events = {
            offset: event
            for offset, event in sorted(self.events.items())
            if event.log_id == self.snapshot.log_id and offset > self.snapshot.offset
        }

    def _keep_answer(self, message: Message) -> None:
        if isinstance(message, Snapshot):
            self._snapshot = self._snapshot or message
        elif isinstance(message, Rates):
            key = (message.symbol, message.timeframe)
            if key not in self.rates:
                array = rates_array(message.records)
                self.rates[key] = {int(row["time"]): row.tobytes() for row in array}

    def _keep_first(self, symbol: str, message: Message) -> None:
        if isinstance(message, TickBatch):
            self.first_ticks.setdefault(symbol, message.first)
        elif isinstance(message, BarUpdate):
            self.first_bars.setdefault(symbol, message.number)
        elif isinstance(message, Beacon):
            self._beacon = self._beacon or message
        elif isinstance(message, Event):
            self.events[message.offset] = message
            if isinstance(message.body, IntentEvent):
                self.outcomes[message.body.client_order_id] = message.body

    def first_beacon(self, *, wall_ms: int, sent_ns: int) -> Beacon:
        """Return the beacon that stands before everything: a node that joins by it misses nothing of the replay."""
        snapshot = self.snapshot
        return Beacon(
            epoch=snapshot.epoch,
            sent_ns=sent_ns,
            wall_ms=wall_ms,
            market_ms=self._beacon.market_ms if self._beacon else snapshot.market_ms,
            log_id=snapshot.log_id,
            event_offset=snapshot.offset,
            ticks={symbol: first - 1 for symbol, first in self.first_ticks.items()},
            bars={symbol: first - 1 for symbol, first in self.first_bars.items()},
            connection=snapshot.connection,
            trading_mode=snapshot.trading_mode,
            server_offset_minutes=snapshot.server_offset_minutes,
            server_time_status=snapshot.server_time_status,
        )


class PlayHead:
    """How far an archive has been played, and the answers as of there."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._rates = {key: dict(bars) for key, bars in archive.rates.items()}
        self._ticks: dict[str, deque[tuple[int, int, bytes]]] = {}
        self._quotes: dict[str, Quote] = {}
        self._state: StateUpdate | None = None
        self._intents = {intent.client_order_id: intent for intent in archive.snapshot.intents}
        self.offset = archive.snapshot.offset

    def pass_over(self, symbol: str, message: Message) -> None:
        """Take note of a message that was played."""
        if isinstance(message, TickBatch):
            kept = self._ticks.setdefault(symbol, deque(maxlen=KEPT_TICKS))
            for index in range(len(message)):
                record = message.records[index * RECORD_BYTES : (index + 1) * RECORD_BYTES]
                kept.append((message.epoch, message.first + index, record))
        elif isinstance(message, BarUpdate):
            bar = message.bar
            self._rates.setdefault((symbol, message.timeframe), {})[bar.open_time_ms // 1000] = _rate_record(bar)
        elif isinstance(message, StateUpdate):
            self._state = message
            self._quotes.update((quote.symbol, quote) for quote in message.quotes)
        elif isinstance(message, Event):
            self.offset = max(self.offset, message.offset)
            if isinstance(message.body, IntentEvent):
                self._intents[message.body.client_order_id] = message.body

    def answer(self, request: Request) -> Reply:
        """Return the answer to a query.

        Raises:
            NotFound: It was not recorded, or not yet played; or a kind of query that a replay does not answer.
        """
        for kind, handler in _ANSWERS.items():
            if isinstance(request, kind):
                reply: Reply = handler(self, request)
                return reply
        raise NotFound(f"a replay does not answer {request.kind}")

    def _snapshot(self, request: GetSnapshot) -> Snapshot:
        snapshot = self._archive.snapshot
        intents = tuple(i for i in snapshot.intents if request.strategy in {"", i.strategy})
        return msgspec.structs.replace(snapshot, id=request.id, intents=intents)

    def _events(self, request: GetEvents) -> Events:
        snapshot = self._archive.snapshot
        played = range(max(request.after, snapshot.offset) + 1, self.offset + 1)
        found = [self._archive.events[offset] for offset in played if offset in self._archive.events]
        return Events(request.id, snapshot.log_id, snapshot.offset + 1, self.offset, tuple(found[: request.limit]))

    def _rates_reply(self, request: GetRates) -> Rates:
        key = (request.symbol, request.timeframe)
        bars = self._rates.get(key)
        if bars is None:
            raise NotFound(f"no {request.timeframe} bars of {request.symbol} were recorded")
        opens = sorted(open_s for open_s in bars if not request.to_ms or open_s * 1000 <= request.to_ms)
        wanted = opens[-request.count :] if request.count else [o for o in opens if o * 1000 >= request.from_ms]
        page, rest = wanted[:MAX_PAGE], wanted[MAX_PAGE:]
        records = b"".join(bars[open_s] for open_s in page)
        return Rates(request.id, *key, records, more=bool(rest), next_ms=rest[0] * 1000 if rest else 0)

    def _instrument(self, request: GetInstrument) -> InstrumentReply:
        for instrument in self._archive.snapshot.instruments:
            if instrument.symbol == request.symbol:
                return InstrumentReply(request.id, instrument)
        raise NotFound(f"no specification of {request.symbol} was recorded")

    def _tick_range(self, request: GetTickRange) -> Ticks:
        wanted = range(request.first, request.first + request.count)
        kept = self._ticks.get(request.symbol, ())
        records = [record for epoch, number, record in kept if epoch == request.epoch and number in wanted]
        if not records:
            raise NotFound(f"ticks {wanted.start} on of {request.symbol} are not kept, or not played yet")
        return Ticks(request.id, request.symbol, b"".join(records), first=request.first)

    def _prices(self, request: GetPrices) -> Prices:
        quotes = self._quotes.values()
        return Prices(request.id, tuple(q for q in quotes if not request.symbols or q.symbol in request.symbols))

    def _account(self, request: GetAccount) -> AccountReply:
        account = self._state.account if self._state else self._archive.snapshot.account
        if account is None:
            raise NotFound("no account was recorded")
        return AccountReply(request.id, account)

    def _positions(self, request: GetPositions) -> Positions:
        positions = self._state.positions if self._state else self._archive.snapshot.positions
        return Positions(request.id, tuple(p for p in positions if request.symbol in {"", p.symbol}))

    def _orders(self, request: GetOrders) -> Orders:
        orders = {order.ticket: order for order in self._archive.snapshot.orders}
        for order in self._played_orders():
            if order.time_done_ms:
                orders.pop(order.ticket, None)
            else:
                orders[order.ticket] = order
        return Orders(request.id, tuple(o for o in orders.values() if request.symbol in {"", o.symbol}))

    def _history_orders(self, request: GetHistoryOrders) -> Orders:
        final = {order.ticket: order for order in self._played_orders() if order.time_done_ms}
        within = (o for o in final.values() if request.from_ms <= o.time_done_ms <= request.to_ms)
        return Orders(request.id, tuple(within))

    def _deals(self, request: GetDeals) -> Deals:
        def wanted(deal: Deal) -> bool:
            if request.position_id:
                return deal.position_id == request.position_id
            return request.from_ms <= deal.time_ms <= request.to_ms

        deals = (event.body.deal for event in self._played() if isinstance(event.body, DealEvent))
        return Deals(request.id, tuple(deal for deal in deals if wanted(deal)))

    def _intent(self, request: GetIntent) -> OrderReply:
        intent = self._intents.get(request.client_order_id)
        if intent is None:
            raise NotFound(f"no order {request.client_order_id} was recorded up to here")
        return OrderReply(request.id, intent, repeated=True)

    def _played(self) -> list[Event]:
        return [event for offset, event in self._archive.events.items() if offset <= self.offset]

    def _played_orders(self) -> list[Order]:
        return [event.body.order for event in self._played() if isinstance(event.body, OrderEvent)]


_ANSWERS: dict[type[Request], Callable[[PlayHead, Any], Reply]] = {
    GetSnapshot: PlayHead._snapshot,
    GetEvents: PlayHead._events,
    GetRates: PlayHead._rates_reply,
    GetInstrument: PlayHead._instrument,
    GetTickRange: PlayHead._tick_range,
    GetPrices: PlayHead._prices,
    GetAccount: PlayHead._account,
    GetPositions: PlayHead._positions,
    GetOrders: PlayHead._orders,
    GetDeals: PlayHead._deals,
    GetHistoryOrders: PlayHead._history_orders,
    GetIntent: PlayHead._intent,
}
ANSWERED: tuple[type[Request], ...] = tuple(_ANSWERS)


def _rate_record(bar: Bar) -> bytes:
    values = (
        bar.open_time_ms // 1000,
        bar.open,
        bar.high,
        bar.low,
        bar.close,
        bar.tick_volume,
        bar.spread_points,
        bar.real_volume,
    )
    try:
        return np.array(values, RATE_DTYPE).tobytes()
    except OverflowError as error:
        raise DataInvalid(f"a bar that cannot be: {error}") from None
