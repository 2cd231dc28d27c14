"""Joining and following the event log: in order, once, without holes. No socket: it asks through a function.

Joining: hear a beacon or an event, ask for a snapshot "as of N" (or, resuming, for the events since the last one
handled), apply N + 1 on. A new log, a consumer ahead of the log, or events that are no longer kept mean a full resync.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

from protocol.errors import BusError, EventsGone
from protocol.loop import Loop
from protocol.messages import Event, Events, GetEvents, GetSnapshot, Reply, Request, Snapshot
from protocol.numbering import EventPosition

MAX_BUFFERED = 10_000  # live events held back while older ones are fetched; beyond it they are fetched again
DEADLINE_S = 5.0
RETRY_S = 0.5

log = logging.getLogger(__name__)


class Asks(Protocol):
    """What `protocol.requests.Requester` does."""

    def ask(
        self,
        make: Callable[[int], Request],
        *,
        on_reply: Callable[[Reply], None],
        on_error: Callable[[BusError], None],
        deadline_s: float,
    ) -> int:
        """Send a request."""
        ...


class EventFollower:
    """Follows one adapter's event log.

    Args:
        on_event: Called for every event, in order, once.
        on_snapshot: Called at joining without a position and at every full resync, before the first event after it.
        position: Where to resume; None joins with a snapshot.
        strategy: Limits the snapshot's intents to one strategy.
    """

    def __init__(
        self,
        loop: Loop,
        queries: Asks,
        *,
        on_event: Callable[[Event], None],
        on_snapshot: Callable[[Snapshot], None] | None,
        position: EventPosition | None,
        strategy: str = "",
    ) -> None:
        self._loop = loop
        self._queries = queries
        self._on_event = on_event
        self._on_snapshot = on_snapshot
        self._strategy = strategy
        self._buffer: deque[Event] = deque(maxlen=MAX_BUFFERED)
        self._asking = False
        self._closed = False
        self._epoch = 0  # the newest life of the adapter that we heard of
        self._position_epoch = 0  # the life in which the log is known to have come to our position
        self.position = position
        self.live = False
        self.received = 0
        self.gaps = 0
        self.healed = 0
        self.skipped = 0
        """Events passed over by a full resync within one log: the snapshot holds what they led to."""

    def close(self) -> None:
        """Ignore what is still on its way."""
        self._closed = True

    def on_beacon(self, log_id: str, offset: int, epoch: int) -> None:
        """Compare our position with the log's newest offset, as it was in `epoch`."""
        if epoch < self._epoch:
            return  # of an earlier life of the adapter, still in the queue
        self._epoch = epoch
        position = self.position
        if position is None or position.log_id != log_id:
            self._resync(log_id)
        elif position.offset < offset:
            self._fall_behind()
        elif position.offset == offset:
            self.live = not self._asking
        elif epoch > self._position_epoch:
            # The log lost its end between two lives. Within one life it only grows: then the beacon is merely older
            # than the events handled since (events are handled first, and answers overtake the stream).
            self._resync(log_id)

    def on_live(self, event: Event) -> None:
        """Take an event from the stream."""
        position = self.position
        if position is None or position.log_id != event.log_id:
            if event.epoch >= self._epoch:
                self._buffer.append(event)
                self._resync(event.log_id)
        elif event.offset == position.offset + 1 and not self._asking:
            self._apply(event)
        elif event.offset > position.offset:
            self._buffer.append(event)
            self._fall_behind()
        elif event.epoch > self._position_epoch > 0:
            # A later life writes at an offset that an earlier one used: an old copy of the log was put back.
            self._epoch = max(self._epoch, event.epoch)
            self._buffer.append(event)
            self._resync(event.log_id)

    def _apply(self, event: Event) -> None:
        self.position = EventPosition(event.log_id, event.offset)
        self._position_epoch = event.epoch
        self._epoch = max(self._epoch, event.epoch)
        self.received += 1
        self._on_event(event)

    def _fall_behind(self) -> None:
        if not self._asking:
            self.gaps += self.live
            self._fetch()

    def _resync(self, log_id: str) -> None:
        if self._asking:
            return
        if self.position is not None:
            log.warning(
                "the event log is another one, lost its end, or no longer has the next event: full resync",
                extra={"followed": self.position.log_id, "offset": self.position.offset, "found": log_id},
            )
        self.live = False
        self._ask(lambda request_id: GetSnapshot(request_id, self._strategy), self._on_snapshot_reply)

    def _fetch(self) -> None:
        position = self.position
        if position is None:
            return
        self.live = False
        self._ask(lambda request_id: GetEvents(request_id, position.offset, position.log_id), self._on_events)

    def _ask(self, make: Callable[[int], Request], on_reply: Callable[[Reply], None]) -> None:
        self._asking = True

        def answered(reply: Reply) -> None:
            self._asking = False
            if not self._closed:
                on_reply(reply)

        def failed(error: BusError) -> None:
            self._asking = False
            if isinstance(error, EventsGone) and self.position is not None and not self._closed:
                self._resync(self.position.log_id)
                return
            log.info("the event log cannot be read yet: asking again", extra={"error": error.code})
            self._pause()

        self._queries.ask(make, on_reply=answered, on_error=failed, deadline_s=DEADLINE_S)

    def _pause(self) -> None:
        """Ask nothing for a while; then the next beacon or event decides afresh what has to be asked."""
        self._asking = True
        self._loop.after(RETRY_S, self._retry)

    def _retry(self) -> None:
        self._asking = False

    def _on_snapshot_reply(self, reply: Reply) -> None:
        if not isinstance(reply, Snapshot):
            self._pause()
            return
        if self.position is not None and self.position.log_id == reply.log_id:
            self.skipped += max(0, reply.offset - self.position.offset)
        self.position = EventPosition(reply.log_id, reply.offset)
        self._position_epoch = reply.epoch
        self._epoch = max(self._epoch, reply.epoch)
        if self._on_snapshot is not None:
            self._on_snapshot(reply)
        self._drain()

    def _on_events(self, reply: Reply) -> None:
        position = self.position
        if not isinstance(reply, Events) or position is None:
            self._pause()
            return
        ahead = reply.last_offset < position.offset
        if reply.log_id != position.log_id or ahead or reply.first_offset > position.offset + 1:
            self._resync(reply.log_id)
            return
        for event in reply.events:
            if self._is_next(event) and not self._closed:
                self._apply(event)
                self.healed += 1
        if self.position == position:
            self._pause()  # nothing came: asking again at once would only turn in a circle
        elif self.position is not None and self.position.offset < reply.last_offset:
            self._fetch()
        else:
            self._drain()

    def _drain(self) -> None:
        """Apply what arrived meanwhile."""
        while self._buffer and not self._closed:
            event = self._buffer[0]
            if self._is_next(event):
                self._buffer.popleft()
                self._apply(event)
            elif self._is_old(event):
                self._buffer.popleft()
            else:
                self._fall_behind()
                return
        self.live = True

    def _is_next(self, event: Event) -> bool:
        position = self.position
        return position is not None and event.log_id == position.log_id and event.offset == position.offset + 1

    def _is_old(self, event: Event) -> bool:
        position = self.position
        return position is None or event.log_id != position.log_id or event.offset <= position.offset
