"""Telling the adapter how far the events are stored, so that its log keeps what is not: at once, then now and then.

It need not be told of every event: what is told late is only kept longer.
"""

from __future__ import annotations

import logging

from protocol.errors import BusError, NotFound, StateConflict
from protocol.event_follower import Asks
from protocol.loop import Loop
from protocol.messages import AcknowledgeEvents, Reply
from protocol.numbering import EventPosition

INTERVAL_S = 10.0  # between two acknowledgements; the first goes at once
DEADLINE_S = 5.0

log = logging.getLogger(__name__)


class Acknowledger:
    """Acknowledges the newest position that it was told of.

    Args:
        consumer: Which of the key's consumers this is; empty if it has but one.
    """

    def __init__(self, loop: Loop, queries: Asks, *, consumer: str = "") -> None:
        self._queries = queries
        self._consumer = consumer
        self._stored: EventPosition | None = None
        self._acknowledged: EventPosition | None = None
        self._refused: EventPosition | None = None
        self._asking = False
        self._timer = loop.every(INTERVAL_S, self._tell)

    @property
    def acknowledged(self) -> EventPosition | None:
        """The last position that the adapter has on disk; None before the first."""
        return self._acknowledged

    def stored(self, position: EventPosition) -> None:
        """Note that everything up to `position` is handled and stored."""
        first = self._stored is None
        self._stored = position
        if first:
            self._tell()

    def close(self) -> None:
        """Tell nothing any more."""
        self._timer.cancel()
        self._stored = None

    def _tell(self) -> None:
        position = self._stored
        if position is None or self._asking or position in {self._acknowledged, self._refused}:
            return
        self._asking = True
        self._queries.ask(
            lambda request_id: AcknowledgeEvents(request_id, self._consumer, position.log_id, position.offset),
            on_reply=lambda reply: self._on_reply(position, reply),
            on_error=lambda error: self._on_error(position, error),
            deadline_s=DEADLINE_S,
        )

    def _on_reply(self, position: EventPosition, _reply: Reply) -> None:
        self._asking = False
        self._acknowledged = position

    def _on_error(self, position: EventPosition, error: BusError) -> None:
        self._asking = False
        if isinstance(error, NotFound | StateConflict):
            # The log is another one, or we are too many. Whoever follows it resyncs, and a new position comes.
            self._refused = position
            log.warning("an acknowledgement was refused", extra={"consumer": self._consumer, "reason": error.text})
