"""Instruments that the tests of this package share."""

from __future__ import annotations

import msgspec

from market import CalcMode, Execution, ExpirationFlag, FillingFlag, Instrument, OrderFlag, TradeMode

EURUSD = Instrument(
    symbol="EURUSD",
    broker_symbol="EURUSD.m",
    digits=5,
    point=1e-5,
    tick_size=1e-5,
    tick_value=1.0,
    contract_size=100_000.0,
    volume_min=0.01,
    volume_max=100.0,
    volume_step=0.01,
    volume_limit=0.0,
    stops_level_points=10,
    freeze_level_points=0,
    execution=int(Execution.MARKET),
    filling_mask=int(FillingFlag.FOK | FillingFlag.IOC),
    order_mask=int(OrderFlag.ALL),
    expiration_mask=int(ExpirationFlag.ALL),
    trade_mode=int(TradeMode.FULL),
    calc_mode=int(CalcMode.FOREX),
    currency_base="EUR",
    currency_profit="USD",
    currency_margin="EUR",
    description="Euro vs US Dollar",
    path="Forex\\Majors\\EURUSD.m",
)


def variant(**changes: object) -> Instrument:
    """Return EURUSD with some fields changed."""
    return msgspec.structs.replace(EURUSD, **changes)
