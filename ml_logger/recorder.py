"""From the bus to the store: follow the event log and the bars, commit in small batches, catch up after anything.

The recorder's place in the event log is the store's: it moves in the transaction of the rows it covers. When the
store does not take a batch the recorder drops it and leaves the streams; the events stay in the adapter's log and are
fetched from there once the store is back. So the memory used is bounded by one batch, and nobody else notices.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from ml_logger.backfill import Backfill, bars_subject, history_subjects
from ml_logger.errors import StoreUnavailable
from ml_logger.rows import Account, Batch
from ml_logger.store import Counts, Store
from mt5bus.settings import Logger
from protocol.acknowledger import Acknowledger
from protocol.errors import BusError
from protocol.event_follower import Asks
from protocol.loop import Loop
from protocol.messages import (
    BarUpdate,
    Beacon,
    Event,
    Events,
    GetEvents,
    GetSnapshot,
    Reply,
    Snapshot,
    StateUpdate,
    StreamReport,
)
from protocol.numbering import EventPosition

JOIN_DEADLINE_S = 5.0
JOIN_RETRY_S = 0.25
STORE_RETRY_FIRST_S = 0.5
STORE_RETRY_MAX_S = 10.0
SILENCE_S = 5.0  # beacons come every second

log = logging.getLogger(__name__)


class Subscription(Protocol):
    """What `protocol.subscriber.StreamSubscriber` does."""

    @property
    def live(self) -> bool:
        """Whether events are followed without a hole up to the newest."""
        ...

    def start(self) -> None:
        """Subscribe."""
        ...

    def close(self) -> None:
        """Leave the streams."""
        ...

    def reports(self) -> tuple[StreamReport, ...]:
        """Return how each stream fares."""
        ...


Subscribe = Callable[["Recorder", EventPosition], Subscription]


class Recorder:
    """Writes what the streams and the history bring into the store.

    Args:
        subscribe: Makes a subscription that calls this recorder's ``on_...`` methods, resuming after a position.
        open_store: Opens the store; tried again while it raises `StoreUnavailable`. `StoreUnusable` passes through.
        worked: Called with the number of messages handled, whenever there were some.
    """

    def __init__(
        self,
        loop: Loop,
        queries: Asks,
        *,
        adapter: str,
        symbols: Sequence[str],
        timeframes: Sequence[str],
        settings: Logger,
        subscribe: Subscribe,
        open_store: Callable[[], Store],
        worked: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._loop = loop
        self._queries = queries
        self._adapter = adapter
        self._symbols = tuple(symbols)
        self._timeframes = tuple(timeframes)
        self._settings = settings
        self._subscribe = subscribe
        self._open_store = open_store
        self._worked = worked
        self._store: Store | None = None
        self._counts = Counts()
        self._batch = Batch(adapter)
        self._held: EventPosition | None = None
        self._log_number = 0
        self._subscription: Subscription | None = None
        self._left: list[Subscription] = []
        self._backfill: Backfill | None = None
        self._reports: tuple[StreamReport, ...] = ()
        self._account: Account | None = None
        self._epoch = 0
        self._bar_gaps = 0
        self._heard: set[str] = set()  # subjects of which a bar came since the last hole
        self._beacon_ns = 0
        self._attempt = 0
        self._retry_s = STORE_RETRY_FIRST_S
        self._closed = False
        self._acknowledger = Acknowledger(loop, queries)
        self.trouble = ""

    def start(self) -> None:
        """Open the store and join the streams, trying again until both succeed.

        Raises:
            StoreUnusable: The store can never be used like this.
        """
        self._loop.every(self._settings.commit_interval_ms / 1000, self.flush)
        self._open()

    def close(self) -> None:
        """Commit what is at hand and leave."""
        self.flush()
        self._closed = True
        self._acknowledger.close()
        self._leave()
        self._close_left()
        self._close_store()

    @property
    def counts(self) -> Counts:
        """Rows in the store, as last known."""
        return self._store.counts if self._store is not None else self._counts

    @property
    def event_offset(self) -> int:
        """Offset of the last event that the store holds, 0 before the first."""
        return self._held.offset if self._held is not None else 0

    @property
    def ready(self) -> bool:
        """Whether everything that happens now is being recorded."""
        return self._subscription is not None and self._subscription.live and not self.silent

    @property
    def silent(self) -> bool:
        """Whether the adapter is subscribed to but has sent no beacon for over 5 s."""
        return self._loop.clock.monotonic_ns() - self._beacon_ns > SILENCE_S * 1e9

    @property
    def detail(self) -> str:
        """What a person should know: why it does not record, or what it still fetches."""
        if self.trouble:
            return self.trouble
        if self._subscription is None:
            return "joining the adapter"
        if self.silent:
            return "no beacon from the adapter"
        pending = self._backfill.pending if self._backfill is not None else 0
        return f"filling history: {pending} to go" if pending else ""

    def reports(self) -> tuple[StreamReport, ...]:
        """Return how each stream fares since the last joining."""
        if self._subscription is not None:
            self._reports = self._subscription.reports()
        return self._reports

    # What the subscription calls.

    def on_event(self, event: Event) -> None:
        """Take an event of the log, in order."""
        if self._held is None or self._subscription is None or event.log_id != self._held.log_id:
            return
        self._batch.add_event(event, self._log_number)
        self._cover_history(event)
        self._worked(1)
        self._flush_if_full()

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """The log is another one, or no longer has what comes next: join anew, from the oldest event it has."""
        log.warning("the event log cannot be resumed: joining it anew", extra={"log_id": snapshot.log_id})
        self._leave()
        self._join()

    def on_bar(self, symbol: str, update: BarUpdate) -> None:
        """Take a completed bar."""
        if self._subscription is None or self._backfill is None:
            return
        self._look_for_missed_bars(update.epoch, update.bar.open_time_ms)
        self._batch.add_bar(self._adapter, symbol, update)
        subject = bars_subject(self._adapter, symbol, update.timeframe)
        if subject.name not in self._heard:
            # The bar before may have been forming when the adapter, or we, began to listen: it was not published, and
            # the history that was asked for then did not have it yet.
            self._heard.add(subject.name)
            self._backfill.want_bars((symbol,), (update.timeframe,), update.bar.open_time_ms)
        elif self._backfill.filled(subject):
            self._batch.coverage[subject.name] = update.bar.open_time_ms
            self._backfill.moved(subject, update.bar.open_time_ms)
        self._worked(1)
        self._flush_if_full()

    def on_state(self, state: StateUpdate) -> None:
        """Learn whose account it is; the history of one not seen since joining is filled."""
        account = Account(state.account.server, state.account.login)
        if self._backfill is not None and account != self._account:
            self._account = account
            self._backfill.want_history(account, state.market_ms)

    def on_beacon(self, beacon: Beacon) -> None:
        """Learn that the adapter lives, and what time it is in the market."""
        self._beacon_ns = self._loop.clock.monotonic_ns()
        self._look_for_missed_bars(beacon.epoch, beacon.market_ms)
        self._worked(1)

    # The store.

    def flush(self) -> None:
        """Commit what was gathered; a store that does not take it is left and tried again later."""
        if self._batch.empty or self._store is None:
            return
        batch, self._batch = self._batch, Batch(self._adapter)
        self._write(batch)

    def _flush_if_full(self) -> None:
        if len(self._batch) >= self._settings.rows_per_commit:
            self.flush()

    def _write(self, batch: Batch) -> bool:
        if self._store is None:
            return False
        try:
            self._store.write(batch)
        except StoreUnavailable as error:
            self._stall(error)
            return False
        self._held = batch.position or self._held
        if batch.position is not None:
            self._acknowledger.stored(batch.position)
        self._worked(len(batch))
        return True

    def _open(self) -> None:
        if self._closed:
            return
        try:
            self._store = self._open_store()
            self._held = self._store.position(self._adapter)
        except StoreUnavailable as error:
            self._stall(error)
            return
        self._join()

    def _stall(self, error: StoreUnavailable) -> None:
        log.error("the store does not take what is recorded", extra={"text": str(error), "retry_s": self._retry_s})
        self.trouble = str(error)
        self._leave()
        self._close_store()
        self._loop.after(self._retry_s, self._open)
        self._retry_s = min(2 * self._retry_s, STORE_RETRY_MAX_S)

    def _close_store(self) -> None:
        if self._store is not None:
            self._counts = self._store.counts
            self._store.close()
            self._store = None

    # Joining and leaving.

    def _join(self) -> None:
        """Ask for the present state, then for what the event log still has, then subscribe."""
        if self._closed or self._store is None:
            return
        self._attempt += 1
        attempt = self._attempt

        def ask_log(reply: Reply) -> None:
            if attempt == self._attempt and isinstance(reply, Snapshot):
                self._queries.ask(
                    lambda request_id: GetEvents(request_id, 0, "", 1),
                    on_reply=lambda events: self._joined(attempt, reply, events),
                    on_error=failed,
                    deadline_s=JOIN_DEADLINE_S,
                )

        def failed(error: BusError) -> None:
            if attempt == self._attempt:
                log.info("the adapter cannot be joined yet: asking again", extra={"error": error.code})
                self._loop.after(JOIN_RETRY_S, self._join)

        self._queries.ask(GetSnapshot, on_reply=ask_log, on_error=failed, deadline_s=JOIN_DEADLINE_S)

    def _joined(self, attempt: int, snapshot: Snapshot, events: Reply) -> None:
        if attempt != self._attempt or self._store is None or not isinstance(events, Events):
            return
        if snapshot.log_id != events.log_id:
            self._loop.after(JOIN_RETRY_S, self._join)
            return
        batch = Batch(self._adapter)
        try:
            position, anew = self._resume_after(events)
            self._log_number = self._store.enter_log(self._adapter, position, anew=anew)
            batch.add_snapshot(snapshot, self._log_number)
            self._store.write(batch)
            coverage = self._store.coverage()
        except StoreUnavailable as error:
            self._stall(error)
            return
        # Only a write shows that the store is back: a locked one can be opened and read.
        self._retry_s = STORE_RETRY_FIRST_S
        self.trouble = ""
        self._held = position
        self._acknowledger.stored(position)
        self._batch = Batch(self._adapter)
        self._account, self._epoch, self._bar_gaps = None, 0, 0
        self._backfill = Backfill(
            self._loop,
            self._queries,
            adapter=self._adapter,
            settings=self._settings,
            coverage=coverage,
            write=self._write,
        )
        log.info("joined", extra={"log_id": position.log_id, "offset": position.offset})
        self._subscription = self._subscribe(self, position)
        self._subscription.start()

    def _resume_after(self, events: Events) -> tuple[EventPosition, bool]:
        """Return where to go on, and whether the log is to be read anew.

        After what the store holds, or, where that cannot be, from the oldest event there is.
        """
        oldest = EventPosition(events.log_id, max(events.first_offset - 1, 0))
        held = self._held
        if held is None:
            return oldest, False
        fields = {"held_log_id": held.log_id, "held_offset": held.offset, "log_id": events.log_id}
        fields |= {"first_offset": events.first_offset, "last_offset": events.last_offset}
        if held.log_id != events.log_id:
            log.warning("a new event log: everything in it is read, and the history again", extra=fields)
            return oldest, True
        if held.offset > events.last_offset:
            log.error("the store is ahead of the event log, which lost its end: it is read again", extra=fields)
            return oldest, True
        if held.offset < oldest.offset:
            log.warning("the event log no longer has what comes next: the history fills in", extra=fields)
            return oldest, False
        return held, False

    def _leave(self) -> None:
        """Leave the streams; what is not committed is dropped, the adapter's log still has it."""
        self._attempt += 1
        self._batch = Batch(self._adapter)
        if self._backfill is not None:
            self._backfill.close()
            self._backfill = None
        if self._subscription is not None:
            # Not at once: it may be the one that is calling.
            self._reports = self._subscription.reports()
            self._left.append(self._subscription)
            self._subscription = None
            self._loop.after(0, self._close_left)

    def _close_left(self) -> None:
        while self._left:
            self._left.pop().close()

    # Coverage.

    def _cover_history(self, event: Event) -> None:
        if self._backfill is None:
            return
        for subject in history_subjects(Account(event.server, event.login)):
            if self._backfill.filled(subject):
                self._batch.coverage[subject.name] = event.market_ms
                self._backfill.moved(subject, event.market_ms)

    def _look_for_missed_bars(self, epoch: int, market_ms: int) -> None:
        """Have bars filled after joining, after the adapter's restart and after a gap in their stream."""
        if self._subscription is None or self._backfill is None:
            return
        gaps = sum(report.gaps for report in self._subscription.reports() if report.stream == "bars")
        if epoch != self._epoch or gaps != self._bar_gaps:
            self._epoch, self._bar_gaps = epoch, gaps
            self._heard.clear()
            self._backfill.want_bars(self._symbols, self._timeframes, market_ms)
