"""Values that the strategy's tests share: an account, instruments, bars, events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from market.bars import Bar
from market.instrument import Instrument
from protocol.messages import Account, Event, EventBody, IntentEvent, Position, Quote, Snapshot, TickBatch
from protocol.ticks import RATE_DTYPE, TICK_DTYPE
from strategy.inputs import LOG_VERSION, Began
from strategy.loading import packed_parameters
from strategy.sdk import Strategy

SERVER = "Paper-Demo"
LOGIN = 5001
LOG_ID = "log1"
START_MS = 1_700_000_000_000
TIMEFRAME = "S5"
PERIOD_MS = 5_000


def account(*, equity: float = 10_000.0, login: int = LOGIN) -> Account:
    return Account(
        server=SERVER, login=login, name="Paper", currency="USD", leverage=100, trade_mode=0, margin_mode=2,
        balance=10_000.0, credit=0.0, profit=0.0, equity=equity, margin=0.0, margin_free=equity, margin_level=0.0,
        trade_allowed=True, trade_expert=True,
    )  # fmt: skip


def instrument(symbol: str = "EURUSD") -> Instrument:
    return Instrument(
        symbol=symbol, broker_symbol=symbol, digits=5, point=0.00001, tick_size=0.00001, tick_value=1.0,
        contract_size=100_000.0, volume_min=0.01, volume_max=100.0, volume_step=0.01, volume_limit=0.0,
        stops_level_points=0, freeze_level_points=0, execution=2, filling_mask=3, order_mask=127, expiration_mask=15,
        trade_mode=4, calc_mode=0, currency_base="EUR", currency_profit="USD", currency_margin="EUR",
        description="Euro", path="Forex\\Majors",
    )  # fmt: skip


def snapshot(
    *,
    symbols: Sequence[str] = ("EURUSD",),
    offset: int = 0,
    positions: tuple[Position, ...] = (),
    intents: tuple[IntentEvent, ...] = (),
    log_id: str = LOG_ID,
    request_id: int = 0,
    login: int | None = LOGIN,
) -> Snapshot:
    return Snapshot(
        id=request_id, log_id=log_id, offset=offset, epoch=1, market_ms=START_MS,
        account=account(login=login) if login is not None else None, positions=positions, orders=(),
        instruments=tuple(instrument(symbol) for symbol in symbols), intents=intents, trading_mode="active",
        connection="connected", server_offset_minutes=0, server_time_status="configured",
    )  # fmt: skip


def position(identifier: int = 100, *, symbol: str = "EURUSD", strategy: str = "test", volume: float = 0.1) -> Position:
    return Position(
        ticket=identifier, identifier=identifier, symbol=symbol, type=0, volume=volume, price_open=1.1, sl=1.0, tp=1.2,
        price_current=1.1, profit=0.0, swap=0.0, magic=1, comment="", reason=0, time_ms=START_MS,
        time_update_ms=START_MS, strategy=strategy,
    )  # fmt: skip


def intent(client_order_id: str, state: str, *, strategy: str = "test", position: int = 0) -> IntentEvent:
    return IntentEvent(
        client_order_id=client_order_id, strategy=strategy, action="open", state=state, symbol="EURUSD", side="buy",
        volume=0.1, price=0.0, sl=0.0, tp=0.0, position=position,
    )  # fmt: skip


def event(offset: int, body: EventBody, *, log_id: str = LOG_ID, login: int = LOGIN) -> Event:
    return Event(log_id, offset, 1, START_MS, START_MS, SERVER, login, body)


def bar(number: int, close: float = 1.1, *, open_: float | None = None, spread_points: int = 1) -> Bar:
    """Return the bar that opens `number` periods after the start."""
    first = close if open_ is None else open_
    return Bar(
        open_time_ms=START_MS + number * PERIOD_MS,
        open=first,
        high=max(first, close) + 0.00002,
        low=min(first, close) - 0.00002,
        close=close,
        tick_volume=10,
        spread_points=spread_points,
    )


def rates(bars: Iterable[Bar]) -> bytes:
    """Return bars as the records that `GetRates` gives."""
    rows = [
        (b.open_time_ms // 1000, b.open, b.high, b.low, b.close, b.tick_volume, b.spread_points, b.real_volume)
        for b in bars
    ]
    return np.array(rows, dtype=RATE_DTYPE).tobytes()


def ticks(*quotes: tuple[int, float]) -> bytes:
    """Return (time_ms, bid) pairs as tick records with a spread of one pip."""
    rows = [(time_ms // 1000, bid, bid + 0.0001, 0.0, 0, time_ms, 6, 0.0) for time_ms, bid in quotes]
    return np.array(rows, dtype=TICK_DTYPE).tobytes()


def batch(*quotes: tuple[int, float], first: int = 1) -> TickBatch:
    return TickBatch(1, first, 0, ticks(*quotes))


def quote(symbol: str = "EURUSD", bid: float = 1.1, time_ms: int = START_MS) -> Quote:
    return Quote(symbol, time_ms, bid, bid + 0.00008)


def began(strategy: Strategy, *, name: str = "test", symbols: tuple[str, ...] = ("EURUSD",), **more: object) -> Began:
    values: dict[str, object] = {
        "version": LOG_VERSION, "strategy": name, "class_path": class_path(type(strategy)),
        "parameters": packed_parameters(strategy), "symbols": symbols, "timeframe": TIMEFRAME,
        "server": SERVER, "login": LOGIN,
    }  # fmt: skip
    return Began(**(values | more))  # type: ignore[arg-type]


def class_path(found: type[Strategy]) -> str:
    return f"{found.__module__}:{found.__qualname__}"


def example_path() -> Path:
    return Path(__file__).resolve().parents[2] / "examples" / "minimal_strategy.py"
