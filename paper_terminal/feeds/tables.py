"""Text files of ticks or bars: a header says which column is which, or a known headerless layout does.

Read are UTF-8 and UTF-16, plain or gzip, separated by tab, comma or semicolon.
Columns with other names are passed over.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from paper_terminal.feeds.bar_ticks import TICKS_A_BAR
from paper_terminal.feeds.base import FeedError
from paper_terminal.feeds.contents import LARGEST_TEXT_BYTES, Bars, Floats, Quotes, Report, Stamps
from paper_terminal.feeds.times import Times
from paper_terminal.records import TICK_FLAG_ASK, TICK_FLAG_BID, TICK_FLAG_LAST, TICK_FLAG_VOLUME

_GZIP_MAGIC = b"\x1f\x8b"
_LARGEST_FLAGS = (1 << 32) - 1

_TIME_NAMES = (
    "time_msc", "timestamp", "datetime", "gmt time", "time (utc)", "time (eet)", "local time", "date", "time",
)  # fmt: skip
_OHLC = ("open", "high", "low", "close")


@dataclass(frozen=True)
class Reading:
    """What a reader is told: where to report bad rows, and what is known of the symbol."""

    report: Report
    digits: int | None = None
    """Decimals of the symbol's prices; None: not known."""
    in_points: bool = False
    """Prices are counted in points: whole numbers, apart from noise."""

    def prices(self, values: Floats) -> Floats:
        """Return prices as they are quoted, from those that are written."""
        return np.rint(values) / 10.0 ** (self.digits or 0) if self.in_points else values

    def price(self, text: str) -> float:
        """Return a price as it is quoted.

        Raises:
            ValueError: it is none.
        """
        value = float(text)
        if self.in_points and math.isfinite(value):
            value = round(value) / 10.0 ** (self.digits or 0)
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{text!r} is not a price")
        return value


class Layout(NamedTuple):
    """Where the columns are, counted from 0; -1: there is no such column."""

    time: tuple[int, ...]
    """One column, or those of date and time."""
    bid: int = -1
    ask: int = -1
    last: int = -1
    volume: int = -1
    flags: int = -1
    ohlc: tuple[int, ...] = ()
    spread: int = -1
    tick_volume: int = -1
    real_volume: int = -1
    carried: bool = False
    """An empty price or volume means that it did not change."""
    fields: int = 0

    @property
    def needed(self) -> int:
        """Return how many fields a row has at least."""
        return max(*self.time, self.bid, self.ask, *self.ohlc) + 1


SCRIPT_BARS = Layout(time=(0,), ohlc=(1, 2, 3, 4), tick_volume=5, real_volume=6, fields=7)
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
    try:
        return data.decode(_encoding(data), errors="ignore" if start_only else "strict")
    except UnicodeDecodeError as error:
        raise FeedError(f"is no text: {error.reason} at byte {error.start}", path=str(path)) from error


def _encoding(data: bytes) -> str:
    """Return a text's encoding: its mark says it, or a zero byte beside its first character, which is never one."""
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return "utf-16"
    if data[1:2] == b"\0" and data[:1] != b"\0":
        return "utf-16-le"
    return "utf-8-sig"


def separator_of(line: str) -> str:
    """Return what parts the columns of a line."""
    return max("\t,;", key=line.count)


def names_in(header: str) -> list[str]:
    """Return the names of a header's columns, in lower case and without their brackets or quotes."""
    return [each.strip().strip('<>"').lower() for each in header.strip("\r\n").split(separator_of(header))]


def layout_of(names: Sequence[str], *, exported: bool = False) -> Layout | None:
    """Return where a header's names say that the columns are, or None when it is no header of ticks or bars.

    Args:
        names: The columns' names, lower case.
        exported: MetaTrader's own export wrote the file: what is empty did not change, `vol` is the real volume.
    """
    at = {name: index for index, name in reversed(list(enumerate(names)))}

    def place(*wanted: str) -> int:
        return next((at[name] for name in wanted if name in at), -1)

    if "date" in at and "time" in at:
        time: tuple[int, ...] = (at["date"], at["time"])
    else:
        time = tuple(at[name] for name in _TIME_NAMES if name in at)[:1]
    if not time:
        return None
    if "bid" in at and "ask" in at:
        volume = place("volume_real", "volume") if "last" in at else -1
        bid, ask, last, flags = (place(name) for name in ("bid", "ask", "last", "flags"))
        return Layout(time, bid, ask, last, volume, flags, carried=exported, fields=len(names))
    if all(name in at for name in _OHLC):
        return Layout(
            time,
            ohlc=tuple(at[name] for name in _OHLC),
            spread=place("spread"),
            tick_volume=place("tickvol", "tick_volume", "tickvolume"),
            real_volume=place("real_volume", "vol"),
            fields=len(names),
        )
    return None


class Table(NamedTuple):
    """A text with its layout: what its rows are, and where it came from."""

    text: str
    layout: Layout
    has_header: bool
    place: str
    """What reports call it."""

    def read(self, reading: Reading) -> Quotes | Bars:
        """Return what is in the rows. Bad ones are reported and left out."""
        return _read_bars(self, reading) if self.layout.ohlc else _read_quotes(self, reading)

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Go through the rows that are not empty: line number (1 is the first) and fields."""
        separator = ""
        for number, line in enumerate(self.text.split("\n"), start=1):
            if not line.strip() or (self.has_header and number == 1):
                continue
            separator = separator or separator_of(line)
            yield number, line.rstrip("\r").split(separator)


Row = tuple[float, ...]


def _gathered(table: Table, reading: Reading, row_of: Callable[[list[str]], Row]) -> tuple[Stamps, list[Row]]:
    layout, times = table.layout, Times()
    needed = layout.needed
    written: list[int] = []
    naive: list[bool] = []
    rows: list[Row] = []
    for number, fields in table.rows():
        try:
            if not needed <= len(fields) <= layout.fields:
                raise ValueError(f"{len(fields)} fields instead of {layout.fields}")  # noqa: TRY301
            time_ms, is_naive = times.parsed(" ".join([fields[each].strip() for each in layout.time]))
            rows.append(row_of(fields))
        except (ValueError, OverflowError) as error:
            reading.report(table.place, number, str(error))
            continue
        written.append(time_ms)
        naive.append(is_naive)
    return Stamps(np.array(written, dtype=np.int64), np.array(naive, dtype=bool)), rows


# Ticks -------------------------------------------------------------------------------------------------------


def _read_quotes(table: Table, reading: Reading) -> Quotes:
    before: Row = (0.0, 0.0, 0.0, 0.0, 0.0)

    def row_of(fields: list[str]) -> Row:
        nonlocal before
        before = _quote(fields, table.layout, reading, before)
        return before

    stamps, rows = _gathered(table, reading, row_of)
    values = np.array(rows, dtype=np.float64).reshape(len(rows), 5)
    bids, asks, lasts, volumes, flags = (np.ascontiguousarray(column) for column in values.T)
    if not (lasts.any() or flags.any()):
        return Quotes(stamps, bids, asks)
    return Quotes(stamps, bids, asks, lasts, volumes, flags.astype(np.int64))


def _quote(fields: list[str], layout: Layout, reading: Reading, before: Row) -> Row:
    """Return bid, ask, last, volume and flags of a row; what is empty is that of the row before."""
    if layout.last < 0 and not layout.carried:
        return reading.price(fields[layout.bid]), reading.price(fields[layout.ask]), 0.0, 0.0, _flags(fields, layout)
    last_text, volume_text = _optional(fields, layout.last), _optional(fields, layout.volume)
    last = reading.price(last_text) if last_text and float(last_text) else before[2]
    volume = _amount(volume_text, "volume") if volume_text else before[3]
    bid_text, ask_text = fields[layout.bid].strip(), fields[layout.ask].strip()
    if not layout.carried:
        return reading.price(bid_text), reading.price(ask_text), last, volume, _flags(fields, layout)
    bid = reading.price(bid_text) if bid_text else before[0]
    ask = reading.price(ask_text) if ask_text else before[1]
    if not (bid and ask) and not last:
        raise ValueError("a price is empty and there is none before it")
    told = _flags(fields, layout)
    if not told:
        told += TICK_FLAG_BID * bool(bid_text) + TICK_FLAG_ASK * bool(ask_text)
        told += TICK_FLAG_LAST * bool(last_text) + TICK_FLAG_VOLUME * bool(volume_text)
    return bid, ask, last, volume, told


def _optional(fields: list[str], at: int) -> str:
    return fields[at].strip() if 0 <= at < len(fields) else ""


def _flags(fields: list[str], layout: Layout) -> int:
    text = _optional(fields, layout.flags)
    if not text:
        return 0
    if not text.isdecimal() or int(text) > _LARGEST_FLAGS:
        raise ValueError(f"flags {text!r} are none")
    return int(text)


# Bars --------------------------------------------------------------------------------------------------------


def _read_bars(table: Table, reading: Reading) -> Bars:
    layout = table.layout
    decimals = 0

    def row_of(fields: list[str]) -> Row:
        nonlocal decimals
        prices = bar_of(*(reading.price(fields[each]) for each in layout.ohlc))
        told = (
            _amount(_optional(fields, at) or untold, name)
            for at, name, untold in (
                (layout.spread, "spread", "0"),
                (layout.tick_volume, "tick volume", str(TICKS_A_BAR)),
                (layout.real_volume, "volume", "0"),
            )
        )
        if reading.digits is None:
            decimals = max(decimals, *(_decimals(fields[each]) for each in layout.ohlc))
        return (*prices, *told)

    stamps, rows = _gathered(table, reading, row_of)
    values = np.array(rows, dtype=np.float64).reshape(len(rows), 7)
    spreads, ticks, traded = (
        values[:, column].astype(np.int64) if at >= 0 else None
        for column, at in ((4, layout.spread), (5, layout.tick_volume), (6, layout.real_volume))
    )
    return Bars(stamps, values[:, :4], None, spreads, ticks, traded, decimals)


def bar_of(opened: float, high: float, low: float, closed: float) -> tuple[float, float, float, float]:
    """Return the four prices of a bar.

    Raises:
        ValueError: no market can have moved so.
    """
    if not (low <= min(opened, closed) and high >= max(opened, closed)):
        raise ValueError(f"open {opened}, high {high}, low {low}, close {closed} is no bar")
    return opened, high, low, closed


def _amount(text: str, name: str) -> float:
    value = float(text)
    if not 0 <= value < float(1 << 62):
        raise ValueError(f"{name} {text!r} is none")
    return value


def _decimals(text: str) -> int:
    return len(text.strip().partition(".")[2])
