"""One hand-written value of everything that the wire carries; the golden fixtures are made of these."""

from __future__ import annotations

from market.bars import Bar
from market.instrument import Instrument
from protocol import messages as m

ACCOUNT = m.Account(
    "Demo-Server", 5_012_345, "Ada", "EUR", 100, 0, 2, 10_000.0, 0.0, 12.5, 10_012.5, 108.5, 9904.0, 9228.11, True, True
)
POSITION = m.Position(
    ticket=71,
    identifier=70,
    symbol="EURUSD",
    type=0,
    volume=0.1,
    price_open=1.0851,
    sl=1.08,
    tp=1.095,
    price_current=1.0863,
    profit=12.0,
    swap=-0.5,
    magic=12345,
    comment="conf 1",
    reason=3,
    time_ms=1_700_000_000_000,
    time_update_ms=1_700_000_060_000,
    strategy="confluence",
    client_order_id="a1b2",
)
ORDER = m.Order(
    81, "EURUSD", 2, 1, 0.2, 0.2, 1.08, 0.0, 1.07, 1.1, 2, 0, 0, 0, 12345, "", 3, 1_700_000_000_000, 0, 0, "", "c-7"
)
DEAL = m.Deal(
    91, 81, 70, "EURUSD", 0, 0, 3, 0.1, 1.0851, 0.0, -0.35, 0.0, 0.0, 12345, "conf 1", 1_700_000_000_123, "confluence"
)
QUOTE = m.Quote("EURUSD", 1_700_000_000_456, 1.08501, 1.08509)
BAR = Bar(1_700_000_000_000, 1.1, 1.2, 1.0, 1.15, 42, 8)
INSTRUMENT = Instrument(
    symbol="EURUSD",
    broker_symbol="EURUSD.m",
    digits=5,
    point=1e-5,
    tick_size=1e-5,
    tick_value=1.0,
    contract_size=100_000.0,
    volume_min=0.01,
    volume_max=50.0,
    volume_step=0.01,
    volume_limit=0.0,
    stops_level_points=10,
    freeze_level_points=0,
    execution=2,
    filling_mask=3,
    order_mask=127,
    expiration_mask=15,
    trade_mode=4,
    calc_mode=0,
    currency_base="EUR",
    currency_profit="USD",
    currency_margin="EUR",
    description="Euro vs US Dollar",
    path="Forex\\Majors\\EURUSD",
)
INTENT = m.IntentEvent("a1b2", "confluence", "open", "done", "EURUSD", "buy", 0.1, 0.0, 1.08, 1.095, 10009)
SIGNAL = m.SignalEvent(
    "s-1", "confluence", "EURUSD", "S5", 1_700_000_000_000, 1, 0.75, 1.0851, {"rsi": 61.5}, True, "a1b2"
)
