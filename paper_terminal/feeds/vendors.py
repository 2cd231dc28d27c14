"""Readers of vendors' files and of text with a header: MetaTrader exports, Dukascopy, HistData, TrueFX."""

from __future__ import annotations

import lzma
import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from paper_terminal.feeds.base import FeedError
from paper_terminal.feeds.contents import LARGEST_TEXT_BYTES, SERVER, Found, Quotes, Stamps
from paper_terminal.feeds.tables import (
    HISTDATA_BARS,
    HISTDATA_TICKS,
    SCRIPT_BARS,
    TRUEFX_RAW,
    Reading,
    Table,
    layout_of,
    names_in,
    read_text,
)

_HISTDATA_ZONE = "UTC-05:00"
_HISTDATA_NAME = re.compile(r"DAT_ASCII_([A-Za-z]{6})_(?:T|M1)_\d+", re.IGNORECASE)
_HISTDATA_ROW = re.compile(r"\d{8} \d{6}(?:\d{3}[,;]|;)")
_TRUEFX_ROW = re.compile(r"([A-Z]{3})/([A-Z]{3}),\d{8} \d{2}:\d{2}:\d{2}\.\d{3},")
_TRUEFX_HEADER = ["timestamp", "bid", "ask"]
_SCRIPT_ROW = re.compile(r"\d{4}\.\d{2}\.\d{2}(?: \d{2}:\d{2}(?::\d{2})?)?,[\d.]+,")
_BI5_NAME = re.compile(r"(?:([A-Za-z0-9]{6,})/)?(\d{4})/(\d{2})/(\d{2})/(\d{2})h_ticks\.bi5$")
_BI5_DTYPE = np.dtype([("ms", ">u4"), ("ask", ">u4"), ("bid", ">u4"), ("ask_volume", ">f4"), ("bid_volume", ">f4")])
_THREE_DIGITS = ("JPY", "XAU", "XAG", "RUB", "HUF", "THB", "CZK")


def text_format(path: Path) -> str | None:
    """Return which of the text formats a file's beginning speaks of, or None."""
    first = read_text(path, start_only=True).split("\n", 1)[0].strip()
    names, exported = names_in(first), first.startswith("<")
    if names == _TRUEFX_HEADER and not exported:
        return "truefx"
    layout = layout_of(names, exported=exported)
    if layout is not None:
        if exported:
            return "mt5_bars" if layout.ohlc else "mt5_ticks"
        return "dukascopy" if first.lower().startswith(("gmt time", "local time", "time (")) else "csv"
    for name, row in (("histdata", _HISTDATA_ROW), ("truefx_raw", _TRUEFX_ROW), ("mt5_bars", _SCRIPT_ROW)):
        if row.match(first):
            return name
    return None


def read_headed(path: Path, reading: Reading) -> Found:
    """Read a text file whose header names its columns.

    Raises:
        FeedError: it has no such header.
    """
    return _headed(path, read_text(path), reading)


def read_exported(path: Path, reading: Reading) -> Found:
    """Read MetaTrader's export of ticks or bars, or an MQL5 script's bars without a header: on the server's clock.

    Raises:
        FeedError: it is neither.
    """
    text = read_text(path)
    if _SCRIPT_ROW.match(text):
        content = Table(text, SCRIPT_BARS, has_header=False, place=str(path)).read(reading)
        return Found(None, content, SERVER)
    return _headed(path, text, reading)._replace(zone=SERVER)


def read_truefx(path: Path, reading: Reading) -> Found:
    """Read a CSV with TrueFX's header.

    Raises:
        FeedError: it has another one.
    """
    text = read_text(path)
    if names_in(text.split("\n", 1)[0]) != _TRUEFX_HEADER:
        raise FeedError("does not begin with the header 'timestamp,bid,ask'", path=str(path), line=1)
    return _headed(path, text, reading)


def _headed(path: Path, text: str, reading: Reading) -> Found:
    first = text.split("\n", 1)[0]
    layout = layout_of(names_in(first), exported=first.startswith("<"))
    if layout is None:
        raise FeedError("does not begin with a header that names time and bid, ask or bars", path=str(path), line=1)
    return Found(None, Table(text, layout, has_header=True, place=str(path)).read(reading))


def read_histdata(path: Path, reading: Reading) -> Found:
    """Read HistData's ASCII ticks or minute bars: New York's winter time all year, unless a zone is named.

    Raises:
        FeedError: it is no such file.
    """
    text = read_text(path)
    first = text.split("\n", 1)[0]
    if not _HISTDATA_ROW.match(first):
        raise FeedError("does not begin as HistData's ASCII files do", path=str(path), line=1)
    layout = HISTDATA_BARS if re.match(r"\d{8} \d{6};", first) else HISTDATA_TICKS
    named = _HISTDATA_NAME.search(path.name)
    content = Table(text, layout, has_header=False, place=str(path)).read(reading)
    return Found(named[1].upper() if named else None, content, _HISTDATA_ZONE)


def read_truefx_raw(path: Path, reading: Reading) -> Found:
    """Read a file as TrueFX gives it out, without a header.

    Raises:
        FeedError: it is no such file.
    """
    text = read_text(path)
    first = _TRUEFX_ROW.match(text)
    if first is None:
        raise FeedError("does not begin with a row such as EUR/USD,20090501 00:00:00.097,...", path=str(path), line=1)
    pair = first[0][:8]
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.startswith(pair):
            reading.report(str(path), number, f"is not of {pair[:7]}")
    rows = "\n".join(line if line.startswith(pair) else "" for line in lines)
    content = Table(rows, TRUEFX_RAW, has_header=False, place=str(path)).read(reading)
    return Found(first[1] + first[2], content)


def read_bi5(path: Path, reading: Reading) -> Found:
    """Read an hour of Dukascopy's own ticks, SYMBOL/YYYY/MM/DD/HHh_ticks.bi5, months counted from 00; times UTC.

    An hour without ticks is an empty file.

    Raises:
        FeedError: it is no such file.
    """
    named = _BI5_NAME.search(path.resolve().as_posix())
    if named is None:
        raise FeedError("is not at SYMBOL/YYYY/MM/DD/HHh_ticks.bi5, which says its hour", path=str(path))
    packed = path.read_bytes()
    try:
        data = lzma.LZMADecompressor().decompress(packed, max_length=LARGEST_TEXT_BYTES) if packed else b""
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
        reading.report(str(path), at + 1, "is a record without prices, or beyond the hour")
    records = records[good]
    stamps = Stamps(int(start.timestamp()) * 1000 + records["ms"].astype(np.int64), np.zeros(len(records), dtype=bool))
    return Found(symbol, Quotes(stamps, records["bid"] / 10.0**digits, records["ask"] / 10.0**digits))
