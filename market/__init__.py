"""Pure rules of the market: instruments, bars, server time, order and risk rules. No I/O, no clock, no state.

Every name other packages use is gathered here, but for `market.features`, which needs TA-Lib and is
imported by its own name.
"""

from market.bars import Bar, Timeframe
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

__all__ = [
    "Bar",
    "CalcMode",
    "Execution",
    "ExpirationFlag",
    "Filling",
    "FillingError",
    "FillingFlag",
    "Instrument",
    "OrderFlag",
    "Timeframe",
    "TradeMode",
    "VolumeError",
    "allowed_fillings",
    "choose_filling",
    "normalize_volume",
    "round_price",
]
