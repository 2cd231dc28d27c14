"""What a symbol's day has seen so far: highs, lows and deals, from the ticks of the server's present day."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from paper_terminal.records import DEAL_FLAGS, Records

_DAY_S: Final = 86_400


@dataclass
class Day:
    """The day of the newest tick; prices are 0 where there was none."""

    number: int = -1
    """Days since the epoch, on the server's clock."""
    opened: float = 0.0
    """First price: of the bid, or of the last price where the symbol is charted by it."""
    closed_before: float = 0.0
    """Last price of an earlier day."""
    bid_high: float = 0.0
    bid_low: float = 0.0
    ask_high: float = 0.0
    ask_low: float = 0.0
    last_high: float = 0.0
    last_low: float = 0.0
    volume_high: float = 0.0
    """Largest deal, units."""
    volume_low: float = 0.0
    deals: int = 0
    volume: float = 0.0
    """Of all deals, units."""
    value: float = 0.0
    """Price times volume of all deals."""


class DayRange:
    """Keeps the day's values; it looks at each tick once, when it is asked."""

    def __init__(self, *, by_last: bool) -> None:
        """Begin without ticks."""
        self._price = "last" if by_last else "bid"
        self._seen = 0
        self._day = Day()

    def of(self, ticks: Records) -> Day:
        """Return the day of the last of these ticks: those of the call before, and what has come since."""
        fresh = ticks[self._seen :]
        if len(fresh):
            number = int(fresh["time"][-1]) // _DAY_S
            if number != self._day.number:
                first = self._seen + int(np.searchsorted(fresh["time"] // _DAY_S, number, side="left"))
                self._day = Day(number, closed_before=self._last_price(ticks[:first]))
                fresh = ticks[first:]
            self._take(fresh)
            self._seen = len(ticks)
        return self._day

    def _last_price(self, ticks: Records) -> float:
        # Most ticks have a price; going back in steps does not copy a year of them for the last one.
        for end in range(len(ticks), 0, -1024):
            prices = ticks[self._price][max(0, end - 1024) : end]
            found = prices[prices > 0]
            if len(found):
                return float(found[-1])
        return 0.0

    def _take(self, ticks: Records) -> None:
        day = self._day
        deals = ticks[(ticks["flags"] & DEAL_FLAGS) != 0]
        prices = deals["last"] if self._price == "last" else ticks["bid"]
        if not day.opened and (prices > 0).any():
            day.opened = float(prices[prices > 0][0])
        for name, values in (("bid", ticks["bid"]), ("ask", ticks["ask"]), ("last", deals["last"])):
            self._stretch(name, values)
        if len(deals):
            self._stretch("volume", deals["volume_real"])
            day.deals += len(deals)
            day.volume += float(deals["volume_real"].sum())
            day.value += float((deals["last"] * deals["volume_real"]).sum())

    def _stretch(self, name: str, values: NDArray[Any]) -> None:
        values = values[values > 0]
        if not len(values):
            return
        high, low = getattr(self._day, f"{name}_high"), getattr(self._day, f"{name}_low")
        setattr(self._day, f"{name}_high", max(high, float(values.max())))
        setattr(self._day, f"{name}_low", min(low or float("inf"), float(values.min())))
