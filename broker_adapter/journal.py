"""Intents and the event log on disk: one writer thread, and reading from the loop.

The loop never waits for the disk: `Journal.write` hands a batch over and `on_durable` comes back through the loop once
the batch is synced. Batches become durable in the order they were written, several in one transaction when the disk
is slower than the loop (docs/decisions/0004-journal-writer.md). Everything of a batch is stored, or nothing.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from broker_adapter.disk_reserve import DiskReserve, is_full
from broker_adapter.intents import CHANGING_ORDERS, Intent
from broker_adapter.journal_records import Appender, Record, column
from broker_adapter.journal_schema import damaged, open_for_reading, open_for_writing
from broker_adapter.sole_owner import lock_folder
from broker_adapter.witnesses import first_intent_number
from protocol.clock import Clock
from protocol.errors import InitialisationFailed, NotReady
from protocol.messages import Consumer, Event, EventBody, Order, OrderCounts, Position

FILE_NAME = "journal.sqlite"
CAPACITY = 1024  # batches on their way to the disk before new ones are refused
_BATCHES_A_COMMIT = 256
_RETRY_S = 0.5
_JOIN_S = 10.0
_DAY_MS = 86_400_000

T = TypeVar("T")
OnDurable = Callable[[tuple[Event, ...]], None]

log = logging.getLogger(__name__)


class LoopLike(Protocol):
    """What the journal needs of the node's loop."""

    clock: Clock

    def post(self, callback: Callable[[], None]) -> None:
        """Run `callback` in the loop's thread; callable from any thread."""
        ...


class _Batch(NamedTuple):
    records: tuple[Record, ...]
    wall_ms: int
    on_durable: OnDurable


class Journal:
    """The adapter's durable memory, at `folder`/journal.sqlite.

    Args:
        epoch: Life of the adapter, stamped on its events: UTC milliseconds of its start.
        keep_days: Finished intents older than this are forgotten at the start, their client order ids with them.
        reserve: Given up when the disk is full.

    Raises:
        InitialisationFailed: Damaged, of a newer version, not writable, or in use by another adapter.
    """

    def __init__(
        self, loop: LoopLike, folder: Path, *, epoch: int, keep_days: int = 90, reserve: DiskReserve | None = None
    ) -> None:
        self._loop = loop
        self._reserve = reserve
        self.path = folder / FILE_NAME
        self.epoch = epoch
        self._lock = lock_folder(folder, "journal.lock")
        try:
            self._writer = open_for_writing(self.path, wall_ms=loop.clock.wall_ms())
        except OSError as error:
            self._lock.release()
            raise InitialisationFailed(
                f"the journal {self.path} cannot be made ({error.strerror or error}): check that the folder is writable"
                " and the disk not full",
                {"file": str(self.path)},
            ) from error
        except BaseException:
            self._lock.release()
            raise
        try:
            self._forget_old(keep_days)
            self._reader = open_for_reading(self.path)
            self.log_id = self.meta("log_id")
            self._last_offset = self._read_last_offset()
            # This file may be an old copy put back (a machine's snapshot): numbers that were given out after the copy
            # was made must not come again, or an old order's deals would prove a new order.
            self._next_intent = max(int(self.meta("next_intent")), first_intent_number(loop.clock.wall_ms()))
        except BaseException as error:
            self._writer.close()
            self._lock.release()
            if isinstance(error, sqlite3.Error | ValueError):  # a number that is none
                raise damaged(self.path, str(error)) from error
            raise
        self.trouble = ""
        """Why the disk takes nothing at present; empty if all is well."""
        self._outstanding = 0
        self._queue: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._thread.start()

    # --- Writing ------------------------------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether new work may be accepted: the disk keeps up."""
        return self._outstanding < CAPACITY and not self.trouble

    @property
    def outstanding(self) -> int:
        """How many batches are not durable yet."""
        return self._outstanding

    def write(self, records: Iterable[Record], on_durable: OnDurable, *, essential: bool = False) -> None:
        """Hand a batch to the writer; `on_durable` gets its new events in the loop, once they are on disk.

        An event whose (server, login, key) is stored already is left out. `essential` batches (what became of an
        order that was accepted) are taken even when there is no room: there are no more of them than orders in flight.

        Raises:
            NotReady: There is no room; nothing was taken.
        """
        if not (essential or self.has_room):
            why = self.trouble or f"{self._outstanding} entries wait for the disk"
            raise NotReady(f"the journal takes nothing new now ({why}): try again later")
        self._outstanding += 1
        self._queue.put(_Batch(tuple(records), self._loop.clock.wall_ms(), on_durable))

    def next_intent_number(self) -> int:
        """Return a number that no intent of this journal has had."""
        number = self._next_intent
        self._next_intent += 1
        return number

    def close(self) -> None:
        """Write what was handed over, then close. Blocks for the disk, at most ten seconds."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join(_JOIN_S)
        self._reader.close()
        if not self._thread.is_alive():
            self._writer.close()
        self._lock.release()

    # --- Reading, from the loop ---------------------------------------------------------------------------------

    @property
    def last_offset(self) -> int:
        """Offset of the newest event that is durable and was handed to its `on_durable`; 0 if none."""
        return self._last_offset

    @property
    def first_offset(self) -> int:
        """Offset of the oldest event the log still has; 0 if none."""
        return int(self._rows("SELECT coalesce(min(offset), 0) FROM events")[0][0])

    @property
    def used_bytes(self) -> int:
        """What events, intents and all else take on disk, free pages not counted."""
        return (self._pragma("page_count") - self._pragma("freelist_count")) * self._pragma("page_size")

    @property
    def free_bytes(self) -> int:
        """What the file takes on disk and does not use."""
        return self._pragma("freelist_count") * self._pragma("page_size")

    def oldest_events(self, after: int, limit: int) -> list[tuple[int, int]]:
        """Return offset and time of writing (wall clock) of the oldest events after `after`, in order."""
        query = "SELECT offset, recorded_ms FROM events WHERE offset > ? ORDER BY offset LIMIT ?"
        return self._rows(query, (after, limit))

    def consumers(self) -> tuple[Consumer, ...]:
        """Return the registered consumers of the event log, by name."""
        rows = self._rows("SELECT name, offset, missed, registered_ms, acknowledged_ms FROM consumers ORDER BY name")
        return tuple(
            Consumer(name, offset, max(0, self._last_offset - offset), missed, registered_ms, acknowledged_ms)
            for name, offset, missed, registered_ms, acknowledged_ms in rows
        )

    def events_after(self, offset: int, limit: int) -> tuple[Event, ...]:
        """Return up to `limit` events after `offset`, none newer than `last_offset`."""
        rows = self._rows(
            "SELECT offset, epoch, recorded_ms, market_ms, server, login, body FROM events "
            "WHERE offset > ? AND offset <= ? ORDER BY offset LIMIT ?",
            # A consumer may be ahead of the log, or ask for a number that no column holds: it gets nothing.
            (min(max(0, offset), self._last_offset), self._last_offset, limit),
        )
        return tuple(
            Event(
                self.log_id,
                offset,
                epoch,
                recorded_ms,
                market_ms,
                server,
                login,
                self._decoded(_body_decoder, body, f"event {offset}"),
            )
            for offset, epoch, recorded_ms, market_ms, server, login, body in rows
        )

    def intent(self, client_order_id: str) -> Intent | None:
        """Return the stored intent under a client order id."""
        return self._one("client_order_id = ?", client_order_id)

    def intent_by_number(self, number: int) -> Intent | None:
        """Return the stored intent of that number."""
        return self._one("number = ?", number)

    def intent_by_order(self, order: int) -> Intent | None:
        """Return the stored intent that made the order of that ticket."""
        query = "SELECT body FROM intents WHERE order_ticket = ? AND order_ticket != 0 ORDER BY number"
        return next(
            (found for found in self._many(query, (column(order),)) if found.action not in CHANGING_ORDERS), None
        )

    def opener_of(self, position: int) -> Intent | None:
        """Return the stored intent that opened the position of that identifier."""
        return self._one("position = ? AND position != 0 AND opens = 1 ORDER BY number", column(position))

    def live_intents(self) -> tuple[Intent, ...]:
        """Return the intents that the desk has to go on looking at, oldest first."""
        return self._many("SELECT body FROM intents WHERE live = 1 ORDER BY number", ())

    def recent_intents(self, since_ms: int) -> tuple[Intent, ...]:
        """Return intents stored since `since_ms` (wall clock), oldest first."""
        return self._many("SELECT body FROM intents WHERE updated_ms >= ? ORDER BY number", (since_ms,))

    def counts(self) -> OrderCounts:
        """Return how many intents there are in each group of states."""
        rows = self._rows("SELECT state, filled, count(*) FROM intents GROUP BY state, filled")
        return OrderCounts(
            submitted=sum(n for state, _, n in rows if state != "refused"),
            filled=sum(n for _, filled, n in rows if filled),
            rejected=sum(n for state, _, n in rows if state in {"rejected", "refused"}),
            unknown=sum(n for state, _, n in rows if state in {"unknown", "ambiguous"}),
        )

    def known_positions(self, server: str, login: int) -> tuple[Position, ...]:
        """Return the account's positions as last published."""
        return tuple(
            self._decoded(_position_decoder, body, "a position") for body in self._known(server, login, "position")
        )

    def known_orders(self, server: str, login: int) -> tuple[Order, ...]:
        """Return the account's active orders as last published."""
        return tuple(self._decoded(_order_decoder, body, "an order") for body in self._known(server, login, "order"))

    def last_recorded_ms(self, server: str, login: int) -> int:
        """Return when the account's last recorded deal or final order was, market time; before the first of them when
        its first event was, and 0 if it has none."""
        mine, dropped = "FROM events WHERE server = ? AND login = ?", "FROM dropped WHERE server = ? AND login = ?"
        queries = (
            f"SELECT market_ms {mine} AND (key GLOB 'deal:*' OR key GLOB 'final_order:*') ORDER BY offset DESC LIMIT 1",
            f"SELECT recorded_ms {dropped} AND recorded_ms != 0",
            f"SELECT first_ms {dropped}",
            f"SELECT market_ms {mine} ORDER BY offset LIMIT 1",
        )
        for query in queries:
            rows = self._rows(query, (server, login))
            if rows:
                return int(rows[0][0])
        return 0

    def meta(self, key: str, default: str = "") -> str:
        """Return a named value."""
        rows = self._rows("SELECT value FROM meta WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else default

    def metas(self, prefix: str) -> dict[str, str]:
        """Return all named values whose key starts with `prefix`."""
        rows = self._rows("SELECT key, value FROM meta WHERE substr(key, 1, ?) = ?", (len(prefix), prefix))
        return {str(key): str(value) for key, value in rows}

    def _rows(self, query: str, values: tuple[str | int, ...] = ()) -> list[Any]:
        """Return what a query finds. Raises InitialisationFailed: the file is damaged."""
        try:
            return self._reader.execute(query, values).fetchall()
        except sqlite3.OperationalError:
            raise  # busy, or a disk that does not answer: no damage
        except sqlite3.DatabaseError as error:
            raise damaged(self.path, str(error)) from error

    def _decoded(self, decoder: msgspec.msgpack.Decoder[T], body: bytes, what: str) -> T:
        # Damage within a value is none that SQLite sees.
        try:
            return decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, TypeError) as error:
            raise damaged(self.path, f"{what} in it cannot be read: {error}") from error

    def _pragma(self, name: str) -> int:
        return int(self._rows(f"PRAGMA {name}")[0][0])

    def _one(self, condition: str, value: str | int) -> Intent | None:
        # `condition` is one of the constants above, never input.
        found = self._many(f"SELECT body FROM intents WHERE {condition} LIMIT 1", (value,))  # noqa: S608
        return found[0] if found else None

    def _many(self, query: str, values: tuple[str | int, ...]) -> tuple[Intent, ...]:
        return tuple(self._decoded(_intent_decoder, row[0], "an intent") for row in self._rows(query, values))

    def _known(self, server: str, login: int, kind: str) -> list[bytes]:
        query = "SELECT body FROM known WHERE server = ? AND login = ? AND kind = ? ORDER BY ticket"
        return [row[0] for row in self._rows(query, (server, login, kind))]

    def _read_last_offset(self) -> int:
        return int(self._rows("SELECT coalesce(max(offset), 0) FROM events")[0][0])

    def _forget_old(self, keep_days: int) -> None:
        before_ms = self._loop.clock.wall_ms() - keep_days * _DAY_MS
        self._writer.execute("DELETE FROM intents WHERE live = 0 AND updated_ms < ?", (before_ms,))

    # --- The writer thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        appender = Appender(self._writer, log_id=self.log_id, epoch=self.epoch, last_offset=self._last_offset)
        ending = False
        while not ending:
            batches, ending = self._take()
            if batches and not self._commit(appender, batches):
                return

    def _take(self) -> tuple[list[_Batch], bool]:
        batches = []
        item = self._queue.get()
        while item is not None:
            batches.append(item)
            if len(batches) == _BATCHES_A_COMMIT:
                return batches, False
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return batches, False
        return batches, True

    def _commit(self, appender: Appender, batches: list[_Batch]) -> bool:
        """Store the batches however long it takes; say whether the journal can go on."""
        pairs = [(batch.records, batch.wall_ms) for batch in batches]
        while True:
            try:
                stored = appender.commit(pairs)
                break
            except sqlite3.OperationalError as error:
                if self._reserve is not None and is_full(error) and self._reserve.give_up():
                    continue
                # Disk full, unreachable or locked: nothing was stored, and order is kept by trying the same again.
                self._loop.post(partial(self._on_trouble, str(error)))
                if self._closing.wait(_RETRY_S):
                    return False
            except Exception as error:  # damage, or a bug of ours: the loop ends the process (crash-only)
                failure = damaged(self.path, f"{type(error).__name__}: {error}")
                failure.__cause__ = error
                self._loop.post(partial(_raise, failure))
                return False
        for batch, events in zip(batches, stored, strict=True):
            self._loop.post(partial(self._on_durable, batch, events))
        return True

    def _on_durable(self, batch: _Batch, events: tuple[Event, ...]) -> None:
        self._outstanding -= 1
        if self.trouble:
            log.warning("the journal writes again", extra={"file": str(self.path)})
            self.trouble = ""
        if events:
            self._last_offset = events[-1].offset
        batch.on_durable(events)

    def _on_trouble(self, text: str) -> None:
        if text != self.trouble:
            log.error("the journal cannot write and tries again", extra={"file": str(self.path), "reason": text})
        self.trouble = text


_body_decoder: msgspec.msgpack.Decoder[EventBody] = msgspec.msgpack.Decoder(EventBody)
_intent_decoder = msgspec.msgpack.Decoder(Intent)
_position_decoder = msgspec.msgpack.Decoder(Position)
_order_decoder = msgspec.msgpack.Decoder(Order)


def _raise(error: InitialisationFailed) -> None:
    raise error
