"""Bars of a span as the terminal has them: its own for its own timeframes, for others built from its tick history."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from broker_adapter.connection import Connection
from broker_adapter.link_messages import Call, LinkRole, ReadTicks, TickPage
from broker_adapter.link_results import LinkResult
from broker_adapter.server_clock import ServerClock
from market.bars import Bar, BarBuilder, Timeframe
from market.instrument import Instrument
from protocol.errors import BusError
from protocol.messages import MAX_PAGE
from protocol.ticks import RATE_DTYPE, TickArray, rates_array, ticks_array

OnBars = Callable[[list[Bar]], None]
OnError = Callable[[BusError], None]


class Span(msgspec.Struct, frozen=True):
    """Which bars: those that open from `first_open_ms` to `last_open_ms`, both included. All times are UTC.

    Attributes:
        seen_ms: Time of a tick known to come after them. Only once the tick history has one, too, it is complete.
    """

    instrument: Instrument
    timeframe: Timeframe
    first_open_ms: int
    last_open_ms: int
    seen_ms: int


class BarReader:
    """Reads spans of completed bars through the bulk link."""

    def __init__(self, connection: Connection, clock: ServerClock, *, deadline_s: float) -> None:
        self._connection = connection
        self._clock = clock
        self._deadline_s = deadline_s

    @property
    def available(self) -> bool:
        """Whether the terminal can be asked now."""
        return self._connection.attached(LinkRole.BULK)

    def read(self, span: Span, on_bars: OnBars, on_error: OnError) -> None:
        """Read the bars of `span`, oldest first; others may come with them, and those the terminal lacks do not."""
        if span.timeframe.mt5_code is None:
            _FromTicks(self, span, on_bars, on_error).read(span.first_open_ms, 0)
            return
        first_s = self._clock.to_server_ms(span.first_open_ms) // 1000
        last_s = self._clock.to_server_ms(span.last_open_ms) // 1000
        self.ask(
            Call("copy_rates_range", (span.instrument.broker_symbol, span.timeframe.mt5_code, first_s, last_s)),
            lambda result: on_bars(bars_from(rates_array(self._clock.rates_to_utc(result.decode(bytes))))),
            on_error,
        )

    def ask(self, command: Call | ReadTicks, answer: Callable[[LinkResult], None], on_error: OnError) -> None:
        """Ask the bulk link; what `answer` cannot decode goes to `on_error`."""

        def on_result(result: LinkResult) -> None:
            try:
                answer(result)
            except BusError as error:
                on_error(error)

        self._connection.call(LinkRole.BULK, command, on_result, deadline_s=self._deadline_s)

    @property
    def clock(self) -> ServerClock:
        """The server clock in use."""
        return self._clock


class _FromTicks:
    """One span of bars in the making, page by page."""

    def __init__(self, reader: BarReader, span: Span, on_bars: OnBars, on_error: OnError) -> None:
        self._reader = reader
        self._span = span
        self._on_bars = on_bars
        self._on_error = on_error
        self._builder = BarBuilder(span.timeframe, point=span.instrument.point, rule=reader.clock.rule)
        self._bars: list[Bar] = []

    def read(self, from_ms: int, skip: int) -> None:
        """Read from a moment (UTC) on, without the first `skip` ticks of that millisecond."""
        clock = self._reader.clock
        command = ReadTicks(
            self._span.instrument.broker_symbol,
            clock.to_server_ms(from_ms),
            clock.to_server_ms(self._span.seen_ms),
            skip,
            MAX_PAGE,
        )
        self._reader.ask(command, lambda result: self._on_page(result.decode(TickPage)), self._on_error)

    def _on_page(self, page: TickPage) -> None:
        clock = self._reader.clock
        ticks = ticks_array(clock.ticks_to_utc(page.records))
        if len(ticks):
            self._bars += self._builder.add_block(
                np.ascontiguousarray(ticks["time_msc"]),
                np.ascontiguousarray(ticks["bid"]),
                np.ascontiguousarray(ticks["ask"]),
            )
        if page.more:
            self.read(clock.to_utc_ms(page.next_msc), page.next_skip)
            return
        self._on_bars(self._bars)


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
