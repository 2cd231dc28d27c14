"""Playing a capture on the real endpoints, to real nodes: at its own pace, N times as fast, or as fast as they follow.

The replayer stands in for the adapter (streams, queries, orders) and, towards the nodes' heartbeat, for the supervisor.
Orders take no effect: they are kept, and answered with the outcome recorded for their client order id.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
import zmq

from protocol import codec
from protocol.captures import STREAMS, Decoded
from protocol.errors import StateConflict
from protocol.keys import Identity
from protocol.loop import Loop, Timer
from protocol.messages import (
    ArmAccount,
    BarUpdate,
    Beacon,
    CancelOrder,
    CloseBy,
    ClosePosition,
    Done,
    Event,
    IntentEvent,
    Message,
    ModifyOrder,
    ModifyPosition,
    OrderReply,
    OrderRequest,
    Reconnect,
    Reply,
    ReportSignal,
    Request,
    SetTradingMode,
    SignalEvent,
    StrategyAlive,
    SubmitOrder,
    TickBatch,
)
from protocol.replay_archive import ANSWERED, Archive, PlayHead
from protocol.replay_pace import Pace
from protocol.service import Caller, Service
from protocol.sockets import Context, bind_router, bind_streams
from protocol.topics import SEPARATOR

SETTLE_S = 2.0
_CHUNK = 200
_UNPACED_CHUNK_S = 0.01
_WAITING_INTERVAL_S = 0.1
_ACTIONS: dict[type[OrderRequest], str] = {
    SubmitOrder: "open",
    ClosePosition: "close",
    CloseBy: "close_by",
    ModifyPosition: "modify_position",
    ModifyOrder: "modify_order",
    CancelOrder: "cancel",
}

log = logging.getLogger(__name__)


class ReplayAddresses(NamedTuple):
    """Where a replay listens; `pings` None: nodes are run alone, and nothing confirms what they handled."""

    streams: str
    queries: str
    orders: str
    pings: str | None


class Replayer:
    """Plays one capture, once; then goes on answering until closed.

    It begins when a node has joined and warmed up, so that nothing is missed and two replays are alike.

    Attributes:
        orders: What the nodes ordered, in order of arrival.
        signals: What they reported.
        played: Messages played, by kind.
        pings: Where nodes are pinged from, if they are.
        state: ``waiting`` for a node, ``playing`` or ``done``.

    Args:
        speed: 1 as recorded, N times as fast; None as fast as the nodes follow.
        identity: The adapter's, for streams, queries and orders.
        supervisor: The supervisor's, for pings.
        on_done: Called once, when everything was played and handled.
        settle_s: How long nodes without pings must ask nothing before it begins.
    """

    def __init__(
        self,
        loop: Loop,
        context: Context,
        archive: Archive,
        addresses: ReplayAddresses,
        *,
        identity: Identity,
        supervisor: Identity,
        speed: float | None = 1.0,
        on_done: Callable[[], None] | None = None,
        settle_s: float = SETTLE_S,
    ) -> None:
        if speed is not None and not speed > 0:
            raise ValueError(f"a speed of {speed}: above 0, or None for as fast as possible")
        self._loop = loop
        self._archive = archive
        self._head = PlayHead(archive)
        self._speed = speed
        self._on_done = on_done
        self._settle_s = settle_s
        self._subscriptions: set[bytes] = set()
        self._joined = False
        self._asked_s = time.monotonic()
        self._source: Iterator[Decoded] = iter(())
        self._next: Decoded | None = None
        self._start_ns = 0
        self._in_chunk = 0
        self._was_event = False
        self._counts: Counter[str] = Counter()
        self.state = "waiting"
        self.orders: list[OrderRequest] = []
        self.signals: list[SignalEvent] = []
        self.played: Counter[str] = Counter()
        self._xpub = bind_streams(context, addresses.streams, identity=identity)
        loop.watch(self._xpub, self._on_subscription)
        self._queries = self._service(context, addresses.queries, identity, "query")
        self._orders = self._service(context, addresses.orders, identity, "trade")
        self._handle_requests()
        self.pings: str | None = None
        pings = None
        if addresses.pings is not None:
            pings = bind_router(context, addresses.pings, identity=supervisor, domain="node")
            self.pings = pings.getsockopt_string(zmq.LAST_ENDPOINT)
        self._pace = Pace(loop, pings)
        self._beacons: Timer = loop.every(_WAITING_INTERVAL_S, self._wait)

    @property
    def addresses(self) -> tuple[str, str, str]:
        """Where streams, queries and orders are bound."""
        endpoint = self._xpub.getsockopt_string(zmq.LAST_ENDPOINT)
        return endpoint, self._queries.address, self._orders.address

    @property
    def unconfirmed(self) -> int:
        """Times that a node did not confirm what it handled: then the order of its callbacks is not certain."""
        return self._pace.unconfirmed

    def close(self) -> None:
        """Close every socket."""
        self._beacons.cancel()
        self._loop.unwatch(self._xpub)
        self._xpub.close()
        self._queries.close()
        self._orders.close()
        self._pace.close()

    # Requests

    def _service(self, context: Context, address: str, identity: Identity, role: str) -> Service:
        socket = bind_router(context, address, identity=identity, domain=role)
        return Service(self._loop, socket, adapter=self._archive.adapter)

    def _handle_requests(self) -> None:
        for query in ANSWERED:
            self._queries.handle(query, self._on_query)
        for kind in _ACTIONS:
            self._orders.handle(kind, self._on_order)
        self._orders.handle(ReportSignal, self._on_signal)
        self._orders.handle(StrategyAlive, lambda alive, _caller: Done(alive.id))
        for refused in (SetTradingMode, ArmAccount, Reconnect):
            self._orders.handle(refused, self._on_command)

    def _on_query(self, request: Any, caller: Caller) -> Reply:  # noqa: ARG002  every handler gets its caller
        self._asked_s = time.monotonic()
        self._joined = self._joined or request.kind in {"get_snapshot", "get_events"}
        return self._head.answer(request)

    def _on_order(self, request: Any, caller: Caller) -> Reply:  # noqa: ARG002  every handler gets its caller
        repeated = any(order.client_order_id == request.client_order_id for order in self.orders)
        if not repeated:
            self.orders.append(request)
        outcome = self._archive.outcomes.get(request.client_order_id)
        return OrderReply(request.id, outcome or _sent(request), repeated)

    def _on_signal(self, request: ReportSignal, caller: Caller) -> Reply:  # noqa: ARG002  as above
        if all(signal.signal_id != request.signal.signal_id for signal in self.signals):
            self.signals.append(request.signal)
        return Done(request.id)

    def _on_command(self, request: Request, caller: Caller) -> Reply:  # noqa: ARG002  as above
        raise StateConflict(f"{request.kind} has no meaning in a replay: nothing is traded")

    def _on_subscription(self) -> None:
        for _ in range(_CHUNK):
            try:
                message = self._xpub.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            if message[:1] == b"\x01":
                self._subscriptions.add(message[1:])
            elif message[:1] == b"\x00":
                self._subscriptions.discard(message[1:])

    # Playing

    def _wait(self) -> None:
        """Until a node is there, show it where the replay begins."""
        now_ns = self._loop.clock.monotonic_ns()
        beacon = self._archive.first_beacon(wall_ms=self._loop.clock.wall_ms(), sent_ns=now_ns)
        self._xpub.send(codec.encode(beacon, self._archive.adapter), zmq.NOBLOCK)
        quiet = time.monotonic() - self._asked_s > self._settle_s
        if self._pace.ready if self._pace.nodes else (self._joined and quiet):
            self._beacons.cancel()
            self._begin()

    def _begin(self) -> None:
        log.info("the replay begins", extra={"nodes": self._pace.nodes, "messages": self._archive.messages})
        self.state = "playing"
        self._pace.begin()
        self._start_ns = self._loop.clock.monotonic_ns()
        self._source = (each for each in self._archive.capture.decoded() if self._is_played(each))
        self._next = next(self._source, None)
        self._step()

    def _is_played(self, decoded: Decoded) -> bool:
        message = decoded.message
        if decoded.record.stream != STREAMS:
            return False
        return not isinstance(message, Event) or message.offset in self._archive.events

    def _step(self) -> None:
        """Play what is due, up to where the nodes must first have followed."""
        while self._next is not None:
            late_ns = self._late_ns(self._next)
            if late_ns < 0:
                self._loop.after(-late_ns / 1e9, self._step)
                return
            is_event = isinstance(self._next.message, Event)
            if self._in_chunk and (is_event != self._was_event or self._in_chunk >= _CHUNK):
                self._in_chunk = 0
                self._follow()
                return
            self._was_event = is_event
            self._in_chunk += 1
            self._publish(self._next)
            self._next = next(self._source, None)
        self._pace_or_go(self._finish)

    def _late_ns(self, decoded: Decoded) -> int:
        if self._speed is None:
            return 0
        due_ns = self._start_ns + int((decoded.record.monotonic_ns - self._archive.first_ns) / self._speed)
        return self._loop.clock.monotonic_ns() - due_ns

    def _follow(self) -> None:
        self._pace_or_go(self._step)

    def _pace_or_go(self, then: Callable[[], None]) -> None:
        if self._pace.nodes:
            self._pace.wait_for(self._counts, then)
        else:
            self._loop.after(_UNPACED_CHUNK_S, then)

    def _publish(self, decoded: Decoded) -> None:
        message = decoded.message
        if isinstance(message, TickBatch | BarUpdate | Beacon):
            # The recorder's clock is not this machine's of today: a receiver would see an age of days.
            message = msgspec.structs.replace(message, sent_ns=self._loop.clock.monotonic_ns())
        prefix = decoded.topic.encode() + SEPARATOR
        self._head.pass_over(decoded.topic.symbol, message)
        self.played[message.kind] += 1
        self._count(prefix, message)
        self._xpub.send(codec.encode_with(prefix, message), zmq.NOBLOCK)

    def _count(self, prefix: bytes, message: Message) -> None:
        if not any(prefix.startswith(subscription) for subscription in self._subscriptions):
            return
        if isinstance(message, TickBatch):
            self._counts["ticks"] += len(message)
        elif isinstance(message, BarUpdate):
            self._counts["bars"] += 1
        elif isinstance(message, Event):
            self._counts["events"] += 1

    def _finish(self) -> None:
        self.state = "done"
        log.info("the replay is over", extra={"orders": len(self.orders), "signals": len(self.signals)})
        if self._on_done is not None:
            self._on_done()


def _sent(request: OrderRequest) -> IntentEvent:
    """Return the outcome of an order that the capture does not know: sent, and no more."""

    def field(name: str, default: Any) -> Any:
        return getattr(request, name, default)

    return IntentEvent(
        client_order_id=request.client_order_id,
        strategy=request.strategy,
        action="pending" if field("type", "market") != "market" else _ACTIONS[type(request)],
        state="sent",
        symbol=field("symbol", ""),
        side=field("side", ""),
        volume=field("volume", 0.0),
        price=field("price", 0.0),
        sl=field("sl", 0.0),
        tp=field("tp", 0.0),
        order=field("order", 0),
        position=field("position", 0),
    )
