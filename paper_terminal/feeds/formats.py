"""Readers of tick files: what a row of each format means.

Every reader gives the file's ticks in file order, times in UTC cut to whole milliseconds, and tells of each row it
could not use. A file as a whole is refused when it is not what it claims to be.

| format | layout | time |
|---|---|---|
| `lean` | zip of one headerless CSV, `YYYYMMDD_<symbol>_tick_quote.csv`: time,bid,ask | ms since midnight of that day |
| `truefx` | CSV with the header `timestamp,bid,ask` | ISO 8601, with or without its zone |
| `truefx_raw` | the same as TrueFX gives it out: `EUR/USD,20090501 00:00:00.097,bid,ask` | UTC |
| `mt5_ticks` | MetaTrader's "Export Ticks", UTF-8 or UTF-16; an empty price did not change | the broker's |
| `mt5_bars` | its "Export Bars", or bars an MQL5 script wrote without a header | the broker's |
| `dukascopy` | CSV of ticks or bars with the header `Gmt time,...` | dd.mm.yyyy, UTC unless it says another |
| `dukascopy_bi5` | an hour of ticks, `SYMBOL/YYYY/MM/DD/HHh_ticks.bi5` | UTC |
| `histdata` | ASCII ticks or minute bars | New York's winter time all year |
| `csv` | a header naming time and bid, ask or open, high, low, close | as written |
| `lean_bars` | zip of one CSV of quote bars, minute to day | as Lean's ticks |
| `parquet` | columns named as in `csv` | timestamps or epoch numbers |

Bars become ticks as `bar_ticks` says. Text may be gzip. Times of a broker's clock need its zone, which for these files
may also be a rule of server time (`ny+7`, `eu+2`).

Lean's files are in the venue's own zone, which they do not name (FXCM: UTC-05:00 all year, Oanda: UTC).
"""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paper_terminal.feeds.base import FeedError
from paper_terminal.feeds.more_formats import (
    Found,
    read_bi5,
    read_headed,
    read_histdata,
    read_lean_bars,
    read_parquet,
    read_truefx_raw,
    text_format,
)
from paper_terminal.feeds.tables import Report

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_DAY_MS = 86_400_000
_MINUTE_MS = 60_000
_LEAN_MEMBER = re.compile(r"(\d{8})_([A-Za-z0-9.#_-]+?)_tick_quote\.csv")
_TRUEFX_HEADER = "timestamp,bid,ask"
_LEAN_BAR_MEMBER = re.compile(r"\d{8}_.+_(?:minute|second)_quote\.csv|[a-z0-9]+\.csv")
_ZIP_MAGIC = b"PK\x03\x04"
# A day of ticks is a few megabytes. More than this is no tick file, and would be unpacked into memory.
_LARGEST_TEXT_BYTES = 1 << 30


@dataclass(frozen=True)
class Quotes:
    """A file's quotes, in file order."""

    symbol: str | None
    """As the file names it, upper case; None where the format does not say."""
    times_ms: Ints
    """UTC."""
    bids: Floats
    asks: Floats


@dataclass
class BadRows:
    """Rows that could not be used: counted, the first ones kept, and too many of them refused."""

    limit: int
    count: int = 0
    examples: list[FeedError] = field(default_factory=list)

    def report(self, path: str, line: int, text: str) -> None:
        """Note a bad row; line 1 is the first of the file.

        Raises:
            FeedError: that was one more than the limit.
        """
        self.count += 1
        error = FeedError(text, path=path, line=line)
        if len(self.examples) < _EXAMPLES_KEPT:
            self.examples.append(error)
        if self.count > self.limit:
            raise FeedError(
                f"{text}; with that {self.count} rows are bad and {self.limit} are allowed: this is not the file it "
                "claims to be, or it is damaged",
                path=path,
                line=line,
            )


_EXAMPLES_KEPT = 10

Reader = Callable[[Path, int, BadRows], Quotes]


def read_quotes(path: Path, *, format_name: str, offset_minutes: int, bad_rows: BadRows) -> Quotes:
    """Read a tick file.

    Args:
        path: The file.
        format_name: A key of `READERS`, or `auto` to look at the file's first bytes.
        offset_minutes: The file's clock minus UTC, where its times do not say themselves.
        bad_rows: Collects the rows that could not be used.

    Raises:
        FeedError: the file is missing, unreadable, empty, not of this format, or holds too many bad rows.
    """
    try:
        name = detect_format(path) if format_name == "auto" else format_name
        reader = READERS.get(name)
        if reader is None:
            known = ", ".join(sorted(READERS))
            raise FeedError(f"unknown tick file format {name!r}: known are {known}, and auto", path=str(path))
        quotes = reader(path, offset_minutes * _MINUTE_MS, bad_rows)
    except OSError as error:
        raise FeedError(f"cannot be read: {error.strerror or error}", path=str(path)) from error
    if not len(quotes.times_ms):
        raise FeedError("holds no ticks", path=str(path))
    return quotes


def detect_format(path: Path) -> str:
    """Return the format a file's first bytes speak of.

    Raises:
        FeedError: none that is known.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(_ZIP_MAGIC):
        return _zip_format(path)
    if start.startswith(b"PAR1"):
        return "parquet"
    if path.suffix.lower() == ".bi5":
        return "dukascopy_bi5"
    if start.decode("utf-8-sig", errors="replace").strip().lower().startswith(_TRUEFX_HEADER):
        return "truefx"
    found = text_format(path)
    if found is not None:
        return found
    raise FeedError(
        f"is neither a zip (Lean) nor a CSV that begins with {_TRUEFX_HEADER!r}: name its format if it is one of "
        f"{', '.join(sorted(READERS))}",
        path=str(path),
    )


def parse_zone(text: str) -> int:
    """Return the minutes a zone such as `UTC`, `UTC-05:00` or `+02:00` is ahead of UTC.

    Raises:
        FeedError: it is written otherwise, or no zone lies so far from UTC.
    """
    match = re.fullmatch(r"(?:UTC|Z)|(?:UTC)?([+-])(\d{2}):(\d{2})", text)
    if match is None:
        raise FeedError(f"unknown zone {text!r}: write UTC or UTC-05:00")
    if match[1] is None:
        return 0
    minutes = int(match[2]) * 60 + int(match[3])
    if minutes > 14 * 60 or int(match[3]) > 59:
        raise FeedError(f"no zone lies as far from UTC as {text!r}")
    return -minutes if match[1] == "-" else minutes


def _read_lean(path: Path, offset_ms: int, bad_rows: BadRows) -> Quotes:
    date, symbol, member, text = _unpack_lean(path)
    midnight_ms = int(date.timestamp()) * 1000 - offset_ms
    table = _fast_lean_table(text)
    if table is None:
        lines = enumerate(text.split("\n"), start=1)
        table = _table(_lean_rows(lines, f"{path}!{member}", bad_rows))
    return Quotes(symbol, midnight_ms + table[:, 0].astype(np.int64), table[:, 1], table[:, 2])


def _unpack_lean(path: Path) -> tuple[datetime, str, str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
            if len(members) != 1:
                raise FeedError(f"a Lean tick file is a zip of one CSV, this holds {len(members)}", path=str(path))
            info = members[0]
            match = _LEAN_MEMBER.fullmatch(info.filename)
            if match is None:
                raise FeedError(
                    f"holds {info.filename!r}, not YYYYMMDD_<symbol>_tick_quote.csv: no Lean file of quote ticks",
                    path=str(path),
                )
            if info.file_size > _LARGEST_TEXT_BYTES:
                raise FeedError(f"{info.filename} unpacks to {info.file_size} bytes: too large", path=str(path))
            text = archive.read(info).decode("utf-8")
        date = datetime.strptime(match[1], "%Y%m%d").replace(tzinfo=UTC)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise FeedError(f"is no whole zip file ({error})", path=str(path)) from error
    except UnicodeDecodeError as error:
        raise FeedError(f"is no text: {error.reason} at byte {error.start}", path=str(path)) from error
    except ValueError as error:
        raise FeedError(f"the date in the name of {info.filename!r} does not exist", path=str(path)) from error
    return date, match[2].upper(), info.filename, text


def _fast_lean_table(text: str) -> Floats | None:
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


def _lean_rows(lines: Iterable[tuple[int, str]], path: str, bad_rows: BadRows) -> Iterator[tuple[float, float, float]]:
    for number, line in lines:
        if not line.strip():
            continue
        try:
            time_text, bid, ask = _three(line)
            time_ms = float(time_text)
            if not 0 <= time_ms < _DAY_MS:
                raise ValueError(f"{time_text!r} is not a time of day in milliseconds")  # noqa: TRY301
            row = (float(time_ms), _price(bid), _price(ask))
        except ValueError as error:
            bad_rows.report(path, number, str(error))
            continue
        yield row


def _read_truefx(path: Path, offset_ms: int, bad_rows: BadRows) -> Quotes:
    if path.stat().st_size > _LARGEST_TEXT_BYTES:
        raise FeedError("is too large for a tick file", path=str(path))
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise FeedError(f"is no text: {error.reason} at byte {error.start}", path=str(path)) from error
    if lines[0].strip().lower() != _TRUEFX_HEADER:
        raise FeedError(f"does not begin with the header {_TRUEFX_HEADER!r}", path=str(path), line=1)
    times: list[int] = []
    prices: list[tuple[float, float]] = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        try:
            time_text, bid, ask = _three(line)
            row = _iso_ms(time_text, offset_ms), (_price(bid), _price(ask))
        except (ValueError, OverflowError) as error:
            bad_rows.report(str(path), number, str(error))
            continue
        times.append(row[0])
        prices.append(row[1])
    table = np.array(prices, dtype=np.float64).reshape(len(prices), 2)
    return Quotes(None, np.array(times, dtype=np.int64), table[:, 0], table[:, 1])


def _table(rows: Iterable[tuple[float, float, float]]) -> Floats:
    kept = list(rows)
    return np.array(kept, dtype=np.float64).reshape(len(kept), 3)


def _three(line: str) -> tuple[str, str, str]:
    fields = line.strip().split(",")
    if len(fields) != 3:
        raise ValueError(f"{len(fields)} fields instead of time, bid, ask")
    return fields[0], fields[1], fields[2]


def _price(text: str) -> float:
    price = float(text)
    if not (math.isfinite(price) and price > 0):
        raise ValueError(f"{text!r} is not a price")
    return price


def _iso_ms(text: str, offset_ms: int) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment, shift_ms = moment.replace(tzinfo=UTC), offset_ms
    else:
        moment, shift_ms = moment.astimezone(UTC), 0
    # In integers: the float of timestamp() can fall short of the millisecond it means.
    seconds = int(moment.replace(microsecond=0).timestamp())
    time_ms = seconds * 1000 + moment.microsecond // 1000 - shift_ms
    if time_ms < 0:
        raise ValueError(f"{text!r} is before 1970")
    return time_ms


def _zip_format(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return "lean"  # its reader says what is wrong with it
    bars = len(names) == 1 and _LEAN_BAR_MEMBER.fullmatch(names[0]) is not None
    return "lean_bars" if bars else "lean"


def _quotes(read: Callable[[Path, int, Report], Found]) -> Reader:
    def reader(path: Path, offset_ms: int, bad_rows: BadRows) -> Quotes:
        return Quotes(*read(path, offset_ms, bad_rows.report))

    return reader


READERS: dict[str, Reader] = {
    "lean": _read_lean,
    "truefx": _read_truefx,
    "truefx_raw": _quotes(read_truefx_raw),
    "mt5_ticks": _quotes(read_headed),
    "mt5_bars": _quotes(read_headed),
    "dukascopy": _quotes(read_headed),
    "dukascopy_bi5": _quotes(read_bi5),
    "histdata": _quotes(read_histdata),
    "csv": _quotes(read_headed),
    "lean_bars": _quotes(read_lean_bars),
    "parquet": _quotes(read_parquet),
}
"""The readers by format name. Each gets the path, its zone's offset in ms, and where to report bad rows."""
