"""What the terminal asks of a feed, and the record layout feeds answer in.

A feed knows nothing of brokers, server time or symbols' decorations: names are plain (EURUSD) and every time is
UTC milliseconds. The terminal converts to its server's clock.
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from paper_terminal.records import (
    DEAL_FLAGS,
    QUOTE_FLAGS,
    TICK_DTYPE,
    TICK_FLAG_ASK,
    TICK_FLAG_BID,
    TICK_FLAG_BUY,
    TICK_FLAG_LAST,
    TICK_FLAG_VOLUME,
    Records,
)

Clock = Literal["wall", "feed"]
"""`wall`: ticks happen when the machine's clock says so. `feed`: the ticks' own times are the time."""


class Feed(Protocol):
    """A source of ticks for one or more symbols."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """Plain names of the symbols this feed quotes."""
        ...

    @property
    def clock(self) -> Clock:
        """Which clock decides when a tick is due."""
        ...

    @property
    def start_ms(self) -> int:
        """Moment from which `take` delivers (that millisecond included), UTC; what is earlier is history."""
        ...

    def history(self, symbol: str, from_ms: int, to_ms: int) -> Records:
        """Return the ticks with from_ms <= time_msc <= to_ms, oldest first.

        A feed does not know the time: do not ask beyond the terminal's clock.

        Raises:
            KeyError: the feed does not quote `symbol`.
        """
        ...

    def take(self, until_ms: int) -> list[tuple[str, Records]]:
        """Return every tick with time_msc <= until_ms not taken yet; symbols without new ticks are left out."""
        ...

    def next_time_ms(self) -> int | None:
        """Return the time of the earliest tick not taken yet, or None when there is none left."""
        ...


class FeedError(Exception):
    """A feed cannot be read. `path` and `line` say where, when the trouble is in a file (line 1 is the first)."""

    def __init__(self, text: str, *, path: str | None = None, line: int | None = None) -> None:
        place = "" if path is None else path if line is None else f"{path}:{line}"
        super().__init__(f"{place}: {text}" if place else text)
        self.text = text
        self.path = path
        self.line = line


def tick_records(time_ms: NDArray[np.int64], bid: NDArray[np.float64], ask: NDArray[np.float64]) -> Records:
    """Return tick records of these quotes, with flags as `fill_flags` says."""
    records = np.zeros(len(time_ms), dtype=TICK_DTYPE)
    records["time"] = time_ms // 1000
    records["time_msc"] = time_ms
    records["bid"] = bid
    records["ask"] = ask
    fill_flags(records)
    return records


def fill_flags(records: Records) -> None:
    """Give flags to the records that have none: what changed; the first one carries all that it has.

    A quote equal to the one before it (feeds do repeat themselves) carries both its flags too: it was sent for a
    reason, and a record without flags would be invisible to a reader that asks for quotes.
    """
    if not len(records):
        return
    given = records["flags"]
    flags = np.zeros(len(records), dtype=np.uint32)
    for name, flag in (("bid", TICK_FLAG_BID), ("ask", TICK_FLAG_ASK), ("last", TICK_FLAG_LAST)):
        values = records[name]
        flags[1:] |= np.where(values[1:] != values[:-1], flag, 0).astype(np.uint32)
        flags[0] |= flag if values[0] else 0
    volumes = records["volume_real"]
    if volumes.any():
        flags[1:] |= np.where(volumes[1:] != volumes[:-1], TICK_FLAG_LAST, 0).astype(np.uint32)
        flags |= np.where(flags & TICK_FLAG_LAST, TICK_FLAG_VOLUME, 0).astype(np.uint32)
    flags[flags == 0] = QUOTE_FLAGS
    records["flags"] = np.where(given == 0, flags, given)


def deals_at_bid(ticks: Records) -> Records:
    """Make each quote a deal of one unit at the bid, in place: the deals of a market that is made, not recorded."""
    ticks["last"] = ticks["bid"]
    ticks["volume"] = ticks["volume_real"] = 1
    ticks["flags"] |= DEAL_FLAGS & ~TICK_FLAG_BUY
    return ticks
