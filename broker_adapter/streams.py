"""The adapter's XPUB socket: ticks, bars, events, state, beacons, each stream numbered within this life (epoch)."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from itertools import islice

import msgspec
import zmq

from market.bars import Bar
from protocol import codec
from protocol.door import Door
from protocol.errors import NotFound
from protocol.loop import Loop
from protocol.messages import MAX_PAGE, Account, BarUpdate, Beacon, Event, Position, Quote, StateUpdate, TickBatch
from protocol.sockets import Socket
from protocol.ticks import RECORD_BYTES, first_tick
from protocol.topics import Topic

RING_TICKS = 65_536
BEACON_INTERVAL_S = 1.0
STATE_INTERVAL_S = 0.5
_SUBSCRIPTIONS_A_TURN = 100


class TickRing:
    """The newest published ticks of one symbol, to heal gaps from."""

    def __init__(self, limit: int = RING_TICKS) -> None:
        self._limit = limit
        self._batches: deque[tuple[int, bytes]] = deque()
        self._count = 0
        self.last = 0

    def append(self, first: int, records: bytes) -> None:
        """Keep a batch whose first tick has ordinal `first`."""
        count = len(records) // RECORD_BYTES
        self._batches.append((first, records))
        self._count += count
        self.last = first + count - 1
        while self._count - len(self._batches[0][1]) // RECORD_BYTES >= self._limit:
            self._count -= len(self._batches.popleft()[1]) // RECORD_BYTES

    def range(self, first: int, count: int) -> bytes:
        """Return the records of ticks `first` on, at most `count`; fewer at the stream's end.

        Raises:
            NotFound: `first` is older than what is kept, or not published yet.
        """
        if not self._batches or not self._batches[0][0] <= first <= self.last:
            oldest = self._batches[0][0] if self._batches else 0
            raise NotFound(
                f"tick {first} is not kept: only {oldest} to {self.last} are. Use the tick history by time",
                {"oldest": str(oldest), "newest": str(self.last)},
            )
        end = min(first + count, self.last + 1)
        index = bisect_right(self._batches, first, key=lambda batch: batch[0]) - 1
        parts = []
        for start, records in islice(self._batches, index, None):
            if start >= end:
                break
            low = max(0, first - start) * RECORD_BYTES
            parts.append(records[low : (end - start) * RECORD_BYTES])
        return b"".join(parts)


class BeaconFacts(msgspec.Struct, frozen=True):
    """What a beacon and a state update tell beside the numbers."""

    market_ms: int
    log_id: str
    event_offset: int
    connection: str
    trading_mode: str
    server_offset_minutes: int
    server_time_status: str


class _SymbolStream(msgspec.Struct):
    tick_prefix: bytes
    bar_prefix: bytes
    ring: TickRing
    ticks: int = 0
    bars: int = 0
    quote: Quote | None = None


class Streams:
    """Numbers and publishes.

    Args:
        door: Whose keys may subscribe; None asks only at the handshake.
        facts: Gives what goes into each beacon.
        state: Gives account, positions for the state update; None while no account is known.
    """

    def __init__(
        self,
        loop: Loop,
        socket: Socket,
        *,
        adapter: str,
        epoch: int,
        facts: Callable[[], BeaconFacts],
        state: Callable[[], tuple[Account, tuple[Position, ...]] | None],
        door: Door | None = None,
    ) -> None:
        self.epoch = epoch
        self.events_published = 0
        self._loop = loop
        self._socket = socket
        self._door = door
        self._adapter = adapter
        self._facts = facts
        self._state = state
        self._symbols: dict[str, _SymbolStream] = {}
        self._event_prefix = Topic("event", adapter).subscription()
        self._beacon_prefix = Topic("beacon", adapter).subscription()
        self._state_prefix = Topic("state", adapter).subscription()
        self._state_number = 0
        self._last_state: tuple[object, ...] | None = None
        loop.watch(socket, self._drain_subscriptions)
        loop.every(BEACON_INTERVAL_S, self.publish_beacon)
        loop.every(STATE_INTERVAL_S, self._publish_state)

    def publish_ticks(self, symbol: str, records: bytes) -> None:
        """Publish ticks (60-byte records, UTC), oldest first, at most a page to a message."""
        stream = self._stream(symbol)
        step = MAX_PAGE * RECORD_BYTES
        for start in range(0, len(records), step):
            part = records[start : start + step] if len(records) > step else records
            first = stream.ticks + 1
            message = TickBatch(self.epoch, first, self._loop.clock.monotonic_ns(), part)
            self._send(codec.encode_with(stream.tick_prefix, message))
            stream.ring.append(first, part)
            stream.ticks += len(part) // RECORD_BYTES
        if records:
            tick = first_tick(records, len(records) // RECORD_BYTES - 1)
            stream.quote = Quote(symbol, tick.time_ms, tick.bid, tick.ask)

    def publish_bar(self, symbol: str, timeframe: str, revision: int, bar: Bar) -> None:
        """Publish a completed bar (UTC)."""
        stream = self._stream(symbol)
        stream.bars += 1
        now_ns = self._loop.clock.monotonic_ns()
        self._send(
            codec.encode_with(stream.bar_prefix, BarUpdate(self.epoch, stream.bars, now_ns, timeframe, revision, bar))
        )

    def publish_event(self, event: Event) -> None:
        """Publish an event that is durable in the log."""
        self.events_published += 1
        self._send(codec.encode_with(self._event_prefix, event))

    def publish_beacon(self) -> None:
        """Publish the last number of every stream."""
        facts = self._facts()
        beacon = Beacon(
            epoch=self.epoch,
            sent_ns=self._loop.clock.monotonic_ns(),
            wall_ms=self._loop.clock.wall_ms(),
            market_ms=facts.market_ms,
            log_id=facts.log_id,
            event_offset=facts.event_offset,
            ticks={symbol: stream.ticks for symbol, stream in self._symbols.items()},
            bars={symbol: stream.bars for symbol, stream in self._symbols.items()},
            connection=facts.connection,
            trading_mode=facts.trading_mode,
            server_offset_minutes=facts.server_offset_minutes,
            server_time_status=facts.server_time_status,
        )
        self._send(codec.encode_with(self._beacon_prefix, beacon))

    def tick_range(self, symbol: str, epoch: int, first: int, count: int) -> bytes:
        """Return published ticks again.

        Raises:
            NotFound: Another epoch, an unknown symbol, or ticks that are not kept.
        """
        stream = self._symbols.get(symbol)
        if epoch != self.epoch or stream is None:
            raise NotFound(
                f"no ticks of {symbol} in epoch {epoch}: this is epoch {self.epoch}. Use the tick history by time",
                {"epoch": str(self.epoch)},
            )
        return stream.ring.range(first, count)

    def quote(self, symbol: str) -> Quote | None:
        """Return the newest quote of `symbol`."""
        stream = self._symbols.get(symbol)
        return stream.quote if stream is not None else None

    def quotes(self) -> tuple[Quote, ...]:
        """Return the newest quotes of all symbols."""
        return tuple(stream.quote for stream in self._symbols.values() if stream.quote is not None)

    @property
    def ticks_published(self) -> int:
        """Ticks of all symbols in this epoch."""
        return sum(stream.ticks for stream in self._symbols.values())

    @property
    def bars_published(self) -> int:
        """Bars of all symbols in this epoch."""
        return sum(stream.bars for stream in self._symbols.values())

    def close(self) -> None:
        """Close the socket."""
        self._loop.unwatch(self._socket)
        self._socket.close()

    def _publish_state(self) -> None:
        """Publish the newest state, if it changed since the last time."""
        found = self._state()
        if found is None:
            return
        quotes = self.quotes()
        state = (*found, quotes)
        if state == self._last_state:
            return
        self._last_state = state
        self._state_number += 1
        account, positions = found
        update = StateUpdate(self.epoch, self._state_number, self._facts().market_ms, account, positions, quotes)
        self._send(codec.encode_with(self._state_prefix, update))

    def _stream(self, symbol: str) -> _SymbolStream:
        stream = self._symbols.get(symbol)
        if stream is None:
            stream = _SymbolStream(
                Topic("tick", self._adapter, symbol).subscription(),
                Topic("bar", self._adapter, symbol).subscription(),
                TickRing(),
            )
            self._symbols[symbol] = stream
        return stream

    def _send(self, frame: bytes) -> None:
        # A publisher never blocks: a subscriber at its mark loses the message and sees the gap in the numbers.
        self._socket.send(frame, zmq.NOBLOCK)

    def _drain_subscriptions(self) -> None:
        for _ in range(_SUBSCRIPTIONS_A_TURN):
            try:
                frame = self._socket.recv(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            if self._door is not None:
                self._door.on_subscription(frame)
