"""Parquet files of ticks or bars, with columns named as in a text file's header.

Times are timestamps or epoch numbers. A timestamp's own zone is not believed: what is saved from MetaTrader is its
broker's clock, which its module and most programs after it call UTC. They are on the zone of the file's setting.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from paper_terminal.feeds.base import FeedError
from paper_terminal.feeds.contents import Bars, Floats, Found, Hits, Ints, Quotes, Stamps
from paper_terminal.feeds.tables import Layout, Reading, layout_of

_SECONDS_BELOW = 10**11
_MILLISECONDS_BELOW = 10**14
_MICROSECONDS_BELOW = 10**17


def read_parquet(path: Path, reading: Reading) -> Found:
    """Read a Parquet file.

    Raises:
        FeedError: it is none, its columns are not those of ticks or bars, or pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise FeedError("needs the package pyarrow, which is not installed", path=str(path)) from error
    try:
        with path.open("rb") as file:
            table = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise FeedError(f"is no Parquet file ({error})", path=str(path)) from error
    layout = layout_of([name.lower() for name in table.column_names]) if table.column_names else None
    if layout is None or len(layout.time) != 1:
        raise FeedError(f"has columns {table.column_names}: no ticks and no bars", path=str(path))
    columns = _Columns(table, layout, path)
    return Found(None, columns.bars(reading) if layout.ohlc else columns.quotes(reading))


class _Columns:
    def __init__(self, table: Any, layout: Layout, path: Path) -> None:
        self._table = table
        self._layout = layout
        self._path = path

    def _numbers(self, at: int) -> Floats:
        try:
            values: Floats = np.asarray(self._table.column(at).to_numpy(), dtype=np.float64)
        except (TypeError, ValueError) as error:
            name = self._table.column_names[at]
            raise FeedError(f"its column {name!r} does not hold numbers ({error})", path=str(self._path)) from error
        return values

    def _stamps(self) -> tuple[Stamps, Hits]:
        """Return the times, and which of them are some."""
        values = np.asarray(self._table.column(self._layout.time[0]).to_numpy())
        if values.dtype.kind == "M":
            good = ~np.isnat(values)
            times = values.astype("datetime64[ms]").astype(np.int64)
        else:
            numbers = self._numbers(self._layout.time[0])
            good = np.isfinite(numbers) & (numbers >= 0)
            times = _epoch_ms(values.astype(np.int64) if values.dtype.kind in "iu" else np.where(good, numbers, 0.0))
        return Stamps(times, np.ones(len(times), dtype=bool)), good & (times >= 0)

    def _reported(self, good: Hits, reading: Reading, text: str) -> Hits:
        for at in np.flatnonzero(~good).tolist():
            reading.report(str(self._path), at + 1, text)
        return good

    def quotes(self, reading: Reading) -> Quotes:
        layout = self._layout
        stamps, good = self._stamps()
        prices = reading.prices(np.stack([self._numbers(each) for each in (layout.bid, layout.ask)], axis=1))
        good &= (np.isfinite(prices) & (prices > 0)).all(axis=1)
        kept = self._reported(good, reading, "is a row without time, bid or ask")
        stamps, bids, asks = stamps.only(kept), prices[kept, 0], prices[kept, 1]
        if layout.last < 0:
            return Quotes(stamps, bids, asks)
        lasts = reading.prices(np.nan_to_num(self._numbers(layout.last)[kept]))
        volumes = np.nan_to_num(self._numbers(layout.volume)[kept]) if layout.volume >= 0 else np.zeros(len(lasts))
        flags = self._numbers(layout.flags)[kept] if layout.flags >= 0 else np.zeros(len(lasts))
        return Quotes(stamps, bids, asks, lasts, volumes, np.nan_to_num(flags).astype(np.int64))

    def bars(self, reading: Reading) -> Bars:
        layout = self._layout
        stamps, good = self._stamps()
        raw = np.stack([self._numbers(each) for each in layout.ohlc], axis=1)
        prices = reading.prices(raw)
        opened, high, low, closed = prices.T
        good &= (np.isfinite(prices) & (prices > 0)).all(axis=1)
        good &= (low <= np.minimum(opened, closed)) & (high >= np.maximum(opened, closed))
        told = {
            name: self._numbers(at)
            for name, at in (
                ("spreads", layout.spread),
                ("tick_volumes", layout.tick_volume),
                ("real_volumes", layout.real_volume),
            )
            if at >= 0
        }
        for values in told.values():
            good &= np.isfinite(values) & (values >= 0)
        kept = self._reported(good, reading, "is no bar: a time, price or volume is missing, or high and low are not")
        spreads, ticks, traded = (
            told[name][kept].astype(np.int64) if name in told else None
            for name in ("spreads", "tick_volumes", "real_volumes")
        )
        return Bars(
            stamps.only(kept),
            prices[kept],
            None,
            spreads,
            ticks,
            traded,
            _decimals(prices[kept]) if reading.digits is None else 0,
        )


def _epoch_ms(numbers: np.ndarray[Any, Any]) -> Ints:
    """Return milliseconds from epoch numbers that may count seconds, milli-, micro- or nanoseconds."""
    times: Ints = np.select(
        [numbers < _SECONDS_BELOW, numbers < _MILLISECONDS_BELOW, numbers < _MICROSECONDS_BELOW],
        [numbers * 1000, numbers, numbers // 1000],
        numbers // 1_000_000,
    ).astype(np.int64)
    return times


def _decimals(prices: Floats) -> int:
    """Return the most decimals of a price; beyond eight they are noise."""
    return next((digits for digits in range(9) if (np.abs(np.round(prices, digits) - prices) < 1e-9).all()), 8)
