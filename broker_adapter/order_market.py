"""What orders need to know of symbols, prices and time."""

from __future__ import annotations

from typing import Protocol

from market.instrument import Instrument
from protocol.messages import Quote


class Market(Protocol):
    """What the desk needs to know of symbols, prices and time."""

    def instrument(self, symbol: str) -> Instrument:
        """Return the specification. Raises NotFound or NotReady."""
        ...

    def quote(self, symbol: str) -> Quote | None:
        """Return the newest quote."""
        ...

    def has_gap(self, symbol: str) -> bool:
        """Return whether ticks of the symbol are known to be missing and not yet read."""
        ...

    def market_ms(self) -> int:
        """Return market time, UTC milliseconds."""
        ...

    def check_connection(self) -> None:
        """Return if the trade link is attached. Raises NotReady or CircuitOpen."""
        ...

    def to_server_ms(self, utc_ms: int) -> int:
        """Return what the server's clock shows at a moment."""
        ...

    def to_utc_ms(self, server_ms: int) -> int:
        """Return the moment that the server's clock shows as `server_ms`."""
        ...

    @property
    def server_time_known(self) -> bool:
        """Whether the server's offset from UTC is more than assumed."""
        ...

    @property
    def data_path(self) -> str:
        """Data folder of the terminal that orders are meant for; empty if any will do."""
        ...
