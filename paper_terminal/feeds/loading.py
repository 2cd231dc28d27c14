"""From files to ticks: each file read, its clock turned to UTC, its bars made ticks, its crossed quotes treated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from paper_terminal.feeds.bar_ticks import period_ms, stamps_of, ticks_of
from paper_terminal.feeds.base import FeedError
from paper_terminal.feeds.contents import Bars, Found, Ints, Quotes, clock_of
from paper_terminal.feeds.formats import BadRows, read_file
from paper_terminal.feeds.tables import Reading
from paper_terminal.records import TICK_DTYPE, Records
from paper_terminal.server_time import ServerTimeRule

CrossedPolicy = Literal["keep", "drop", "repair"]


@dataclass(frozen=True, kw_only=True)
class TickFile:
    """One file to replay."""

    path: Path
    symbol: str | None = None
    """Plain symbol name; None takes the one the file gives (Lean files do, TrueFX ones do not)."""
    format_name: str = "auto"
    """A key of `formats.READERS`, or `auto`."""
    zone: str = ""
    """Zone of times that do not say theirs: `UTC`, `UTC-05:00`, a server-time rule `ny+7` or `eu+2`, or `server` for
    the terminal's own; empty: the format's."""
    ask_path: Path | None = None
    """The ask's bars, where `path` holds the bid's alone."""
    digits: int | None = None
    """Decimals of the symbol's prices; None: as the file has."""
    in_points: bool = False
    """Prices are counted in points; needs `digits`."""
    by_last: bool = False
    """The symbol is charted by its last price: its bars are of that, and its ticks need one."""


@dataclass(frozen=True, kw_only=True)
class FileReport:
    """What was found in one file."""

    path: Path
    symbol: str
    ticks: int
    """Ticks that go into the feed."""
    bad_rows: int
    first_bad_rows: tuple[str, ...]
    """The first few, each with file, line and reason."""
    crossed: int
    """Quotes with bid above ask."""
    dropped: int
    """Crossed quotes left out by policy."""
    repaired: int
    """Crossed quotes turned round by policy."""
    locked: int
    """Quotes with bid equal to ask."""
    out_of_order: int
    """Ticks older than the one before them; they are put where their time belongs."""
    repeated: int
    """Bars of a time that had its bar already; the first one counts."""


class _Read(NamedTuple):
    file: TickFile
    symbol: str
    found: Found
    bad_rows: BadRows


class Loader:
    """Reads files one by one, then makes ticks of them: how long the bars are, all files of a symbol say together."""

    def __init__(self, crossed: CrossedPolicy, max_bad_rows: int, server_time: ServerTimeRule) -> None:
        """Begin without files."""
        self._crossed = crossed
        self._max_bad_rows = max_bad_rows
        self._server_time = server_time
        self._read: list[_Read] = []
        self._bar_times: dict[str, list[Ints]] = {}

    def read(self, file: TickFile) -> None:
        """Read a file.

        Raises:
            FeedError: it cannot be used, or does not say its symbol.
        """
        if file.in_points and file.digits is None:
            raise FeedError("prices in points need the symbol's digits", path=str(file.path))
        bad_rows = BadRows(self._max_bad_rows)
        reading = Reading(bad_rows.report, file.digits, file.in_points)
        found = read_file(file.path, format_name=file.format_name, reading=reading)
        symbol = file.symbol or found.symbol
        if symbol is None:
            raise FeedError("does not say of which symbol it is: name the symbol", path=str(file.path))
        if file.ask_path is not None:
            asks = read_file(file.ask_path, format_name=file.format_name, reading=reading).content
            found = found._replace(content=_with_asks(file, found.content, asks, reading))
        if isinstance(found.content, Bars):
            self._bar_times.setdefault(symbol, []).append(found.content.stamps.written_ms)
        self._read.append(_Read(file, symbol, found, bad_rows))

    def loaded(self) -> Iterator[tuple[str, Records, FileReport]]:
        """Return symbol, ticks and report of each file, in the order they were read.

        Raises:
            FeedError: a zone is unknown, or a symbol charted by its last price has none.
        """
        periods = {symbol: period_ms(times) for symbol, times in self._bar_times.items()}
        seen: dict[str, set[int]] = {symbol: set() for symbol in periods}
        for file, symbol, found, bad_rows in self._read:
            clock = clock_of(file.zone or found.zone, server=self._server_time)
            content, repeated = found.content, 0
            if isinstance(content, Bars):
                content, repeated = _fresh(content, seen[symbol])
                times = stamps_of(content, periods[symbol]).utc_ms(clock)
                ticks = ticks_of(content, times, digits=file.digits, by_last=file.by_last)
            else:
                ticks = _records(content, content.stamps.utc_ms(clock))
            if file.by_last and len(ticks) and not ticks["last"].any():
                raise FeedError(f"has no last price, by which {symbol} is charted (chart_mode 1)", path=str(file.path))
            yield symbol, *self._treated(ticks, file, symbol, bad_rows, repeated)

    def _treated(
        self, ticks: Records, file: TickFile, symbol: str, bad_rows: BadRows, repeated: int
    ) -> tuple[Records, FileReport]:
        known = ticks["ask"] > 0
        crossed = known & (ticks["bid"] > ticks["ask"])
        count = int(np.count_nonzero(crossed))
        locked = int(np.count_nonzero(known & (ticks["bid"] == ticks["ask"])))
        out_of_order = int(np.count_nonzero(ticks["time_msc"][1:] < ticks["time_msc"][:-1]))
        if self._crossed == "drop":
            ticks = ticks[~crossed]
        elif self._crossed == "repair" and count:
            turned = ticks[crossed]
            ticks["bid"][crossed], ticks["ask"][crossed] = turned["ask"], turned["bid"]
            ticks["flags"][crossed] = 0  # what changed is another question now
        report = FileReport(
            path=file.path,
            symbol=symbol,
            ticks=len(ticks),
            bad_rows=bad_rows.count,
            first_bad_rows=tuple(str(error) for error in bad_rows.examples),
            crossed=count,
            dropped=count if self._crossed == "drop" else 0,
            repaired=count if self._crossed == "repair" else 0,
            locked=locked,
            out_of_order=out_of_order,
            repeated=repeated,
        )
        return ticks, report


def _records(quotes: Quotes, times_ms: Ints) -> Records:
    records = np.zeros(len(quotes), dtype=TICK_DTYPE)
    records["time"], records["time_msc"] = times_ms // 1000, times_ms
    records["bid"], records["ask"] = quotes.bids, quotes.asks
    if quotes.lasts is not None and quotes.volumes is not None and quotes.flags is not None:
        records["last"], records["flags"] = quotes.lasts, quotes.flags
        records["volume"] = records["volume_real"] = quotes.volumes
    return records


def _fresh(bars: Bars, seen: set[int]) -> tuple[Bars, int]:
    """Return the bars whose times have none yet, and how many there were besides; their times are seen from now on."""
    times, first = np.unique(bars.stamps.written_ms, return_index=True)
    fresh = np.sort(first[[int(time) not in seen for time in times]]) if seen else np.sort(first)
    seen.update(times.tolist())
    return (bars, 0) if len(fresh) == len(bars) else (bars.only(fresh), len(bars) - len(fresh))


def _with_asks(file: TickFile, bids: Quotes | Bars, asks: Quotes | Bars, reading: Reading) -> Bars:
    """Join the bid's bars with the ask's of the same times; one without the other is a bad row of its file."""
    if not (isinstance(bids, Bars) and isinstance(asks, Bars)):
        raise FeedError(f"cannot be joined with {file.ask_path}: only bars can", path=str(file.path))
    times, of_bids, of_asks = np.intersect1d(bids.stamps.written_ms, asks.stamps.written_ms, return_indices=True)
    for path, bars in ((file.path, bids), (file.ask_path, asks)):
        for at in np.flatnonzero(~np.isin(bars.stamps.written_ms, times)).tolist():
            reading.report(str(path), at + 1, "is a bar (counted without header) that the other side does not have")
    joined = bids.only(of_bids)
    return Bars(joined.stamps, joined.prices, asks.prices[of_asks], None, joined.tick_volumes, joined.real_volumes)
