"""Looking into a store, and holding it, for tests."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import select

from ml_logger import schema
from ml_logger.store import FILE_NAME, Store


def table(store: Store, name: str) -> list[dict[str, Any]]:
    """Return a table's rows in the order of its key."""
    found = schema.metadata.tables[name]
    with store.reading() as connection:
        rows = connection.execute(select(found).order_by(*found.primary_key.columns)).mappings().all()
    return [dict(row) for row in rows]


def everything(store: Store) -> dict[str, list[dict[str, Any]]]:
    """Return every table's rows."""
    return {name: table(store, name) for name in schema.metadata.tables}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep others from writing to the SQLite store of a folder."""
    with closing(sqlite3.connect(folder / FILE_NAME, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        yield
