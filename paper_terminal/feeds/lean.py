"""Lean's files: a zip of one headerless CSV of quote ticks or quote bars.

Times are in the venue's own zone, which the files do not name (FXCM: UTC-05:00 all year, Oanda: UTC).
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from paper_terminal.feeds import contents
from paper_terminal.feeds.base import FeedError
from paper_terminal.feeds.contents import Bars, Floats, Found, Quotes, Stamps
from paper_terminal.feeds.tables import Reading, bar_of
from paper_terminal.feeds.times import parsed_ms

_DAY_MS = 86_400_000
_TICKS = re.compile(r"(\d{8})_([A-Za-z0-9.#_-]+?)_tick_quote\.csv")
_BARS = re.compile(r"(?:(\d{8})_)?([A-Za-z0-9.#-]+?)(?:_(?:minute|second)_quote)?\.csv")


def holds_bars(path: Path) -> bool:
    """Tell whether a zip's only file is named as Lean names its bars."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return False  # the reader of ticks says what is wrong with it
    return len(names) == 1 and _TICKS.fullmatch(names[0]) is None and _BARS.fullmatch(names[0]) is not None


def read_ticks(path: Path, reading: Reading) -> Found:
    """Read Lean's quote ticks: milliseconds since midnight (they may have a fraction), bid, ask.

    Raises:
        FeedError: it is no such file.
    """
    date, symbol, member, text = _unpacked(
        path, _TICKS, "YYYYMMDD_<symbol>_tick_quote.csv: no Lean file of quote ticks"
    )
    table = _fast_table(text)
    if table is None:
        table = _slow_table(text, f"{path}!{member}", 3, reading, lambda fields: [*map(reading.price, fields[1:])])
    times = _midnight_ms(date, path) + table[:, 0].astype(np.int64)
    prices = reading.prices(table[:, 1:])
    return Found(symbol, Quotes(_naive(times), prices[:, 0].copy(), prices[:, 1].copy()))


def read_bars(path: Path, reading: Reading) -> Found:
    """Read Lean's quote bars: time, bid open to close, size, ask open to close, size.

    Raises:
        FeedError: it is no such file.
    """
    date, symbol, member, text = _unpacked(path, _BARS, "a file that Lean names so: no Lean file of quote bars")
    start_ms = _midnight_ms(date, path) if date else None

    def row_of(fields: list[str]) -> list[float]:
        bid, ask = (bar_of(*map(reading.price, part)) for part in (fields[1:5], fields[6:10]))
        return [*bid, *ask]

    table = _slow_table(text, f"{path}!{member}", 11, reading, row_of, dated=start_ms is None)
    times = table[:, 0].astype(np.int64) + (start_ms or 0)
    return Found(symbol, Bars(_naive(times), table[:, 1:5], asks=table[:, 5:9]))


def _naive(times_ms: contents.Ints) -> Stamps:
    return Stamps(times_ms, np.ones(len(times_ms), dtype=bool))


def _midnight_ms(date: str, path: Path) -> int:
    try:
        return int(datetime.strptime(date, "%Y%m%d").replace(tzinfo=UTC).timestamp()) * 1000
    except ValueError as error:
        raise FeedError(f"the date {date} in the name of its file does not exist", path=str(path)) from error


def _unpacked(path: Path, name: re.Pattern[str], wanted: str) -> tuple[str, str, str, str]:
    """Return date ('' where there is none), symbol, name and text of the zip's only file."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
            if len(members) != 1:
                raise FeedError(f"a Lean file is a zip of one CSV, this holds {len(members)}", path=str(path))
            info = members[0]
            match = name.fullmatch(info.filename)
            if match is None:
                raise FeedError(f"holds {info.filename!r}, not {wanted}", path=str(path))
            if info.file_size > contents.LARGEST_TEXT_BYTES:
                raise FeedError(f"{info.filename} unpacks to {info.file_size} bytes: too large", path=str(path))
            return match[1] or "", match[2].upper(), info.filename, archive.read(info).decode("utf-8")
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise FeedError(f"is no whole zip file ({error})", path=str(path)) from error
    except UnicodeDecodeError as error:
        raise FeedError(f"is no text: {error.reason} at byte {error.start}", path=str(path)) from error


def _fast_table(text: str) -> Floats | None:
    """Return the rows when all of them are good, else None: then the slow reader says what is wrong where."""
    if not text.strip():
        return None
    try:
        table = np.loadtxt(text.split("\n"), delimiter=",", dtype=np.float64, ndmin=2, comments=None)
    except (ValueError, IndexError):
        return None
    if table.ndim != 2 or table.shape[1] != 3 or not len(table):
        return None
    times, prices = table[:, 0], table[:, 1:]
    good = np.isfinite(table).all() and (times >= 0).all() and (times < _DAY_MS).all() and (prices > 0).all()
    return table if good else None


def _slow_table(
    text: str,
    place: str,
    width: int,
    reading: Reading,
    row_of: Callable[[list[str]], list[float]],
    *,
    dated: bool = False,
) -> Floats:
    """Return the good rows, their time in ms first: since midnight, or with `dated` since the epoch."""
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        fields = line.strip().split(",")
        try:
            if len(fields) != width:
                raise ValueError(f"{len(fields)} fields instead of {width}")  # noqa: TRY301
            time_ms = float(parsed_ms(fields[0])[0]) if dated else _time_of_day_ms(fields[0])
            rows.append([time_ms, *row_of(fields)])
        except (ValueError, OverflowError) as error:
            reading.report(place, number, str(error))
    columns = 3 if width == 3 else 9
    return np.array(rows, dtype=np.float64).reshape(len(rows), columns)


def _time_of_day_ms(text: str) -> float:
    time_ms = float(text)
    if not 0 <= time_ms < _DAY_MS:
        raise ValueError(f"{text!r} is not a time of day in milliseconds")
    return time_ms
