"""Pure rules of the market: instruments, bars, server time, order and risk rules. No I/O, no clock, no state.

The types and the plainly named functions are gathered here; `market.orders.validate` and `market.risk.check` are
called by their module's name. `market.features` needs TA-Lib and is imported by its own name.
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
from market.orders import OrderInvalid, OrderSpec
from market.risk import RiskCode, RiskLimits, RiskRefusal, RiskState, TradingMode, daily_loss
from market.server_time import UTC_RULE, OffsetEstimator, ServerTimeRule, choose_rule, matching_rules
from market.sizing import loss_per_lot, volume_for_risk
from market.symbols import BrokerSymbol, SymbolAmbiguousError, SymbolNotFoundError, match_symbol

__all__ = [
    "UTC_RULE", "Bar", "BarBuilder", "BrokerSymbol", "CalcMode", "Execution", "ExpirationFlag", "Filling",
    "FillingError", "FillingFlag", "Instrument", "OffsetEstimator", "OrderFlag", "OrderInvalid", "OrderSpec",
    "RiskCode", "RiskLimits", "RiskRefusal", "RiskState", "ServerTimeRule", "SymbolAmbiguousError",
    "SymbolNotFoundError", "Timeframe", "TradeMode", "TradingMode", "VolumeError", "allowed_fillings",
    "choose_filling", "choose_rule", "daily_loss", "loss_per_lot", "match_symbol", "matching_rules",
    "normalize_volume", "period_open_utc_ms", "period_opens_utc_ms", "round_price", "volume_for_risk",
]  # fmt: skip
