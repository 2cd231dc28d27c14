"""The queries ROUTER: everything that may be asked and changes nothing.

What is known is answered from memory at once; the terminal's history and calculations go through the bulk link, page by
page. Not found, no answer, and no terminal are three different errors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec

from broker_adapter.catalogue import Catalogue
from broker_adapter.connection import Connection
from broker_adapter.history import History, OnError, OnReply
from broker_adapter.link_messages import Call, LinkRole
from broker_adapter.link_results import LinkResult
from broker_adapter.server_clock import ServerClock
from broker_adapter.slices import in_slices
from broker_adapter.streams import Streams
from mt5bus.settings import Adapter
from protocol.errors import BusError, EventsGone, NotFound, ValidationFailed
from protocol.loop import Loop
from protocol.messages import (
    Account,
    AccountReply,
    CalculateMargin,
    Deal,
    Deals,
    Event,
    Events,
    FindSymbols,
    GetAccount,
    GetDeals,
    GetEvents,
    GetHealth,
    GetHistoryOrders,
    GetInstrument,
    GetIntent,
    GetMissedTicks,
    GetOrders,
    GetPositions,
    GetPrices,
    GetRates,
    GetRisk,
    GetSnapshot,
    GetTickRange,
    GetTicks,
    GetUnsettled,
    Health,
    InstrumentReply,
    IntentEvent,
    MarginReply,
    Order,
    OrderReply,
    Orders,
    Position,
    Positions,
    Prices,
    Reply,
    Request,
    RiskReport,
    Snapshot,
    Symbols,
    Ticks,
    Unsettled,
    UnsettledOrder,
)
from protocol.service import Caller, Service

_SIDES = {"buy": 0, "sell": 1}
R = TypeVar("R", bound=Request)


class TradingView(Protocol):
    """What queries need to know of the account and of our orders: as of the newest published event."""

    @property
    def log_id(self) -> str:
        """Identity of the event log."""
        ...

    @property
    def first_offset(self) -> int:
        """Offset of the oldest event that is kept."""
        ...

    @property
    def last_offset(self) -> int:
        """Offset of the newest published event."""
        ...

    @property
    def account(self) -> Account | None:
        """The account; None before the first complete read."""
        ...

    @property
    def positions(self) -> tuple[Position, ...]:
        """Open positions, attributed to our orders."""
        ...

    @property
    def orders(self) -> tuple[Order, ...]:
        """Active orders, attributed to ours."""
        ...

    @property
    def trading_mode(self) -> str:
        """``active``, ``reducing`` or ``halted``."""
        ...

    def risk_report(self, request_id: int) -> RiskReport:
        """Return the risk gate as it is now."""
        ...

    def events_after(self, offset: int, limit: int) -> tuple[Event, ...]:
        """Return published events after `offset`, in order."""
        ...

    def intent(self, client_order_id: str) -> IntentEvent | None:
        """Return where one of our orders stands."""
        ...

    def unsettled(self) -> tuple[UnsettledOrder, ...]:
        """Return our orders without an outcome, each with its evidence."""
        ...

    def attributed_deal(self, deal: Deal) -> Deal:
        """Return a deal from the terminal's history with its strategy and order id, if it is ours."""
        ...

    def attributed_order(self, order: Order) -> Order:
        """Return an order from the terminal's history with its strategy and order id, if it is ours."""
        ...

    def open_intents(self, strategy: str) -> tuple[IntentEvent, ...]:
        """Return open and unknown intents and those of the last day, of one strategy or (empty) of all."""
        ...


class Queries:
    """Handlers of the queries ROUTER."""

    def __init__(
        self,
        loop: Loop,
        service: Service,
        settings: Adapter,
        *,
        view: TradingView,
        connection: Connection,
        catalogue: Catalogue,
        streams: Streams,
        clock: ServerClock,
        history: History,
        health: Callable[[int], Health],
    ) -> None:
        self._loop = loop
        self._view = view
        self._connection = connection
        self._catalogue = catalogue
        self._streams = streams
        self._clock = clock
        self._query_s = settings.deadlines.query_s
        self._health = health
        service.handle(GetSnapshot, self._snapshot)
        service.handle(GetEvents, self._events)
        service.handle(GetAccount, self._account)
        service.handle(GetPositions, self._positions)
        service.handle(GetOrders, self._orders)
        service.handle(GetPrices, self._prices)
        service.handle(GetTickRange, self._tick_range)
        service.handle(FindSymbols, self._find_symbols)
        service.handle(GetInstrument, self._instrument)
        service.handle(GetIntent, self._intent)
        service.handle(GetUnsettled, self._unsettled)
        service.handle(CalculateMargin, self._margin)
        service.handle(GetHealth, lambda asked, _caller: self._health(asked.id))
        service.handle(GetRisk, lambda asked, _caller: view.risk_report(asked.id))
        service.handle(GetTicks, _later(history.ticks))
        service.handle(GetMissedTicks, _later(history.missed_ticks))
        service.handle(GetRates, _later(history.rates))
        service.handle(GetDeals, _later(history.deals, self._attributed))
        service.handle(GetHistoryOrders, _later(history.history_orders, self._attributed))

    def _snapshot(self, asked: GetSnapshot, _caller: Caller) -> Reply:
        view = self._view
        return Snapshot(
            id=asked.id,
            log_id=view.log_id,
            offset=view.last_offset,
            epoch=self._streams.epoch,
            market_ms=self._clock.market_ms(),
            account=view.account,
            positions=view.positions,
            orders=view.orders,
            instruments=self._catalogue.instruments(),
            intents=view.open_intents(asked.strategy),
            trading_mode=view.trading_mode,
            connection=self._connection.state,
            server_offset_minutes=self._clock.offset_minutes,
            server_time_status=self._clock.status,
        )

    def _events(self, asked: GetEvents, _caller: Caller) -> Reply:
        view = self._view
        if asked.log_id and asked.log_id != view.log_id:
            raise NotFound(
                f"event log {asked.log_id} is not this adapter's ({view.log_id}): take a snapshot and start from it",
                {"log_id": view.log_id},
            )
        if asked.after < 0:
            raise ValidationFailed("after is negative: 0 asks for the log's beginning", {"field": "after"})
        first = view.first_offset
        if asked.log_id and asked.after + 1 < first:
            # Who names the log goes on from a position in it: an answer with a hole would be a loss that nobody sees.
            raise EventsGone(
                f"events {asked.after + 1} to {first - 1} are no longer kept: take a snapshot and go on from it",
                {"log_id": view.log_id, "first_offset": str(first), "last_offset": str(view.last_offset)},
            )
        events = view.events_after(asked.after, asked.limit)
        return Events(asked.id, view.log_id, first, view.last_offset, events)

    def _account(self, asked: GetAccount, _caller: Caller) -> Reply:
        return AccountReply(asked.id, self._known_account())

    def _known_account(self) -> Account:
        account = self._view.account
        if account is None:
            raise self._connection.not_ready()
        return account

    def _positions(self, asked: GetPositions, _caller: Caller) -> Reply:
        self._known_account()  # before the first read, no positions would be a lie
        found = self._view.positions
        return Positions(asked.id, tuple(p for p in found if asked.symbol in {"", p.symbol}))

    def _orders(self, asked: GetOrders, _caller: Caller) -> Reply:
        self._known_account()
        return Orders(asked.id, tuple(o for o in self._view.orders if asked.symbol in {"", o.symbol}))

    def _prices(self, asked: GetPrices, _caller: Caller) -> Reply:
        if not asked.symbols:
            return Prices(asked.id, self._streams.quotes())
        quotes = []
        for symbol in asked.symbols:
            quote = self._streams.quote(symbol)
            if quote is None:
                raise NotFound(
                    f"no price of {symbol}: it is not among [adapter] symbols, or has not ticked yet",
                    {"symbol": symbol},
                )
            quotes.append(quote)
        return Prices(asked.id, tuple(quotes))

    def _tick_range(self, asked: GetTickRange, _caller: Caller) -> Reply:
        records = self._streams.tick_range(asked.symbol, asked.epoch, asked.first, asked.count)
        return Ticks(asked.id, asked.symbol, records, first=asked.first)

    def _find_symbols(self, asked: FindSymbols, _caller: Caller) -> Reply:
        found, more = self._catalogue.find(asked.pattern, asked.limit)
        return Symbols(asked.id, found, more)

    def _instrument(self, asked: GetInstrument, caller: Caller) -> Reply | None:
        known = self._catalogue.instrument(asked.symbol)
        if known is not None:
            return InstrumentReply(asked.id, known)
        if not self._connection.attached(LinkRole.BULK):
            raise self._connection.not_ready()
        self._catalogue.ask_instrument(
            asked.symbol, lambda found: caller.reply(InstrumentReply(asked.id, found)), caller.fail
        )
        return None

    def _unsettled(self, asked: GetUnsettled, _caller: Caller) -> Reply:
        return Unsettled(asked.id, self._view.unsettled())

    def _intent(self, asked: GetIntent, _caller: Caller) -> Reply:
        found = self._view.intent(asked.client_order_id)
        if found is None:
            raise NotFound(
                f"no order with the id {asked.client_order_id!r}: it never arrived here, or is older than ids are kept",
                {"client_order_id": asked.client_order_id},
            )
        return OrderReply(asked.id, found, repeated=True)

    def _attributed(self, reply: Reply, on_reply: OnReply, on_error: OnError) -> None:
        # In slices: whose a record is may take several look-ups in the journal.
        if isinstance(reply, Deals):

            def with_deals(deals: list[Deal]) -> None:
                on_reply(msgspec.structs.replace(reply, deals=tuple(deals)))

            in_slices(self._loop, reply.deals, self._view.attributed_deal, with_deals, on_error)
        elif isinstance(reply, Orders):

            def with_orders(orders: list[Order]) -> None:
                on_reply(msgspec.structs.replace(reply, orders=tuple(orders)))

            in_slices(self._loop, reply.orders, self._view.attributed_order, with_orders, on_error)
        else:
            on_reply(reply)

    def _margin(self, asked: CalculateMargin, caller: Caller) -> Reply | None:
        side = _SIDES.get(asked.side)
        if side is None:
            raise ValidationFailed(f"side {asked.side!r}: buy or sell", {"field": "side"})
        for name in ("volume", "price", "price_close"):
            value = getattr(asked, name)
            if not 0 <= value < 1e12 or (name == "volume" and not value):
                raise ValidationFailed(f"{name} is {value}: a positive number is needed", {"field": name})
        if not self._connection.attached(LinkRole.BULK):
            raise self._connection.not_ready()
        price = asked.price or self._market_price(asked.symbol, side)
        broker = self._catalogue.broker_name(asked.symbol)

        def on_margin(result: LinkResult) -> None:
            margin = _number(result, caller)
            if margin is None:
                return
            if not asked.price_close:
                caller.reply(MarginReply(asked.id, margin, 0.0))
                return
            arguments = (side, broker, asked.volume, price, asked.price_close)
            self._bulk(Call("order_calc_profit", arguments), lambda profit: on_profit(margin, profit))

        def on_profit(margin: float, result: LinkResult) -> None:
            profit = _number(result, caller)
            if profit is not None:
                caller.reply(MarginReply(asked.id, margin, profit))

        self._bulk(Call("order_calc_margin", (side, broker, asked.volume, price)), on_margin)
        return None

    def _market_price(self, symbol: str, side: int) -> float:
        quote = self._streams.quote(symbol)
        if quote is None:
            raise ValidationFailed(f"{symbol} is not followed, so a price is needed", {"field": "price"})
        return quote.ask if side == _SIDES["buy"] else quote.bid

    def _bulk(self, command: Call, on_result: Callable[[LinkResult], None]) -> None:
        self._connection.call(LinkRole.BULK, command, on_result, deadline_s=self._query_s)


def _number(result: LinkResult, caller: Caller) -> float | None:
    try:
        return result.decode(float)
    except BusError as error:
        caller.fail(error)
        return None


def _later(
    ask: Callable[[R, str, OnReply, OnError], None],
    finish: Callable[[Reply, OnReply, OnError], None] = lambda reply, on_reply, _on_error: on_reply(reply),
) -> Callable[[R, Caller], Reply | None]:
    """Return a handler that answers through the caller when the terminal has answered."""

    def handle(asked: R, caller: Caller) -> Reply | None:
        ask(asked, caller.name, lambda reply: finish(reply, caller.reply, caller.fail), caller.fail)
        return None

    return handle
