"""The live view: the status document as tables, or as plain lines where there is no terminal. A reader only."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from supervisor.status import SystemStatus

_COLOURS = {
    "running": "green",
    "starting": "yellow",
    "degraded": "yellow",
    "backoff": "yellow",
    "stopping": "yellow",
    "hung": "red",
    "failed": "bold red",
    "unmanaged": "dim",
    "stopped": "dim",
}
_SHOWN_POSITIONS = 8
_SHOWN_DEALS = 8


def render(document: SystemStatus) -> RenderableType:
    """Return the whole document as tables."""
    prices_and_counts = Table.grid(padding=(0, 3))
    prices_and_counts.add_row(_prices(document), _counts(document))
    return Group(_headline(document), _processes(document), prices_and_counts, _positions(document), _deals(document))


def plain_lines(document: SystemStatus) -> Iterator[str]:
    """Yield the document as lines of plain text."""
    account = document.account
    yield f"system {document.state}: home {document.supervisor.home}, supervisor pid {document.supervisor.pid}"
    terminal = document.terminal
    yield (
        f"terminal {terminal.kind} {terminal.state}: pid {terminal.pid or '-'}, restarts {terminal.restarts}"
        f"{_clause(terminal.reason)}"
    )
    if account.login is not None:
        yield (
            f"account {account.login} at {account.server}: balance {_money(account.balance)}, equity"
            f" {_money(account.equity)} {account.currency}, {account.connection}, trading {account.trading_mode}"
        )
    yield from (f"restriction: {text}" for text in account.restrictions)
    for node in document.nodes:
        yield (
            f"{node.name} {node.state}: pid {node.pid or '-'}, up {_duration(node.uptime_s)}, restarts {node.restarts},"
            f" pong {_age(node.pong_age_s)}, lag {_lag(node.lag_ms)}, cpu {node.cpu_percent:g} %, memory"
            f" {node.memory_mb:g} MB{_clause(node.reason or node.detail)}"
        )
    for price in document.prices:
        yield f"price {price.symbol} {price.bid:.10g} / {price.ask:.10g}"
    for stream in document.streams:
        yield (
            f"stream {stream.stream} at {stream.node}: received {stream.received}, gaps {stream.gaps},"
            f" unhealed {stream.unhealed}, skipped {stream.skipped}"
        )
    for position in document.positions:
        yield (
            f"position {position.ticket} {position.side} {position.volume:g} {position.symbol} at"
            f" {position.price_open:.10g}, profit {_money(position.profit)}"
        )
    for deal in document.deals:
        yield (
            f"deal {deal.ticket} {deal.side} {deal.entry} {deal.volume:g} {deal.symbol} at {deal.price:.10g},"
            f" profit {_money(deal.profit)}"
        )
    orders, store = document.orders, document.store
    yield (
        f"orders: submitted {orders.submitted}, filled {orders.filled}, rejected {orders.rejected},"
        f" unknown {orders.unknown}"
    )
    doors = _doors(document)
    if doors:
        yield f"turned away: {doors}"
    yield f"store: bars {store.bars}, signals {store.signals}, orders {store.orders}, deals {store.deals}"


def summary(document: SystemStatus) -> str:
    """Return the document in one line, for a log of plain text."""
    healthy = sum(node.state == "running" for node in document.nodes)
    account = document.account
    equity = f", equity {_money(account.equity)} {account.currency}" if account.login is not None else ""
    orders = document.orders
    received = sum(stream.received for stream in document.streams)
    return (
        f"{document.state}: {healthy} of {len(document.nodes)} nodes running, terminal {document.terminal.state}"
        f"{equity}, messages received {received}, orders submitted {orders.submitted} filled {orders.filled}"
        f" rejected {orders.rejected} unknown {orders.unknown}, open positions {len(document.positions)}"
    )


def _headline(document: SystemStatus) -> Text:
    account, text = document.account, Text("mt5bus ")
    text.append(document.state, style=_COLOURS.get(document.state, ""))
    if account.login is not None:
        text.append(f"   account {account.login} at {account.server}   {account.connection}   trading ")
        text.append(account.trading_mode or "-", style="" if account.trading_mode == "active" else "yellow")
        text.append(f"\nbalance {_money(account.balance)}   equity {_money(account.equity)} {account.currency}")
    for restriction in account.restrictions:
        text.append(f"\n{restriction}", style="yellow")
    return text


def _processes(document: SystemStatus) -> Table:
    table = _table("process", "state", "pid", "uptime", "restarts", "pong age", "lag", "cpu", "memory", "")
    table.columns[-1].no_wrap = False  # where it is narrow the remark is cut, before anything else
    terminal = document.terminal
    table.add_row(
        "terminal",
        _state(terminal.state),
        str(terminal.pid or "-"),
        _duration(terminal.uptime_s),
        str(terminal.restarts),
        "",
        "",
        f"{terminal.cpu_percent:.0f} %",
        f"{terminal.memory_mb:.0f} MB",
        Text(terminal.reason or terminal.kind, overflow="ellipsis", no_wrap=True),
    )
    for node in document.nodes:
        remark = node.detail if node.state == "running" else node.reason or node.detail
        table.add_row(
            node.name,
            _state(node.state),
            str(node.pid or "-"),
            _duration(node.uptime_s),
            str(node.restarts),
            _age(node.pong_age_s),
            _lag(node.lag_ms),
            f"{node.cpu_percent:.0f} %",
            f"{node.memory_mb:.0f} MB",
            Text(remark, overflow="ellipsis", no_wrap=True),
        )
    return table


def _prices(document: SystemStatus) -> Table:
    table = _table("symbol", "bid", "ask", "age")
    for price in document.prices:
        age_s = max(0, document.time_ms - price.time_ms) / 1000
        table.add_row(price.symbol, f"{price.bid:.10g}", f"{price.ask:.10g}", _duration(age_s))
    return table


def _counts(document: SystemStatus) -> Table:
    table = _table("", "")
    orders, store = document.orders, document.store
    received = sum(stream.received for stream in document.streams)
    gaps = sum(stream.gaps for stream in document.streams)
    skipped = sum(stream.skipped for stream in document.streams)
    table.add_row("orders", f"{orders.submitted} submitted, {orders.filled} filled, {orders.rejected} rejected,")
    unknown = Text(f"{orders.unknown} unknown", style="red" if orders.unknown else "")
    table.add_row("", unknown)
    table.add_row("store", f"{store.bars} bars, {store.signals} signals,")
    table.add_row("", f"{store.orders} orders, {store.deals} deals")
    table.add_row("streams", f"{received} received, {gaps} gaps, {skipped} skipped")
    if turned_away := _doors(document):
        table.add_row("turned away", Text(turned_away, style="yellow"))
    return table


def _doors(document: SystemStatus) -> str:
    """Return what was turned away in words; empty if nothing was."""
    doors = document.doors
    counts = (
        (doors.keys_refused, "keys"),
        (doors.handshakes_failed, "without a key"),
        (doors.malformed, "malformed"),
        (doors.crowded, "too many at once"),
    )
    return ", ".join(f"{count} {what}" for count, what in counts if count)


def _positions(document: SystemStatus) -> Table:
    table = _table("position", "symbol", "side", "volume", "open", "now", "sl", "tp", "profit", "strategy")
    for position in document.positions[:_SHOWN_POSITIONS]:
        table.add_row(
            str(position.ticket),
            position.symbol,
            position.side,
            f"{position.volume:g}",
            f"{position.price_open:.10g}",
            f"{position.price_current:.10g}",
            f"{position.sl:.10g}" if position.sl else "-",
            f"{position.tp:.10g}" if position.tp else "-",
            _profit(position.profit),
            position.strategy,
        )
    hidden = len(document.positions) - _SHOWN_POSITIONS
    if hidden > 0:
        table.add_row(f"and {hidden} more")
    return table


def _deals(document: SystemStatus) -> Table:
    table = _table("deal", "time", "symbol", "side", "entry", "volume", "price", "profit", "strategy")
    for deal in document.deals[:_SHOWN_DEALS]:
        time = datetime.fromtimestamp(deal.time_ms / 1000, UTC).strftime("%H:%M:%S")
        table.add_row(
            str(deal.ticket),
            time,
            deal.symbol,
            deal.side,
            deal.entry,
            f"{deal.volume:g}",
            f"{deal.price:.10g}",
            _profit(deal.profit),
            deal.strategy,
        )
    return table


def _table(*headers: str) -> Table:
    # Narrow enough for 80 columns: a console on a server has no more.
    table = Table(box=None, header_style="dim", padding=(0, 1, 0, 0), pad_edge=False)
    for header in headers:
        table.add_column(header, no_wrap=True)
    return table


def _state(state: str) -> Text:
    return Text(state, style=_COLOURS.get(state, ""))


def _profit(profit: float) -> Text:
    return Text(f"{profit:.2f}", style="green" if profit > 0 else "red" if profit < 0 else "")


def _money(value: float | None) -> str:
    return "-" if value is None else f"{value:,.2f}"


def _age(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f} s"


def _lag(milliseconds: float | None) -> str:
    return "-" if milliseconds is None else f"{milliseconds:.0f} ms"


def _clause(text: str) -> str:
    return f": {text}" if text else ""


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} m"
    return f"{minutes} m {left} s" if minutes else f"{left} s"
