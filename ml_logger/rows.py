"""Messages become rows. Pure: no socket, no database.

A `Batch` gathers the rows of one transaction, with the event position and the coverage that they bring about.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from market.bars import Bar, Timeframe
from protocol.messages import (
    BarUpdate,
    Deal,
    DealEvent,
    Event,
    IntentEvent,
    Order,
    OrderEvent,
    Position,
    PositionEvent,
    SignalEvent,
    Snapshot,
)
from protocol.numbering import EventPosition
from protocol.ticks import rates_array

Row = dict[str, Any]

BUILT_FROM_TICKS = 0
THE_TERMINALS_OWN = 1
SEEN_OPEN = "open"

_ORDER_FIELDS = tuple(name for name in Order.__struct_fields__ if name != "ticket")
_DEAL_FIELDS = tuple(name for name in Deal.__struct_fields__ if name != "ticket")
_INTENT_FIELDS = tuple(name for name in IntentEvent.__struct_fields__ if name != "client_order_id")
_POSITION_FIELDS = tuple(
    name for name in Position.__struct_fields__ if name not in {"identifier", "price_current", "profit"}
)
_SIGNAL_FIELDS = tuple(name for name in SignalEvent.__struct_fields__ if name not in {"signal_id", "features"})


class Account(msgspec.Struct, frozen=True):
    """Whose facts they are: the broker's server and the account number."""

    server: str
    login: int


class Learnt(msgspec.Struct, frozen=True, order=True):
    """Where a state was learnt: the store's number of the event log, and the offset in it."""

    log_number: int
    offset: int


FROM_HISTORY = Learnt(0, 0)


class Batch:
    """Rows to write in one transaction. `position`: events up to it are in here or already stored."""

    def __init__(self, adapter: str) -> None:
        self.adapter = adapter
        self.rows: dict[str, list[Row]] = {}
        self.position: EventPosition | None = None
        self.coverage: dict[str, int] = {}

    def __len__(self) -> int:
        return sum(len(rows) for rows in self.rows.values())

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return not self.rows and self.position is None and not self.coverage

    def add_event(self, event: Event, log_number: int) -> None:
        """Add what `event` says, and move `position` past it. Sorts that the store does not keep only move it."""
        account = Account(event.server, event.login)
        learnt = Learnt(log_number, event.offset)
        match event.body:
            case DealEvent(deal=deal):
                self.add_deals(account, (deal,))
            case OrderEvent(order=order):
                self.add_orders(account, (order,), learnt)
            case PositionEvent(change=change, position=position):
                self.add_positions(account, (position,), learnt, change)
            case IntentEvent() as intent:
                self.add_intents(account, (intent,), learnt)
            case SignalEvent() as signal:
                self._add_signal(account, signal, event.market_ms)
            case _:
                pass  # trading modes and alerts are the logs' and the status's, not training material
        self.position = EventPosition(event.log_id, event.offset)

    def add_snapshot(self, snapshot: Snapshot, log_number: int) -> None:
        """Add the state as of a snapshot; without a known account there is none to keep."""
        if snapshot.account is None:
            return
        account = Account(snapshot.account.server, snapshot.account.login)
        learnt = Learnt(log_number, snapshot.offset)
        self.add_positions(account, snapshot.positions, learnt, SEEN_OPEN)
        self.add_orders(account, snapshot.orders, learnt)
        self.add_intents(account, snapshot.intents, learnt)

    def add_bar(self, source: str, symbol: str, update: BarUpdate) -> None:
        """Add a bar of the stream."""
        self._add("bars", _bar_row(source, symbol, update.timeframe, update.revision, update.bar))

    def add_rates(self, source: str, symbol: str, timeframe: str, records: bytes) -> None:
        """Add bars of the history, as 60-byte rate records.

        The terminal's own bars win over ones built from ticks; of periods it lacks, history too is built from ticks.

        Raises:
            DataInvalid: `records` is no whole number of records.
            ValueError: There is no such timeframe.
        """
        own = Timeframe.parse(timeframe).mt5_code is not None
        revision = THE_TERMINALS_OWN if own else BUILT_FROM_TICKS
        for time_s, open_, high, low, close, tick_volume, spread, real_volume in rates_array(records).tolist():
            bar = Bar(time_s * 1000, open_, high, low, close, tick_volume, spread, real_volume)
            self._add("bars", _bar_row(source, symbol, timeframe, revision, bar))

    def add_deals(self, account: Account, deals: Iterable[Deal]) -> None:
        """Add executed deals."""
        for deal in deals:
            self._add("deals", _row(account, "ticket", deal.ticket, deal, _DEAL_FIELDS))

    def add_orders(self, account: Account, orders: Iterable[Order], learnt: Learnt) -> None:
        """Add the state of broker orders."""
        for order in orders:
            row = _row(account, "ticket", order.ticket, order, _ORDER_FIELDS, learnt)
            self._add("orders", row | {"final": order.time_done_ms != 0})

    def add_intents(self, account: Account, intents: Iterable[IntentEvent], learnt: Learnt) -> None:
        """Add the state of our own orders."""
        for intent in intents:
            self._add(
                "intents", _row(account, "client_order_id", intent.client_order_id, intent, _INTENT_FIELDS, learnt)
            )

    def add_positions(self, account: Account, positions: Iterable[Position], learnt: Learnt, change: str) -> None:
        """Add the state of positions."""
        for position in positions:
            row = _row(account, "identifier", position.identifier, position, _POSITION_FIELDS, learnt)
            self._add("positions", row | {"change": change})

    def _add_signal(self, account: Account, signal: SignalEvent, time_ms: int) -> None:
        row = _row(account, "signal_id", signal.signal_id, signal, _SIGNAL_FIELDS)
        self._add("signals", row | {"time_ms": time_ms})
        key = {name: row[name] for name in ("server", "login", "signal_id")}
        for name, value in signal.features.items():
            self._add("signal_features", key | {"name": _clean(name), "value": _clean(value)})

    def _add(self, table: str, row: Row) -> None:
        self.rows.setdefault(table, []).append(row)


def _row(
    account: Account,
    key: str,
    value: str | int,
    fact: msgspec.Struct,
    fields: Sequence[str],
    learnt: Learnt | None = None,
) -> Row:
    row: Row = {"server": _clean(account.server), "login": _clean(account.login), key: _clean(value)}
    row |= {name: _clean(getattr(fact, name)) for name in fields}
    if learnt is not None:
        row |= {"log_number": learnt.log_number, "log_offset": learnt.offset}
    return row


def _bar_row(source: str, symbol: str, timeframe: str, revision: int, bar: Bar) -> Row:
    return {"source": source, "symbol": symbol, "timeframe": timeframe, "revision": revision} | {
        name: _clean(getattr(bar, name)) for name in Bar.__struct_fields__
    }


def _clean(value: Any) -> Any:
    """Return what both databases keep: PostgreSQL knows no NUL in text, neither an unsigned 64-bit number."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, int) and value >= 1 << 63:
        return value - (1 << 64)
    return value
