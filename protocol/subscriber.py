"""Subscribing to an adapter: events first and whole, ticks in order, and never an unbounded queue.

The socket is drained on every wake-up, up to a bound; of what was drained events are handled first, then ticks and
bars in the order of their arrival. A consumer that is behind its lag limit may be given only the newest batch of each
symbol, with what was skipped counted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import zmq

from protocol import codec
from protocol.errors import DataInvalid, UnknownKind
from protocol.event_follower import EventFollower
from protocol.keys import Identity
from protocol.loop import Loop
from protocol.messages import BarUpdate, Beacon, Event, Message, Snapshot, StateUpdate, StreamReport, TickBatch
from protocol.numbering import EventPosition
from protocol.numbering import Sequence as Numbers
from protocol.refusals import RefusalWatch
from protocol.requests import Requester
from protocol.sockets import Context, connect_subscriber, readable
from protocol.tick_healer import TickPlace, TickStream
from protocol.topics import Topic, kind_subscription

MAX_DRAIN = 2_000  # messages in one turn
_LOGGED_MALFORMED = 20

log = logging.getLogger(__name__)

OnTick = Callable[[str, TickBatch], None]
OnBar = Callable[[str, BarUpdate], None]


class StreamSubscriber:
    """One subscription to one adapter's streams. Callbacks that are None cost nothing: their topics are not subscribed.

    Args:
        queries: Used for snapshots, missed events and healing.
        symbols: Whose ticks and bars; None for all.
        position: Where to resume the event log; None joins with a snapshot.
        lag_limit_ms: When a tick batch is older than this at its handling, older ones of its symbol in the same drain
            are skipped; None handles every tick.
        heal_ticks: Fetch missing ticks and deliver them in order, also those between two lives of the adapter.
        tick_places: With `heal_ticks`: by symbol, behind which tick of its history to go on; see `tick_places`.
    """

    def __init__(
        self,
        loop: Loop,
        context: Context,
        address: str,
        *,
        identity: Identity,
        server_key: bytes,
        adapter: str,
        queries: Requester,
        on_tick: OnTick | None = None,
        on_bar: OnBar | None = None,
        on_event: Callable[[Event], None] | None = None,
        on_state: Callable[[StateUpdate], None] | None = None,
        on_beacon: Callable[[Beacon], None] | None = None,
        on_snapshot: Callable[[Snapshot], None] | None = None,
        symbols: Sequence[str] | None = None,
        position: EventPosition | None = None,
        strategy: str = "",
        lag_limit_ms: int | None = None,
        heal_ticks: bool = False,
        tick_places: Mapping[str, TickPlace] | None = None,
    ) -> None:
        self._loop = loop
        self._queries = queries
        self._adapter = adapter
        self._symbols = tuple(symbols) if symbols is not None else None
        self._on_tick = on_tick
        self._on_bar = on_bar
        self._on_state = on_state
        self._on_beacon = on_beacon
        self._lag_limit_ms = lag_limit_ms
        self._heal_ticks = heal_ticks
        self._tick_places = dict(tick_places or {})
        self._ticks: dict[str, TickStream] = {}
        self._bars: dict[str, Numbers] = {}
        self._bar_gaps = 0
        self._skipped = 0
        self._lag_ms = 0.0
        self.unknown = 0
        self.malformed = 0
        self._follower: EventFollower | None = None
        if on_event is not None:
            self._follower = EventFollower(
                loop, queries, on_event=on_event, on_snapshot=on_snapshot, position=position, strategy=strategy
            )
        self._closed = False
        self._socket = connect_subscriber(context, address, identity=identity, server_key=server_key, monitored=True)
        self._watch = RefusalWatch(loop, self._socket, address, peer="adapter")

    def start(self) -> None:
        """Subscribe and begin to join."""
        for topic in self._topics():
            self._socket.setsockopt(zmq.SUBSCRIBE, topic)
        self._loop.watch(self._socket, self._on_readable)

    def close(self) -> None:
        """Leave the streams."""
        if self._follower is not None:
            self._follower.close()
        self._closed = True
        self._watch.close()
        self._loop.unwatch(self._socket)
        self._socket.close()

    @property
    def position(self) -> EventPosition | None:
        """The last event handled."""
        return self._follower.position if self._follower else None

    @property
    def refused(self) -> bool:
        """Whether the adapter refused our key; it is tried again every 2 s."""
        return self._watch.refused

    @property
    def live(self) -> bool:
        """Whether events are followed without a hole up to the newest."""
        return self._follower is not None and self._follower.live

    @property
    def tick_places(self) -> dict[str, TickPlace]:
        """By symbol the last tick handled, with `heal_ticks`: a later subscriber that is given them goes on there."""
        return {symbol: stream.place for symbol, stream in self._ticks.items() if stream.place is not None}

    def reports(self) -> tuple[StreamReport, ...]:
        """Return how each stream fares, for the pong."""
        reports = []
        if self._on_tick is not None:
            streams = self._ticks.values()
            reports.append(
                StreamReport(
                    stream="ticks",
                    received=sum(s.received for s in streams),
                    gaps=sum(s.gaps for s in streams),
                    healed=sum(s.healed for s in streams),
                    skipped=self._skipped + sum(s.lost for s in streams),
                    lag_ms=round(self._lag_ms, 3),
                    unhealed=sum(s.unhealed for s in streams),
                )
            )
        if self._on_bar is not None:
            received = sum(numbers.received for numbers in self._bars.values())
            reports.append(StreamReport("bars", received, self._bar_gaps, 0, 0))
        if self._follower is not None:
            f = self._follower
            reports.append(StreamReport("events", f.received, f.gaps, f.healed, f.skipped))
        return tuple(reports)

    def _topics(self) -> list[bytes]:
        topics = [Topic("beacon", self._adapter).subscription()]
        if self._follower is not None:
            topics.append(Topic("event", self._adapter).subscription())
        if self._on_state is not None:
            topics.append(Topic("state", self._adapter).subscription())
        for kind, callback in (("tick", self._on_tick), ("bar", self._on_bar)):
            if callback is None:
                continue
            if self._symbols is None:
                topics.append(kind_subscription(kind, self._adapter))
            else:
                topics.extend(Topic(kind, self._adapter, symbol).subscription() for symbol in self._symbols)
        return topics

    def _on_readable(self) -> None:
        market: list[tuple[str, Message]] = []
        for count in range(MAX_DRAIN):
            if self._closed:  # by a callback
                return
            if count == 1 and not readable(self._socket):
                break  # one message at a time is the rule
            try:
                frame = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                break
            try:
                topic, message = codec.decode(frame)
            except UnknownKind:
                self.unknown += 1
                continue
            except DataInvalid as error:
                self._count_malformed(error)
                continue
            if isinstance(message, Event):
                if self._follower is not None:
                    self._follower.on_live(message)
            else:
                market.append((topic.symbol, message))
        self._handle_market(market)

    def _count_malformed(self, error: DataInvalid) -> None:
        self.malformed += 1
        if self.malformed <= _LOGGED_MALFORMED:
            log.warning("a malformed message was skipped", extra={"reason": error.text[:200]})

    def _handle_market(self, market: list[tuple[str, Message]]) -> None:
        newest = self._newest_batches(market) if self._lag_limit_ms is not None else {}
        for index, (symbol, message) in enumerate(market):
            if self._closed:
                return
            if type(message) is TickBatch:  # the hot path: everything else is rare beside it
                if newest and index < newest.get(symbol, 0):
                    self._skip(symbol, message)
                elif self._on_tick is not None:
                    (self._ticks.get(symbol) or self._stream(symbol)).arrive(message)
            elif isinstance(message, BarUpdate):
                self._handle_bar(symbol, message)
            elif isinstance(message, Beacon):
                self._handle_beacon(message)
            elif isinstance(message, StateUpdate) and self._on_state is not None:
                self._on_state(message)
        self._note_lag(market)

    def _note_lag(self, market: list[tuple[str, Message]]) -> None:
        for _, message in reversed(market):
            if isinstance(message, TickBatch):
                self._lag_ms = (self._loop.clock.monotonic_ns() - message.sent_ns) / 1e6
                return

    def _newest_batches(self, market: list[tuple[str, Message]]) -> dict[str, int]:
        """Return by symbol the index of its newest batch, where the oldest is over the lag limit."""
        now_ns = self._loop.clock.monotonic_ns()
        limit_ns = (self._lag_limit_ms or 0) * 1_000_000
        late: set[str] = set()
        newest: dict[str, int] = {}
        for index, (symbol, message) in enumerate(market):
            if isinstance(message, TickBatch):
                if now_ns - message.sent_ns > limit_ns:
                    late.add(symbol)
                newest[symbol] = index
        return {symbol: index for symbol, index in newest.items() if symbol in late}

    def _skip(self, symbol: str, batch: TickBatch) -> None:
        self._skipped += len(batch)
        self._stream(symbol).pass_over(batch)

    def _stream(self, symbol: str) -> TickStream:
        stream = self._ticks.get(symbol)
        if stream is None:
            assert self._on_tick is not None
            stream = TickStream(
                self._loop,
                self._queries,
                symbol,
                self._on_tick,
                heal=self._heal_ticks,
                place=self._tick_places.get(symbol),
            )
            self._ticks[symbol] = stream
        return stream

    def _handle_bar(self, symbol: str, update: BarUpdate) -> None:
        numbers = self._bars.setdefault(symbol, Numbers())
        verdict = numbers.arrive(update.epoch, update.number, 1)
        self._bar_gaps += verdict.gap is not None
        if not verdict.repeated and self._on_bar is not None:
            self._on_bar(symbol, update)

    def _handle_beacon(self, beacon: Beacon) -> None:
        if self._on_tick is not None:
            for symbol, last in beacon.ticks.items():
                if self._symbols is None or symbol in self._symbols:
                    self._stream(symbol).beacon(beacon.epoch, last)
        if self._on_bar is not None:
            for symbol, last in beacon.bars.items():
                if self._symbols is None or symbol in self._symbols:
                    gap = self._bars.setdefault(symbol, Numbers()).beacon(beacon.epoch, last)
                    self._bar_gaps += gap is not None
        if self._follower is not None:
            self._follower.on_beacon(beacon.log_id, beacon.event_offset, beacon.epoch)
        if self._on_beacon is not None:
            self._on_beacon(beacon)
