"""A feed that replays files of ticks and bars, in the files' own time.

Ticks that share a millisecond are all kept, in file order. Real files hold crossed quotes (bid above ask: in
some venues' files one in ten); `crossed` says what becomes of them:

* `keep` (default): as the file has them, because a replay shall show what was recorded;
* `drop`: left out;
* `repair`: bid and ask change places.

Whatever is chosen, they are counted in the file's report, as are locked quotes (bid equal to ask), which stay.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paper_terminal.feeds.base import Clock, FeedError, fill_flags
from paper_terminal.feeds.contents import Ints
from paper_terminal.feeds.loading import CrossedPolicy, FileReport, Loader, TickFile
from paper_terminal.records import BAR_TICK_DTYPE, DEAL_FLAGS, Records
from paper_terminal.server_time import ServerTimeRule

_POLICIES: tuple[CrossedPolicy, ...] = ("keep", "drop", "repair")

_log = logging.getLogger(__name__)


@dataclass
class _Series:
    times_ms: Ints
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
        server_time: ServerTimeRule | None = None,
    ) -> None:
        """Read all the files, so that a bad one is refused before anything starts.

        Args:
            files: What to replay; several files of one symbol are joined.
            crossed: What becomes of crossed quotes.
            max_bad_rows: Rows of one file that may be unusable; they are reported and left out.
            start_ms: `take` delivers from this moment on, UTC milliseconds; what is earlier is history. By default
                the first tick. A terminal that goes on after a restart gives the moment after the last it took.
            server_time: The clock of files that a terminal exported; None: UTC.

        Raises:
            FeedError: no files, a file that cannot be used, a symbol not told, or too many bad rows.
        """
        if not files:
            raise FeedError("a file feed needs at least one file")
        if crossed not in _POLICIES:
            raise FeedError(f"unknown policy for crossed quotes {crossed!r}: use {', '.join(_POLICIES)}")
        loader = Loader(crossed, max_bad_rows, server_time or ServerTimeRule("utc"))
        for file in files:
            loader.read(file)
        parts: dict[str, list[Records]] = {}
        reports = []
        for symbol, ticks, report in loader.loaded():
            parts.setdefault(symbol, []).append(ticks)
            reports.append(report)
            _tell(report)
        self.reports = tuple(reports)
        """One per file, in the order given."""
        self._series = {symbol: _joined(ticks) for symbol, ticks in parts.items()}
        firsts = [int(series.times_ms[0]) for series in self._series.values() if len(series.times_ms)]
        if not firsts:
            raise FeedError("the policy for crossed quotes leaves no tick in any file, or the files are empty")
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


def _tell(report: FileReport) -> None:
    for text in report.first_bad_rows:
        _log.warning("bad row left out: %s", text)
    found = {
        "bad rows": report.bad_rows,
        "crossed quotes": report.crossed,
        "ticks out of order": report.out_of_order,
        "bars given twice": report.repeated,
    }
    told = ", ".join(f"{count} {name}" for name, count in found.items() if count)
    _log.info("%s: %d ticks of %s%s", report.path, report.ticks, report.symbol, f"; {told}" if told else "")


def _joined(parts: list[Records]) -> _Series:
    if any(part.dtype == BAR_TICK_DTYPE for part in parts):
        parts = [_widened(part) for part in parts]
    ticks = np.concatenate(parts)
    times: Ints = np.ascontiguousarray(ticks["time_msc"])
    if (times[1:] < times[:-1]).any():
        # Stable: ticks of one millisecond stay in file order.
        order = np.argsort(times, kind="stable")
        ticks, times = ticks[order], times[order]
    fill_flags(ticks)
    return _Series(times, ticks)


def _widened(ticks: Records) -> Records:
    """Return plain ticks as those of bars, each standing for itself."""
    if ticks.dtype == BAR_TICK_DTYPE:
        return ticks
    wide = np.zeros(len(ticks), dtype=BAR_TICK_DTYPE)
    for name in ticks.dtype.names or ():
        wide[name] = ticks[name]
    wide["ticks"] = 1
    wide["traded"] = np.where(ticks["flags"] & DEAL_FLAGS, ticks["volume"], 0)
    return wide
