"""Specifications of symbols: what the broker fixes about each of them."""

from __future__ import annotations

from typing import Final

import msgspec

from paper_terminal.constants import (
    SYMBOL_CALC_MODE_CFDLEVERAGE,
    SYMBOL_CALC_MODE_EXCH_FUTURES,
    SYMBOL_CALC_MODE_FOREX,
    SYMBOL_CALC_MODE_FUTURES,
    SYMBOL_CHART_MODE_BID,
    SYMBOL_CHART_MODE_LAST,
    SYMBOL_SWAP_MODE_POINTS,
    SYMBOL_TRADE_EXECUTION_MARKET,
    SYMBOL_TRADE_MODE_FULL,
)

# Bits of `filling_mode`; the package exports no names for them, and they are not ORDER_FILLING values.
FILLING_FOK: Final = 1
FILLING_IOC: Final = 2
FILLING_BOC: Final = 4

# Bits of `order_mode`.
ORDER_MARKET: Final = 1
ORDER_LIMIT: Final = 2
ORDER_STOP: Final = 4
ORDER_STOP_LIMIT: Final = 8
ORDER_SL: Final = 16
ORDER_TP: Final = 32
ORDER_CLOSE_BY: Final = 64
ORDER_ALL: Final = 127

# Values of `order_gtc_mode`.
GTC: Final = 0
DAILY: Final = 1
DAILY_EXCEPT_STOPS: Final = 2

# Bits of `expiration_mode`: one per ORDER_TIME value, in their order.
EXPIRATION_ALL: Final = 15


class Specification(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One symbol, by its plain name (EURUSD): prefix and suffix of the broker come on top."""

    name: str
    description: str = ""
    group: str = "Forex"
    """First part of the symbol's path."""
    currency_base: str
    currency_profit: str
    currency_margin: str = ""
    """Empty: the base currency."""
    digits: int
    tick_size: float = 0.0
    """0: one point."""
    tick_value: float = 0.0
    """Profit currency, what one tick is worth per lot on futures and indices; 0: tick size times contract size."""
    contract_size: float = 100_000.0
    calc_mode: int = SYMBOL_CALC_MODE_FOREX
    chart_mode: int = SYMBOL_CHART_MODE_BID
    """0: bars are of the bid; 1: of the last price, so only deals make bars."""
    trade_mode: int = SYMBOL_TRADE_MODE_FULL
    exemode: int = SYMBOL_TRADE_EXECUTION_MARKET
    """0 Request, 1 Instant, 2 Market, 3 Exchange."""
    filling_mode: int = FILLING_FOK | FILLING_IOC
    order_mode: int = ORDER_ALL
    expiration_mode: int = EXPIRATION_ALL
    order_gtc_mode: int = GTC
    """0: orders live until cancelled; 1: orders, SL and TP end with the day; 2: orders do, SL and TP stay."""
    book_depth: int = 0
    """Prices on each side of the market depth; 0: the symbol has none."""
    liquidity_lots: float = 0.0
    """Most lots that one order can fill at one tick, the rest waits or is cancelled; 0: no limit."""
    stops_level: int = 0
    """Points between the market and a stop, a take profit or a pending price."""
    freeze_level: int = 0
    """Points."""
    volume_min: float = 0.01
    volume_max: float = 100.0
    volume_step: float = 0.01
    volume_limit: float = 0.0
    """Lots in one direction; 0: no limit."""
    margin_initial: float = 0.0
    """Margin currency, per lot of a futures symbol."""
    margin_maintenance: float = 0.0
    """Shown, not charged."""
    margin_rate: float = 1.0
    margin_hedged: float | None = None
    """Contract size (of futures: amount) that covered volume is charged by; None: the symbol's own."""
    margin_hedged_use_leg: bool = False
    """Margin of opposite positions is that of the larger side."""
    swap_mode: int = SYMBOL_SWAP_MODE_POINTS
    swap_long: float = 0.0
    swap_short: float = 0.0
    swap_rollover3days: int = 3
    commission_per_lot: float | None = None
    """Account currency, per lot and side; None: the broker's setting."""
    synthetic_price: float = 0.0
    """Price the synthetic market wanders around; 0: the feed's own, where it knows the symbol."""

    @property
    def point(self) -> float:
        """Return the last decimal of a price."""
        return float(f"1e-{self.digits}")

    @property
    def step(self) -> float:
        """Return the smallest change of a price."""
        return self.tick_size or self.point

    @property
    def by_last(self) -> bool:
        """Tell whether the symbol is charted by its last price."""
        return self.chart_mode == SYMBOL_CHART_MODE_LAST

    @property
    def tick_worth(self) -> float:
        """Return what one tick of one lot is worth, in the profit currency."""
        return self.tick_value or self.step * self.contract_size

    @property
    def profit_per_price(self) -> float:
        """Return what a move of the price by 1 gives per lot, in the profit currency."""
        by_tick = self.calc_mode in {SYMBOL_CALC_MODE_FUTURES, SYMBOL_CALC_MODE_EXCH_FUTURES}
        return self.tick_worth / self.step if by_tick else self.contract_size

    @property
    def margin_currency(self) -> str:
        """Return the currency margin is counted in."""
        return self.currency_margin or self.currency_base

    def price(self, value: float) -> float:
        """Return a price rounded to the symbol's digits."""
        return round(value, self.digits)


DEFAULT_SPECIFICATIONS: Final = (
    Specification(
        name="EURUSD",
        description="Euro vs US Dollar",
        currency_base="EUR",
        currency_profit="USD",
        digits=5,
        swap_long=-6.4,
        swap_short=2.1,
    ),
    Specification(
        name="GBPUSD",
        description="Great Britain Pound vs US Dollar",
        currency_base="GBP",
        currency_profit="USD",
        digits=5,
        swap_long=-3.2,
        swap_short=-1.4,
    ),
    Specification(
        name="USDJPY",
        description="US Dollar vs Japanese Yen",
        currency_base="USD",
        currency_profit="JPY",
        digits=3,
        swap_long=9.7,
        swap_short=-21.3,
    ),
    Specification(
        name="XAUUSD",
        description="Gold vs US Dollar",
        group="Metals",
        currency_base="XAU",
        currency_profit="USD",
        currency_margin="USD",
        digits=2,
        contract_size=100.0,
        calc_mode=SYMBOL_CALC_MODE_CFDLEVERAGE,
        volume_max=50.0,
        swap_long=-38.0,
        swap_short=12.0,
    ),
)
