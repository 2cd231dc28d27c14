"""What goes wrong with the store, by what to do next: wait, or change something."""

from __future__ import annotations

from mt5bus.errors import Mt5busError


class StoreError(Mt5busError):
    """The store cannot be used; its text says why and what to do."""


class StoreUnavailable(StoreError):
    """Not now: locked, disk full, server away. Nothing was written; the same write may work later."""


class StoreUnusable(StoreError):
    """Not like this: a newer schema, foreign tables, a damaged file, a wrong URL. Waiting will not help."""


class DatasetError(Mt5busError):
    """A data set cannot be made from this store, or written to this file."""
