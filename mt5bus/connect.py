"""A `BusClient` of the system that the configuration describes: for scripts and for the commands."""

from __future__ import annotations

from pathlib import Path

from mt5bus.config import Loaded, load
from protocol.client import Addresses, BusClient

ORDER_MARGIN_S = 5.0  # the adapter itself answers "unknown" when the terminal has not answered in time


def connect(
    home: Path | None = None, config: Path | None = None, *, name: str = "client", timeout_s: float = 5.0
) -> BusClient:
    """Return a client of the system at `home` (default: as every command finds it).

    Args:
        name: Whose key to use.
        timeout_s: Longest time a query takes, seconds. Orders get the adapter's own deadline and 5 s.

    Raises:
        ConfigError: The configuration cannot be used.
        AuthenticationFailed: The home has no keys yet: start the system once.
    """
    return client_of(load(home, config), name=name, timeout_s=timeout_s)


def client_of(loaded: Loaded, *, name: str = "client", timeout_s: float = 5.0) -> BusClient:
    """Return a client of a system whose configuration is loaded.

    Raises:
        AuthenticationFailed: The home has no keys yet: start the system once.
    """
    bus, adapter = loaded.settings.bus, loaded.settings.adapter
    return BusClient(
        loaded.home.keys,
        Addresses(queries=bus.queries, orders=bus.orders, control=bus.control),
        name=name,
        adapter=adapter.name,
        timeout_s=timeout_s,
        order_timeout_s=adapter.deadlines.order_send_s + ORDER_MARGIN_S,
    )
