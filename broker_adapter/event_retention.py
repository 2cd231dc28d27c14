"""How long the event log keeps what: consumers and what they acknowledged, and dropping what nobody needs.

Events go when they are older than `events_kept_days`, or, oldest first, while the journal takes more than
`journal_max_mb`; but not before every registered consumer has acknowledged them, and not in their first hour. Only
above `journal_hard_max_mb` the oldest go unread, and a person is told whose they were. They go a few hundred at a time,
between other writes, so that no order waits. See docs/decisions/0008.
"""

from __future__ import annotations

import logging

import msgspec

from broker_adapter.alerts import Condition, StandingAlerts
from broker_adapter.journal import Journal
from broker_adapter.journal_records import ConsumerRecord, DropRecord
from mt5bus.settings import Adapter
from protocol.errors import AuthenticationFailed, NotFound, StateConflict, ValidationFailed
from protocol.loop import Loop
from protocol.messages import (
    AcknowledgeEvents,
    Consumers,
    Done,
    Event,
    EventsAcknowledged,
    ForgetConsumer,
    GetConsumers,
    Reply,
)
from protocol.service import Caller, Service

LOOK_INTERVAL_S = 0.5
REST_S = 60.0
MOST_CONSUMERS = 64
DROPPED_AT_ONCE = 500
FREE_BYTES = 4_000_000  # kept in the file for what comes next
LEAST_KEPT_MS = 3_600_000
"""Nothing younger leaves the log: what a consumer stored without waiting for its disk may be lost with the power."""
_DAY_MS = 86_400_000
_MB = 1_000_000
_BEHIND, _UNREAD = "consumer_behind", "events_dropped_unread"

log = logging.getLogger(__name__)


class _Plan(msgspec.Struct, frozen=True):
    """What may go now. `through`: the last offset to drop, 0 for none; `due`: the last one but for the consumers."""

    through: int
    due: int


class EventRetention:
    """Keeps the consumers' positions, and the log within its bounds.

    Args:
        queries: Acknowledgements and the list are answered here.
        orders: Forgetting is answered here: it can lose what was never read.
    """

    def __init__(
        self,
        loop: Loop,
        journal: Journal,
        alerts: StandingAlerts,
        settings: Adapter,
        *,
        queries: Service,
        orders: Service,
    ) -> None:
        self.dropped = 0
        """Events dropped in this life."""
        self._loop = loop
        self._journal = journal
        self._alerts = alerts
        self._kept_ms = settings.events_kept_days * _DAY_MS
        self._max_bytes = settings.journal_max_mb * _MB
        self._hard_max_bytes = max(settings.journal_hard_max_mb, settings.journal_max_mb) * _MB
        self._consumers = {consumer.name: consumer.offset for consumer in journal.consumers()}
        self._dropping = False
        self._rest_until_ns = 0
        queries.handle(AcknowledgeEvents, self._on_acknowledge)
        queries.handle(GetConsumers, self._on_list)
        orders.handle(ForgetConsumer, self._on_forget)
        loop.every(LOOK_INTERVAL_S, self.look)

    # --- Consumers ----------------------------------------------------------------------------------------------

    def _on_acknowledge(self, request: AcknowledgeEvents, caller: Caller) -> None:
        name = _full_name(caller.name, request.consumer)
        journal = self._journal
        if request.log_id != journal.log_id:
            raise NotFound(
                f"event log {request.log_id!r} is not this adapter's ({journal.log_id}): take a snapshot and start from"
                " it",
                {"log_id": journal.log_id},
            )
        if request.offset < 0:
            raise ValidationFailed("offset is negative: 0 says that nothing is stored yet", {"field": "offset"})
        if request.offset > journal.last_offset:
            raise StateConflict(
                f"{name} acknowledges event {request.offset}, the log's newest is {journal.last_offset}: the log lost"
                " its end. Take a snapshot and start from it",
                {"last_offset": str(journal.last_offset)},
            )
        if name not in self._consumers and len(self._consumers) >= MOST_CONSUMERS:
            raise StateConflict(
                f"{MOST_CONSUMERS} consumers are registered already: forget one that is gone (mt5bus consumers forget)",
                {"limit": str(MOST_CONSUMERS)},
            )

        def stored(_events: tuple[Event, ...]) -> None:
            caller.reply(EventsAcknowledged(request.id, name, request.offset, journal.first_offset))

        journal.write([ConsumerRecord(name, request.offset)], stored)
        if name not in self._consumers:
            log.info("a consumer of the event log was registered", extra={"consumer": name, "offset": request.offset})
        self._consumers[name] = request.offset

    def _on_list(self, request: GetConsumers, _caller: Caller) -> Reply:
        journal = self._journal
        return Consumers(
            request.id,
            journal.log_id,
            journal.first_offset,
            journal.last_offset,
            journal.used_bytes,
            journal.consumers(),
        )

    def _on_forget(self, request: ForgetConsumer, caller: Caller) -> None:
        name = request.consumer
        if name not in self._consumers:
            raise NotFound(f"no consumer is named {name!r}: `mt5bus consumers` lists them", {"field": "consumer"})

        def stored(_events: tuple[Event, ...]) -> None:
            caller.reply(Done(request.id, f"{name} is forgotten: no event is kept for it"))

        self._journal.write([ConsumerRecord(name, None)], stored)
        del self._consumers[name]
        log.warning("a consumer of the event log was forgotten", extra={"consumer": name, "by": caller.name})

    # --- Dropping -----------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Drop a portion of what may go, if anything may; then rest, unless there is more."""
        if self._dropping or not self._journal.has_room or self._loop.clock.monotonic_ns() < self._rest_until_ns:
            return
        plan = self._plan()
        self._tell(plan)
        if not plan.through and self._journal.free_bytes <= FREE_BYTES:
            self._rest_until_ns = self._loop.clock.monotonic_ns() + round(REST_S * 1e9)
            return
        count = plan.through - self._journal.first_offset + 1 if plan.through else 0
        self._dropping = True

        def gone(_events: tuple[Event, ...]) -> None:
            self._dropping = False
            self.dropped += count

        self._journal.write([DropRecord(plan.through)], gone)

    def _plan(self) -> _Plan:
        journal, now_ms = self._journal, self._loop.clock.wall_ms()
        size = journal.used_bytes
        old_ms, young_ms = now_ms - self._kept_ms, now_ms - LEAST_KEPT_MS
        unread = min(self._consumers.values(), default=journal.last_offset)
        through = due = 0
        for offset, recorded_ms in journal.oldest_events(0, DROPPED_AT_ONCE):
            over = size > self._max_bytes and recorded_ms < young_ms
            hard = size > self._hard_max_bytes
            if offset >= journal.last_offset or not (recorded_ms < old_ms or over or hard):
                break
            due = offset
            if offset <= unread or hard:
                through = offset
        return _Plan(through, due)

    def _tell(self, plan: _Plan) -> None:
        """Tell of consumers that hold the log, and of those that lose something."""
        behind = {name for name, offset in self._consumers.items() if offset < plan.due}
        losing = {name for name, offset in self._consumers.items() if offset < plan.through}
        for name in sorted(behind):
            self._alerts.begin(self._behind(name))
        for name in sorted(losing):
            self._alerts.begin(_unread(name))
        first = self._journal.first_offset
        lost = {name for name, offset in self._consumers.items() if offset + 1 < first} | losing
        for key in self._alerts.standing:
            code, _, name = key.partition(":")
            if (code == _BEHIND and name not in behind) or (code == _UNREAD and name not in lost):
                self._alerts.over(key)

    def _behind(self, name: str) -> Condition:
        text = (
            f"{name} has not acknowledged events that would leave the log by now, so the journal grows, up to"
            f" {self._hard_max_bytes // _MB} MB. Start it again, or, if it is gone for good:"
            f" mt5bus consumers forget {name}"
        )
        return Condition(_BEHIND, "warning", text, name, {"consumer": name})


def _unread(name: str) -> Condition:
    text = (
        f"the journal reached [adapter] journal_hard_max_mb: events that {name} had not read left the log. When it"
        " comes back it starts from a snapshot, and the broker's history gives it the deals and final orders"
    )
    return Condition(_UNREAD, "critical", text, name, {"consumer": name})


def _full_name(key: str, consumer: str) -> str:
    """Return under which name a key's consumer is kept: no key can speak for another's."""
    if not key:
        raise AuthenticationFailed("the peer's key has no name, so its acknowledgement cannot be filed")
    if not consumer.isprintable():
        raise ValidationFailed("consumer: has control characters", {"field": "consumer"})
    return f"{key}:{consumer}" if consumer else key
