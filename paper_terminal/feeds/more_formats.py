"""Readers of further files: bars of Lean, MetaTrader exports, Dukascopy, HistData, TrueFX as given out, Parquet."""

from __future__ import annotations

import lzma
import re
import zipfile
import zlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from paper_terminal.feeds.bar_ticks import Bars, Floats, Ints, ticks_of
from paper_terminal.feeds.base import FeedError
from paper_terminal.feeds.tables import (
    HISTDATA_BARS,
    HISTDATA_TICKS,
    LARGEST_TEXT_BYTES,
    SCRIPT_BARS,
    TRUEFX_RAW,
    Layout,
    Report,
    layout_of,
    parsed_ms,
    price,
    read_table,
    read_text,
)

Found = tuple[str | None, Ints, Floats, Floats]
"""Symbol (upper case, or None), times in UTC milliseconds, bids, asks."""

_HISTDATA_OFFSET_MS = -5 * 3_600_000
_HISTDATA_NAME = re.compile(r"DAT_ASCII_([A-Za-z]{6})_(?:T|M1)_\d+", re.IGNORECASE)
_HISTDATA_ROW = re.compile(r"\d{8} \d{6}(?:\d{3}[,;]|;)")
_TRUEFX_ROW = re.compile(r"([A-Z]{3})/([A-Z]{3}),\d{8} \d{2}:\d{2}:\d{2}\.\d{3},")
_SCRIPT_ROW = re.compile(r"\d{4}\.\d{2}\.\d{2} \d{2}:\d{2}(?::\d{2})?,")
_BI5_NAME = re.compile(r"(?:([A-Za-z]{6,})[/\\])?(\d{4})[/\\](\d{2})[/\\](\d{2})[/\\](\d{2})h_ticks\.bi5$")
_BI5_DTYPE = np.dtype([("ms", ">u4"), ("ask", ">u4"), ("bid", ">u4"), ("ask_volume", ">f4"), ("bid_volume", ">f4")])
_LEAN_BARS = re.compile(r"(?:(\d{8})_)?([A-Za-z0-9.#-]+?)(?:_(?:minute|second)_quote)?\.csv")
_DAY_MS = 86_400_000
_THREE_DIGITS = ("JPY", "XAU", "XAG", "RUB", "HUF", "THB", "CZK")


def text_format(path: Path) -> str | None:
    """Return which of the text formats a file's beginning speaks of, or None."""
    first = read_text(path, start_only=True).split("\n", 1)[0].strip()
    layout = layout_of(first)
    if layout is not None:
        if first.startswith("<"):
            return "mt5_bars" if layout.ohlc else "mt5_ticks"
        return "dukascopy" if first.lower().startswith(("gmt time", "local time", "time (")) else "csv"
    for name, row in (("histdata", _HISTDATA_ROW), ("truefx_raw", _TRUEFX_ROW), ("mt5_bars", _SCRIPT_ROW)):
        if row.match(first):
            return name
    return None


def read_headed(path: Path, offset_ms: int, report: Report) -> Found:
    """Read a text file whose header names its columns, or an MQL5 script's bars without one.

    Raises:
        FeedError: it has neither.
    """
    text = read_text(path)
    first = text.split("\n", 1)[0]
    layout, has_header = layout_of(first), True
    if layout is None and _SCRIPT_ROW.match(first):
        layout, has_header = SCRIPT_BARS, False
    if layout is None:
        raise FeedError("does not begin with a header that names time and bid, ask or bars", path=str(path), line=1)
    found = read_table(text, layout, has_header=has_header, place=str(path), offset_ms=offset_ms, report=report)
    return None, *found


def read_histdata(path: Path, offset_ms: int, report: Report) -> Found:
    """Read HistData's ASCII ticks or minute bars: New York's winter time all year, unless a zone was named.

    Raises:
        FeedError: it is no such file.
    """
    text = read_text(path)
    first = text.split("\n", 1)[0]
    if not _HISTDATA_ROW.match(first):
        raise FeedError("does not begin as HistData's ASCII files do", path=str(path), line=1)
    layout = HISTDATA_BARS if re.match(r"\d{8} \d{6};", first) else HISTDATA_TICKS
    offset_ms = offset_ms or _HISTDATA_OFFSET_MS
    found = read_table(text, layout, has_header=False, place=str(path), offset_ms=offset_ms, report=report)
    named = _HISTDATA_NAME.search(path.name)
    return named[1].upper() if named else None, *found


def read_truefx_raw(path: Path, offset_ms: int, report: Report) -> Found:
    """Read a file as TrueFX gives it out, without a header.

    Raises:
        FeedError: it is no such file, or of several symbols.
    """
    text = read_text(path)
    first = _TRUEFX_ROW.match(text)
    if first is None:
        raise FeedError("does not begin with a row such as EUR/USD,20090501 00:00:00.097,...", path=str(path), line=1)
    pair = first[0][:8]
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip() and not line.startswith(pair):
            report(str(path), number, f"is not of {pair[:7]}")
    rows = "\n".join(line if line.startswith(pair) else "" for line in text.split("\n"))
    found = read_table(rows, TRUEFX_RAW, has_header=False, place=str(path), offset_ms=offset_ms, report=report)
    return first[1] + first[2], *found


def read_bi5(path: Path, _offset_ms: int, report: Report) -> Found:
    """Read an hour of Dukascopy's own ticks, SYMBOL/YYYY/MM/DD/HHh_ticks.bi5, months counted from 00; times UTC.

    Raises:
        FeedError: it is no such file.
    """
    named = _BI5_NAME.search(path.resolve().as_posix())
    if named is None:
        raise FeedError("is not at SYMBOL/YYYY/MM/DD/HHh_ticks.bi5, which says its hour", path=str(path))
    try:
        data = lzma.LZMADecompressor().decompress(path.read_bytes(), max_length=LARGEST_TEXT_BYTES)
        start = datetime(int(named[2]), int(named[3]) + 1, int(named[4]), int(named[5]), tzinfo=UTC)
    except (lzma.LZMAError, EOFError) as error:
        raise FeedError(f"is no whole LZMA file ({error})", path=str(path)) from error
    except ValueError as error:
        raise FeedError(f"its path names no hour ({error})", path=str(path)) from error
    if len(data) % _BI5_DTYPE.itemsize:
        raise FeedError("does not hold whole records of 20 bytes", path=str(path))
    symbol = named[1].upper() if named[1] else None
    digits = 3 if symbol is None or any(each in symbol for each in _THREE_DIGITS) else 5
    records = np.frombuffer(data, dtype=_BI5_DTYPE)
    good = (records["ms"] < 3_600_000) & (records["bid"] > 0) & (records["ask"] > 0)
    for at in np.flatnonzero(~good).tolist():
        report(str(path), at + 1, "is a record without prices, or beyond the hour")
    records = records[good]
    times = int(start.timestamp()) * 1000 + records["ms"].astype(np.int64)
    scale = 10.0**digits
    return symbol, times, np.round(records["bid"] / scale, digits), np.round(records["ask"] / scale, digits)


def read_lean_bars(path: Path, offset_ms: int, report: Report) -> Found:
    """Read Lean's quote bars: time, bid open to close, size, ask open to close, size.

    Raises:
        FeedError: it is no such file.
    """
    member, text = _single_member(path)
    named = _LEAN_BARS.fullmatch(member)
    if named is None:
        raise FeedError(f"holds {member!r}: no Lean file of quote bars", path=str(path))
    midnight_ms = parsed_ms(f"{named[1]} 00:00", 0) if named[1] else None
    times, rows = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        fields = line.strip().split(",")
        try:
            if len(fields) != 11:
                raise ValueError(f"{len(fields)} fields instead of 11")  # noqa: TRY301
            row = [price(each) for each in (*fields[1:5], *fields[6:10])]
            if midnight_ms is None:
                time_ms = parsed_ms(fields[0], offset_ms)
            else:
                time_ms = midnight_ms + int(float(fields[0])) - offset_ms
        except (ValueError, OverflowError) as error:
            report(f"{path}!{member}", number, str(error))
            continue
        times.append(time_ms)
        rows.append(row)
    table = np.array(rows, dtype=np.float64).reshape(len(rows), 8)
    return named[2].upper(), *ticks_of(Bars(np.array(times, dtype=np.int64), table[:, :4], table[:, 4:]))


def _single_member(path: Path) -> tuple[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
            if len(members) != 1 or members[0].file_size > LARGEST_TEXT_BYTES:
                raise FeedError("is no zip of one CSV of a reasonable size", path=str(path))
            return members[0].filename, archive.read(members[0]).decode("utf-8")
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeDecodeError) as error:
        raise FeedError(f"is no whole zip of text ({error})", path=str(path)) from error


def read_parquet(path: Path, offset_ms: int, _report: Report) -> Found:
    """Read a Parquet file with columns named as in a text file's header; times as timestamps or epoch numbers.

    Raises:
        FeedError: it is none, its columns are not those of ticks or bars, or pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise FeedError("needs the package pyarrow, which is not installed", path=str(path)) from error
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise FeedError(f"is no Parquet file ({error})", path=str(path)) from error
    layout: Layout | None = layout_of(",".join(table.column_names)) if table.column_names else None
    if layout is None:
        raise FeedError(f"has columns {table.column_names}: no ticks and no bars", path=str(path))
    columns = [table.column(index) for index in range(table.num_columns)]
    stamps = np.asarray(columns[layout.time[0]].to_numpy())
    if stamps.dtype.kind == "M":
        zoned = getattr(columns[layout.time[0]].type, "tz", None) is not None
        times = stamps.astype("datetime64[ms]").astype(np.int64) - (0 if zoned else offset_ms)
    else:
        whole = stamps.astype(np.int64)
        times = np.where(np.abs(whole) < 10**11, whole * 1000, whole) - offset_ms
    used = layout.ohlc or (layout.bid, layout.ask)
    prices = np.stack([np.asarray(columns[each].to_numpy(), dtype=np.float64) for each in used], axis=1)
    if not (np.isfinite(prices).all() and (prices > 0).all()):
        raise FeedError("holds prices that are none", path=str(path))
    if not layout.ohlc:
        return None, times, prices[:, 0], prices[:, 1]
    digits = max((len(repr(each).partition(".")[2]) for each in prices[:200].ravel().tolist()), default=0)
    spread = np.zeros((len(prices), 1))
    if layout.spread >= 0:
        points = np.asarray(columns[layout.spread].to_numpy(), dtype=np.float64)
        spread = np.round(points[:, None] * 10.0**-digits, digits)
    return None, *ticks_of(Bars(times, prices, np.round(prices + spread, digits)))
