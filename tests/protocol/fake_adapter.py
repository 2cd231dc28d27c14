"""A publisher with numbered streams and an event log, enough of an adapter for subscribers, recorders and replays."""

from __future__ import annotations

import msgspec
import numpy as np

from market.bars import Bar
from protocol import codec
from protocol import messages as m
from protocol.errors import EventsGone, NotFound
from protocol.service import Caller, Service
from protocol.sockets import Socket
from protocol.ticks import RATE_DTYPE, RECORD_BYTES, TICK_DTYPE
from tests.protocol.rig import ANY_PORT, Peer
from tests.protocol.samples import ACCOUNT, INSTRUMENT, QUOTE

EPOCH = 1_700_000_000_000


def tick_records(first: int, count: int) -> bytes:
    """Return `count` ticks whose bid is their ordinal."""
    records = np.zeros(count, TICK_DTYPE)
    records["bid"] = np.arange(first, first + count)
    records["time_msc"] = EPOCH + np.arange(first, first + count)
    return records.tobytes()


def bids(batch: m.TickBatch) -> list[int]:
    """Return the ordinals that `tick_records` put into a batch."""
    return [int(bid) for bid in np.frombuffer(batch.records, TICK_DTYPE)["bid"]]


class FakeAdapter:
    """Publishes on request; answers what is asked at joining and healing. Its own methods run in the peer's thread.

    Attributes:
        drop: The next so many frames are not sent, as by a full socket.
    """

    def __init__(self, peer: Peer, streams: str = ANY_PORT, queries: str = ANY_PORT) -> None:
        self.peer = peer
        self.socket: Socket
        self.socket, self.streams = peer.streams(streams)
        self.queries: Service
        self.queries, self.queries_at = peer.service("query", queries)
        self.log_id = "log-1"
        self.epoch = EPOCH
        self.events: list[m.Event] = []
        self.ticks: dict[str, bytes] = {}
        self.bars: dict[str, int] = {}
        self.drop = 0
        self.snapshots = 0
        self.first_offset = 1
        self.queries.handle(m.GetSnapshot, self._snapshot)
        self.queries.handle(m.GetEvents, self._events)
        self.queries.handle(m.GetTickRange, self._tick_range)
        self.queries.handle(m.GetRates, self._rates)

    def send(self, message: m.Message, symbol: str = "") -> None:
        """Publish `message`."""
        if self.drop:
            self.drop -= 1
        else:
            self.socket.send(codec.encode(message, "main", symbol))

    def beacon(self) -> None:
        """Publish the beacon."""
        now_ns = self.peer.loop.clock.monotonic_ns()
        ticks = {symbol: len(records) // RECORD_BYTES for symbol, records in self.ticks.items()}
        self.send(
            m.Beacon(
                self.epoch, now_ns, 1, 2, self.log_id, len(self.events), ticks, self.bars, "up", "active", 0, "measured"
            )
        )

    def tick(self, count: int = 1, symbol: str = "EURUSD", *, age_ms: int = 0) -> None:
        """Publish the next `count` ticks in one batch."""
        old = self.ticks.get(symbol, b"")
        first = len(old) // RECORD_BYTES + 1
        records = tick_records(first, count)
        self.ticks[symbol] = old + records
        sent_ns = self.peer.loop.clock.monotonic_ns() - age_ms * 1_000_000
        self.send(m.TickBatch(self.epoch, first, sent_ns, records), symbol)

    def bar(self, symbol: str = "EURUSD") -> None:
        """Publish the next bar."""
        number = self.bars[symbol] = self.bars.get(symbol, 0) + 1
        bar = Bar(EPOCH + number * 5000, 1.0, 2.0, 0.5, 1.5, 3, 2)
        self.send(m.BarUpdate(self.epoch, number, 0, "S5", 0, bar), symbol)

    def event(self, body: m.EventBody | None = None) -> None:
        """Write and publish the next event."""
        offset = len(self.events) + 1
        body = body or m.ModeEvent("active", "", offset)
        self.events.append(m.Event(self.log_id, offset, self.epoch, EPOCH, EPOCH, "Demo-Server", 5_012_345, body))
        self.send(self.events[-1])

    def state(self) -> None:
        """Publish account and quotes."""
        self.send(m.StateUpdate(self.epoch, 1, EPOCH, ACCOUNT, (), (QUOTE,)))

    def restart(self, *, new_log: bool = False) -> None:
        """Begin another life."""
        self.epoch += 1000
        self.ticks, self.bars = {}, {}
        if new_log:
            self.log_id += "'"
            self.events = []

    def _snapshot(self, request: m.GetSnapshot, caller: Caller) -> m.Snapshot:
        self.snapshots += 1
        return snapshot(request.id, log_id=self.log_id, offset=len(self.events), epoch=self.epoch)

    def _events(self, request: m.GetEvents, caller: Caller) -> m.Events:
        if request.log_id == self.log_id and request.after + 1 < self.first_offset:
            raise EventsGone("no longer kept", {"log_id": self.log_id, "first_offset": str(self.first_offset)})
        start = max(request.after, self.first_offset - 1)
        found = tuple(self.events[start : start + min(request.limit, 7)])
        return m.Events(request.id, self.log_id, self.first_offset, len(self.events), found)

    def _tick_range(self, request: m.GetTickRange, caller: Caller) -> m.Ticks:
        if request.epoch != self.epoch:
            raise NotFound("the epoch is over")
        start = (request.first - 1) * RECORD_BYTES
        count = min(request.count, 5)
        records = self.ticks[request.symbol][start : start + count * RECORD_BYTES]
        return m.Ticks(request.id, request.symbol, records, first=request.first)

    def _rates(self, request: m.GetRates, caller: Caller) -> m.Rates:
        records = np.zeros(3, RATE_DTYPE)
        records["time"] = EPOCH // 1000 - 15 + np.arange(3) * 5
        records["close"] = 1.25
        return m.Rates(request.id, request.symbol, request.timeframe, records.tobytes())


def snapshot(request_id: int = 1, **changes: object) -> m.Snapshot:
    """Return a snapshot with the sample account and instrument."""
    made = m.Snapshot(
        id=request_id,
        log_id="log-1",
        offset=0,
        epoch=EPOCH,
        market_ms=EPOCH,
        account=ACCOUNT,
        positions=(),
        orders=(),
        instruments=(INSTRUMENT,),
        intents=(),
        trading_mode="active",
        connection="up",
        server_offset_minutes=120,
        server_time_status="measured",
    )
    return msgspec.structs.replace(made, **changes)
