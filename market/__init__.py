"""Pure rules of the market: instruments, bars, server time, order and risk rules. No I/O, no clock, no state.

Every name other packages use is gathered here, but for `market.features`, which needs TA-Lib and is
imported by its own name.
"""

from market.bars import Bar, BarBuilder, Timeframe, period_open_utc_ms, period_opens_utc_ms
from market.instrument import (
    CalcMode,
    Execution,
    ExpirationFlag,
    Filling,
    FillingError,
    FillingFlag,
    Instrument,
    OrderFlag,
    TradeMode,
    VolumeError,
    allowed_fillings,
    choose_filling,
    normalize_volume,
    round_price,
)
from market.server_time import UTC_RULE, OffsetEstimator, ServerTimeRule, choose_rule, matching_rules

__all__ = [
    "UTC_RULE",
    "Bar",
    "BarBuilder",
    "CalcMode",
    "Execution",
    "ExpirationFlag",
    "Filling",
    "FillingError",
    "FillingFlag",
    "Instrument",
    "OffsetEstimator",
    "OrderFlag",
    "ServerTimeRule",
    "Timeframe",
    "TradeMode",
    "VolumeError",
    "allowed_fillings",
    "choose_filling",
    "choose_rule",
    "matching_rules",
    "normalize_volume",
    "period_open_utc_ms",
    "period_opens_utc_ms",
    "round_price",
]
