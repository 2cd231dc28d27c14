"""What can be entered into the journal, and how each kind of record becomes rows. Runs in the writer thread only."""

from __future__ import annotations

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


Record = EventRecord | IntentRecord | KnownRecord | MetaRecord

_encode = msgspec.msgpack.Encoder().encode

_PUT_INTENT = (
    "INSERT INTO intents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (number) DO UPDATE SET state = "
    "excluded.state, live = excluded.live, filled = excluded.filled, order_ticket = excluded.order_ticket, "
    "position = excluded.position, updated_ms = excluded.updated_ms, body = excluded.body"
)
_PUT_META = "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
_COUNT_INTENTS = "UPDATE meta SET value = ? WHERE key = 'next_intent' AND CAST(value AS INTEGER) < ?"


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
            else:
                self._connection.execute(_PUT_META, (record.key, record.value))
        return tuple(events)

    def _append(self, record: EventRecord, wall_ms: int) -> Event | None:
        key = record.key or record.body.key()
        place = (record.server, record.login, key)
        found = self._connection.execute("SELECT 1 FROM events WHERE server = ? AND login = ? AND key = ?", place)
        if found.fetchone() is not None:
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
