"""Text files of ticks or bars: a header says which column is which, or a known headerless layout does.

Read are UTF-8 and UTF-16 (told by the mark at the start), plain or gzip, separated by tab, comma or semicolon.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from paper_terminal.feeds.bar_ticks import Bars, Floats, Ints, ticks_of
from paper_terminal.feeds.base import FeedError

_GZIP_MAGIC = b"\x1f\x8b"
LARGEST_TEXT_BYTES = 1 << 30

_TIME_NAMES = ("timestamp", "datetime", "gmt time", "time (utc)", "time (eet)", "local time", "date", "time")
_OHLC = ("open", "high", "low", "close")
_OTHERS = {
    "tickvol",
    "vol",
    "volume",
    "flags",
    "last",
    "tick_volume",
    "real_volume",
    "askvolume",
    "bidvolume",
    "spread",
}

Report = Callable[[str, int, str], None]


class Layout(NamedTuple):
    """Where the columns are, counted from 0."""

    time: tuple[int, ...]
    """One column, or those of date and time."""
    bid: int = -1
    ask: int = -1
    ohlc: tuple[int, ...] = ()
    spread: int = -1
    carried: bool = False
    """An empty price means that it did not change."""
    fields: int = 0


SCRIPT_BARS = Layout(time=(0,), ohlc=(1, 2, 3, 4), fields=7)
"""`YYYY.MM.DD HH:MM:SS,open,high,low,close,tick volume,volume`, as MQL5 scripts write it."""
HISTDATA_TICKS = Layout(time=(0,), bid=1, ask=2, fields=4)
"""`YYYYMMDD HHMMSSmmm,bid,ask,volume`"""
HISTDATA_BARS = Layout(time=(0,), ohlc=(1, 2, 3, 4), fields=6)
"""`YYYYMMDD HHMMSS;open;high;low;close;volume`"""
TRUEFX_RAW = Layout(time=(1,), bid=2, ask=3, fields=4)
"""`EUR/USD,YYYYMMDD HH:MM:SS.mmm,bid,ask`, as TrueFX gives its files out."""


def read_text(path: Path, *, start_only: bool = False) -> str:
    """Return a file's text, or only its beginning.

    Raises:
        FeedError: it is too large, damaged, or no text.
        OSError: it cannot be read.
    """
    limit = 4096 if start_only else LARGEST_TEXT_BYTES + 1
    with path.open("rb") as file:
        zipped = file.read(2) == _GZIP_MAGIC
    try:
        with gzip.open(path) if zipped else path.open("rb") as file:
            data = file.read(limit)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FeedError(f"is no whole gzip file ({error})", path=str(path)) from error
    if len(data) > LARGEST_TEXT_BYTES:
        raise FeedError("is too large for a file of ticks or bars", path=str(path))
    encoding = "utf-16" if data[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig"
    try:
        return data.decode(encoding, errors="ignore" if start_only else "strict")
    except UnicodeDecodeError as error:
        raise FeedError(f"is no text: {error.reason} at byte {error.start}", path=str(path)) from error


def separator_of(line: str) -> str:
    """Return what parts the columns of a line."""
    return max("\t,;", key=line.count)


def layout_of(header: str) -> Layout | None:
    """Return where a header says that the columns are, or None when it is no header of ticks or bars."""
    names = [each.strip().strip("<>").lower() for each in header.strip().split(separator_of(header))]
    at = {name: index for index, name in enumerate(names)}
    if "date" in at and "time" in at:
        time: tuple[int, ...] = (at["date"], at["time"])
    else:
        time = tuple(at[name] for name in _TIME_NAMES if name in at)[:1]
    known = {*_TIME_NAMES, *_OHLC, *_OTHERS, "bid", "ask"}
    if not time or set(names) - known:
        return None
    exported = header.lstrip().startswith("<")
    if "bid" in at and "ask" in at:
        return Layout(time, bid=at["bid"], ask=at["ask"], carried=exported, fields=len(names))
    if all(name in at for name in _OHLC):
        ohlc = tuple(at[name] for name in _OHLC)
        return Layout(time, ohlc=ohlc, spread=at.get("spread", -1), fields=len(names))
    return None


def read_table(
    text: str, layout: Layout, *, has_header: bool, place: str, offset_ms: int, report: Report
) -> tuple[Ints, Floats, Floats]:
    """Return times (UTC ms), bids and asks of a text's rows; bars become ticks. Bad rows are reported, left out."""
    times: list[int] = []
    rows: list[tuple[float, ...]] = []
    digits = 0
    separator = ""
    before = (math.nan, math.nan)
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or (has_header and number == 1):
            continue
        separator = separator or separator_of(line)
        fields = line.rstrip("\r").split(separator)
        try:
            if not layout.fields - 1 <= len(fields) <= layout.fields:
                raise ValueError(f"{len(fields)} fields instead of {layout.fields}")  # noqa: TRY301
            row = _prices(fields, layout, before)
            time_ms = parsed_ms(" ".join(fields[each].strip() for each in layout.time), offset_ms)
        except (ValueError, OverflowError) as error:
            report(place, number, str(error))
            continue
        times.append(time_ms)
        rows.append(row)
        if layout.ohlc:
            digits = max(digits, *(_decimals(fields[each]) for each in layout.ohlc))
        else:
            before = (row[0], row[1])
    table = np.array(rows, dtype=np.float64).reshape(len(rows), 5 if layout.ohlc else 2)
    stamps = np.array(times, dtype=np.int64)
    if not layout.ohlc:
        return stamps, table[:, 0], table[:, 1]
    spread = np.round(table[:, 4:] * 10.0**-digits, digits)
    return ticks_of(Bars(stamps, table[:, :4], np.round(table[:, :4] + spread, digits)))


def _prices(fields: Sequence[str], layout: Layout, before: tuple[float, float]) -> tuple[float, ...]:
    if not layout.ohlc:
        bid, ask = fields[layout.bid].strip(), fields[layout.ask].strip()
        if layout.carried:
            return price(bid) if bid else _carried(before[0]), price(ask) if ask else _carried(before[1])
        return price(bid), price(ask)
    opened, high, low, closed = (price(fields[each]) for each in layout.ohlc)
    if not (low <= min(opened, closed) and high >= max(opened, closed)):
        raise ValueError(f"open {opened}, high {high}, low {low}, close {closed} is no bar")
    spread = float(fields[layout.spread]) if layout.spread >= 0 else 0.0
    if not (math.isfinite(spread) and spread >= 0):
        raise ValueError(f"spread {spread} is none")
    return opened, high, low, closed, spread


def _carried(value: float) -> float:
    if math.isnan(value):
        raise ValueError("a price is empty and there is none before it")
    return value


def price(text: str) -> float:
    """Return a price.

    Raises:
        ValueError: it is none.
    """
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{text!r} is not a price")
    return value


def _decimals(text: str) -> int:
    return len(text.strip().partition(".")[2])


_DATE_TIME = re.compile(
    r"(?P<y>\d{4})[.\-/]?(?P<m>\d{2})[.\-/]?(?P<d>\d{2})[ T]"
    r"(?P<h>\d{2}):?(?P<n>\d{2})(?::?(?P<s>\d{2})[.,]?(?P<f>\d{0,9}))?(?P<z>Z|[+-]\d{2}:?\d{2})?"
)
_DAY_FIRST = re.compile(r"(\d{2})\.(\d{2})\.(\d{4}) (.*?)(?: GMT([+-]\d{4}))?")


def parsed_ms(text: str, offset_ms: int) -> int:
    """Return a written time as UTC milliseconds (cut off); `offset_ms` is taken off where it does not say its zone.

    Raises:
        ValueError: it is no date and time after 1970.
    """
    if day_first := _DAY_FIRST.fullmatch(text):
        day, month, year, rest, zone = day_first.groups()
        text = f"{year}-{month}-{day} {rest}{zone or ''}"
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no date and time")
    year, month, day, hour, minute = (int(match[each]) for each in "ymdhn")
    moment = datetime(year, month, day, hour, minute, int(match["s"] or 0), tzinfo=UTC)
    time_ms = (
        int(moment.timestamp()) * 1000 + int((match["f"] or "0").ljust(3, "0")[:3]) - _shift_ms(match["z"], offset_ms)
    )
    if time_ms < 0:
        raise ValueError(f"{text!r} is before 1970")
    return time_ms


def _shift_ms(zone: str | None, offset_ms: int) -> int:
    if zone is None:
        return offset_ms
    if zone == "Z":
        return 0
    minutes = int(zone[1:3]) * 60 + int(zone[-2:])
    return (-minutes if zone[0] == "-" else minutes) * 60_000
