"""What a file holds, before its clock and its symbol's specification are known: quotes, or bars.

Times stand as the file writes them; `naive` tells those that do not say their zone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from paper_terminal.feeds.base import FeedError
from paper_terminal.server_time import ServerTimeRule

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Hits = NDArray[np.bool_]

LARGEST_TEXT_BYTES = 1 << 30
"""A day of ticks is a few megabytes. More than this is no file of ticks, and would be unpacked into memory."""

SERVER = "server"
"""The zone that is the terminal's own clock, as files exported from a terminal are on."""
_RULES = ("ny+7", "eu+2")

Report = Callable[[str, int, str], None]
"""Takes the path, line (1 is the first) and reason of a row that cannot be used."""


@dataclass(frozen=True)
class Stamps:
    """The times of a file's rows, milliseconds."""

    written_ms: Ints
    naive: Hits
    """True where the time does not say its zone: it is on the file's clock."""

    def only(self, kept: Hits | Ints) -> Stamps:
        """Return those of some rows."""
        return Stamps(self.written_ms[kept], self.naive[kept])

    def utc_ms(self, clock: ServerTimeRule) -> Ints:
        """Return the times in UTC, the naive ones taken as of `clock`."""
        if not self.naive.any():
            return self.written_ms
        moments: Ints = np.where(self.naive, clock.to_utc_all(self.written_ms), self.written_ms)
        return moments


@dataclass(frozen=True)
class Quotes:
    """Ticks in file order. A bid or ask of 0 is not known yet; a last price of 0 says that there was no deal yet."""

    stamps: Stamps
    bids: Floats
    asks: Floats
    lasts: Floats | None = None
    volumes: Floats | None = None
    """Of the last deal, units."""
    flags: Ints | None = None
    """What changed, TICK_FLAG bits; 0 where the file does not say."""

    def __len__(self) -> int:
        """Return how many ticks there are."""
        return len(self.bids)


@dataclass(frozen=True)
class Bars:
    """Bars in file order; prices as columns open, high, low, close."""

    stamps: Stamps
    prices: Floats
    """Shape (n, 4), of the bid, or of the last price where the symbol is charted by it."""
    asks: Floats | None = None
    """Shape (n, 4), where the file has the ask's own bars."""
    spreads: Ints | None = None
    """Points."""
    tick_volumes: Ints | None = None
    real_volumes: Ints | None = None
    decimals: int = 0
    """Most decimals that a price is written with; only told of where the symbol's digits are not known."""

    def __len__(self) -> int:
        """Return how many bars there are."""
        return len(self.prices)

    def only(self, kept: Hits | Ints) -> Bars:
        """Return some of the bars."""
        amounts = (self.spreads, self.tick_volumes, self.real_volumes)
        spreads, ticks, traded = (None if each is None else each[kept] for each in amounts)
        asks = None if self.asks is None else self.asks[kept]
        return Bars(self.stamps.only(kept), self.prices[kept], asks, spreads, ticks, traded, self.decimals)


class Found(NamedTuple):
    """What a reader found in a file."""

    symbol: str | None
    """As the file names it, upper case; None where the format does not say."""
    content: Quotes | Bars
    zone: str = "UTC"
    """Zone of the naive times, unless the user names another."""


def clock_of(zone: str, *, server: ServerTimeRule) -> ServerTimeRule:
    """Return the clock that a zone's name means; `server` is the one of the zone `server`.

    Raises:
        FeedError: there is no such zone.
    """
    if zone == SERVER:
        return server
    return ServerTimeRule(zone if zone in _RULES else parse_zone(zone))


def parse_zone(text: str) -> int:
    """Return the minutes a zone such as `UTC`, `UTC-05:00` or `+02:00` is ahead of UTC.

    Raises:
        FeedError: it is written otherwise, or no zone lies so far from UTC.
    """
    match = re.fullmatch(r"(?:UTC|Z)|(?:UTC)?([+-])(\d{2}):(\d{2})", text)
    if match is None:
        raise FeedError(f"unknown zone {text!r}: write UTC or UTC-05:00, for a broker's clock ny+7, eu+2 or server")
    if match[1] is None:
        return 0
    minutes = int(match[2]) * 60 + int(match[3])
    if minutes > 14 * 60 or int(match[3]) > 59:
        raise FeedError(f"no zone lies as far from UTC as {text!r}")
    return -minutes if match[1] == "-" else minutes
