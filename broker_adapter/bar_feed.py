"""Bars from ticks: published when the first tick of the next period arrives, then checked against the terminal's own.

Revision 0 is built from ticks. For the terminal's own timeframes the same bar is read from it; where it differs it is
published again as revision 1, which wins.

The bar that was forming when this adapter began to listen lacks its first ticks. Once it is over it is read whole from
the terminal: as revision 1 where the terminal has bars of that period, else built from its tick history as revision 0.
Until then the bars after it are held back, so that bars come in order.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

import msgspec
import numpy as np

from broker_adapter.bar_reader import BarReader, Span
from broker_adapter.connection import Connection
from broker_adapter.server_clock import ServerClock
from market.bars import Bar, BarBuilder, Timeframe
from market.instrument import Instrument
from mt5bus.settings import Adapter
from protocol.errors import BusError
from protocol.loop import Loop
from protocol.ticks import ticks_array

CHECK_INTERVAL_S = 0.5
MISSING_TRIES = 20
"""How often a bar that lacks ticks is looked for in the terminal before those after it are published without it."""
_MOST_UNCHECKED = 4096
_MOST_HELD = 65_536
_MOST_IN_ONE_CHECK = 500
_TRIES = 5
_LONGEST_LOST_MS = 3_600_000

PublishBar = Callable[[str, str, int, Bar], None]

log = logging.getLogger(__name__)


class _Missing(msgspec.Struct, eq=False):
    """Bars that our ticks do not make whole: those that open from `first_open_ms` to `last_open_ms`.

    `seen_ms`: time of a tick behind them.
    """

    first_open_ms: int
    last_open_ms: int
    seen_ms: int
    asked: bool = False
    tries: int = 0


class _Series(msgspec.Struct, eq=False):
    """One symbol's bars of one period.

    Attributes:
        whole: The forming bar has all of its ticks.
        lost_from_ms: If it has not: the open time of the first bar that lacks ticks, 0 if that is the forming one.
        held: Completed bars that wait for the missing ones before them.
        unchecked: Published bars to compare with the terminal's.
    """

    timeframe: Timeframe
    builder: BarBuilder
    whole: bool
    lost_from_ms: int = 0
    missing: _Missing | None = None
    held: deque[Bar] = msgspec.field(default_factory=deque)
    unchecked: deque[Bar] = msgspec.field(default_factory=lambda: deque(maxlen=_MOST_UNCHECKED))
    asked: bool = False
    tries: int = 0


class BarFeed:
    """Builds, completes and revises bars of every symbol and timeframe."""

    def __init__(
        self,
        loop: Loop,
        connection: Connection,
        clock: ServerClock,
        settings: Adapter,
        *,
        instrument: Callable[[str], Instrument | None],
        publish: PublishBar,
    ) -> None:
        self.revisions = 0
        self.completed = 0
        """Bars read whole because our ticks did not make them."""
        self.missed = 0
        """Bars given up, since the terminal did not have them either."""
        self.unchecked_dropped = 0
        self._reader = BarReader(connection, clock, deadline_s=settings.deadlines.query_s)
        self._clock = clock
        self._instrument = instrument
        self._publish = publish
        self._timeframes = tuple(Timeframe.parse(name) for name in settings.timeframes)
        self._series: dict[str, tuple[_Series, ...]] = {}
        self._whole: set[str] = set()
        loop.every(CHECK_INTERVAL_S, self._check)

    def begin(self, symbol: str, *, whole: bool) -> None:
        """Take note that the next tick of `symbol` does not follow the last one.

        Args:
            symbol: Its canonical name.
            whole: The next tick is the very first of its feed: bars begin with it. Else ticks are missing before it.
        """
        if whole:
            self._whole.add(symbol)
            self._series.pop(symbol, None)
            return
        self._whole.discard(symbol)
        for series in self._series.get(symbol, ()):
            forming = series.builder.forming
            if forming is not None and series.whole:
                series.lost_from_ms = forming.open_time_ms
            series.builder = self._builder(series.timeframe, self._instrument(symbol)) or series.builder
            series.whole = False

    def on_ticks(self, symbol: str, records: bytes) -> None:
        """Take new ticks of `symbol`, UTC records."""
        series = self._series.get(symbol) or self._start(symbol)
        ticks = ticks_array(records)
        times = np.ascontiguousarray(ticks["time_msc"])
        bids, asks = np.ascontiguousarray(ticks["bid"]), np.ascontiguousarray(ticks["ask"])
        for each in series:
            for bar in each.builder.add_block(times, bids, asks):
                self._over(symbol, each, bar, int(times[-1]))

    def rule_changed(self) -> None:
        """Start anew under the server clock's new rule: periods are aligned on it, and times were converted with it."""
        self._series.clear()
        self._whole.clear()

    def _start(self, symbol: str) -> tuple[_Series, ...]:
        instrument = self._instrument(symbol)
        whole = symbol in self._whole
        series = tuple(
            _Series(timeframe, builder, whole)
            for timeframe in self._timeframes
            if (builder := self._builder(timeframe, instrument)) is not None
        )
        if series:
            self._series[symbol] = series
        return series

    def _builder(self, timeframe: Timeframe, instrument: Instrument | None) -> BarBuilder | None:
        if instrument is None:
            return None
        return BarBuilder(timeframe, point=instrument.point, rule=self._clock.rule)

    def _over(self, symbol: str, series: _Series, bar: Bar, seen_ms: int) -> None:
        """Take a bar whose period is over, as a tick of `seen_ms` shows."""
        if not series.whole:
            self._lacks_ticks(symbol, series, bar.open_time_ms, seen_ms)
        elif series.missing is None:
            self._built(symbol, series, bar)
        else:
            series.held.append(bar)
            if len(series.held) > _MOST_HELD:
                self._give_up(symbol, series, "too many bars wait for it")

    def _built(self, symbol: str, series: _Series, bar: Bar) -> None:
        self._publish(symbol, series.timeframe.name, 0, bar)
        if series.timeframe.mt5_code is not None:
            if len(series.unchecked) == _MOST_UNCHECKED:
                self.unchecked_dropped += 1
            series.unchecked.append(bar)

    # --- completing from the terminal ---------------------------------------------------------------------------------

    def _lacks_ticks(self, symbol: str, series: _Series, open_ms: int, seen_ms: int) -> None:
        first_ms = series.lost_from_ms or open_ms
        if series.missing is not None:
            first_ms = series.missing.first_open_ms
        if open_ms - first_ms > _LONGEST_LOST_MS:
            first_ms = open_ms  # as after a restart: the bars before are for who needs them to ask for
            self._release(symbol, series)
        series.whole = True
        series.lost_from_ms = 0
        series.held.clear()  # they lie inside the span that is read now
        series.missing = _Missing(first_ms, open_ms, seen_ms)
        self._complete(symbol, series, series.missing)

    def _complete(self, symbol: str, series: _Series, missing: _Missing) -> None:
        instrument = self._instrument(symbol)
        if missing.asked:
            return
        missing.tries += 1
        if missing.tries > MISSING_TRIES:
            self._give_up(symbol, series, "the terminal does not have it")
        elif instrument is not None and self._reader.available:
            missing.asked = True
            self._reader.read(
                Span(instrument, series.timeframe, missing.first_open_ms, missing.last_open_ms, missing.seen_ms),
                lambda bars: self._on_missing(symbol, series, missing, bars),
                lambda error: self._on_unread(symbol, missing, error),
            )

    def _on_unread(self, symbol: str, missing: _Missing, error: BusError) -> None:
        missing.asked = False
        log.debug("a bar could not be completed", extra={"symbol": symbol, "reason": error.text})

    def _on_missing(self, symbol: str, series: _Series, missing: _Missing, bars: list[Bar]) -> None:
        missing.asked = False
        if series.missing is not missing or not self._is_current(symbol, series):
            return
        inside = [bar for bar in bars if missing.first_open_ms <= bar.open_time_ms <= missing.last_open_ms]
        if not inside or inside[-1].open_time_ms != missing.last_open_ms:
            return  # the terminal's history lags behind its live ticks; the next look asks again
        own = series.timeframe.mt5_code is not None
        self.completed += len(inside)
        for bar in inside:
            self._publish(symbol, series.timeframe.name, 1 if own else 0, bar)
        self._release(symbol, series)

    def _give_up(self, symbol: str, series: _Series, why: str) -> None:
        missing = series.missing
        self.missed += 1
        log.warning(
            "a bar is not published: its ticks came partly before they were followed, and it could not be read whole",
            extra={
                "symbol": symbol,
                "timeframe": series.timeframe.name,
                "open_time_ms": 0 if missing is None else missing.last_open_ms,
                "reason": why,
            },
        )
        self._release(symbol, series)

    def _release(self, symbol: str, series: _Series) -> None:
        series.missing = None
        held, series.held = series.held, deque()
        for bar in held:
            self._built(symbol, series, bar)

    def _is_current(self, symbol: str, series: _Series) -> bool:
        return any(each is series for each in self._series.get(symbol, ()))

    # --- comparing with the terminal ----------------------------------------------------------------------------------

    def _check(self) -> None:
        for symbol, all_series in list(self._series.items()):
            for series in all_series:
                if series.missing is not None:
                    self._complete(symbol, series, series.missing)
                if series.unchecked and not series.asked and self._reader.available:
                    self._compare(symbol, series)

    def _compare(self, symbol: str, series: _Series) -> None:
        instrument = self._instrument(symbol)
        if instrument is None:
            return
        batch = list(series.unchecked)[:_MOST_IN_ONE_CHECK]
        series.asked = True
        first_ms, last_ms = batch[0].open_time_ms, batch[-1].open_time_ms
        self._reader.read(
            Span(instrument, series.timeframe, first_ms, last_ms, last_ms),
            lambda bars: self._on_theirs(symbol, series, batch, bars),
            lambda error: self._on_uncompared(symbol, series, batch, error),
        )

    def _on_uncompared(self, symbol: str, series: _Series, batch: list[Bar], error: BusError) -> None:
        log.debug("bars could not be compared", extra={"symbol": symbol, "reason": error.text})
        self._on_theirs(symbol, series, batch, [])

    def _on_theirs(self, symbol: str, series: _Series, batch: list[Bar], bars: list[Bar]) -> None:
        series.asked = False
        series.tries += 1
        if not self._is_current(symbol, series):
            return
        theirs = {bar.open_time_ms: bar for bar in bars}
        if batch[-1].open_time_ms not in theirs and series.tries < _TRIES:
            return  # the terminal has not built it yet; the next look asks again
        series.tries = 0
        for own in batch:
            if not series.unchecked or series.unchecked[0] is not own:
                continue  # it fell out of the bounded queue meanwhile
            series.unchecked.popleft()
            their = theirs.get(own.open_time_ms)
            if their is not None and their != own:
                self.revisions += 1
                self._publish(symbol, series.timeframe.name, 1, their)
