"""Durable state: every change is on disk before anyone is told of it.

One SQLite file in the terminal's folder, in WAL mode and synced at each commit, so that a `kill -9` or a power
failure loses nothing acknowledged. Records are stored as MessagePack arrays in the API's field order.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

import msgspec

from paper_terminal.ledger_records import Deal, Order, Position

SCHEMA_VERSION: Final = 1
STATE_FILE: Final = "state.sqlite"

Table: TypeAlias = Literal["positions", "orders", "history_orders", "deals"]
Record: TypeAlias = Position | Order | Deal
R = TypeVar("R", Position, Order, Deal)


class StateError(Exception):
    """The state cannot be read or written; the terminal must not go on."""


class Change(NamedTuple):
    """One record written, or with `record` None removed."""

    table: Table
    login: int
    ticket: int
    record: Record | None


class Loaded(NamedTuple):
    """Everything of one account."""

    positions: list[Position]
    orders: list[Order]
    history_orders: list[Order]
    deals: list[Deal]


class Store(Protocol):
    """Where changes go."""

    def commit(self, changes: Iterable[Change], facts: dict[str, int]) -> None:
        """Make changes and facts durable, all or none."""
        ...


_TABLES: Final[tuple[Table, ...]] = ("positions", "orders", "history_orders", "deals")
_encoder = msgspec.msgpack.Encoder()


class SqliteStore:
    """The state file of one terminal."""

    def __init__(self, path: Path) -> None:
        """Open or make the file.

        Raises:
            StateError: it cannot be opened, is damaged, or was written by a newer version.
        """
        try:
            self._database = sqlite3.connect(path, isolation_level=None)
        except sqlite3.Error as error:
            raise StateError(f"{path}: {error}") from error
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._database.close()
            raise StateError(f"{path}: {error}") from error
        except StateError:
            self._database.close()
            raise

    def _prepare(self) -> None:
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.execute("PRAGMA busy_timeout=5000")
        (found,) = self._database.execute("PRAGMA user_version").fetchone()
        if found > SCHEMA_VERSION:
            raise StateError(f"the state has version {found}, this program knows {SCHEMA_VERSION}: update it")
        self._database.execute("BEGIN IMMEDIATE")
        for table in _TABLES:
            self._database.execute(
                f"CREATE TABLE IF NOT EXISTS {table}"
                " (login INTEGER NOT NULL, ticket INTEGER NOT NULL, record BLOB NOT NULL,"
                " PRIMARY KEY (login, ticket)) WITHOUT ROWID"
            )
        self._database.execute("CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL)")
        self._database.execute("CREATE TABLE IF NOT EXISTS market_watch (symbol TEXT PRIMARY KEY)")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS opened_accounts (login INTEGER PRIMARY KEY, settings BLOB NOT NULL)"
        )
        self._database.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        self._database.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def facts(self) -> dict[str, int]:
        """Return the numbers kept by name."""
        return dict(self._database.execute("SELECT name, value FROM facts"))

    def load(self, login: int) -> Loaded:
        """Return an account's records, by ticket.

        Raises:
            StateError: a record cannot be read.
        """
        try:
            return Loaded(
                self._records("positions", login, Position),
                self._records("orders", login, Order),
                self._records("history_orders", login, Order),
                self._records("deals", login, Deal),
            )
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            raise StateError(f"account {login}: {error}") from error

    def _records(self, table: Table, login: int, kind: type[R]) -> list[R]:
        rows = self._database.execute(
            f"SELECT record FROM {table} WHERE login = ? ORDER BY ticket",  # noqa: S608  # a name of ours
            (login,),
        )
        decoder = msgspec.msgpack.Decoder(kind)
        return [decoder.decode(record) for (record,) in rows]

    def commit(self, changes: Iterable[Change], facts: dict[str, int]) -> None:
        """Write all of them in one synced transaction.

        Raises:
            StateError: the disk refuses (full, gone): nothing was written and nothing may be acknowledged.
        """
        try:
            self._database.execute("BEGIN IMMEDIATE")
            for table, login, ticket, record in changes:
                if record is None:
                    self._database.execute(
                        f"DELETE FROM {table} WHERE login = ? AND ticket = ?",  # noqa: S608  # a name of ours
                        (login, ticket),
                    )
                else:
                    self._database.execute(
                        f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?)",  # noqa: S608  # a name of ours
                        (login, ticket, _encoder.encode(record)),
                    )
            self._database.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", facts.items())
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            raise StateError(f"the state cannot be written: {error}") from error

    def market_watch(self) -> set[str]:
        """Return the selected symbols."""
        return {symbol for (symbol,) in self._database.execute("SELECT symbol FROM market_watch")}

    def save_market_watch(self, symbols: Iterable[str]) -> None:
        """Keep the selected symbols.

        Raises:
            StateError: the disk refuses.
        """
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute("DELETE FROM market_watch")
            self._database.executemany("INSERT INTO market_watch VALUES (?)", [(each,) for each in symbols])
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            raise StateError(f"the state cannot be written: {error}") from error

    def opened_accounts(self) -> list[bytes]:
        """Return the settings (MessagePack) of the accounts opened while the terminal ran."""
        return [blob for (blob,) in self._database.execute("SELECT settings FROM opened_accounts ORDER BY login")]

    def keep_account(self, login: int, settings: bytes) -> None:
        """Keep the settings of an account opened while the terminal runs.

        Raises:
            StateError: the disk refuses.
        """
        try:
            self._database.execute("INSERT OR REPLACE INTO opened_accounts VALUES (?, ?)", (login, settings))
        except sqlite3.Error as error:
            raise StateError(f"the state cannot be written: {error}") from error
