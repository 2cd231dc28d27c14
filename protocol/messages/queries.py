"""Requests on the adapter's queries ROUTER (role ``query``), and their replies. None changes anything.

Ranges are UTC milliseconds, both ends inclusive; bulk answers come in pages: ask again from `next_ms`
(ticks: with `skip`, how many ticks of that millisecond were already taken) while `more` is true.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from market.instrument import Instrument
from market.risk import LimitUse
from protocol.messages.base import Reply, Request
from protocol.messages.events import Event, IntentEvent
from protocol.messages.values import Account, Deal, Order, Position, Quote, SymbolMatch, Value
from protocol.ticks import RECORD_BYTES, check_whole

MAX_PAGE = 4096  # records in a page of ticks or rates: 240 KiB
Page = Annotated[int, Meta(ge=1, le=MAX_PAGE)]
Name = Annotated[str, Meta(max_length=64)]


class GetSnapshot(Request, frozen=True, array_like=True):
    """Ask for the whole trading state as of one event offset. `strategy` limits `intents` to one strategy."""

    kind: ClassVar[str] = "get_snapshot"
    strategy: Name = ""


class Snapshot(Reply, frozen=True, array_like=True):
    """The state as of event `offset`: apply events ``offset + 1`` on.

    `intents`: open and unknown ones, and the last day's.
    """

    kind: ClassVar[str] = "snapshot"
    log_id: str
    offset: int
    epoch: int
    market_ms: int
    account: Account | None
    positions: tuple[Position, ...]
    orders: tuple[Order, ...]
    instruments: tuple[Instrument, ...]
    intents: tuple[IntentEvent, ...]
    trading_mode: str
    connection: str
    server_offset_minutes: int
    server_time_status: str


class GetEvents(Request, frozen=True, array_like=True):
    """Ask for the events after offset `after` of log `log_id` (empty: whatever log there is)."""

    kind: ClassVar[str] = "get_events"
    after: int
    log_id: Name = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 500


class Events(Reply, frozen=True, array_like=True):
    """Events in order. `first_offset` is the oldest the log still has, `last_offset` its newest."""

    kind: ClassVar[str] = "events"
    log_id: str
    first_offset: int
    last_offset: int
    events: tuple[Event, ...]


class GetAccount(Request, frozen=True, array_like=True):
    """Ask for the account."""

    kind: ClassVar[str] = "get_account"


class AccountReply(Reply, frozen=True, array_like=True):
    """The account as last polled."""

    kind: ClassVar[str] = "account"
    account: Account


class GetPositions(Request, frozen=True, array_like=True):
    """Ask for open positions, of one symbol if named."""

    kind: ClassVar[str] = "get_positions"
    symbol: Name = ""


class Positions(Reply, frozen=True, array_like=True):
    """Open positions."""

    kind: ClassVar[str] = "positions"
    positions: tuple[Position, ...]


class GetOrders(Request, frozen=True, array_like=True):
    """Ask for active orders, of one symbol if named."""

    kind: ClassVar[str] = "get_orders"
    symbol: Name = ""


class Orders(Reply, frozen=True, array_like=True):
    """Orders: active, or final ones for `GetHistoryOrders`."""

    kind: ClassVar[str] = "orders"
    orders: tuple[Order, ...]
    more: bool = False


class GetHistoryOrders(Request, frozen=True, array_like=True):
    """Ask for final orders by the time they were done."""

    kind: ClassVar[str] = "get_history_orders"
    from_ms: int
    to_ms: int


class GetDeals(Request, frozen=True, array_like=True):
    """Ask for deals by time, or of one position (`position_id` not 0; the range is then ignored)."""

    kind: ClassVar[str] = "get_deals"
    from_ms: int
    to_ms: int
    position_id: int = 0


class Deals(Reply, frozen=True, array_like=True):
    """Deals in time order; at most 4096: while `more`, ask again from the last one's time."""

    kind: ClassVar[str] = "deals"
    deals: tuple[Deal, ...]
    more: bool = False


class GetPrices(Request, frozen=True, array_like=True):
    """Ask for the newest quotes; no symbol means all that are followed."""

    kind: ClassVar[str] = "get_prices"
    symbols: tuple[Name, ...] = ()


class Prices(Reply, frozen=True, array_like=True):
    """Newest quotes."""

    kind: ClassVar[str] = "prices"
    quotes: tuple[Quote, ...]


class GetRates(Request, frozen=True, array_like=True):
    """Ask for completed bars of a range, or with `count` the newest `count` opening at or before `to_ms` (0: now)."""

    kind: ClassVar[str] = "get_rates"
    symbol: Name
    timeframe: Name
    from_ms: int = 0
    to_ms: int = 0
    count: Annotated[int, Meta(ge=0, le=MAX_PAGE)] = 0


class Rates(Reply, frozen=True, array_like=True):
    """Bars, ascending, as 60-byte rate records; ``time`` is the open time in UTC seconds."""

    kind: ClassVar[str] = "rates"
    symbol: str
    timeframe: str
    records: bytes
    more: bool = False
    next_ms: int = 0

    def __post_init__(self) -> None:
        check_whole(self.records)


class GetTicks(Request, frozen=True, array_like=True):
    """Ask for ticks of a range from the terminal's history, skipping the first `skip` of millisecond `from_ms`."""

    kind: ClassVar[str] = "get_ticks"
    symbol: Name
    from_ms: int
    to_ms: int
    skip: int = 0
    limit: Page = MAX_PAGE


class GetTickRange(Request, frozen=True, array_like=True):
    """Ask for published ticks again by their ordinals, to heal a gap: `count` ticks from `first` of `epoch`.

    NotFound: the epoch is over or the ticks are older than what the adapter keeps; then use `GetTicks`.
    """

    kind: ClassVar[str] = "get_tick_range"
    symbol: Name
    epoch: int
    first: int
    count: Page


class GetMissedTicks(Request, frozen=True, array_like=True):
    """Ask for the ticks between a place in the history and the first tick of `epoch`: no life published them.

    `from_ms`, `skip`: the time of the last tick the asker has, and how many of that millisecond it has. The answer's
    `next_ms` and `next_skip` are the place behind it, at the end the place before the epoch's first tick: that may be
    earlier than what was asked for, where a life published ticks of the one before again.

    NotFound: the epoch is too old, or has no tick of the symbol yet.
    """

    kind: ClassVar[str] = "get_missed_ticks"
    symbol: Name
    epoch: int
    from_ms: int
    skip: int = 0
    limit: Page = MAX_PAGE


class Ticks(Reply, frozen=True, array_like=True):
    """Ticks, oldest first, as 60-byte records in UTC. `first`: ordinal of the first (`GetTickRange`), else 0."""

    kind: ClassVar[str] = "ticks"
    symbol: str
    records: bytes
    first: int = 0
    more: bool = False
    next_ms: int = 0
    next_skip: int = 0

    def __post_init__(self) -> None:
        check_whole(self.records)

    def __len__(self) -> int:
        return len(self.records) // RECORD_BYTES


class FindSymbols(Request, frozen=True, array_like=True):
    """Ask for the broker's symbols whose name or description contains `pattern` (``*`` matches any run)."""

    kind: ClassVar[str] = "find_symbols"
    pattern: Name = "*"
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class Symbols(Reply, frozen=True, array_like=True):
    """Symbols found."""

    kind: ClassVar[str] = "symbols"
    symbols: tuple[SymbolMatch, ...]
    more: bool = False


class GetInstrument(Request, frozen=True, array_like=True):
    """Ask for a symbol's specification."""

    kind: ClassVar[str] = "get_instrument"
    symbol: Name


class InstrumentReply(Reply, frozen=True, array_like=True):
    """A symbol's specification."""

    kind: ClassVar[str] = "instrument"
    instrument: Instrument


class GetIntent(Request, frozen=True, array_like=True):
    """Ask what became of one of our orders."""

    kind: ClassVar[str] = "get_intent"
    client_order_id: Name


class GetUnsettled(Request, frozen=True, array_like=True):
    """Ask for our orders whose outcome is not known, and those watched for a late fill."""

    kind: ClassVar[str] = "get_unsettled"


class UnsettledOrder(Value, frozen=True, array_like=True):
    """One of our orders without an outcome (see docs/orders.md).

    Attributes:
        outcome: Where it stands.
        created_ms: When it was taken, market time, UTC.
        magic, comment: What it carries to the broker.
        evidence: What the account shows of it, for people.
        waits_for: What its outcome waits for, for people.
        watch_until_ms: Wall clock until which it is watched, UTC; 0 if it is not.
    """

    outcome: IntentEvent
    created_ms: int
    magic: int
    comment: str
    evidence: str
    waits_for: str
    watch_until_ms: int = 0


class Unsettled(Reply, frozen=True, array_like=True):
    """Orders without an outcome, oldest first."""

    kind: ClassVar[str] = "unsettled"
    orders: tuple[UnsettledOrder, ...]


class CalculateMargin(Request, frozen=True, array_like=True):
    """Ask the terminal for margin and, with `price_close` not 0, profit of a deal. `side`: ``buy`` or ``sell``."""

    kind: ClassVar[str] = "calculate_margin"
    symbol: Name
    side: Name
    volume: float
    price: float = 0.0
    price_close: float = 0.0


class MarginReply(Reply, frozen=True, array_like=True):
    """Margin and profit in the account's currency."""

    kind: ClassVar[str] = "margin"
    margin: float
    profit: float


class GetHealth(Request, frozen=True, array_like=True):
    """Ask how the adapter and its terminal are."""

    kind: ClassVar[str] = "get_health"


class LinkHealth(Value, frozen=True, array_like=True):
    """One link process. `id` is its pid; `calls`, `timeouts`, `restarts` count since the adapter started."""

    id: int
    role: str
    state: str
    calls: int
    timeouts: int
    restarts: int
    latency_ms: float


class Health(Reply, frozen=True, array_like=True):
    """Connection, authorisation, data feed and latency of the terminal, and counters for people and metrics."""

    kind: ClassVar[str] = "health"
    connection: str
    breaker: str
    terminal_connected: bool
    trade_allowed: bool
    newest_tick_age_ms: int
    server_offset_minutes: int
    server_time_status: str
    isolated_links: bool
    links: tuple[LinkHealth, ...]
    counters: dict[str, int]
    text: str = ""


class GetRisk(Request, frozen=True, array_like=True):
    """Ask for every limit of the risk gate, what is held against it, and what stands against new exposure now."""

    kind: ClassVar[str] = "get_risk"


class SymbolRisk(Value, frozen=True, array_like=True):
    """The gate for one symbol. `code`, `refusal`: why its smallest order would be refused now; empty if it passed."""

    symbol: str
    code: str
    refusal: str
    limits: tuple[LimitUse, ...]


class StrategyPresence(Value, frozen=True, array_like=True):
    """A strategy that was heard of: ``live``, ``silent`` (its symbols only reduce) or ``stopped`` (in order).

    `action`: what its silence leads to after `limit_s` seconds: ``reduce``, ``close`` or ``alert``.
    """

    name: str
    state: str
    silent_s: float
    limit_s: float
    action: str
    symbols: tuple[str, ...]


class RiskReport(Reply, frozen=True, array_like=True):
    """The risk gate as it is now; `login` 0 before the account was read.

    Attributes:
        armed: Whether orders may go to the account: it is not real, or was armed.
        reason: Of the trading mode, as its asker gave it.
        flatten: What is still to be closed, and what keeps it open; empty if nothing is being flattened.
    """

    kind: ClassVar[str] = "risk"
    server: str
    login: int
    currency: str
    real: bool
    armed: bool
    trading_mode: str
    reason: str
    limits: tuple[LimitUse, ...]
    symbols: tuple[SymbolRisk, ...]
    strategies: tuple[StrategyPresence, ...] = ()
    flatten: tuple[str, ...] = ()
