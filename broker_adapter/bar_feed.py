"""Bars from ticks: published when the first tick of the next period arrives, then checked against the terminal's own.

Revision 0 is built from ticks. For the terminal's own timeframes the same bar is read from it; where it differs it is
published again as revision 1, which wins. The bar that was forming when this adapter began to listen lacks its first
ticks: it is not published from ticks, only as the terminal has it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

import msgspec
import numpy as np

from broker_adapter.connection import Connection
from broker_adapter.link_messages import Call, LinkRole
from broker_adapter.link_results import LinkResult
from broker_adapter.server_clock import ServerClock
from market.bars import Bar, BarBuilder, Timeframe
from market.instrument import Instrument
from mt5bus.settings import Adapter
from protocol.errors import BusError, DataInvalid
from protocol.loop import Loop
from protocol.ticks import RATE_DTYPE, TickArray, rates_array, ticks_array

CHECK_INTERVAL_S = 0.5
_MOST_UNCHECKED = 4096
_MOST_IN_ONE_CHECK = 500
_TRIES = 5

PublishBar = Callable[[str, str, int, Bar], None]

log = logging.getLogger(__name__)


class _Series(msgspec.Struct):
    """One symbol's bars of one period."""

    timeframe: Timeframe
    builder: BarBuilder
    first_is_partial: bool
    unchecked: deque[tuple[Bar, bool]]
    """Bars to compare, and whether each was published."""
    asked: bool = False
    tries: int = 0


class BarFeed:
    """Builds and revises bars of every symbol and timeframe.

    Args:
        whole_start: The first tick handed in is the feed's very first, so that the first bar is whole.
    """

    def __init__(
        self,
        loop: Loop,
        connection: Connection,
        clock: ServerClock,
        settings: Adapter,
        *,
        instrument: Callable[[str], Instrument | None],
        publish: PublishBar,
        whole_start: bool,
    ) -> None:
        self.revisions = 0
        self.unchecked_dropped = 0
        self._connection = connection
        self._clock = clock
        self._instrument = instrument
        self._publish = publish
        self._whole_start = whole_start
        self._timeframes = tuple(Timeframe.parse(name) for name in settings.timeframes)
        self._deadline_s = settings.deadlines.query_s
        self._series: dict[str, tuple[_Series, ...]] = {}
        loop.every(CHECK_INTERVAL_S, self._check)

    def on_ticks(self, symbol: str, records: bytes) -> None:
        """Take new ticks of `symbol`, UTC records."""
        series = self._series.get(symbol) or self._begin(symbol)
        ticks = ticks_array(records)
        times = np.ascontiguousarray(ticks["time_msc"])
        bids, asks = np.ascontiguousarray(ticks["bid"]), np.ascontiguousarray(ticks["ask"])
        for each in series:
            for bar in each.builder.add_block(times, bids, asks):
                self._completed(symbol, each, bar)

    def rule_changed(self) -> None:
        """Start anew under the server clock's new rule: periods are aligned on it."""
        self._series.clear()
        self._whole_start = False

    def _begin(self, symbol: str) -> tuple[_Series, ...]:
        instrument = self._instrument(symbol)
        if instrument is None:
            return ()
        series = tuple(
            _Series(
                timeframe,
                BarBuilder(timeframe, point=instrument.point, rule=self._clock.rule),
                not self._whole_start,
                deque(maxlen=_MOST_UNCHECKED),
            )
            for timeframe in self._timeframes
        )
        self._series[symbol] = series
        return series

    def _completed(self, symbol: str, series: _Series, bar: Bar) -> None:
        published = not series.first_is_partial
        series.first_is_partial = False
        if published:
            self._publish(symbol, series.timeframe.name, 0, bar)
        if series.timeframe.mt5_code is not None:
            if len(series.unchecked) == _MOST_UNCHECKED:
                self.unchecked_dropped += 1
            series.unchecked.append((bar, published))

    # --- comparing with the terminal ----------------------------------------------------------------------------------

    def _check(self) -> None:
        if not self._connection.attached(LinkRole.BULK):
            return
        for symbol, all_series in self._series.items():
            for series in all_series:
                if series.unchecked and not series.asked:
                    self._ask(symbol, series)

    def _ask(self, symbol: str, series: _Series) -> None:
        instrument = self._instrument(symbol)
        if instrument is None or series.timeframe.mt5_code is None:
            return
        batch = [bar for bar, _ in list(series.unchecked)[:_MOST_IN_ONE_CHECK]]
        first_s = self._clock.to_server_ms(batch[0].open_time_ms) // 1000
        last_s = self._clock.to_server_ms(batch[-1].open_time_ms) // 1000
        series.asked = True
        self._connection.call(
            LinkRole.BULK,
            Call("copy_rates_range", (instrument.broker_symbol, series.timeframe.mt5_code, first_s, last_s)),
            lambda result: self._compare(symbol, series, batch, result),
            deadline_s=self._deadline_s,
        )

    def _compare(self, symbol: str, series: _Series, batch: list[Bar], result: LinkResult) -> None:
        series.asked = False
        series.tries += 1
        theirs: dict[int, Bar] = {}
        try:
            theirs = bars_by_open(rates_array(self._clock.rates_to_utc(result.decode(bytes))))
        except (DataInvalid, BusError) as error:
            log.debug("bars could not be compared", extra={"symbol": symbol, "reason": error.text})
        if batch[-1].open_time_ms not in theirs and series.tries < _TRIES:
            return  # the terminal has not built it yet; the next look asks again
        series.tries = 0
        for own in batch:
            if not series.unchecked or series.unchecked[0][0] is not own:
                continue  # it fell out of the bounded queue meanwhile
            _, published = series.unchecked.popleft()
            their = theirs.get(own.open_time_ms)
            if their is not None and (their != own or not published):
                self.revisions += 1
                self._publish(symbol, series.timeframe.name, 1, their)


def bars_by_open(rates: TickArray) -> dict[int, Bar]:
    """Return bar records (UTC) as bars by their open time, milliseconds."""
    return {bar.open_time_ms: bar for bar in bars_from(rates)}


def bars_from(rates: TickArray) -> list[Bar]:
    """Return bar records (UTC) as bars."""
    return [
        Bar(time_s * 1000, opened, high, low, close, volume, spread, real)
        for time_s, opened, high, low, close, volume, spread, real in rates.tolist()
    ]


def rates_from(bars: list[Bar]) -> bytes:
    """Return bars as 60-byte records, open times in UTC seconds."""
    rows = [
        (b.open_time_ms // 1000, b.open, b.high, b.low, b.close, b.tick_volume, b.spread_points, b.real_volume)
        for b in bars
    ]
    return np.array(rows, dtype=RATE_DTYPE).tobytes()
