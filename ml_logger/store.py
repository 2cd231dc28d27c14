"""The store: idempotent writes by key, one transaction a batch, over SQLite or PostgreSQL.

The event position and the coverage are written in the transaction of the rows that they stand for, so that
whatever a crash cuts off is asked for again, and what comes twice changes nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
from sqlalchemy import URL, Connection, Engine, Table, and_, create_engine, event, func, make_url, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, InternalError, NoSuchModuleError, OperationalError

from ml_logger import schema
from ml_logger.errors import StoreUnavailable, StoreUnusable
from ml_logger.rows import Batch, Row
from protocol.numbering import EventPosition

FILE_NAME = "store.sqlite3"
# Long enough for a reader's checkpoint, short enough to answer the next ping; the write is tried again anyway.
LOCK_WAIT_MS = 500
SERVER_WAIT_S = 2


_DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}


class Counts(msgspec.Struct, frozen=True):
    """Rows in the store."""

    bars: int = 0
    signals: int = 0
    orders: int = 0
    deals: int = 0


def store_url(configured: str, folder: Path) -> URL:
    """Return the URL of `[logger] url`, or of the SQLite file in `folder` where it is empty.

    Raises:
        StoreUnusable: It is no URL of a database that the logger knows.
    """
    if not configured:
        return URL.create("sqlite", database=str(folder / FILE_NAME))
    try:
        url = make_url(configured)
    except ArgumentError:
        # The text itself may hold a password, hence is not repeated.
        raise StoreUnusable(
            "[logger] url is no database URL: write sqlite:///PATH or postgresql://USER@HOST/DATABASE,"
            " or leave it empty for the SQLite file in the home"
        ) from None
    driver = _DRIVERS.get(url.get_backend_name())
    if driver is None:
        raise StoreUnusable(
            f"[logger] url names a {url.get_backend_name()} database: the store knows sqlite and postgresql"
        )
    return url.set(drivername=driver)


class Store:
    """One open store. Made by `open_store`; used by one thread.

    Every method raises `StoreUnavailable` (nothing was written, try later) or `StoreUnusable`.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name = engine.url.render_as_string(hide_password=True)
        self._counts = dict.fromkeys(Counts.__struct_fields__, 0)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @property
    def counts(self) -> Counts:
        """Rows in the store, as counted at opening and with every write since."""
        return Counts(**self._counts)

    def write(self, batch: Batch) -> int:
        """Write the batch in one transaction; return how many of its rows are new."""
        with self._transaction() as connection:
            fresh = {table: self._upsert(connection, table, rows) for table, rows in batch.rows.items()}
            self._move(connection, batch)
        for name in self._counts:
            self._counts[name] += fresh.get(name, 0)
        return sum(fresh.values())

    def position(self, adapter: str) -> EventPosition | None:
        """Return how far this store has come in the adapter's newest event log, or None at the first start."""
        logs = schema.event_logs
        query = (
            select(logs.c.log_id, logs.c.log_offset)
            .where(logs.c.adapter == adapter)
            .order_by(logs.c.log_number.desc())
            .limit(1)
        )
        with self._transaction() as connection:
            row = connection.execute(query).first()
        return None if row is None else EventPosition(row.log_id, row.log_offset)

    def enter_log(self, adapter: str, position: EventPosition, *, anew: bool = False) -> int:
        """Return the number of the event log in which the store goes on after `position`.

        A log that is new, or read `anew` because it lost its end, gets the next number, so that what is read from it
        wins over what was learnt before. A known log otherwise moves forward, never back.
        """
        logs = schema.event_logs
        key = and_(logs.c.adapter == adapter, logs.c.log_id == position.log_id)
        with self._transaction() as connection:
            number = connection.execute(select(logs.c.log_number).where(key)).scalar_one_or_none()
            if number is not None and anew:
                connection.execute(logs.delete().where(key))
            if number is None or anew:
                newest = select(func.max(logs.c.log_number)).where(logs.c.adapter == adapter)
                number = max(connection.execute(newest).scalar() or 0, number or 0) + 1
            row: Row = {"adapter": adapter, "log_id": position.log_id}
            row |= {"log_number": number, "log_offset": position.offset}
            self._upsert(connection, "event_logs", [row])
        return int(number)

    def coverage(self) -> dict[str, int]:
        """Return through when (UTC milliseconds) each subject's history is in the store."""
        with self._transaction() as connection:
            rows = connection.execute(select(schema.coverage)).all()
        return {row.subject: row.through_ms for row in rows}

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection whose queries all see the store at one moment."""
        with self._transaction() as connection:
            yield connection

    def prepare(self) -> None:
        """Make or migrate the tables and count the rows.

        Raises:
            StoreUnusable: A newer version wrote this store, or the tables are not ours.
        """
        with self._transaction() as connection:
            schema.prepare(connection)
            for name in self._counts:
                count = connection.execute(select(func.count()).select_from(schema.metadata.tables[name])).scalar_one()
                self._counts[name] = int(count)

    def check(self) -> None:
        """Check that the tables are there.

        Raises:
            StoreUnusable: There are none, a newer version wrote them, or they are not ours.
        """
        with self._transaction() as connection:
            if schema.version_of(connection) is None:
                raise StoreUnusable(f"the store {self.name} is empty: let the ML logger run first")

    def _move(self, connection: Connection, batch: Batch) -> None:
        if batch.position is not None:
            logs = schema.event_logs
            statement = (
                logs
                .update()
                .where(
                    logs.c.adapter == batch.adapter,
                    logs.c.log_id == batch.position.log_id,
                    logs.c.log_offset < batch.position.offset,
                )
                .values(log_offset=batch.position.offset)
            )
            connection.execute(statement)
        if batch.coverage:
            rows = [{"subject": subject, "through_ms": through} for subject, through in batch.coverage.items()]
            self._upsert(connection, "coverage", rows)

    def _upsert(self, connection: Connection, name: str, rows: list[Row]) -> int:
        """Insert what is new, let the rest replace what is there by the table's rule; return how many were new."""
        table = schema.metadata.tables[name]
        insert = self._insert(table)
        counted = {"preserve_rowcount": True}
        fresh = connection.execute(insert.on_conflict_do_nothing(), rows, execution_options=counted).rowcount
        rule = schema.REPLACES.get(name)
        if rule is not None and fresh < len(rows):
            keys = [column.name for column in table.primary_key]
            values = {column.name: insert.excluded[column.name] for column in table.columns if column.name not in keys}
            update = insert.on_conflict_do_update(index_elements=keys, set_=values, where=rule(table, insert.excluded))
            connection.execute(update, rows)
        return int(fresh)

    def _insert(self, table: Table) -> Any:
        return (sqlite if self._engine.dialect.name == "sqlite" else postgresql).insert(table)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except DBAPIError as error:
            raise _explained(error, self.name) from error


def open_store(url: URL, *, writing: bool = True) -> Store:
    """Open the store; with `writing` its tables are made or migrated, else they must be there.

    Raises:
        StoreUnavailable: Not now.
        StoreUnusable: A newer version wrote it, the tables are not ours, the driver is not installed.
    """
    if not writing and url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        raise StoreUnusable(f"there is no store at {url.database}: let the system run first, or name another --home")
    store = Store(_engine(url))
    try:
        if writing:
            store.prepare()
        else:
            store.check()
    except BaseException:
        store.close()
        raise
    return store


def _engine(url: URL) -> Engine:
    try:
        if url.get_backend_name() == "sqlite":
            engine = create_engine(url, connect_args={"timeout": LOCK_WAIT_MS / 1000})
            event.listen(engine, "connect", _on_sqlite_connect)
            event.listen(engine, "begin", _on_sqlite_begin)
            return engine
        # Every wait for the server ends, so that the node's loop turns and answers its pings.
        options = f"-c statement_timeout={SERVER_WAIT_S * 1000} -c lock_timeout={LOCK_WAIT_MS}"
        arguments = {"connect_timeout": SERVER_WAIT_S, "options": options, "tcp_user_timeout": SERVER_WAIT_S * 1000}
        return create_engine(url, connect_args=arguments, pool_size=1, max_overflow=0)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise StoreUnusable(
            f"the driver of [logger] url is not installed ({error}): pip install 'mt5bus[postgres]'"
        ) from error


def _on_sqlite_connect(connection: sqlite3.Connection, _: object) -> None:
    # The driver's own begin leaves reads outside the transaction: ours are explicit, see `_on_sqlite_begin`.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    # A commit stays through a power cut: what is acknowledged to the adapter may leave its event log.
    connection.execute("PRAGMA synchronous=FULL")


def _on_sqlite_begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _explained(error: DBAPIError, name: str) -> StoreUnavailable | StoreUnusable:
    cause = " ".join(str(error.orig).split())
    if isinstance(error, OperationalError | InterfaceError | InternalError):
        return StoreUnavailable(
            f"the store {name} does not take this now ({cause}): nothing is lost, it is tried again"
        )
    return StoreUnusable(
        f"the store {name} refuses ({cause}): move a damaged file away, it is filled anew;"
        " give a server's user the right to make and write tables"
    )
