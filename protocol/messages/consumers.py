"""Who reads the event log, and how far: acknowledging, listing, forgetting.

The log keeps what a registered consumer has not acknowledged. A consumer registers by its first acknowledgement; its
full name is its key's name, or ``<key>:<consumer>``, so that no key speaks for another.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from protocol.messages.base import Reply, Request
from protocol.messages.values import Value

Name = Annotated[str, Meta(max_length=64)]
FullName = Annotated[str, Meta(max_length=256)]


class Consumer(Value, frozen=True, array_like=True):
    """One registered consumer of the event log."""

    name: str
    offset: int
    behind: int
    missed: int
    registered_ms: int
    acknowledged_ms: int


class AcknowledgeEvents(Request, frozen=True, array_like=True):
    """Say that all events up to `offset` of log `log_id` are handled and stored; the first time registers.

    `consumer`: which of the key's consumers; empty if it has but one. An offset lower than the last one counts: what
    was restored from an older copy reads from there again.
    """

    kind: ClassVar[str] = "acknowledge_events"
    consumer: Name
    log_id: Name
    offset: int


class EventsAcknowledged(Reply, frozen=True, array_like=True):
    """The acknowledgement is on disk. `consumer`: the full name; `first_offset`: the oldest event the log still has."""

    kind: ClassVar[str] = "events_acknowledged"
    consumer: str
    offset: int
    first_offset: int


class GetConsumers(Request, frozen=True, array_like=True):
    """Ask who reads the event log, and how far each has come."""

    kind: ClassVar[str] = "get_consumers"


class Consumers(Reply, frozen=True, array_like=True):
    """The registered consumers by name; `journal_bytes`: what the log and the orders take on disk."""

    kind: ClassVar[str] = "consumers"
    log_id: str
    first_offset: int
    last_offset: int
    journal_bytes: int
    consumers: tuple[Consumer, ...]


class ForgetConsumer(Request, frozen=True, array_like=True):
    """Keep no event for a consumer any longer (on the orders socket: it can lose what was never read)."""

    kind: ClassVar[str] = "forget_consumer"
    consumer: FullName
