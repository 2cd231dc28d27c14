"""Bars of a range of a period that the terminal lacks, built from its tick history for a query."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from broker_adapter.bar_reader import rates_from
from broker_adapter.link_messages import TickPage
from market.bars import Bar, BarBuilder, Timeframe, period_open_utc_ms
from market.instrument import Instrument
from protocol.errors import DataInvalid
from protocol.messages import MAX_PAGE, GetRates, Rates
from protocol.ticks import ticks_array

if TYPE_CHECKING:
    from broker_adapter.history import History, OnError, OnReply

_WIDEST_WINDOW_MS = 4 * 24 * 3_600_000
_MOST_TICKS_FOR_BARS = 4_000_000


class BarsFromTicks:
    """Bars of a period that the terminal lacks, built from its tick history.

    With a count the window is widened until enough bars are found, or it is four days wide.
    """

    def __init__(
        self,
        history: History,
        request: GetRates,
        client: str,
        timeframe: Timeframe,
        broker: str,
        to_ms: int,
        on_reply: OnReply,
        on_error: OnError,
    ) -> None:
        self._history = history
        self._request = request
        self._client = client
        self._timeframe = timeframe
        self._broker = broker
        self._to_ms = to_ms
        self._on_reply = on_reply
        self._on_error = on_error
        self._window_ms = 2 * max(request.count, 1) * timeframe.milliseconds
        self._from_ms = 0
        self._ticks_read = 0
        self._bars: list[Bar] = []
        self._builder = self._new_builder()

    def start(self) -> None:
        """Read the window's ticks."""
        from_ms = self._request.from_ms
        if self._request.count:
            from_ms = max(1000, self._to_ms - self._window_ms)
        # From a period's start on, so that the first bar is whole.
        opened = period_open_utc_ms(self._timeframe, from_ms, rule=self._history.clock.rule)
        self._from_ms = opened if opened >= from_ms or self._request.count else opened + self._timeframe.milliseconds
        self._bars = []
        self._builder = self._new_builder()
        self._read(self._from_ms, 0)

    def _new_builder(self) -> BarBuilder:
        # Points of the spread only; the price of a point is not known for symbols that are not configured.
        return BarBuilder(self._timeframe, point=self._point(), rule=self._history.clock.rule)

    def _point(self) -> float:
        instrument: Instrument | None = self._history.instrument(self._request.symbol)
        return instrument.point if instrument is not None else 1e-5

    def _read(self, from_ms: int, skip: int) -> None:
        # The bar that contains `to_ms` needs the ticks up to its end.
        end_ms = self._to_ms + self._timeframe.milliseconds
        self._history.read_ticks(self._client, self._broker, from_ms, end_ms, skip, self._on_page, self._on_error)

    def _on_page(self, page: TickPage) -> None:
        clock = self._history.clock
        ticks = ticks_array(clock.ticks_to_utc(page.records))
        self._ticks_read += len(ticks)
        if len(ticks):
            self._bars += self._builder.add_block(
                np.ascontiguousarray(ticks["time_msc"]),
                np.ascontiguousarray(ticks["bid"]),
                np.ascontiguousarray(ticks["ask"]),
            )
        enough = not self._request.count and len(self._bars) > MAX_PAGE
        if page.more and not enough and self._ticks_read < _MOST_TICKS_FOR_BARS:
            self._read(clock.to_utc_ms(page.next_msc), page.next_skip)
            return
        self._finish(cut_short=page.more)

    def _last_if_over(self) -> list[Bar]:
        last = self._builder.forming
        over = last is not None and last.open_time_ms + self._timeframe.milliseconds <= self._history.now_ms()
        return [last] if last is not None and over else []

    def _finish(self, *, cut_short: bool) -> None:
        bars = self._bars if cut_short else [*self._bars, *self._last_if_over()]
        bars = [bar for bar in bars if self._from_ms <= bar.open_time_ms <= self._to_ms]
        count = self._request.count
        if count:
            wider = self._window_ms * 4
            if len(bars) < count and wider <= _WIDEST_WINDOW_MS and self._ticks_read < _MOST_TICKS_FOR_BARS:
                self._window_ms = wider
                self.start()
                return
            bars, more = bars[-count:], False
        else:
            more = cut_short or len(bars) > MAX_PAGE
            bars = bars[:MAX_PAGE]
        next_ms = bars[-1].open_time_ms + self._timeframe.milliseconds if more and bars else 0
        if more and not bars:
            self._on_error(DataInvalid(f"more than {_MOST_TICKS_FOR_BARS} ticks and no bar: ask for a shorter range"))
            return
        self._on_reply(
            Rates(
                id=self._request.id,
                symbol=self._request.symbol,
                timeframe=self._request.timeframe,
                records=rates_from(bars),
                more=more,
                next_ms=next_ms,
            )
        )
