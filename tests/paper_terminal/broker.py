"""A broker in this process, with a market that tests move by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from paper_terminal import constants as api
from paper_terminal.accounts import Account
from paper_terminal.engine import Engine
from paper_terminal.ledger_records import Deal, Order, Position, SendResult, TradeRequest
from paper_terminal.records import TICK_DTYPE, TICK_FLAG_ASK, TICK_FLAG_BID, Records
from paper_terminal.settings import AccountSettings, Settings
from paper_terminal.specifications import DEFAULT_SPECIFICATIONS, Specification
from paper_terminal.state import Change, Loaded, Store
from paper_terminal.trading import TradeDesk

START_MS = 1_772_000_000_000
EURUSD = DEFAULT_SPECIFICATIONS[0]
USDJPY = DEFAULT_SPECIFICATIONS[2]


def ticks(*quotes: tuple[int, float, float]) -> Records:
    """Return tick records of (time_ms, bid, ask)."""
    records = np.zeros(len(quotes), dtype=TICK_DTYPE)
    for record, (time_ms, bid, ask) in zip(records, quotes, strict=True):
        record["time"], record["time_msc"] = time_ms // 1000, time_ms
        record["bid"], record["ask"] = bid, ask
        record["flags"] = TICK_FLAG_BID | TICK_FLAG_ASK
    return records


class KeepingStore:
    """Keeps what was committed, as bytes, so that nothing of the engine's own objects survives in it."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, int, int], bytes] = {}
        self.facts: dict[str, int] = {}

    def commit(self, changes: Iterable[Change], facts: dict[str, int]) -> None:
        for table, login, ticket, record in changes:
            if record is None:
                self.records.pop((table, login, ticket), None)
            else:
                self.records[table, login, ticket] = msgspec.msgpack.encode(record)
        self.facts |= facts

    def load(self, login: int) -> Loaded:
        def kept(table: str, kind: type[Any]) -> list[Any]:
            keys = sorted(key for key in self.records if key[:2] == (table, login))
            return [msgspec.msgpack.decode(self.records[key], type=kind) for key in keys]

        return Loaded(
            kept("positions", Position), kept("orders", Order), kept("history_orders", Order), kept("deals", Deal)
        )


class Broker:
    """An engine with one account, quoting EURUSD at 1.10000/1.10010 to begin with."""

    def __init__(
        self,
        *,
        symbols: tuple[Specification, ...] = (EURUSD, USDJPY),
        account: AccountSettings | None = None,
        store: Store | None = None,
        **settings: Any,
    ) -> None:
        self.settings = Settings(
            symbols=symbols, commission_per_lot=settings.pop("commission_per_lot", 3.0), **settings
        )
        self.store = store or KeepingStore()
        self.account_settings = account or AccountSettings()
        self.now_ms = START_MS
        self._start({}, Loaded([], [], [], []))
        self.quote("EURUSD", 1.10000, 1.10010)
        if USDJPY in symbols:
            self.quote("USDJPY", 150.000, 150.010)

    def _start(self, facts: dict[str, int], loaded: Loaded) -> None:
        self.engine = Engine(self.settings, store=self.store, facts=facts, now_ms=self.now_ms)
        self.account: Account = self.engine.open_account(self.account_settings, loaded)
        self.desk = TradeDesk(self.engine)

    def restart(self) -> None:
        """Begin again from what was committed, at the same quotes."""
        assert isinstance(self.store, KeepingStore)
        quotes = dict(self.engine.quotes)
        self._start(self.store.facts, self.store.load(self.account_settings.login))
        self.engine.quotes.update(quotes)

    def quote(self, symbol: str, bid: float, ask: float, *, after_ms: int = 1000) -> None:
        """Let a tick happen."""
        self.now_ms += after_ms
        self.engine.on_ticks([(symbol, ticks((self.now_ms, bid, ask)))], self.now_ms)

    def send(self, **fields: Any) -> SendResult:
        """Send a request: a market order of EURUSD unless said otherwise."""
        wanted: dict[str, Any] = {"action": api.TRADE_ACTION_DEAL, "symbol": "EURUSD"} | fields
        return self.desk.send(self.account, TradeRequest(**wanted))

    def buy(self, volume: float = 0.1, **fields: Any) -> Position:
        """Open a long position."""
        return self._open(api.ORDER_TYPE_BUY, volume, fields)

    def sell(self, volume: float = 0.1, **fields: Any) -> Position:
        """Open a short position."""
        return self._open(api.ORDER_TYPE_SELL, volume, fields)

    def _open(self, order_type: int, volume: float, fields: dict[str, Any]) -> Position:
        result = self.send(type=order_type, volume=volume, **fields)
        assert result.retcode == api.TRADE_RETCODE_DONE, result
        return self.account.positions.get(result.order) or self.account.positions_on(fields.get("symbol", "EURUSD"))[0]

    def close(self, position: Position, volume: float | None = None, **fields: Any) -> SendResult:
        """Close a position or part of it."""
        opposite = api.ORDER_TYPE_SELL if position.is_buy else api.ORDER_TYPE_BUY
        return self.send(
            **(
                {
                    "symbol": position.symbol,
                    "position": position.ticket,
                    "type": opposite,
                    "volume": position.volume if volume is None else volume,
                }
                | fields
            )
        )


def show_singly(engine: Engine, blocks: Sequence[tuple[str, Records]], end_ms: int) -> None:
    """Show an engine each tick of some blocks by itself, in the order of their times, and then `end_ms`."""
    queue = sorted(
        (int(tick["time_msc"]), place, index)
        for place, (_, ticks) in enumerate(blocks)
        for index, tick in enumerate(ticks)
    )
    for time_ms, place, index in queue:
        name, ticks = blocks[place]
        engine.on_ticks([(name, ticks[index : index + 1])], time_ms)
    engine.on_ticks([], end_ms)
