"""What can be entered into the journal, and how each kind of record becomes rows. Runs in the writer thread only."""

from __future__ import annotations

import hashlib
import logging
import sqlite3

import msgspec

from broker_adapter.intents import Intent
from protocol.messages import Event, EventBody, Order, Position


class EventRecord(msgspec.Struct, frozen=True):
    """An event to append. It is stored once per (server, login, key); `key` empty means the body's own."""

    body: EventBody
    server: str
    login: int
    market_ms: int
    key: str = ""


class IntentRecord(msgspec.Struct, frozen=True):
    """An intent's present state; replaces the stored one of the same number."""

    intent: Intent


class KnownRecord(msgspec.Struct, frozen=True):
    """The last published state of a ``position`` (by identifier) or active ``order`` (by ticket); None forgets it."""

    server: str
    login: int
    kind: str
    ticket: int
    value: Position | Order | None


class MetaRecord(msgspec.Struct, frozen=True):
    """A named value: trading mode, armed logins, cursors."""

    key: str
    value: str


class ConsumerRecord(msgspec.Struct, frozen=True):
    """A consumer of the event log and what it acknowledged; `offset` None forgets it."""

    name: str
    offset: int | None


class DropRecord(msgspec.Struct, frozen=True):
    """Events up to offset `through` go, and some of the room of what went is given back to the disk.

    The newest event stays whatever is asked: its offset must not come again.
    """

    through: int


log = logging.getLogger(__name__)

Record = EventRecord | IntentRecord | KnownRecord | MetaRecord | ConsumerRecord | DropRecord

_encode = msgspec.msgpack.Encoder().encode

_PUT_INTENT = (
    "INSERT INTO intents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (number) DO UPDATE SET state = "
    "excluded.state, live = excluded.live, filled = excluded.filled, order_ticket = excluded.order_ticket, "
    "position = excluded.position, updated_ms = excluded.updated_ms, body = excluded.body"
)
_PUT_META = "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
_COUNT_INTENTS = "UPDATE meta SET value = ? WHERE key = 'next_intent' AND CAST(value AS INTEGER) < ?"


_PUT_CONSUMER = (
    "INSERT INTO consumers VALUES (?, ?, 0, ?, ?) ON CONFLICT (name) DO UPDATE SET offset = excluded.offset, "
    "acknowledged_ms = excluded.acknowledged_ms"
)
_PUT_DROPPED = (
    "INSERT INTO dropped VALUES (?, ?, ?, ?) ON CONFLICT (server, login) DO UPDATE SET "
    "recorded_ms = iif(excluded.recorded_ms, excluded.recorded_ms, recorded_ms)"
)

# Keys that the same fact may come under again: they outlive their event. (Those of positions and active orders hold a
# serial, and never come again.) The broker's history is read back up to 400 days, ids of orders are kept 90.
_RECORDED = ("deal:", "final_order:")
_MAY_COME_AGAIN = (*_RECORDED, "intent:", "signal:", "alert:", "mode:")
TOLD_MS = 410 * 86_400_000
_FORGOTTEN_AT_ONCE = 500
_VACUUMED_PAGES = 512  # 2 MB: some milliseconds


def column(ticket: int) -> int:
    """Return a ticket as SQLite holds it: the terminal's are unsigned with 64 bits, a column has a sign."""
    return ticket - (1 << 64) if ticket >= 1 << 63 else ticket


class Appender:
    """Writes records inside one transaction; offsets follow each other without holes."""

    def __init__(self, connection: sqlite3.Connection, *, log_id: str, epoch: int, last_offset: int) -> None:
        self._connection = connection
        self._log_id = log_id
        self._epoch = epoch
        self._offset = last_offset
        self._room_to_give_back = False

    def commit(self, batches: list[tuple[tuple[Record, ...], int]]) -> list[tuple[Event, ...]]:
        """Write batches of (records, wall time of writing) in one transaction; return the new events of each batch.

        Raises:
            sqlite3.Error: Nothing of it is stored.
        """
        start = self._offset
        try:
            # Inside the try: a transaction left open by a failed ROLLBACK ends here as well.
            self._connection.execute("BEGIN IMMEDIATE")
            stored = [self._write(records, wall_ms) for records, wall_ms in batches]
            self._connection.execute("COMMIT")
        except BaseException:
            self._offset = start
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        if self._room_to_give_back:
            self._give_back()
        return stored

    def _write(self, records: tuple[Record, ...], wall_ms: int) -> tuple[Event, ...]:
        events = []
        for record in records:
            if isinstance(record, EventRecord):
                event = self._append(record, wall_ms)
                if event is not None:
                    events.append(event)
            elif isinstance(record, IntentRecord):
                self._put_intent(record.intent, wall_ms)
            elif isinstance(record, KnownRecord):
                self._put_known(record)
            elif isinstance(record, ConsumerRecord):
                self._put_consumer(record, wall_ms)
            elif isinstance(record, DropRecord):
                self._drop(record.through, wall_ms)
            else:
                self._connection.execute(_PUT_META, (record.key, record.value))
        return tuple(events)

    def _append(self, record: EventRecord, wall_ms: int) -> Event | None:
        key = record.key or record.body.key()
        place = (record.server, record.login, key)
        found = self._connection.execute("SELECT 1 FROM events WHERE server = ? AND login = ? AND key = ?", place)
        if found.fetchone() is not None:
            return None
        told = self._connection.execute("SELECT 1 FROM told WHERE digest = ?", (_digest(*place),))
        if told.fetchone() is not None:
            return None
        self._offset += 1
        self._connection.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (self._offset, *place, self._epoch, wall_ms, record.market_ms, _encode(record.body)),
        )
        return Event(
            self._log_id, self._offset, self._epoch, wall_ms, record.market_ms, record.server, record.login, record.body
        )

    def _put_intent(self, intent: Intent, wall_ms: int) -> None:
        self._connection.execute(
            _PUT_INTENT,
            (
                intent.number,
                intent.client_order_id,
                intent.state.value,
                int(intent.live),
                int(intent.opens),
                int(intent.filled_volume > 0),
                column(intent.order),
                column(intent.position),
                wall_ms,
                _encode(intent),
            ),
        )
        self._connection.execute(_COUNT_INTENTS, (str(intent.number + 1), intent.number + 1))

    def _put_known(self, record: KnownRecord) -> None:
        place = (record.server, record.login, record.kind, column(record.ticket))
        if record.value is None:
            self._connection.execute(
                "DELETE FROM known WHERE server = ? AND login = ? AND kind = ? AND ticket = ?", place
            )
        else:
            self._connection.execute(
                "INSERT OR REPLACE INTO known VALUES (?, ?, ?, ?, ?)", (*place, _encode(record.value))
            )

    def _put_consumer(self, record: ConsumerRecord, wall_ms: int) -> None:
        if record.offset is None:
            self._connection.execute("DELETE FROM consumers WHERE name = ?", (record.name,))
        else:
            self._connection.execute(_PUT_CONSUMER, (record.name, record.offset, wall_ms, wall_ms))

    def _drop(self, through: int, wall_ms: int) -> None:
        run = self._connection.execute
        through = min(through, self._offset - 1)
        query = "SELECT offset, server, login, key, market_ms FROM events WHERE offset <= ? ORDER BY offset"
        rows = run(query, (through,)).fetchall()
        if rows:
            self._leave_behind(rows, through, wall_ms)
            run("DELETE FROM events WHERE offset <= ?", (through,))
        self._room_to_give_back = True

    def _give_back(self) -> None:
        """Cut free pages off the file, a portion of them. What was committed is: a failure only leaves them there."""
        self._room_to_give_back = False
        try:
            # As a script: this pragma works while it is stepped through, and `execute` takes one step only.
            self._connection.executescript(f"PRAGMA incremental_vacuum({_VACUUMED_PAGES})")
        except sqlite3.OperationalError as error:
            log.warning("the journal's free pages stay in its file", extra={"reason": str(error)})

    def _leave_behind(self, rows: list[tuple[int, str, int, str, int]], through: int, wall_ms: int) -> None:
        """Note of events that go: that they were told, how far each account was recorded, and who had not read them."""
        run = self._connection.execute
        expires_ms = wall_ms + TOLD_MS
        keys = [(_digest(*row[1:4]), expires_ms) for row in rows if row[3].startswith(_MAY_COME_AGAIN)]
        self._connection.executemany("INSERT OR REPLACE INTO told VALUES (?, ?)", keys)
        for _, server, login, key, market_ms in rows:
            run(_PUT_DROPPED, (server, login, market_ms, market_ms if key.startswith(_RECORDED) else 0))
        first = rows[0][0]
        run("UPDATE consumers SET missed = missed + ? - max(offset, ?) WHERE offset < ?", (through, first - 1, through))
        run(
            "DELETE FROM told WHERE digest IN (SELECT digest FROM told WHERE expires_ms < ? LIMIT ?)",
            (wall_ms, _FORGOTTEN_AT_ONCE),
        )


def _digest(server: str, login: int, key: str) -> bytes:
    return hashlib.blake2b(f"{server}\0{login}\0{key}".encode(), digest_size=16).digest()
