"""Ticks, bars, orders and deals from the terminal's history, in pages, by the bulk link.

The bus speaks UTC and the terminal its server clock; ranges are converted on the way in, records on the way out. Until
the server clock is known a range would be off by hours, so bulk reads wait for it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from broker_adapter.api_types import ApiDeal
from broker_adapter.bar_reader import rates_from
from broker_adapter.connection import Connection
from broker_adapter.conversion import deal_from, order_from
from broker_adapter.link_messages import AnyCommand, Call, HistoryPage, LinkRole, ReadHistory, ReadTicks, TickPage
from broker_adapter.link_results import LinkResult
from broker_adapter.server_clock import ServerClock
from market.bars import Bar, BarBuilder, Timeframe, period_open_utc_ms
from market.instrument import Instrument
from mt5bus.settings import Adapter
from protocol.errors import BusError, DataInvalid, NotReady, ValidationFailed
from protocol.messages import (
    MAX_PAGE,
    Deals,
    GetDeals,
    GetHistoryOrders,
    GetRates,
    GetTicks,
    Orders,
    Rates,
    Reply,
    Ticks,
)
from protocol.ticks import RECORD_BYTES, rates_array, ticks_array

OnReply = Callable[[Reply], None]
OnError = Callable[[BusError], None]

_LATEST_MS = 2_145_000_000_000  # the API's dates end in January 2038
_MOST_SKIPPED = 1_000_000
_LARGEST_TICKET = 2**63 - 1
_BUILD_PAGE_TICKS = 32_768
_WIDEST_WINDOW_MS = 4 * 24 * 3_600_000
_MOST_TICKS_FOR_BARS = 4_000_000


class History:
    """Answers the bulk queries; every method calls back exactly once."""

    def __init__(
        self,
        connection: Connection,
        clock: ServerClock,
        settings: Adapter,
        *,
        broker_name: Callable[[str], str],
        canonical: Callable[[str], str],
        instrument: Callable[[str], Instrument | None],
    ) -> None:
        self.instrument = instrument
        self._connection = connection
        self._clock = clock
        self._deadline_s = settings.deadlines.bulk_s
        self._broker_name = broker_name
        self._canonical = canonical

    def ticks(self, request: GetTicks, on_reply: OnReply, on_error: OnError) -> None:
        """Answer a page of ticks.

        Raises:
            BusError: It cannot even be asked for.
        """
        self._check_range(request.from_ms, request.to_ms)
        if not 0 <= request.skip <= _MOST_SKIPPED:
            raise ValidationFailed(f"skip is {request.skip}: 0 to {_MOST_SKIPPED}", {"field": "skip"})
        command = ReadTicks(
            self._broker_name(request.symbol),
            self._server_ms(request.from_ms),
            self._server_ms(request.to_ms),
            request.skip,
            request.limit,
        )

        def answer(result: LinkResult) -> None:
            page = result.decode(TickPage)
            next_ms = self._clock.to_utc_ms(page.next_msc)
            on_reply(
                Ticks(
                    id=request.id,
                    symbol=request.symbol,
                    records=self._clock.ticks_to_utc(page.records),
                    more=page.more,
                    next_ms=next_ms,
                    next_skip=page.next_skip,
                )
            )

        self._ask(command, answer, on_error)

    def history_orders(self, request: GetHistoryOrders, on_reply: OnReply, on_error: OnError) -> None:
        """Answer final orders of a range.

        Raises:
            BusError: It cannot even be asked for.
        """
        self._check_range(request.from_ms, request.to_ms)

        def answer(result: LinkResult) -> None:
            page = result.decode(HistoryPage)
            found = [
                order_from(each, to_utc_ms=self._clock.to_utc_ms, canonical=self._canonical) for each in page.orders
            ]
            inside = tuple(each for each in found if request.from_ms <= each.time_done_ms <= request.to_ms)
            on_reply(Orders(request.id, inside, page.more))

        self._ask(self._history_command("orders", request.from_ms, request.to_ms), answer, on_error)

    def deals(self, request: GetDeals, on_reply: OnReply, on_error: OnError) -> None:
        """Answer deals of a range, or of one position.

        Raises:
            BusError: It cannot even be asked for.
        """
        if not 0 <= request.position_id <= _LARGEST_TICKET:
            raise ValidationFailed(f"position_id is {request.position_id}: no such number", {"field": "position_id"})
        if request.position_id:
            self._position_deals(request, on_reply, on_error)
            return
        self._check_range(request.from_ms, request.to_ms)

        def answer(result: LinkResult) -> None:
            page = result.decode(HistoryPage)
            found = [deal_from(each, to_utc_ms=self._clock.to_utc_ms, canonical=self._canonical) for each in page.deals]
            inside = tuple(each for each in found if request.from_ms <= each.time_ms <= request.to_ms)
            on_reply(Deals(request.id, inside, page.more))

        self._ask(self._history_command("deals", request.from_ms, request.to_ms), answer, on_error)

    def _position_deals(self, request: GetDeals, on_reply: OnReply, on_error: OnError) -> None:
        def answer(result: LinkResult) -> None:
            found = result.decode(tuple[ApiDeal, ...])
            deals = [deal_from(each, to_utc_ms=self._clock.to_utc_ms, canonical=self._canonical) for each in found]
            deals.sort(key=lambda deal: (deal.time_ms, deal.ticket))
            on_reply(Deals(request.id, tuple(deals[:MAX_PAGE]), len(deals) > MAX_PAGE))

        self._ask(Call("history_deals_get", (), {"position": request.position_id}), answer, on_error)

    def rates(self, request: GetRates, on_reply: OnReply, on_error: OnError) -> None:
        """Answer completed bars.

        Raises:
            BusError: It cannot even be asked for.
        """
        try:
            timeframe = Timeframe.parse(request.timeframe)
        except ValueError as error:
            raise ValidationFailed(str(error), {"field": "timeframe"}) from None
        broker = self._broker_name(request.symbol)
        now_ms = self.now_ms()
        to_ms = min(request.to_ms or now_ms, now_ms)
        if not request.count:
            self._check_range(request.from_ms, to_ms)
        self._need_clock()
        if timeframe.mt5_code is None:
            _BarsFromTicks(self, request, timeframe, broker, to_ms, on_reply, on_error).start()
            return
        if request.count:
            # One more than asked for: the newest is the one being formed.
            command = Call(
                "copy_rates_from", (broker, timeframe.mt5_code, self._server_ms(to_ms) // 1000, request.count + 1)
            )
            end_ms, more = to_ms, False
        else:
            end_ms = min(to_ms, request.from_ms + (MAX_PAGE - 1) * timeframe.milliseconds)
            more = end_ms < to_ms
            command = Call(
                "copy_rates_range",
                (broker, timeframe.mt5_code, self._up_s(request.from_ms), self._server_ms(end_ms) // 1000),
            )

        def answer(result: LinkResult) -> None:
            records = self._completed(self._clock.rates_to_utc(result.decode(bytes)), timeframe)
            if request.count:
                records = records[-request.count * RECORD_BYTES :]
            on_reply(
                Rates(
                    id=request.id,
                    symbol=request.symbol,
                    timeframe=request.timeframe,
                    records=records,
                    more=more,
                    next_ms=end_ms + 1 if more else 0,
                )
            )

        self._ask(command, answer, on_error)

    def read_ticks(
        self, broker: str, from_ms: int, to_ms: int, skip: int, on_page: Callable[[TickPage], None], on_error: OnError
    ) -> None:
        """Read a large page of ticks (server time in the page) for building bars."""
        command = ReadTicks(broker, self._server_ms(from_ms), self._server_ms(to_ms), skip, _BUILD_PAGE_TICKS)
        self._ask(command, lambda result: on_page(result.decode(TickPage)), on_error)

    @property
    def clock(self) -> ServerClock:
        """The server clock in use."""
        return self._clock

    def _completed(self, records: bytes, timeframe: Timeframe) -> bytes:
        """Return the records without the bar that is still being formed."""
        rates = rates_array(records)
        if not len(rates):
            return b""
        forming_ms = period_open_utc_ms(timeframe, self.now_ms(), rule=self._clock.rule)
        return rates[rates["time"] < forming_ms // 1000].tobytes()

    def _history_command(self, what: str, from_ms: int, to_ms: int) -> ReadHistory:
        # Whole seconds: one more at the end, and what is outside is left out of the answer.
        return ReadHistory(
            "orders" if what == "orders" else "deals",
            max(1, self._server_ms(from_ms) // 1000),
            self._server_ms(to_ms) // 1000 + 1,
            MAX_PAGE,
        )

    def _ask(self, command: AnyCommand, answer: Callable[[LinkResult], None], on_error: OnError) -> None:
        self._need_clock()

        def on_result(result: LinkResult) -> None:
            try:
                answer(result)
            except BusError as error:
                on_error(error)

        self._connection.call(LinkRole.BULK, command, on_result, deadline_s=self._deadline_s)

    def _need_clock(self) -> None:
        if not self._connection.attached(LinkRole.BULK):
            raise self._connection.not_ready()
        if not self._clock.known:
            raise NotReady(
                "the broker's server time is not measured yet (it takes live ticks), so a range of history cannot be"
                " told: wait for the market, or set [adapter] server_time",
                {"server_time": "assumed"},
            )

    def _check_range(self, from_ms: int, to_ms: int) -> None:
        for name, value in (("from_ms", from_ms), ("to_ms", to_ms)):
            if not 0 <= value <= _LATEST_MS:
                raise ValidationFailed(f"{name} is {value}: 0 to {_LATEST_MS} (January 2038)", {"field": name})
        if from_ms > to_ms:
            raise ValidationFailed(f"from_ms {from_ms} is after to_ms {to_ms}", {"field": "from_ms"})

    def now_ms(self) -> int:
        """Return market time, UTC milliseconds; of a feed without ticks so far the wall clock."""
        return self._clock.to_utc_ms(self._clock.server_ms())

    def _server_ms(self, utc_ms: int) -> int:
        return max(1000, self._clock.to_server_ms(utc_ms))

    def _up_s(self, utc_ms: int) -> int:
        return -(-self._server_ms(utc_ms) // 1000)


class _BarsFromTicks:
    """Bars of a period that the terminal lacks, built from its tick history.

    With a count the window is widened until enough bars are found, or it is four days wide.
    """

    def __init__(
        self,
        history: History,
        request: GetRates,
        timeframe: Timeframe,
        broker: str,
        to_ms: int,
        on_reply: OnReply,
        on_error: OnError,
    ) -> None:
        self._history = history
        self._request = request
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
        self._history.read_ticks(self._broker, from_ms, end_ms, skip, self._on_page, self._on_error)

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
