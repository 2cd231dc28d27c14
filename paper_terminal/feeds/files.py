"""A feed that replays tick files, in the files' own time.

Ticks that share a millisecond are all kept, in file order. Real files hold crossed quotes (bid above ask: in
some venues' files one in ten); `crossed` says what becomes of them:

* `keep` (default): as the file has them, because a replay shall show what was recorded;
* `drop`: left out;
* `repair`: bid and ask change places.

Whatever is chosen, they are counted in the file's report, as are locked quotes (bid equal to ask), which stay.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from paper_terminal.feeds.base import Clock, FeedError, tick_records
from paper_terminal.feeds.formats import BadRows, Quotes, parse_zone, read_quotes
from paper_terminal.records import Records
from paper_terminal.server_time import ServerTimeRule

CrossedPolicy = Literal["keep", "drop", "repair"]
_RULES = ("ny+7", "eu+2")
_POLICIES = ("keep", "drop", "repair")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TickFile:
    """One file to replay."""

    path: Path
    symbol: str | None = None
    """Plain symbol name; None takes the one the file gives (Lean files do, TrueFX ones do not)."""
    format_name: str = "auto"
    """A key of `formats.READERS`, or `auto`."""
    zone: str = "UTC"
    """Zone of times that do not say theirs: `UTC`, `UTC-05:00`, or a server-time rule: `ny+7`, `eu+2`."""


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


@dataclass
class _Series:
    times_ms: NDArray[np.int64]
    ticks: Records
    taken: int = 0


class FileFeed:
    """A `Feed` of files, merged by time; the feed's clock is the files' own time."""

    def __init__(
        self,
        files: Sequence[TickFile],
        *,
        crossed: CrossedPolicy = "keep",
        max_bad_rows: int = 100,
        start_ms: int | None = None,
    ) -> None:
        """Read all the files, so that a bad one is refused before anything starts.

        Args:
            files: What to replay; several files of one symbol are joined.
            crossed: What becomes of crossed quotes.
            max_bad_rows: Rows of one file that may be unusable; they are reported and left out.
            start_ms: `take` delivers from this moment on, UTC milliseconds; what is earlier is history. By default
                the first tick. A terminal that goes on after a restart gives the moment after the last it took.

        Raises:
            FeedError: no files, a file that cannot be used, a symbol not told, or too many bad rows.
        """
        if not files:
            raise FeedError("a file feed needs at least one file")
        if crossed not in _POLICIES:
            raise FeedError(f"unknown policy for crossed quotes {crossed!r}: use {', '.join(_POLICIES)}")
        parts: dict[str, list[Quotes]] = {}
        reports = []
        for file in files:
            quotes, report = _load(file, crossed, max_bad_rows)
            parts.setdefault(report.symbol, []).append(quotes)
            reports.append(report)
        self.reports = tuple(reports)
        """One per file, in the order given."""
        self._series = {symbol: _joined(quotes) for symbol, quotes in parts.items()}
        firsts = [int(series.times_ms[0]) for series in self._series.values() if len(series.times_ms)]
        if not firsts:
            raise FeedError("the policy for crossed quotes leaves no tick in any file")
        self._start_ms = min(firsts) if start_ms is None else start_ms
        for series in self._series.values():
            series.taken = int(np.searchsorted(series.times_ms, self._start_ms, side="left"))

    @property
    def symbols(self) -> tuple[str, ...]:
        """Plain names of the symbols in the files."""
        return tuple(self._series)

    @property
    def clock(self) -> Clock:
        """Always the feed's own time."""
        return "feed"

    @property
    def start_ms(self) -> int:
        """Moment from which `take` delivers, UTC milliseconds."""
        return self._start_ms

    def history(self, symbol: str, from_ms: int, to_ms: int) -> Records:
        """Return the ticks with from_ms <= time_msc <= to_ms, oldest first.

        Raises:
            KeyError: no file is of `symbol`.
        """
        series = self._series[symbol]
        first = np.searchsorted(series.times_ms, from_ms, side="left")
        end = np.searchsorted(series.times_ms, to_ms, side="right")
        return series.ticks[first:end].copy()

    def take(self, until_ms: int) -> list[tuple[str, Records]]:
        """Return every tick with time_msc <= until_ms that was not taken yet, per symbol."""
        fresh = []
        for symbol, series in self._series.items():
            end = int(np.searchsorted(series.times_ms, until_ms, side="right"))
            if end > series.taken:
                fresh.append((symbol, series.ticks[series.taken : end].copy()))
                series.taken = end
        return fresh

    def next_time_ms(self) -> int | None:
        """Return the time of the earliest tick not taken yet, None at the end of all files."""
        due = [
            int(series.times_ms[series.taken])
            for series in self._series.values()
            if series.taken < len(series.times_ms)
        ]
        return min(due, default=None)


def _load(file: TickFile, crossed: CrossedPolicy, max_bad_rows: int) -> tuple[Quotes, FileReport]:
    bad_rows = BadRows(max_bad_rows)
    rule = ServerTimeRule(file.zone) if file.zone in _RULES else None
    offset_minutes = 0 if rule else parse_zone(file.zone)
    quotes = read_quotes(file.path, format_name=file.format_name, offset_minutes=offset_minutes, bad_rows=bad_rows)
    if rule is not None:
        quotes = dataclasses.replace(quotes, times_ms=rule.to_utc_all(quotes.times_ms))
    symbol = file.symbol or quotes.symbol
    if symbol is None:
        raise FeedError("does not say of which symbol it is: name the symbol", path=str(file.path))
    for error in bad_rows.examples:
        _log.warning("bad row left out: %s", error)
    is_crossed = quotes.bids > quotes.asks
    count = int(np.count_nonzero(is_crossed))
    report = FileReport(
        path=file.path,
        symbol=symbol,
        ticks=len(quotes.times_ms) - (count if crossed == "drop" else 0),
        bad_rows=bad_rows.count,
        first_bad_rows=tuple(str(error) for error in bad_rows.examples),
        crossed=count,
        dropped=count if crossed == "drop" else 0,
        repaired=count if crossed == "repair" else 0,
        locked=int(np.count_nonzero(quotes.bids == quotes.asks)),
        out_of_order=int(np.count_nonzero(quotes.times_ms[1:] < quotes.times_ms[:-1])),
    )
    return _treated(quotes, is_crossed, crossed), report


def _treated(quotes: Quotes, is_crossed: NDArray[np.bool_], policy: CrossedPolicy) -> Quotes:
    if policy == "keep":
        return quotes
    if policy == "drop":
        kept = ~is_crossed
        return Quotes(quotes.symbol, quotes.times_ms[kept], quotes.bids[kept], quotes.asks[kept])
    low, high = np.minimum(quotes.bids, quotes.asks), np.maximum(quotes.bids, quotes.asks)
    return Quotes(quotes.symbol, quotes.times_ms, low, high)


def _joined(parts: list[Quotes]) -> _Series:
    times = np.concatenate([part.times_ms for part in parts])
    bids = np.concatenate([part.bids for part in parts])
    asks = np.concatenate([part.asks for part in parts])
    # Stable: ticks of one millisecond stay in file order.
    order = np.argsort(times, kind="stable")
    times = times[order]
    return _Series(times, tick_records(times, bids[order], asks[order]))
