"""`BusClient`: the bus for scripts and notebooks. Synchronous, typed, and never stuck.

    with BusClient(home / "keys") as bus:
        print(bus.account().equity)
        order = bus.buy("EURUSD", 0.1, sl=1.0800, tp=1.1000)
        bus.close(order.position)

Every call ends: with its result, or within its timeout with a typed error of `protocol.errors`. Times go in as aware
datetimes (or UTC milliseconds as int) and come out as UTC milliseconds, or as a UTC index in DataFrames.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
import numpy as np
import zmq

from protocol import codec, tables
from protocol.blocking import BlockingRequester, unknown_outcome
from protocol.errors import DataInvalid, EventsGone, NotFound, ValidationFailed, error_from_code
from protocol.keys import KeyStore
from protocol.messages import (
    MAX_PAGE,
    Account,
    AccountReply,
    ArmAccount,
    CalculateMargin,
    CancelOrder,
    CloseBy,
    ClosePosition,
    Consumers,
    Deal,
    Deals,
    Done,
    Event,
    Events,
    FindSymbols,
    ForgetConsumer,
    GetAccount,
    GetConsumers,
    GetDeals,
    GetEvents,
    GetHealth,
    GetHistoryOrders,
    GetInstrument,
    GetIntent,
    GetOrders,
    GetPositions,
    GetPrices,
    GetRates,
    GetRisk,
    GetSnapshot,
    GetStatus,
    GetTicks,
    GetUnsettled,
    Health,
    InstrumentReply,
    IntentEvent,
    MarginReply,
    ModifyOrder,
    ModifyPosition,
    Order,
    OrderReply,
    OrderRequest,
    Orders,
    Position,
    Positions,
    Prices,
    Quote,
    Rates,
    Reconnect,
    Reply,
    Request,
    RestartNode,
    RiskReport,
    SettleOrder,
    SetTradingMode,
    Snapshot,
    StatusReply,
    StopSystem,
    SubmitOrder,
    SymbolMatch,
    Symbols,
    Ticks,
    Unsettled,
    UnsettledOrder,
)
from protocol.sockets import Context
from protocol.ticks import RATE_DTYPE, TICK_DTYPE, TickArray, rates_array, ticks_array
from protocol.validation import check_values

if TYPE_CHECKING:
    import pandas as pd

    from market.instrument import Instrument

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 17600

Moment = datetime | int
R = TypeVar("R", bound=Reply)

_FAILED = frozenset({"refused", "rejected", "not_executed"})
_UNKNOWN = frozenset({"unknown", "ambiguous", "unresolved"})


class Addresses(NamedTuple):
    """Where the three sockets are that a client asks."""

    queries: str
    orders: str
    control: str

    @classmethod
    def at(cls, host: str = DEFAULT_HOST, port: int = DEFAULT_PORT) -> Addresses:
        """Return the addresses of a system whose first port is `port` (``[bus] port``)."""
        return cls(*(f"tcp://{host}:{port + offset}" for offset in (1, 2, 4)))


class BusClient:
    """A synchronous client of one system. Not for several threads at once.

    Args:
        keys: The keys folder of the running system (``keys`` in its home).
        addresses: Where it listens; see `Addresses.at`.
        name: Whose key to use.
        adapter: Name of the adapter (``[adapter] name``).
        timeout_s: Longest time a query takes, seconds.
        order_timeout_s: Longest time an order takes, seconds; None: `timeout_s`. Past it: `UnknownOutcome`.
        strategy: What orders are attributed to.

    Raises:
        AuthenticationFailed: The folder holds no keys for `name`, or damaged ones.
    """

    def __init__(
        self,
        keys: Path,
        addresses: Addresses | None = None,
        *,
        name: str = "client",
        adapter: str = "main",
        timeout_s: float = 5.0,
        order_timeout_s: float | None = None,
        strategy: str = "",
    ) -> None:
        self._store = KeyStore(keys)
        self._identity = self._store.identity(name)
        self._addresses = addresses or Addresses.at()
        self._adapter = adapter
        self._timeout_s = timeout_s
        self._order_timeout_s = timeout_s if order_timeout_s is None else order_timeout_s
        self._strategy = strategy
        self._requesters: dict[str, BlockingRequester] = {}
        self._context: Context | None = None

    def __enter__(self) -> BusClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()

    def disconnect(self) -> None:
        """Close every socket. The client may be used again: it connects anew."""
        for requester in self._requesters.values():
            requester.close()
        self._requesters.clear()
        if self._context is not None:
            self._context.term()
            self._context = None

    # Account and market

    def account(self) -> Account:
        """Return the account: balance, equity, margin, leverage, ..."""
        return self._query(AccountReply, GetAccount).account

    def leverage(self) -> int:
        """Return the account's leverage: 100 means 1:100."""
        return self.account().leverage

    def positions(self, symbol: str = "") -> tuple[Position, ...]:
        """Return open positions, of one symbol if named."""
        return self._query(Positions, GetPositions, symbol=symbol).positions

    def orders(self, symbol: str = "") -> tuple[Order, ...]:
        """Return active orders, of one symbol if named."""
        return self._query(Orders, GetOrders, symbol=symbol).orders

    def history_orders(self, start: Moment, end: Moment | None = None) -> list[Order]:
        """Return final orders by the time they were done, both ends included; `end` None: now."""
        from_ms, to_ms = utc_ms("start", start), _end_ms(end)
        return _pages(
            from_ms,
            lambda since: self._query(Orders, GetHistoryOrders, from_ms=since, to_ms=to_ms),
            lambda page: page.orders,
            lambda order: (order.time_done_ms, order.ticket),
        )

    def deals(self, start: Moment | None = None, end: Moment | None = None, *, position: int = 0) -> list[Deal]:
        """Return deals by time, both ends included, or those of one `position`; `end` None: now."""
        if start is None and not position:
            raise ValidationFailed("deals needs a start, or a position", {"field": "start"})
        from_ms, to_ms = 0 if start is None else utc_ms("start", start), _end_ms(end)
        return _pages(
            from_ms,
            lambda since: self._query(Deals, GetDeals, from_ms=since, to_ms=to_ms, position_id=position),
            lambda page: page.deals,
            lambda deal: (deal.time_ms, deal.ticket),
        )

    def price(self, symbol: str) -> Quote:
        """Return the newest quote of `symbol`.

        Raises:
            NotFound: The adapter has none.
        """
        quotes = self.prices((symbol,))
        if not quotes:
            raise NotFound(f"no quote of {symbol} yet: symbols() finds names, [adapter] symbols are streamed")
        return quotes[0]

    def prices(self, symbols: Sequence[str] = ()) -> tuple[Quote, ...]:
        """Return the newest quotes; no symbol means all that are followed."""
        named = (symbols,) if isinstance(symbols, str) else tuple(symbols)
        return self._query(Prices, GetPrices, symbols=named).quotes

    def symbols(self, pattern: str = "*", *, limit: int = 1000) -> tuple[SymbolMatch, ...]:
        """Return the broker's symbols whose name or description contains `pattern` (``*`` matches any run)."""
        return self._query(Symbols, FindSymbols, pattern=pattern, limit=limit).symbols

    def instrument(self, symbol: str) -> Instrument:
        """Return the specification of `symbol`."""
        return self._query(InstrumentReply, GetInstrument, symbol=symbol).instrument

    def margin(
        self, symbol: str, side: str, volume: float, *, price: float = 0.0, price_close: float = 0.0
    ) -> MarginReply:
        """Return the margin of a deal and, with `price_close`, its profit, in the account's currency.

        Args:
            side: ``buy`` or ``sell``.
            volume: Lots.
            price: Of opening; 0: the present one.
        """
        fields = {"symbol": symbol, "side": side, "volume": volume, "price": price, "price_close": price_close}
        return self._query(MarginReply, CalculateMargin, **fields)

    # History

    def candles(
        self,
        symbol: str,
        timeframe: str,
        count: int | None = None,
        *,
        start: Moment | None = None,
        end: Moment | None = None,
    ) -> pd.DataFrame:
        """Return completed bars as a DataFrame (`protocol.tables.rates_frame`), oldest first.

        Args:
            timeframe: Such as ``S5``, ``M1``, ``H4``.
            count: The newest so many bars, opening at or before `end` (None: now). Or:
            start: Bars opening from here to `end`, both included.

        Raises:
            ImportError: pandas is not installed; `rates` does without.
        """
        return tables.rates_frame(self.rates(symbol, timeframe, count, start=start, end=end))

    def rates(
        self,
        symbol: str,
        timeframe: str,
        count: int | None = None,
        *,
        start: Moment | None = None,
        end: Moment | None = None,
    ) -> TickArray:
        """Return what `candles` does as an array of `protocol.ticks.RATE_DTYPE`."""
        if (count is None) == (start is None):
            raise ValidationFailed("give either count or start", {"field": "count"})
        if start is not None:
            pages = list(self._rates_between(symbol, timeframe, utc_ms("start", start), _end_ms(end)))
        else:
            assert count is not None
            to_ms = 0 if end is None else utc_ms("end", end)
            pages = list(self._rates_before(symbol, timeframe, count, to_ms))[::-1]
        return np.concatenate(pages) if pages else np.empty(0, RATE_DTYPE)

    def ticks(self, symbol: str, start: Moment, end: Moment | None = None) -> pd.DataFrame:
        """Return the ticks of a time range, both ends included, as a DataFrame (`protocol.tables.ticks_frame`).

        Raises:
            ImportError: pandas is not installed; `tick_records` does without.
        """
        return tables.ticks_frame(self.tick_records(symbol, start, end))

    def tick_records(self, symbol: str, start: Moment, end: Moment | None = None) -> TickArray:
        """Return what `ticks` does as an array of `protocol.ticks.TICK_DTYPE`."""
        from_ms, to_ms, skip = utc_ms("start", start), _end_ms(end), 0
        pages = []
        while True:
            page = self._query(Ticks, GetTicks, symbol=symbol, from_ms=from_ms, to_ms=to_ms, skip=skip)
            pages.append(ticks_array(page.records))
            if not page.more:
                return np.concatenate(pages) if pages else np.empty(0, TICK_DTYPE)
            if (page.next_ms, page.next_skip) <= (from_ms, skip):
                raise DataInvalid(f"the adapter's page of {symbol} ticks does not go on from {from_ms} ms")
            from_ms, skip = page.next_ms, page.next_skip

    def _rates_between(self, symbol: str, timeframe: str, from_ms: int, to_ms: int) -> Iterator[TickArray]:
        while True:
            page = self._query(Rates, GetRates, symbol=symbol, timeframe=timeframe, from_ms=from_ms, to_ms=to_ms)
            yield rates_array(page.records)
            if not page.more:
                return
            if page.next_ms <= from_ms:
                raise DataInvalid(f"the adapter's page of {symbol} {timeframe} bars does not go on from {from_ms} ms")
            from_ms = page.next_ms

    def _rates_before(self, symbol: str, timeframe: str, count: int, to_ms: int) -> Iterator[TickArray]:
        """Yield pages of the newest `count` bars, the newest page first."""
        if count < 1:
            raise ValidationFailed(f"count of {count}: at least 1", {"field": "count"})
        while count > 0:
            wanted = min(count, MAX_PAGE)
            page = self._query(Rates, GetRates, symbol=symbol, timeframe=timeframe, to_ms=to_ms, count=wanted)
            bars = rates_array(page.records)
            if len(bars):
                yield bars
            count -= len(bars)
            if len(bars) < wanted:
                return  # the history begins here
            to_ms = int(bars["time"][0]) * 1000 - 1

    # Orders

    def buy(self, symbol: str, volume: float, **options: Any) -> IntentEvent:
        """Buy `volume` lots at market, or as the options of `submit` say."""
        return self.submit(symbol, "buy", volume, **options)

    def sell(self, symbol: str, volume: float, **options: Any) -> IntentEvent:
        """Sell `volume` lots at market, or as the options of `submit` say."""
        return self.submit(symbol, "sell", volume, **options)

    def submit(
        self,
        symbol: str,
        side: str,
        volume: float,
        *,
        type: str = "market",  # noqa: A002  the wire's own name
        price: float = 0.0,
        stoplimit: float = 0.0,
        sl: float = 0.0,
        tp: float = 0.0,
        deviation_points: int = 20,
        comment: str = "",
        expiration: Moment | None = None,
        client_order_id: str | None = None,
        ttl_ms: int = 0,
    ) -> IntentEvent:
        """Open a position at market, or place a pending order; return where it stands.

        Args:
            side: ``buy`` or ``sell``.
            volume: Lots.
            type: ``market``, ``limit``, ``stop`` or ``stop_limit``.
            price: Of a pending order; for ``market`` 0 or the price asked for.
            sl: Stop loss price; 0 none (an addition to a netting position keeps that one's).
            tp: Take profit price; likewise.
            deviation_points: Largest slippage, points.
            expiration: Of a pending order; None: good till cancelled.
            client_order_id: Sent again it gets the stored outcome; None draws one (it is in the result).
            ttl_ms: Not sent to the terminal later than this after its arrival; 0: the adapter's default.

        Raises:
            ValidationFailed: A field is wrong: ``details["field"]`` names it; nothing was sent.
            RiskRefused: A limit, the trading mode or arming forbids it.
            MarketRefused: The broker refused.
            NoConnection: Nothing was sent.
            UnknownOutcome: It may or may not have taken effect; the text says how to find out.
        """
        fields: dict[str, Any] = {
            "symbol": symbol,
            "side": side,
            "volume": volume,
            "type": type,
            "price": price,
            "sl": sl,
            "tp": tp,
            "deviation_points": deviation_points,
            "comment": comment,
            "expiration_ms": 0 if expiration is None else utc_ms("expiration", expiration),
            "stoplimit": stoplimit,
        }
        return self._order(SubmitOrder, client_order_id, ttl_ms, fields)

    def close(
        self,
        position: int,
        volume: float = 0.0,
        *,
        deviation_points: int = 20,
        comment: str = "",
        client_order_id: str | None = None,
        ttl_ms: int = 0,
    ) -> IntentEvent:
        """Close the position with this ticket, wholly (`volume` 0) or in part (lots). Raises as `submit`.

        (The client itself is left with `disconnect`, or as a context manager.)
        """
        fields = {"position": position, "volume": volume, "deviation_points": deviation_points, "comment": comment}
        return self._order(ClosePosition, client_order_id, ttl_ms, fields)

    def close_by(
        self, position: int, position_by: int, *, client_order_id: str | None = None, ttl_ms: int = 0
    ) -> IntentEvent:
        """Close two opposite positions of a symbol against each other, by their tickets; hedging accounts only.

        As far as the smaller one goes; the result is booked on `position`. Raises as `submit`.
        """
        return self._order(CloseBy, client_order_id, ttl_ms, {"position": position, "position_by": position_by})

    def modify(
        self,
        *,
        position: int = 0,
        order: int = 0,
        sl: float = 0.0,
        tp: float = 0.0,
        price: float = 0.0,
        stoplimit: float = 0.0,
        expiration: Moment | None = None,
        client_order_id: str | None = None,
        ttl_ms: int = 0,
    ) -> IntentEvent:
        """Set SL and TP of a `position` (0 removes), or change a pending `order`, `price` included.

        Raises as `submit`.
        """
        if bool(position) == bool(order):
            raise ValidationFailed("name either a position or an order by its ticket", {"field": "position"})
        if position:
            return self._order(ModifyPosition, client_order_id, ttl_ms, {"position": position, "sl": sl, "tp": tp})
        expiration_ms = 0 if expiration is None else utc_ms("expiration", expiration)
        fields = {"order": order, "price": price, "sl": sl, "tp": tp, "stoplimit": stoplimit}
        return self._order(ModifyOrder, client_order_id, ttl_ms, fields | {"expiration_ms": expiration_ms})

    def cancel(self, order: int, *, client_order_id: str | None = None, ttl_ms: int = 0) -> IntentEvent:
        """Remove the pending order with this ticket. Raises as `submit`."""
        return self._order(CancelOrder, client_order_id, ttl_ms, {"order": order})

    def intent(self, client_order_id: str) -> IntentEvent:
        """Return what became of one of our orders, whatever it is: look at its ``state``.

        Raises:
            NotFound: The adapter never got it: it took no effect.
        """
        return self._query(OrderReply, GetIntent, client_order_id=client_order_id).outcome

    def unsettled(self) -> tuple[UnsettledOrder, ...]:
        """Return our orders whose outcome is not known, each with what the account shows of it."""
        return self._query(Unsettled, GetUnsettled).orders

    def settle(self, client_order_id: str, outcome: str, *, reason: str = "") -> str:
        """End an unknown or ambiguous order as ``done`` or ``not_executed``, by your word; return where it stands.

        Look into the terminal first: after ``not_executed`` whoever sent it may send it again.

        Raises:
            NotFound: There is no such order.
            StateConflict: Its outcome is known, or still to come.
        """
        return self._command(SettleOrder, {"client_order_id": client_order_id, "outcome": outcome, "reason": reason})

    # The adapter and the system

    def health(self) -> Health:
        """Return how the adapter and its terminal are."""
        return self._query(Health, GetHealth)

    def snapshot(self, strategy: str = "") -> Snapshot:
        """Return the whole trading state as of one event offset."""
        return self._query(Snapshot, GetSnapshot, strategy=strategy)

    def events(self, after: int = 0, *, log_id: str = "", limit: int | None = None) -> list[Event]:
        """Return the events after offset `after`, in order, at most `limit`.

        Raises:
            EventsGone: Events right after `after` (not 0) are no longer kept.
        """
        found: list[Event] = []
        while limit is None or len(found) < limit:
            page = self._query(Events, GetEvents, after=after, log_id=log_id)
            if after and page.first_offset > after + 1:
                raise EventsGone(
                    f"events {after + 1} to {page.first_offset - 1} are no longer kept: go on from a snapshot()",
                    {"log_id": page.log_id, "first_offset": str(page.first_offset)},
                )
            found.extend(page.events)
            if not page.events or page.events[-1].offset >= page.last_offset:
                break
            after, log_id = page.events[-1].offset, page.log_id
        return found[:limit]

    def consumers(self) -> Consumers:
        """Return who reads the event log, and how far each has come."""
        return self._query(Consumers, GetConsumers)

    def forget_consumer(self, name: str) -> str:
        """Let the event log keep nothing for a consumer any longer; return what was done.

        Raises:
            NotFound: None of that name is registered.
        """
        return self._command(ForgetConsumer, {"consumer": name})

    def reconnect(self) -> str:
        """Let the adapter attach to the terminal anew at once; return what it says."""
        return self._command(Reconnect, {})

    def set_mode(self, mode: str, *, reason: str = "", flatten: bool = False) -> str:
        """Switch trading to ``active``, ``reducing`` or ``halted``; `flatten` also closes every position of ours."""
        return self._command(SetTradingMode, {"mode": mode, "reason": reason, "flatten": flatten})

    def halt(self, reason: str = "", *, flatten: bool = False) -> str:
        """Stop new orders; `flatten` also closes every position of ours."""
        return self.set_mode("halted", reason=reason, flatten=flatten)

    def resume(self, reason: str = "", *, strategy: str = "") -> str:
        """Allow orders again; with `strategy` only what that strategy's silence stopped.

        Raises:
            NotFound: The adapter never heard of that strategy.
        """
        return self._command(SetTradingMode, {"mode": "active", "reason": reason, "strategy": strategy})

    def risk(self) -> RiskReport:
        """Return every limit of the risk gate with what is held against it, and what stands against orders now."""
        return self._query(RiskReport, GetRisk)

    def arm(self, login: int, *, armed: bool = True) -> str:
        """Allow (or forbid) orders on a real account, by its login."""
        return self._command(ArmAccount, {"login": login, "armed": armed})

    def status(self) -> dict[str, Any]:
        """Return the supervisor's status document (docs/status.md)."""
        reply = self._ask("control", StatusReply, GetStatus, {}, self._timeout_s)
        try:
            return msgspec.json.decode(reply.document, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise DataInvalid(f"the supervisor's status is no JSON object: {error}") from None

    def stop(self) -> str:
        """Stop the whole system: every node, the terminal it started, and the supervisor."""
        return self._ask("control", Done, StopSystem, {}, self._timeout_s).text

    def restart(self, node: str) -> str:
        """Let the supervisor restart one node, also one that has failed for good."""
        return self._ask("control", Done, RestartNode, {"node": node}, self._timeout_s).text

    # The way there and back

    def _query(self, reply: type[R], request: type[Request], **fields: Any) -> R:
        return self._ask("queries", reply, request, fields, self._timeout_s)

    def _command(self, request: type[Request], fields: dict[str, Any]) -> str:
        return self._ask("orders", Done, request, fields, self._timeout_s).text

    def _order(
        self, request: type[OrderRequest], client_order_id: str | None, ttl_ms: int, fields: dict[str, Any]
    ) -> IntentEvent:
        order_id = uuid.uuid4().hex if client_order_id is None else client_order_id
        fields = {"client_order_id": order_id, "strategy": self._strategy, "ttl_ms": ttl_ms, **fields}
        outcome = self._ask("orders", OrderReply, request, fields, self._order_timeout_s).outcome
        if outcome.state in _UNKNOWN:
            raise unknown_outcome(order_id, outcome.text or f"the terminal's answer to {outcome.action} was lost")
        if outcome.state in _FAILED:
            details = {"client_order_id": order_id, "state": outcome.state, "retcode": str(outcome.retcode)}
            text = outcome.text or f"order {order_id} was {outcome.state}, retcode {outcome.retcode}"
            raise error_from_code(outcome.code or "market_refused", text, details)
        return outcome

    def _ask(self, socket: str, reply: type[R], request: type[Request], fields: dict[str, Any], timeout_s: float) -> R:
        requester = self._requester(socket)
        message = _checked(request, {"id": requester.next_id(), **fields})
        answer = requester.ask(message, topic_adapter=self._adapter, timeout_s=timeout_s)
        if isinstance(answer, reply):
            return answer
        text = f"{message.kind} was answered with {answer.kind}, not {reply.kind}: a peer of another version?"
        if isinstance(message, OrderRequest):
            raise unknown_outcome(message.client_order_id, text)
        raise DataInvalid(text)

    def _requester(self, socket: str) -> BlockingRequester:
        requester = self._requesters.get(socket)
        if requester is None:
            server = "supervisor" if socket == "control" else "adapter"
            if self._context is None:
                self._context = zmq.Context()
            requester = BlockingRequester(
                self._context,
                getattr(self._addresses, socket),
                identity=self._identity,
                server_key=self._store.server_key(server),
                name=server,
            )
            self._requesters[socket] = requester
        return requester


def utc_ms(field: str, moment: Moment) -> int:
    """Return `moment` as UTC milliseconds.

    Raises:
        ValidationFailed: A datetime without a time zone, or something else; `field` is named.
    """
    if isinstance(moment, datetime):
        if moment.tzinfo is None or moment.utcoffset() is None:
            raise ValidationFailed(
                f"{field} {moment.isoformat()} has no time zone: say which, such as datetime(..., tzinfo=timezone.utc)",
                {"field": field},
            )
        return math.floor(moment.timestamp() * 1000 + 0.5)
    if isinstance(moment, bool) or not isinstance(moment, int):
        raise ValidationFailed(f"{field} {moment!r} is neither a datetime nor UTC milliseconds", {"field": field})
    return moment


def _end_ms(end: Moment | None) -> int:
    return time.time_ns() // 1_000_000 if end is None else utc_ms("end", end)


def _checked(request: type[Request], fields: dict[str, Any]) -> Request:
    """Return the request, held here to all that the peer's decoder holds it to."""
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in fields.items()}
    for name, value in plain.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValidationFailed(f"{name} is {value}: a number is needed. Nothing was sent", {"field": name})
    message = request(**plain)
    try:
        codec.decode_body(request.kind, codec.encode_body(message))
        check_values(message)
    except (DataInvalid, ValidationFailed) as error:
        raise ValidationFailed(f"{error.text}. Nothing was sent", error.details) from None
    except (TypeError, ValueError, OverflowError) as error:
        raise ValidationFailed(f"{request.kind} cannot be sent: {error}", {"field": _unsendable(plain)}) from None
    return message


def _unsendable(fields: dict[str, Any]) -> str:
    for name, value in fields.items():
        try:
            msgspec.msgpack.encode(value)
        except (TypeError, ValueError, OverflowError):
            return name
    return ""


P = TypeVar("P", Orders, Deals)
T = TypeVar("T")


def _pages(
    from_ms: int, ask: Callable[[int], P], items: Callable[[P], tuple[T, ...]], key: Callable[[T], tuple[int, int]]
) -> list[T]:
    """Return the items of all pages; the next page begins at the last one's time, what was seen is left out."""
    found: dict[tuple[int, int], T] = {}
    while True:
        page = ask(from_ms)
        before = len(found)
        found.update((key(item), item) for item in items(page))
        if not page.more or not items(page):
            return list(found.values())
        if len(found) == before:
            raise DataInvalid(f"more records in millisecond {from_ms} than a page holds: they cannot be listed")
        from_ms = key(items(page)[-1])[0]
