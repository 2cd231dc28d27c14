"""The status document: what people, scripts and the live view see. Specified in docs/status.md.

Fields are only ever added within a version. Pure: it is made of the supervised processes and their last pongs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from protocol.messages import (
    AdapterReport,
    Deal,
    DoorCounts,
    LoggerReport,
    NodeReport,
    OrderCounts,
    Position,
    Quote,
    StrategyReport,
    StreamReport,
)

VERSION = 1


class ProcessStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One process. `None` where there is no process, or nothing is known yet."""

    name: str
    state: str
    pid: int | None
    uptime_s: float | None
    restarts: int
    pong_age_s: float | None
    cpu_percent: float
    memory_mb: float
    lag_ms: float | None = None
    progress: int | None = None
    reason: str = ""
    detail: str = ""
    longest_turn_ms: float | None = None


class TerminalStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The terminal; state `unmanaged` when somebody else starts it."""

    kind: str
    state: str
    pid: int | None = None
    uptime_s: float | None = None
    restarts: int = 0
    cpu_percent: float = 0.0
    memory_mb: float = 0.0
    reason: str = ""


class AccountStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The account as the adapter last saw it; nulls while it never did."""

    login: int | None = None
    server: str | None = None
    currency: str | None = None
    balance: float | None = None
    equity: float | None = None
    connection: str | None = None
    trading_mode: str | None = None
    restrictions: tuple[str, ...] = ()


class StreamStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How one subscription of one node fares since that node started."""

    node: str
    stream: str
    received: int
    gaps: int
    healed: int
    skipped: int
    unhealed: int
    lag_ms: float


class OrdersStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Our orders since the journal began."""

    submitted: int = 0
    filled: int = 0
    rejected: int = 0
    unknown: int = 0


class StoreStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Rows in the ML logger's store."""

    bars: int = 0
    signals: int = 0
    orders: int = 0
    deals: int = 0
    event_offset: int = 0


class PriceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The newest tick of a symbol."""

    symbol: str
    bid: float
    ask: float
    time_ms: int


class PositionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """An open position."""

    ticket: int
    symbol: str
    side: str
    volume: float
    price_open: float
    price_current: float
    sl: float
    tp: float
    profit: float
    strategy: str
    time_ms: int


class DealStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One of the last deals."""

    ticket: int
    position_id: int
    symbol: str
    side: str
    entry: str
    volume: float
    price: float
    profit: float
    strategy: str
    time_ms: int


class DoorsStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What adapter and supervisor turned away since each started."""

    keys_refused: int = 0
    handshakes_failed: int = 0
    malformed: int = 0
    crowded: int = 0


class SupervisorStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The process that answers."""

    pid: int
    uptime_s: float
    home: str
    config: str | None
    version: str
    port: int


class SystemStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The whole document."""

    version: int = VERSION
    time_ms: int
    state: str
    supervisor: SupervisorStatus
    nodes: tuple[ProcessStatus, ...]
    terminal: TerminalStatus
    account: AccountStatus
    streams: tuple[StreamStatus, ...]
    orders: OrdersStatus
    store: StoreStatus
    prices: tuple[PriceStatus, ...] = ()
    positions: tuple[PositionStatus, ...] = ()
    deals: tuple[DealStatus, ...] = ()
    doors: DoorsStatus = DoorsStatus()


_SIDES = {0: "buy", 1: "sell"}
_DEAL_SIDES = {**_SIDES, 2: "balance", 3: "credit"}
_ENTRIES = {0: "in", 1: "out", 2: "inout", 3: "out_by"}


def system_state(
    nodes: Iterable[ProcessStatus], terminal: TerminalStatus, *, stopping: bool, first_start: bool = False
) -> str:
    """Return the state of the whole: stopping, failed, running (all are), starting, or degraded.

    During the first start a process that ended is tried again, which is still "starting": whoever waits for
    the start must not take it for a system that runs with something missing.
    """
    states = {node.state for node in nodes} | ({terminal.state} - {"unmanaged"})
    if stopping:
        return "stopping"
    if "failed" in states:
        return "failed"
    if states <= {"running"}:
        return "running"
    on_the_way = {"running", "starting", "stopped"} | ({"backoff"} if first_start else set())
    return "starting" if states <= on_the_way else "degraded"


def account_status(report: AdapterReport | None) -> AccountStatus:
    """Return the account of the adapter's last report."""
    if report is None:
        return AccountStatus()
    if not report.login:
        return AccountStatus(
            connection=report.connection, trading_mode=report.trading_mode, restrictions=report.restrictions
        )
    return AccountStatus(
        login=report.login,
        server=report.server,
        currency=report.currency,
        balance=report.balance,
        equity=report.equity,
        connection=report.connection,
        trading_mode=report.trading_mode,
        restrictions=report.restrictions,
    )


def orders_status(counts: OrderCounts | None) -> OrdersStatus:
    """Return the counts of our orders."""
    if counts is None:
        return OrdersStatus()
    return OrdersStatus(
        submitted=counts.submitted, filled=counts.filled, rejected=counts.rejected, unknown=counts.unknown
    )


def doors_status(report: AdapterReport | None, own: DoorCounts) -> DoorsStatus:
    """Return what the adapter and the supervisor itself turned away."""
    parts = [own, *([report.doors] if report is not None else [])]
    return DoorsStatus(
        keys_refused=sum(part.keys_refused for part in parts),
        handshakes_failed=sum(part.handshakes_failed for part in parts),
        malformed=sum(part.malformed for part in parts),
        crowded=sum(part.crowded for part in parts),
    )


def store_status(report: LoggerReport | None) -> StoreStatus:
    """Return the counts of the logger's last report."""
    if report is None:
        return StoreStatus()
    return StoreStatus(
        bars=report.bars,
        signals=report.signals,
        orders=report.orders,
        deals=report.deals,
        event_offset=report.event_offset,
    )


def stream_status(streams: Mapping[str, tuple[StreamReport, ...]]) -> tuple[StreamStatus, ...]:
    """Return the subscriptions of every node."""
    return tuple(
        StreamStatus(
            node=node,
            stream=stream.stream,
            received=stream.received,
            gaps=stream.gaps,
            healed=stream.healed,
            skipped=stream.skipped,
            unhealed=stream.unhealed,
            lag_ms=round(stream.lag_ms, 1),
        )
        for node, reports in streams.items()
        for stream in reports
    )


def price_status(quote: Quote) -> PriceStatus:
    """Return a symbol's newest tick."""
    return PriceStatus(symbol=quote.symbol, bid=quote.bid, ask=quote.ask, time_ms=quote.time_ms)


def position_status(position: Position) -> PositionStatus:
    """Return an open position."""
    return PositionStatus(
        ticket=position.ticket,
        symbol=position.symbol,
        side=_SIDES.get(position.type, str(position.type)),
        volume=position.volume,
        price_open=position.price_open,
        price_current=position.price_current,
        sl=position.sl,
        tp=position.tp,
        profit=position.profit,
        strategy=position.strategy,
        time_ms=position.time_ms,
    )


def deal_status(deal: Deal) -> DealStatus:
    """Return a deal."""
    return DealStatus(
        ticket=deal.ticket,
        position_id=deal.position_id,
        symbol=deal.symbol,
        side=_DEAL_SIDES.get(deal.type, "other"),
        entry=_ENTRIES.get(deal.entry, str(deal.entry)),
        volume=deal.volume,
        price=deal.price,
        profit=deal.profit,
        strategy=deal.strategy,
        time_ms=deal.time_ms,
    )


def newest_deals(deals: Iterable[Deal]) -> tuple[DealStatus, ...]:
    """Return deals, newest first."""
    return tuple(
        deal_status(deal) for deal in sorted(deals, key=lambda deal: (deal.time_ms, deal.ticket), reverse=True)
    )


def report_detail(report: NodeReport) -> str:
    """Return what a node says of itself in words."""
    if isinstance(report, StrategyReport) and not report.detail:
        warm = "" if report.warm else "warming up, "
        return f"{warm}{report.signals} signals, {report.orders} orders"
    return report.detail if report is not None else ""
