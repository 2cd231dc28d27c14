"""The tables of the store, for SQLite and PostgreSQL alike, and which of two rows with one key stays.

Every row has a key that the facts themselves give, so that writing the same facts again, in any order, leaves
the same store. Times are UTC milliseconds, volumes lots, money in the account's currency; `type`, `state`,
`entry` and `reason` are MetaTrader 5's own numbers. Unsigned 64-bit numbers of the terminal (a magic number
above 2**63) are kept as the signed number with the same bits; a number that is not one (NaN) is NULL.

Latest-state tables (`intents`, `orders`, `positions`) keep with each row where it was learnt: `log_number` and
`log_offset` in the adapter's event log (0 and 0: from the broker's history). A later place wins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Double,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    and_,
    inspect,
    select,
    true,
    tuple_,
)
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.sql.elements import KeyedColumnElement

from ml_logger.errors import StoreUnusable

VERSION = 1

metadata = MetaData()


def _number(name: str, *, key: bool = False) -> Column[int]:
    return Column(name, BigInteger, primary_key=key, nullable=False, autoincrement=False)


def _text(name: str, *, key: bool = False) -> Column[str]:
    return Column(name, Text, primary_key=key, nullable=False)


def _value(name: str) -> Column[float]:
    return Column(name, Double, nullable=True)


def _account_key() -> tuple[Column[Any], Column[Any]]:
    return _text("server", key=True), _number("login", key=True)


def _learnt() -> tuple[Column[Any], Column[Any]]:
    return _number("log_number"), _number("log_offset")


schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True, autoincrement=False))

event_logs = Table(
    "event_logs",
    metadata,
    _text("adapter", key=True),
    _text("log_id", key=True),
    _number("log_number"),  # 1, 2, ... in the order in which this store met the logs
    _number("log_offset"),  # everything up to here is in the store
)

coverage = Table(
    "coverage",
    metadata,
    _text("subject", key=True),  # such as bars/main/EURUSD/M1, or history/SERVER/LOGIN
    _number("through_ms"),  # the broker's history up to here is in the store
)

bars = Table(
    "bars",
    metadata,
    _text("source", key=True),  # the adapter's name
    _text("symbol", key=True),
    _text("timeframe", key=True),
    _number("open_time_ms", key=True),
    _number("revision"),  # 0 built from ticks, 1 the terminal's own
    _value("open"),
    _value("high"),
    _value("low"),
    _value("close"),
    _number("tick_volume"),
    _number("spread_points"),
    _number("real_volume"),
)

signals = Table(
    "signals",
    metadata,
    *_account_key(),
    _text("signal_id", key=True),
    _number("time_ms"),  # market time of the decision
    _text("strategy"),
    _text("symbol"),
    _text("timeframe"),
    _number("bar_open_time_ms"),
    _number("direction"),
    _value("strength"),
    _value("price"),
    Column("taken", Boolean, nullable=False),
    _text("client_order_id"),
    _text("reason"),
    _text("model_version"),
    _value("model_score"),
    Index("signals_by_time", "time_ms"),
)

signal_features = Table(
    "signal_features",
    metadata,
    *_account_key(),
    _text("signal_id", key=True),
    _text("name", key=True),
    _value("value"),
)

intents = Table(
    "intents",
    metadata,
    *_account_key(),
    _text("client_order_id", key=True),
    *_learnt(),
    _text("strategy"),
    _text("action"),
    _text("state"),
    _text("symbol"),
    _text("side"),
    _value("volume"),
    _value("price"),
    _value("sl"),
    _value("tp"),
    _number("retcode"),
    _text("code"),
    _text("text"),
    _number("order"),
    _number("deal"),
    _number("position"),
    _value("filled_volume"),
    _value("fill_price"),
    _number("time_ms"),
)

orders = Table(
    "orders",
    metadata,
    *_account_key(),
    _number("ticket", key=True),
    *_learnt(),
    Column("final", Boolean, nullable=False),
    _text("symbol"),
    _number("type"),
    _number("state"),
    _value("volume_initial"),
    _value("volume_current"),
    _value("price_open"),
    _value("price_stoplimit"),
    _value("sl"),
    _value("tp"),
    _number("type_filling"),
    _number("type_time"),
    _number("position_id"),
    _number("position_by_id"),
    _number("magic"),
    _text("comment"),
    _number("reason"),
    _number("time_setup_ms"),
    _number("time_done_ms"),
    _number("time_expiration_ms"),
    _text("strategy"),
    _text("client_order_id"),
)

deals = Table(
    "deals",
    metadata,
    *_account_key(),
    _number("ticket", key=True),
    _number("order"),
    _number("position_id"),
    _text("symbol"),
    _number("type"),
    _number("entry"),
    _number("reason"),
    _value("volume"),
    _value("price"),
    _value("profit"),
    _value("commission"),
    _value("swap"),
    _value("fee"),
    _number("magic"),
    _text("comment"),
    _number("time_ms"),
    _text("strategy"),
    _text("client_order_id"),
    Index("deals_by_position", "server", "login", "position_id"),
    Index("deals_by_client_order", "server", "login", "client_order_id"),
)

positions = Table(
    "positions",
    metadata,
    *_account_key(),
    _number("identifier", key=True),
    *_learnt(),
    _text("change"),  # opened, changed or closed; open: seen in a snapshot
    _number("ticket"),
    _text("symbol"),
    _number("type"),
    _value("volume"),
    _value("price_open"),
    _value("sl"),
    _value("tp"),
    _value("swap"),
    _number("magic"),
    _text("comment"),
    _number("reason"),
    _number("time_ms"),
    _number("time_update_ms"),
    _text("strategy"),
    _text("client_order_id"),
)

Old = Table
New = ReadOnlyColumnCollection[str, KeyedColumnElement[Any]]  # the row that was to be inserted
Rule = Callable[[Old, New], ColumnElement[bool]]


def _later(old: Old, new: New) -> ColumnElement[bool]:
    return tuple_(new.log_number, new.log_offset) > tuple_(old.c.log_number, old.c.log_offset)


def _final_or_later(old: Old, new: New) -> ColumnElement[bool]:
    # A final order never becomes active again, whatever an older snapshot says.
    return tuple_(new.final, new.log_number, new.log_offset) > tuple_(old.c.final, old.c.log_number, old.c.log_offset)


def _revised(old: Old, new: New) -> ColumnElement[bool]:
    return new.revision > old.c.revision


def _attributed(old: Old, new: New) -> ColumnElement[bool]:
    # A deal never changes; what may come later is whose it is.
    return and_(old.c.client_order_id == "", new.client_order_id != "")


def _further(old: Old, new: New) -> ColumnElement[bool]:
    return new.log_offset > old.c.log_offset


def _always(_: Old, __: New) -> ColumnElement[bool]:
    return true()


REPLACES: Mapping[str, Rule] = {
    "bars": _revised,
    "intents": _later,
    "orders": _final_or_later,
    "deals": _attributed,
    "positions": _later,
    "event_logs": _further,
    "coverage": _always,
}
"""When a row replaces the one with its key. A table that is not named here keeps the first."""

Migration = Callable[[Connection], None]
MIGRATIONS: Mapping[int, Migration] = {}
"""By the version it starts from: brings the tables to the next one."""


def prepare(connection: Connection) -> None:
    """Make the tables, or bring those of an older version forward, inside the caller's transaction.

    Raises:
        StoreUnusable: A newer version wrote this store, or the tables are not ours.
    """
    found = version_of(connection)
    if found is None:
        metadata.create_all(connection)
        connection.execute(schema_version.insert().values(version=VERSION))
        return
    for step in range(found, VERSION):
        MIGRATIONS[step](connection)
        connection.execute(schema_version.update().values(version=step + 1))


def version_of(connection: Connection) -> int | None:
    """Return the version of the tables, or None in an empty database.

    Raises:
        StoreUnusable: A newer version wrote this store, or the tables are not ours.
    """
    present = set(inspect(connection).get_table_names())
    if schema_version.name not in present:
        foreign = sorted(present & set(metadata.tables))
        if foreign:
            raise StoreUnusable(
                f"the database holds tables {', '.join(foreign)} that are not the ML logger's: "
                "set [logger] url to a database (or schema) of its own"
            )
        return None
    found = connection.execute(select(schema_version.c.version)).scalar_one_or_none()
    if found is None or found > VERSION or found < min(MIGRATIONS, default=VERSION):
        raise StoreUnusable(
            f"the store has schema version {found}; this program knows up to {VERSION}: "
            "use the program that wrote it, or a newer one"
        )
    return int(found)
