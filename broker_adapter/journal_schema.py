"""The journal's file: tables, schema version, opening and checking.

`MIGRATIONS[n]` leads from schema version n to n + 1; version 0 is an empty file. A file of a newer version is refused:
an older adapter would not know what it must not lose.
"""

from __future__ import annotations

import logging
import sqlite3
import uuid
from pathlib import Path

from broker_adapter.witnesses import first_intent_number
from mt5bus.files import replace_with_retry
from protocol.errors import InitialisationFailed

log = logging.getLogger(__name__)

APPLICATION_ID = 0x6D743562  # "mt5b"

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        "CREATE TABLE intents (number INTEGER PRIMARY KEY, client_order_id TEXT NOT NULL UNIQUE, state TEXT NOT NULL, "
        "live INTEGER NOT NULL, opens INTEGER NOT NULL, filled INTEGER NOT NULL, order_ticket INTEGER NOT NULL, "
        "position INTEGER NOT NULL, updated_ms INTEGER NOT NULL, body BLOB NOT NULL)",
        "CREATE INDEX intents_live ON intents (number) WHERE live = 1",
        "CREATE INDEX intents_order ON intents (order_ticket) WHERE order_ticket != 0",
        "CREATE INDEX intents_position ON intents (position) WHERE position != 0",
        "CREATE INDEX intents_updated ON intents (updated_ms)",
        "CREATE TABLE events (offset INTEGER PRIMARY KEY, server TEXT NOT NULL, login INTEGER NOT NULL, "
        "key TEXT NOT NULL, epoch INTEGER NOT NULL, recorded_ms INTEGER NOT NULL, market_ms INTEGER NOT NULL, "
        "body BLOB NOT NULL, UNIQUE (server, login, key))",
        "CREATE TABLE known (server TEXT NOT NULL, login INTEGER NOT NULL, kind TEXT NOT NULL, "
        "ticket INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (server, login, kind, ticket)) WITHOUT ROWID",
    ),
    (
        # Who reads the event log, and how far; see docs/decisions/0008.
        "CREATE TABLE consumers (name TEXT PRIMARY KEY, offset INTEGER NOT NULL, missed INTEGER NOT NULL, "
        "registered_ms INTEGER NOT NULL, acknowledged_ms INTEGER NOT NULL) WITHOUT ROWID",
        # What events that were dropped leave behind: that they were told, and how far an account was recorded.
        "CREATE TABLE told (digest BLOB PRIMARY KEY, expires_ms INTEGER NOT NULL) WITHOUT ROWID",
        "CREATE INDEX told_expires ON told (expires_ms)",
        "CREATE TABLE dropped (server TEXT NOT NULL, login INTEGER NOT NULL, first_ms INTEGER NOT NULL, "
        "recorded_ms INTEGER NOT NULL, PRIMARY KEY (server, login)) WITHOUT ROWID",
    ),
)
SCHEMA_VERSION = len(MIGRATIONS)

# Reading the whole file finds damage before it is built upon; beyond this size it would delay every start by seconds,
# and damage is then found where it is read.
_CHECKED_BYTES = 256 * 1024 * 1024
# A write-ahead log that grew while a reader held it is cut back to this at its next reset.
_WAL_BYTES = 16 * 1024 * 1024
_INCREMENTAL = 2  # PRAGMA auto_vacuum: freed pages are given back in small portions


def open_for_writing(path: Path, *, wall_ms: int) -> sqlite3.Connection:
    """Return a connection to the journal at `path`, made or migrated as needed, for use by the writer thread.

    Raises:
        InitialisationFailed: The file is damaged, of a newer version, no journal, or cannot be opened.
    """
    if not path.exists():
        # Made elsewhere and put in place whole: an empty file is then never a new journal, but one that was lost.
        fresh = path.with_suffix(".new")
        for leftover in path.parent.glob(f"{fresh.name}*"):
            leftover.unlink()
        _open(fresh, wall_ms=wall_ms).close()
        replace_with_retry(fresh, path)
    elif path.stat().st_size == 0:
        raise damaged(path, "it is empty")
    return _open(path, wall_ms=wall_ms)


def _open(path: Path, *, wall_ms: int) -> sqlite3.Connection:
    try:
        # Opened by the loop's thread, handed over to the writer's before anything is written.
        connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise _cannot_open(path, error) from error
    try:
        _prepare(connection, path, wall_ms=wall_ms)
    except sqlite3.Error as error:
        connection.close()
        raise _cannot_open(path, error) from error
    except UnicodeDecodeError as error:  # SQLite names what it cannot read, in its own damaged words
        connection.close()
        raise damaged(path, str(error)) from error
    except BaseException:
        connection.close()
        raise
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Return a connection that can only read; it never waits for the writer (write-ahead log)."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1.0, isolation_level=None)


def damaged(path: Path, found: str) -> InitialisationFailed:
    """Return the error of a journal that cannot be trusted."""
    return InitialisationFailed(
        f"the journal {path} is damaged ({found}). It says which orders were sent, so the adapter does not go on "
        f"without it. Restore a copy, or: check the open orders and positions in the terminal, move {path.name} and "
        f"the {path.name}-* files beside it away (keep them), and start again; a new event log then begins",
        {"file": str(path)},
    )


def _cannot_open(path: Path, error: sqlite3.Error) -> InitialisationFailed:
    if isinstance(error, sqlite3.OperationalError):
        return InitialisationFailed(
            f"the journal {path} cannot be opened ({error}): check that the folder is there and writable, that the "
            f"disk is not full, and that no other program holds the file",
            {"file": str(path)},
        )
    return damaged(path, str(error))


def _prepare(connection: sqlite3.Connection, path: Path, *, wall_ms: int) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and application != APPLICATION_ID:
        raise damaged(path, "it is a database, but no journal of mt5bus")
    if version > SCHEMA_VERSION:
        raise InitialisationFailed(
            f"the journal {path} has schema version {version}, this mt5bus knows up to {SCHEMA_VERSION}: "
            f"run the newer mt5bus that wrote it",
            {"file": str(path), "version": str(version)},
        )
    _vacuum_in_portions(connection, path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")
    if tables:
        _check(connection, path)
    _migrate(connection, version, wall_ms=wall_ms)


def _vacuum_in_portions(connection: sqlite3.Connection, path: Path) -> None:
    """Let freed pages be given back little by little. A file of before that is written anew for it, once.

    Where that cannot be (it takes room for a second copy, and time), freed pages are used again, only not given back.
    """
    if connection.execute("PRAGMA auto_vacuum").fetchone()[0] == _INCREMENTAL:
        return
    connection.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
    if not connection.execute("PRAGMA page_count").fetchone()[0] or path.stat().st_size > _CHECKED_BYTES:
        return
    try:
        connection.execute("VACUUM")
    except sqlite3.OperationalError as error:
        log.warning("the journal could not be written anew: it will not shrink", extra={"reason": str(error)})


def _check(connection: sqlite3.Connection, path: Path) -> None:
    if path.stat().st_size > _CHECKED_BYTES:
        return
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise damaged(path, found)
    first, last, count = connection.execute("SELECT min(offset), max(offset), count(*) FROM events").fetchone()
    if count and last - first + 1 != count:
        raise damaged(path, f"{last - first + 1 - count} events between offset {first} and {last} are missing")


def _migrate(connection: sqlite3.Connection, version: int, *, wall_ms: int) -> None:
    if version == SCHEMA_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                connection.execute(statement)
        if version == 0:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.executemany(
                "INSERT INTO meta VALUES (?, ?)",
                [("log_id", uuid.uuid4().hex), ("next_intent", str(first_intent_number(wall_ms)))],
            )
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
