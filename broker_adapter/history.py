"""Ticks, bars, orders and deals from the terminal's history, in pages, by the bulk link.

The bus speaks UTC and the terminal its server clock; ranges are converted on the way in, records on the way out. Until
the server clock is known a range would be off by hours, so bulk reads wait for it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import msgspec
import numpy as np

from broker_adapter.api_types import ApiDeal, ApiOrder
from broker_adapter.built_bars import BarsFromTicks
from broker_adapter.bulk_turns import BulkTurns
from broker_adapter.connection import Connection
from broker_adapter.conversion import deal_from, order_from
from broker_adapter.link_messages import AnyCommand, Call, HistoryPage, LinkRole, ReadHistory, ReadTicks, TickPage
from broker_adapter.link_results import LinkResult
from broker_adapter.server_clock import ServerClock
from broker_adapter.slices import in_slices
from broker_adapter.tick_begins import TickBegins
from market.bars import Timeframe, period_open_utc_ms
from market.instrument import Instrument
from mt5bus.settings import Adapter
from protocol.errors import BusError, NotFound, NotReady, ValidationFailed
from protocol.loop import Loop
from protocol.messages import (
    MAX_PAGE,
    Deal,
    Deals,
    GetDeals,
    GetHistoryOrders,
    GetMissedTicks,
    GetRates,
    GetTicks,
    Order,
    Orders,
    Rates,
    Reply,
    Ticks,
)
from protocol.ticks import RECORD_BYTES, rates_array, ticks_array

R = TypeVar("R", Order, Deal)

OnReply = Callable[[Reply], None]
OnError = Callable[[BusError], None]

_LATEST_MS = 2_145_000_000_000  # the API's dates end in January 2038
_MOST_SKIPPED = 1_000_000
_LARGEST_TICKET = 2**63 - 1


class History:
    """Answers the bulk queries; every method calls back exactly once.

    `client` is who asks: the name of a key. Clients get their pages in turn.
    """

    def __init__(
        self,
        loop: Loop,
        connection: Connection,
        clock: ServerClock,
        settings: Adapter,
        *,
        broker_name: Callable[[str], str],
        canonical: Callable[[str], str],
        instrument: Callable[[str], Instrument | None],
        begins: TickBegins,
    ) -> None:
        self.instrument = instrument
        self._loop = loop
        self._begins = begins
        self._connection = connection
        self._clock = clock
        self._turns = BulkTurns(loop, connection, deadline_s=settings.deadlines.bulk_s)
        self._broker_name = broker_name
        self._canonical = canonical

    def ticks(self, request: GetTicks, client: str, on_reply: OnReply, on_error: OnError) -> None:
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

        self._ask(client, command, answer, on_error)

    def missed_ticks(self, request: GetMissedTicks, client: str, on_reply: OnReply, on_error: OnError) -> None:
        """Answer a page of the ticks between a place in the history and the first tick of a life of the adapter.

        Raises:
            BusError: It cannot even be asked for.
        """
        self._check_range(request.from_ms, _LATEST_MS)
        if not 0 <= request.skip <= _MOST_SKIPPED:
            raise ValidationFailed(f"skip is {request.skip}: 0 to {_MOST_SKIPPED}", {"field": "skip"})
        begin = self._begins.of(request.symbol, request.epoch)
        if begin is None:
            raise NotFound(
                f"where epoch {request.epoch} of {request.symbol} began is unknown: it is too old, or had no tick yet",
                {"epoch": str(request.epoch)},
            )
        from_msc, skip = self._server_ms(request.from_ms), request.skip
        begin_ms = self._clock.to_utc_ms(begin.time_msc)
        at_begin = Ticks(request.id, request.symbol, b"", next_ms=begin_ms, next_skip=begin.taken)
        if (from_msc, skip) >= (begin.time_msc, begin.taken):
            on_reply(at_begin)
            return
        command = ReadTicks(
            self._broker_name(request.symbol), from_msc, begin.time_msc, skip, min(request.limit, MAX_PAGE)
        )

        def answer(result: LinkResult) -> None:
            page = result.decode(TickPage)
            records = _up_to(page.records, begin.time_msc, begin.taken - (skip if from_msc == begin.time_msc else 0))
            more = page.more and len(records) == len(page.records)
            utc = self._clock.ticks_to_utc(records)
            if more:
                next_ms = self._clock.to_utc_ms(page.next_msc)
                on_reply(Ticks(request.id, request.symbol, utc, 0, more, next_ms, page.next_skip))
            else:
                on_reply(msgspec.structs.replace(at_begin, records=utc))

        # The last rule that was measured will do: what is asked for was published under it.
        self._ask(client, command, answer, on_error, remembered_clock=True)

    def history_orders(self, request: GetHistoryOrders, client: str, on_reply: OnReply, on_error: OnError) -> None:
        """Answer final orders of a range.

        Raises:
            BusError: It cannot even be asked for.
        """
        self._check_range(request.from_ms, request.to_ms)
        command = self._history_command("orders", request.from_ms, request.to_ms)

        def answer(result: LinkResult) -> None:
            page = self._page(result)
            more = page.through_s < command.to_s

            def reply(found: list[Order]) -> None:
                inside = [each for each in found if request.from_ms <= each.time_done_ms <= request.to_ms]
                on_reply(Orders(request.id, *_one_page(inside, more=more)))

            in_slices(self._loop, page.orders, self._order_converter(), reply, on_error)

        self._ask(client, command, answer, on_error)

    def deals(self, request: GetDeals, client: str, on_reply: OnReply, on_error: OnError) -> None:
        """Answer deals of a range, or of one position.

        Raises:
            BusError: It cannot even be asked for.
        """
        if not 0 <= request.position_id <= _LARGEST_TICKET:
            raise ValidationFailed(f"position_id is {request.position_id}: no such number", {"field": "position_id"})
        if request.position_id:
            self._position_deals(request, client, on_reply, on_error)
            return
        self._check_range(request.from_ms, request.to_ms)
        command = self._history_command("deals", request.from_ms, request.to_ms)

        def answer(result: LinkResult) -> None:
            page = self._page(result)
            more = page.through_s < command.to_s

            def reply(found: list[Deal]) -> None:
                inside = [each for each in found if request.from_ms <= each.time_ms <= request.to_ms]
                on_reply(Deals(request.id, *_one_page(inside, more=more)))

            in_slices(self._loop, page.deals, self._deal_converter(), reply, on_error)

        self._ask(client, command, answer, on_error)

    def _position_deals(self, request: GetDeals, client: str, on_reply: OnReply, on_error: OnError) -> None:
        def answer(result: LinkResult) -> None:
            def reply(deals: list[Deal]) -> None:
                deals.sort(key=lambda deal: (deal.time_ms, deal.ticket))
                on_reply(Deals(request.id, *_one_page(deals)))

            in_slices(self._loop, result.decode(tuple[ApiDeal, ...]), self._deal_converter(), reply, on_error)

        self._ask(client, Call("history_deals_get", (), {"position": request.position_id}), answer, on_error)

    def rates(self, request: GetRates, client: str, on_reply: OnReply, on_error: OnError) -> None:
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
            BarsFromTicks(self, request, client, timeframe, broker, to_ms, on_reply, on_error).start()
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

        self._ask(client, command, answer, on_error)

    def read_ticks(
        self,
        client: str,
        broker: str,
        from_ms: int,
        to_ms: int,
        skip: int,
        on_page: Callable[[TickPage], None],
        on_error: OnError,
    ) -> None:
        """Read a page of ticks (server time in the page) for building bars."""
        command = ReadTicks(broker, self._server_ms(from_ms), self._server_ms(to_ms), skip, MAX_PAGE)
        self._ask(client, command, lambda result: on_page(result.decode(TickPage)), on_error)

    @property
    def clock(self) -> ServerClock:
        """The server clock in use."""
        return self._clock

    # The rule as it is now: all records of an answer are converted under one.

    def _order_converter(self) -> Callable[[ApiOrder], Order]:
        return partial(order_from, to_utc_ms=self._clock.rule.to_utc_ms, canonical=self._canonical)

    def _deal_converter(self) -> Callable[[ApiDeal], Deal]:
        return partial(deal_from, to_utc_ms=self._clock.rule.to_utc_ms, canonical=self._canonical)

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

    def _page(self, result: LinkResult) -> HistoryPage:
        page = result.decode(HistoryPage)
        if not self._connection.serves(page.login, page.server):
            raise NotReady(
                f"the terminal is on account {page.login} at {page.server}, which this adapter does not serve: log in"
                " to the right one"
            )
        return page

    def _ask(
        self,
        client: str,
        command: AnyCommand,
        answer: Callable[[LinkResult], None],
        on_error: OnError,
        *,
        remembered_clock: bool = False,
    ) -> None:
        self._need_clock(remembered=remembered_clock)

        def on_result(result: LinkResult) -> None:
            try:
                answer(result)
            except BusError as error:
                on_error(error)

        self._turns.ask(client, command, on_result)

    def _need_clock(self, *, remembered: bool = False) -> None:
        if not self._connection.attached(LinkRole.BULK):
            raise self._connection.not_ready()
        if not (self._clock.known or (remembered and self._clock.remembered)):
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


def _up_to(records: bytes, time_msc: int, taken: int) -> bytes:
    """Return the records without those of `time_msc` beyond the first `taken`; none is later."""
    end = int(np.searchsorted(ticks_array(records)["time_msc"], time_msc, "left")) + max(0, taken)
    return records[: end * RECORD_BYTES]


def _one_page(records: list[R], *, more: bool = False) -> tuple[tuple[R, ...], bool]:
    """Return as many as an answer holds, and whether there are more."""
    return tuple(records[:MAX_PAGE]), more or len(records) > MAX_PAGE
