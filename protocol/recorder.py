"""Recording an adapter's streams with a key of its own, frames unchanged, so that a capture replays by itself.

At the start of every file the recorder also asks for what a node asks at its start (the snapshot, and bars of every
symbol and timeframe) and records the answers: a replay gives them to the node that it plays to.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence

import zmq

from protocol import codec
from protocol.captures import FLUSH_INTERVAL_S, QUERIES, STREAMS, CaptureWriter
from protocol.errors import AskTheOperator, BusError, TryAgainLater
from protocol.keys import Identity
from protocol.loop import Loop
from protocol.messages import GetRates, GetSnapshot, Reply, Request, Snapshot
from protocol.refusals import RefusalWatch
from protocol.requests import Requester
from protocol.sockets import Context, connect_subscriber
from protocol.topics import Topic, kind_subscription

WARM_UP_BARS = 1000
MAX_DRAIN = 2_000
DEADLINE_S = 10.0
RETRY_S = 1.0

log = logging.getLogger(__name__)


class Recorder:
    """Writes what one adapter publishes.

    Attributes:
        frames: Recorded from the streams, by kind.

    Args:
        writer: Where to; closed by its owner.
        symbols: Whose ticks and bars; None for all.
        timeframes: Whose bars are asked for at the start of a file.
    """

    def __init__(
        self,
        loop: Loop,
        context: Context,
        writer: CaptureWriter,
        *,
        streams_address: str,
        queries_address: str,
        identity: Identity,
        server_key: bytes,
        adapter: str,
        symbols: Sequence[str] | None = None,
        timeframes: Sequence[str] = (),
        flush_interval_s: float = FLUSH_INTERVAL_S,
    ) -> None:
        self._loop = loop
        self._writer = writer
        self._adapter = adapter
        self._symbols = symbols
        self._timeframes = tuple(timeframes)
        self._file = 0  # number of the file that has its warm-up, or is getting it
        self.frames: Counter[str] = Counter()
        self.warm = False
        self._closed = False
        self._queries = Requester(
            loop, context, queries_address, identity=identity, server_key=server_key, name="adapter"
        )
        self._socket = connect_subscriber(
            context, streams_address, identity=identity, server_key=server_key, monitored=True
        )
        self._watch = RefusalWatch(loop, self._socket, streams_address, peer="adapter")
        for topic in self._topics():
            self._socket.setsockopt(zmq.SUBSCRIBE, topic)
        loop.watch(self._socket, self._on_readable)
        self._flushing = loop.every(flush_interval_s, writer.flush)

    @property
    def refused(self) -> bool:
        """Whether the adapter refused our key."""
        return self._watch.refused or self._queries.refused

    def close(self) -> None:
        """Leave the streams."""
        self._closed = True
        self._flushing.cancel()
        self._watch.close()
        self._loop.unwatch(self._socket)
        self._socket.close()
        self._queries.close()

    def _topics(self) -> list[bytes]:
        topics = [Topic(kind, self._adapter).subscription() for kind in ("beacon", "event", "state")]
        for kind in ("tick", "bar"):
            if self._symbols is None:
                topics.append(kind_subscription(kind, self._adapter))
            else:
                topics.extend(Topic(kind, self._adapter, symbol).subscription() for symbol in self._symbols)
        return topics

    def _on_readable(self) -> None:
        for _ in range(MAX_DRAIN):
            try:
                frame = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._writer.write(STREAMS, frame)
            kind = frame[:64].split(b"/", 2)[1].decode("ascii", "replace")
            self.frames[kind] += 1
            if kind == "beacon" and self._file != len(self._writer.paths):
                # The adapter is there: what happens from here on is in the stream, what was before in the snapshot.
                self._file = len(self._writer.paths)
                self.warm = False
                self._ask(GetSnapshot, self._on_snapshot)

    def _on_snapshot(self, reply: Reply) -> None:
        if not isinstance(reply, Snapshot):
            return
        symbols = self._symbols or [instrument.symbol for instrument in reply.instruments]
        wanted = [(symbol, timeframe) for symbol in symbols for timeframe in self._timeframes]
        self._ask_rates(wanted)

    def _ask_rates(self, wanted: list[tuple[str, str]]) -> None:
        if not wanted:
            self.warm = True
            return
        (symbol, timeframe), rest = wanted[0], wanted[1:]
        self._ask(
            lambda request_id: GetRates(request_id, symbol, timeframe, count=WARM_UP_BARS),
            lambda _: self._ask_rates(rest),
            on_refusal=lambda: self._ask_rates(rest),
        )

    def _ask(
        self,
        make: Callable[[int], Request],
        on_reply: Callable[[Reply], None],
        *,
        on_refusal: Callable[[], None] | None = None,
    ) -> None:
        """Ask until answered; record question and answer."""
        if self._closed:
            return
        asked: list[Request] = []

        def made(request_id: int) -> Request:
            asked.append(make(request_id))
            return asked[-1]

        def answered(reply: Reply) -> None:
            for message in (asked[-1], reply):
                self._writer.write(QUERIES, codec.encode(message, self._adapter))
            on_reply(reply)

        def failed(error: BusError) -> None:
            log.warning("a question for the capture failed", extra={"kind": asked[-1].kind, "error": error.text[:200]})
            if on_refusal is not None and not _may_work_later(error):
                on_refusal()
            else:
                self._loop.after(RETRY_S, lambda: self._ask(make, on_reply, on_refusal=on_refusal))

        self._queries.ask(made, on_reply=answered, on_error=failed, deadline_s=DEADLINE_S)


def _may_work_later(error: BusError) -> bool:
    return isinstance(error, TryAgainLater | AskTheOperator)
