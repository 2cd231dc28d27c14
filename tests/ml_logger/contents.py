"""Looking into a store, for tests."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from ml_logger import schema
from ml_logger.store import Store


def table(store: Store, name: str) -> list[dict[str, Any]]:
    """Return a table's rows in the order of its key."""
    found = schema.metadata.tables[name]
    with store.reading() as connection:
        rows = connection.execute(select(found).order_by(*found.primary_key.columns)).mappings().all()
    return [dict(row) for row in rows]


def everything(store: Store) -> dict[str, list[dict[str, Any]]]:
    """Return every table's rows."""
    return {name: table(store, name) for name in schema.metadata.tables}
