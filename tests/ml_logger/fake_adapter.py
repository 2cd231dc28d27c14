"""An adapter and a supervisor for tests: real sockets, keys and roles; the log and the history are lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import zmq

from mt5bus.config import Loaded, load
from mt5bus.errors import ConfigError
from mt5bus.home import Home
from protocol import codec
from protocol.errors import BusError, EventsGone, NotFound
from protocol.keys import KeyStore
from protocol.loop import Loop
from protocol.messages import (
    AcknowledgeEvents,
    Deal,
    Deals,
    Event,
    EventBody,
    Events,
    EventsAcknowledged,
    GetDeals,
    GetEvents,
    GetHistoryOrders,
    GetRates,
    GetSnapshot,
    Hello,
    Message,
    Order,
    Orders,
    Ping,
    Pong,
    Rates,
    Reply,
    Request,
    Snapshot,
)
from protocol.numbering import EventPosition
from protocol.service import Caller, Service
from protocol.sockets import bind_router, bind_streams
from protocol.zap import Gatekeeper
from tests.ml_logger import facts
from tests.ml_logger.ports import free_ports_in_a_row
from tests.waiting import eventually

ADAPTER = "main"
R = TypeVar("R", bound=Request)
T = TypeVar("T")


def make_home(folder: Path, *, url: str = "", rows_per_commit: int = 50, backfill_days: int = 1) -> Loaded:
    """Return the configuration of a home with one symbol, quick commits and free ports."""
    text = f"""
[bus]
port = {free_ports_in_a_row(5)}
[adapter]
symbols = ["EURUSD"]
timeframes = ["M1"]
[[strategy]]
timeframe = "M1"
[logger]
url = "{url}"
commit_interval_ms = 50
rows_per_commit = {rows_per_commit}
backfill_days = {backfill_days}
"""
    home = Home(folder).create()
    (folder / "mt5bus.toml").write_text(text, encoding="utf-8")
    KeyStore(home.keys).ensure()
    try:
        return load(folder)
    except ConfigError as error:  # a wrong test setting, not a result
        raise AssertionError(error) from error


class FakeAdapter:
    """Publishes and answers; a test turns its loop by `until`."""

    def __init__(self, loaded: Loaded) -> None:
        self.loop = Loop()
        self.log_id = facts.LOG
        self.epoch = 1
        self.first_offset = 1
        self.market_ms = facts.NOW_MS
        self.events: list[Event] = []
        self.deals: list[Deal] = []
        self.orders: list[Order] = []
        self.bar_times: list[int] = []
        self.closes: dict[int, float] = {}  # of bars in the history, where it is not 1.1
        self.page = 100
        self.refusals: dict[type[Request], BusError] = {}
        self.acknowledged: dict[str, EventPosition] = {}
        self.asked: Counter[type[Request]] = Counter()
        self.ranges: list[tuple[str, int, int]] = []
        self.pongs: list[Pong] = []
        self.peers: dict[str, bytes] = {}
        self._bar_number = 0
        self._states = 0
        self._serial = 0
        bus, keys = loaded.settings.bus, KeyStore(loaded.home.keys)
        self._gatekeeper = Gatekeeper(self.loop, keys.admitted)
        identity = keys.identity("adapter")
        self._streams = bind_streams(self.loop.context, bus.streams, identity=identity)
        self._service = Service(
            self.loop,
            bind_router(self.loop.context, bus.queries, identity=identity, domain="query"),
            adapter=ADAPTER,
        )
        self._pings = bind_router(self.loop.context, bus.pings, identity=keys.identity("supervisor"), domain="node")
        self.loop.watch(self._pings, self._on_node)
        self.loop.watch(self._streams, self._drain_subscriptions)
        self._handle(GetSnapshot, self._snapshot)
        self._handle(GetEvents, self._some_events)
        self._handle(AcknowledgeEvents, self._acknowledge)
        self._handle(GetRates, self._rates)
        self._handle(GetDeals, self._some_deals)
        self._handle(GetHistoryOrders, self._some_orders)
        self.loop.every(0.05, self._beat)

    def close(self) -> None:
        """Close every socket and the loop."""
        self._service.close()
        for socket in (self._pings, self._streams):
            self.loop.unwatch(socket)
            socket.close()
        self._gatekeeper.close()
        self.loop.close()

    def until(self, check: Callable[[], T], *, timeout_s: float = 15.0, what: str = "the condition") -> T:
        """Turn the loop until `check` is truthy."""

        def turned() -> T:
            self.loop.turn(5)
            return check()

        return eventually(turned, timeout_s=timeout_s, what=what)

    def publish(self, *bodies: EventBody, silently: bool = False) -> None:
        """Enter events into the log and publish them, unless `silently`: as if the stream had lost them."""
        for body in bodies:
            event = facts.event(self.last_offset + 1, body, log_id=self.log_id, epoch=self.epoch)
            self.events.append(event)
            if not silently:
                self.send(event)

    def publish_bar(self, open_time_ms: int, *, lost: bool = False, revision: int = 0, close: float = 1.1) -> None:
        """Publish a bar; a `lost` one takes a number only. It enters the history either way."""
        self._bar_number += 1
        self.market_ms = max(self.market_ms, open_time_ms + 60_000)
        if open_time_ms not in self.bar_times:
            self.bar_times.append(open_time_ms)
        self.closes[open_time_ms] = close
        update = facts.bar_update(self._bar_number, open_time_ms, epoch=self.epoch, revision=revision, close=close)
        if not lost:
            self.send(update, "EURUSD")

    def restart(self, *, log_id: str | None = None) -> None:
        """Begin another epoch, with another event log if named."""
        self.epoch += 1
        self._bar_number = 0
        if log_id is not None:
            self.log_id, self.events, self.first_offset = log_id, [], 1

    def send(self, message: Message, symbol: str = "") -> None:
        """Publish a message."""
        self._streams.send(codec.encode(message, ADAPTER, symbol), zmq.NOBLOCK)

    def ping(self, node: str = "ml_logger") -> None:
        """Ping a node that said hello."""
        self._serial += 1
        ping = Ping(self._serial, self.loop.clock.monotonic_ns())
        self._pings.send_multipart([self.peers[node], b"", codec.encode(ping)], zmq.NOBLOCK)

    @property
    def last_offset(self) -> int:
        """Offset of the newest event."""
        return self.first_offset + len(self.events) - 1

    def compact(self, first_offset: int) -> None:
        """Forget the events before `first_offset`."""
        self.events = [event for event in self.events if event.offset >= first_offset]
        self.first_offset = first_offset

    def _handle(self, kind: type[R], handler: Callable[[R], Reply]) -> None:
        def handle(request: R, _: Caller) -> Reply:
            self.asked[kind] += 1
            if kind in self.refusals:
                raise self.refusals[kind]
            return handler(request)

        self._service.handle(kind, handle)

    def _beat(self) -> None:
        self._states += 1
        bars = {"EURUSD": self._bar_number} if self._bar_number else {}
        self.send(facts.beacon(self.log_id, self.last_offset, bars=bars, epoch=self.epoch, market_ms=self.market_ms))
        self.send(facts.state(self._states, epoch=self.epoch, market_ms=self.market_ms))

    def _snapshot(self, request: GetSnapshot) -> Snapshot:
        return facts.snapshot(request.id, log_id=self.log_id, offset=self.last_offset)

    def _acknowledge(self, request: AcknowledgeEvents) -> EventsAcknowledged:
        if request.log_id != self.log_id:
            raise NotFound("another log")
        self.acknowledged[request.consumer] = EventPosition(request.log_id, request.offset)
        return EventsAcknowledged(request.id, request.consumer, request.offset, self.first_offset)

    def _some_events(self, request: GetEvents) -> Events:
        if request.log_id == self.log_id and request.after + 1 < self.first_offset:
            raise EventsGone("no longer kept", {"log_id": self.log_id, "first_offset": str(self.first_offset)})
        found = tuple(event for event in self.events if event.offset > request.after)[: request.limit]
        return Events(request.id, self.log_id, self.first_offset, self.last_offset, found)

    def _rates(self, request: GetRates) -> Rates:
        if (request.symbol, request.timeframe) != ("EURUSD", "M1"):
            raise NotFound(f"{request.symbol} {request.timeframe}")
        self.ranges.append(("bars", request.from_ms, request.to_ms))
        found = [time for time in sorted(self.bar_times) if request.from_ms <= time <= request.to_ms]
        more = len(found) > self.page
        next_ms = found[self.page] if more else 0
        records = facts.rates({time_ms: self.closes.get(time_ms, 1.1) for time_ms in found[: self.page]})
        return Rates(request.id, "EURUSD", "M1", records, more, next_ms)

    def _some_deals(self, request: GetDeals) -> Deals:
        self.ranges.append(("deals", request.from_ms, request.to_ms))
        found = [deal for deal in self.deals if request.from_ms <= deal.time_ms <= request.to_ms]
        return Deals(request.id, tuple(found[: self.page]), len(found) > self.page)

    def _some_orders(self, request: GetHistoryOrders) -> Orders:
        self.ranges.append(("orders", request.from_ms, request.to_ms))
        found = [order for order in self.orders if request.from_ms <= order.time_done_ms <= request.to_ms]
        return Orders(request.id, tuple(found[: self.page]), len(found) > self.page)

    def _on_node(self) -> None:
        routing_id, _, frame = self._pings.recv_multipart(zmq.NOBLOCK)
        message = codec.decode(frame).message
        if isinstance(message, Hello):
            self.peers[message.node] = routing_id
        elif isinstance(message, Pong):
            self.pongs.append(message)

    def _drain_subscriptions(self) -> None:
        while self._streams.poll(0):
            self._streams.recv(zmq.NOBLOCK)
