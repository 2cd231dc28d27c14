"""Looking at the account again and again: positions, orders, history and deals in one command of the feed link.

The history window reaches some hours back and a day ahead (server time); after the first look only what is new in it
comes back. It moves in whole hours, so that the link can compare two looks.

What is older is swept by the bulk link: at the start back to the last deal or order that the journal knows, however
long the adapter was down, and once each server day a whole week, for what was booked late. Nothing is handed on before
the first sweep, so that events come in order.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

import msgspec

from broker_adapter.account_records import Records
from broker_adapter.api_types import ApiDeal, ApiOrder
from broker_adapter.broker_state import BrokerRead
from broker_adapter.connection import Connection
from broker_adapter.conversion import account_from, deal_from, order_from, position_from
from broker_adapter.history_sweep import HistorySweep, Swept
from broker_adapter.link_messages import LinkRole, PollTrade, TradePolled
from broker_adapter.link_results import LinkResult
from broker_adapter.server_clock import ServerClock
from broker_adapter.slices import in_slices
from mt5bus.settings import Adapter
from protocol.errors import BusError
from protocol.loop import Loop
from protocol.messages import Account, Deal, Order, Position

_HOUR_S = 3600
_AHEAD_S = 24 * _HOUR_S
_REREAD_EVERY_S = 600.0
_SWEEP_S = 7 * 24 * _HOUR_S
_LATEST_S = 2_145_000_000  # dates end in January 2038
_FURTHEST_S = 400 * 24 * _HOUR_S
_CATCH_UP_NS = 120_000_000_000  # without a first sweep for so long, going on is better than standing still

log = logging.getLogger(__name__)


class _Older(msgspec.Struct, eq=False):
    """What was swept, and all there is together with the window's records that were merged."""

    swept: Swept
    orders: list[Order]
    deals: list[Deal]
    merged_orders: Records[Order] | None = None
    merged_deals: Records[Deal] | None = None
    all_orders: Records[Order] = Records()
    all_deals: Records[Deal] = Records()


class TradePoll:
    """Polls, converts, keeps the newest read.

    Args:
        on_read: Called with every complete read made on the right account; returns whether it was taken.
        recorded_ms: Returns the time of the last deal or final order that was recorded of an account, 0 if none (UTC).
        undecided_ms: Returns when the oldest order whose outcome is open was made, 0 if there is none (UTC).
        names: Returns the symbols that `canonical` knows, None before it has learned them.
    """

    def __init__(
        self,
        loop: Loop,
        connection: Connection,
        clock: ServerClock,
        settings: Adapter,
        *,
        canonical: Callable[[str], str],
        on_read: Callable[[BrokerRead], bool] = lambda _read: True,
        recorded_ms: Callable[[str, int], int] = lambda _server, _login: 0,
        undecided_ms: Callable[[], int] = lambda: 0,
        names: Callable[[], Mapping[str, str] | None] = dict,
    ) -> None:
        self.on_read = on_read
        self.recorded_ms = recorded_ms
        self.undecided_ms = undecided_ms
        self.last: BrokerRead | None = None
        self.polls = 0
        self.failures = 0
        self._loop = loop
        self._connection = connection
        self._clock = clock
        self._canonical = canonical
        self._names = names
        # What conversions rest on: the server's time is measured, and symbols are learned, while records are held.
        self._basis = (clock.rule, names())
        self._overlap_s = settings.deals_overlap_h * _HOUR_S
        self._deadline_s = settings.deadlines.query_s
        self._pending = False
        self._again = False
        self._window = (0, 0)
        self._more = False
        self._serial = 0
        self._api_orders: dict[int, ApiOrder] = {}
        self._api_deals: dict[int, ApiDeal] = {}
        self._history_orders: Records[Order] = Records()
        self._deals: Records[Deal] = Records()
        self._reread_at_ns = 0
        self._sweep = HistorySweep(loop, connection, deadline_s=settings.deadlines.bulk_s)
        self._sweep_day = -1
        self.converting = False
        """Whether what was swept is being converted."""
        self._catch_up_until_ns: int | None = None
        self._caught_up = False
        self._telling = False
        self._older: _Older | None = None
        loop.every(settings.event_poll_interval_ms / 1000, self.poll)

    @property
    def account(self) -> Account | None:
        """The account as last polled."""
        return self.last.account if self.last is not None else None

    @property
    def positions(self) -> tuple[Position, ...]:
        """Open positions as last polled."""
        return self.last.positions if self.last is not None else ()

    @property
    def orders(self) -> tuple[Order, ...]:
        """Active orders as last polled."""
        return self.last.orders if self.last is not None else ()

    def poll_now(self) -> None:
        """Look as soon as possible: after an order's result. A look under way is followed by another."""
        self._again = self._pending
        self.poll()

    def poll(self) -> None:
        """Look, unless a look is under way."""
        if self._pending or not self._connection.attached(LinkRole.FEED):
            return
        now_ns = self._loop.clock.monotonic_ns()
        reread = now_ns >= self._reread_at_ns
        if reread:
            self._reread_at_ns = now_ns + round(_REREAD_EVERY_S * 1e9)
        # The rest of a long history belongs to the window it began with.
        self._window = self._window if self._more else self._next_window()
        self._pending = True
        self._connection.call(
            LinkRole.FEED,
            PollTrade(*self._window, serial=self._serial, reread=reread and not self._more),
            lambda result: self._on_result(result, now_ns),
            deadline_s=self._deadline_s,
        )

    def _next_window(self) -> tuple[int, int]:
        now_s = self._clock.server_ms() // 1000
        begin_s = max(1, (now_s - self._overlap_s) // _HOUR_S * _HOUR_S)
        end_s = (now_s // _HOUR_S + 1) * _HOUR_S + _AHEAD_S
        return begin_s, min(end_s, _LATEST_S)

    def _on_result(self, result: LinkResult, started_ns: int) -> None:
        self._pending = False
        try:
            polled = result.decode(TradePolled)
        except BusError as error:
            self._start_over()
            self.failures += 1
            if self.failures in {1, 10, 100} or self.failures % 1000 == 0:
                log.warning("the account could not be read", extra={"reason": error.text, "failures": self.failures})
            return
        self._connection.note_terminal(polled.terminal)
        if not self._connection.note_account(polled.account.login, polled.account.server):
            self._start_over()
            return
        self._convert_anew_if_due()
        self._merge(polled)
        if polled.more:
            self.poll()
            return
        self.polls += 1
        self._sweep_if_due(polled.account.server, polled.account.login)
        if self._may_tell():
            self.last = self._read_from(polled, started_ns)
            if self.on_read(self.last):
                self._drop_older()
        if self._again:
            self._again = False
            self.poll()

    # --- What is older than the window ---------------------------------------------------------------------------

    def _sweep_if_due(self, server: str, login: int) -> None:
        now_s = self._clock.server_ms() // 1000
        day = now_s // (24 * _HOUR_S)
        if self._sweep.running or self.converting or day == self._sweep_day:
            return
        from_s = now_s - _SWEEP_S
        recorded_ms = 0 if self._caught_up else self.recorded_ms(server, login)
        if recorded_ms:
            from_s = min(from_s, self._clock.to_server_ms(recorded_ms) // 1000 - self._overlap_s)
        undecided_ms = self.undecided_ms()
        if undecided_ms:
            from_s = min(from_s, self._clock.to_server_ms(undecided_ms) // 1000 - _HOUR_S)
        to_s = min(now_s + _AHEAD_S, _LATEST_S)
        self._sweep.start(max(1, now_s - _FURTHEST_S, from_s), to_s, lambda swept: self._on_swept(swept, day))

    def _on_swept(self, swept: Swept, day: int) -> None:
        """Convert what was swept, in slices: a week may hold tens of thousands of records."""
        self.converting = True
        basis = self._basis

        def with_orders(orders: list[Order]) -> None:
            in_slices(self._loop, swept.deals, self._deal, lambda deals: with_deals(orders, deals), _never)

        def with_deals(orders: list[Order], deals: list[Deal]) -> None:
            self.converting = False
            same = basis == self._basis == (self._clock.rule, self._names())
            self._older = _older(swept, orders, deals) if same else self._converted(swept)
            self._sweep_day = day
            self._caught_up = True
            self.poll_now()

        in_slices(self._loop, swept.orders, self._order, with_orders, _never)

    def _converted(self, swept: Swept) -> _Older:
        return _older(swept, map(self._order, swept.orders), map(self._deal, swept.deals))

    def _may_tell(self) -> bool:
        if self._telling or (self._caught_up and self._names() is not None):
            self._telling = True
            return True
        now_ns = self._loop.clock.monotonic_ns()
        if self._catch_up_until_ns is None:
            self._catch_up_until_ns = now_ns + _CATCH_UP_NS
        if now_ns < self._catch_up_until_ns:
            return False
        log.error(
            "the account's older history or the list of symbols could not be read: what happened while the adapter was"
            " down comes late, or under the broker's names",
            extra={"failures": self._sweep.failures},
        )
        self._caught_up = self._telling = True
        return True

    def _drop_older(self) -> None:
        """Let go of what was swept once it was taken, unless an order from that time is still undecided."""
        undecided_ms = self.undecided_ms()
        if not undecided_ms or undecided_ms - _HOUR_S * 1000 > self._clock.to_utc_ms(self._window[0] * 1000):
            self._older = None

    def _start_over(self) -> None:
        self._serial = 0
        self._more = False

    def _convert_anew_if_due(self) -> None:
        """Convert all that is held once more if the server's time or the symbols' names are others now."""
        basis = (self._clock.rule, self._names())
        if basis == self._basis:
            return
        self._basis = basis
        self._history_orders = Records(map(self._order, self._api_orders.values()))
        self._deals = Records(map(self._deal, self._api_deals.values()))
        if self._older is not None:
            self._older = self._converted(self._older.swept)

    def _order(self, order: ApiOrder) -> Order:
        return order_from(order, to_utc_ms=self._clock.to_utc_ms, canonical=self._canonical)

    def _deal(self, deal: ApiDeal) -> Deal:
        return deal_from(deal, to_utc_ms=self._clock.to_utc_ms, canonical=self._canonical)

    def _merge(self, polled: TradePolled) -> None:
        self._serial, self._more = polled.serial, polled.more
        if polled.complete:
            self._api_orders.clear()
            self._api_deals.clear()
            self._history_orders, self._deals = Records(), Records()
        self._api_orders.update((order.ticket, order) for order in polled.history_orders)
        self._api_deals.update((deal.ticket, deal) for deal in polled.deals)
        self._history_orders = self._history_orders.with_more(map(self._order, polled.history_orders))
        self._deals = self._deals.with_more(map(self._deal, polled.deals))

    def _history(self) -> tuple[Records[Order], Records[Deal], int]:
        """Return orders and deals, and from which server second on they are all there."""
        older = self._older
        if older is None or older.swept.to_s < self._window[0]:
            return self._history_orders, self._deals, self._window[0]
        if older.merged_orders is not self._history_orders or older.merged_deals is not self._deals:
            older.merged_orders, older.merged_deals = self._history_orders, self._deals
            older.all_orders = Records((*older.orders, *self._history_orders))
            older.all_deals = Records((*older.deals, *self._deals))
        return older.all_orders, older.all_deals, min(older.swept.from_s, self._window[0])

    def _read_from(self, polled: TradePolled, started_ns: int) -> BrokerRead:
        to_utc_ms, canonical = self._clock.to_utc_ms, self._canonical
        history_orders, deals, from_s = self._history()
        return BrokerRead(
            account=account_from(polled.account),
            positions=tuple(position_from(each, to_utc_ms=to_utc_ms, canonical=canonical) for each in polled.positions),
            orders=tuple(map(self._order, polled.orders)),
            history_orders=history_orders,
            deals=deals,
            history_from_ms=to_utc_ms(from_s * 1000),
            connected=polled.terminal.connected and polled.connected_after,
            started_ns=started_ns,
            finished_ns=self._loop.clock.monotonic_ns(),
            market_ms=self._clock.market_ms(),
        )


def _older(swept: Swept, orders: Iterable[Order], deals: Iterable[Deal]) -> _Older:
    return _Older(swept, list(orders), list(deals))


def _never(error: BusError) -> None:
    raise error  # converting reads nothing that could fail
