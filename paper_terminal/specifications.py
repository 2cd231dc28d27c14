"""Specifications of symbols: what the broker fixes about each of them."""

from __future__ import annotations

from typing import Final

import msgspec

from paper_terminal.constants import (
    ORDER_TYPE_BUY_LIMIT,
    ORDER_TYPE_BUY_STOP,
    ORDER_TYPE_BUY_STOP_LIMIT,
    ORDER_TYPE_SELL,
    ORDER_TYPE_SELL_LIMIT,
    ORDER_TYPE_SELL_STOP,
    ORDER_TYPE_SELL_STOP_LIMIT,
    SYMBOL_CALC_MODE_CFDLEVERAGE,
    SYMBOL_CALC_MODE_EXCH_BONDS,
    SYMBOL_CALC_MODE_EXCH_BONDS_MOEX,
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
    sessions: dict[str, str] | None = None
    """Trading hours on the server's clock by weekday (`monday`): `HH:MM-HH:MM`, several with commas; a day left out is
    closed. None: always open."""
    holidays: tuple[str, ...] = ()
    """ISO dates without trading."""
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
    """Margin currency, per lot: of futures, and in any other mode instead of its formula; 0: by the formula."""
    margin_maintenance: float = 0.0
    """Margin currency, per lot of an open position; 0: the initial margin."""
    margin_rate: float = 1.0
    """Multiplier for market orders and positions, of both sides unless `margin_rate_short` says otherwise."""
    margin_rate_short: float | None = None
    margin_rate_limit: float = 0.0
    """Multiplier for limit orders that wait; 0, the brokers' habit: waiting costs nothing."""
    margin_rate_stop: float = 0.0
    margin_rate_stop_limit: float = 0.0
    margin_hedged: float | None = None
    """Contract size (with an initial margin: amount) that covered volume is charged by; None: the symbol's own."""
    margin_hedged_use_leg: bool = False
    """Margin of opposite positions is that of the larger side."""
    swap_mode: int = SYMBOL_SWAP_MODE_POINTS
    swap_long: float = 0.0
    swap_short: float = 0.0
    swap_rollover3days: int = 3
    commission_per_lot: float | None = None
    """Account currency, per lot and side; None: the broker's setting."""
    face_value: float = 0.0
    """Of one bond, in the profit currency; a bond's price is in percent of it."""
    accrued_interest: float = 0.0
    """Of one bond, in the profit currency. Shown; buyer and seller of a bond settle it alike."""
    liquidity_rate: float = 0.0
    """Part of a collateral asset's value that counts."""
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
        if self.calc_mode in {SYMBOL_CALC_MODE_FUTURES, SYMBOL_CALC_MODE_EXCH_FUTURES}:
            return self.tick_worth / self.step
        if self.calc_mode in {SYMBOL_CALC_MODE_EXCH_BONDS, SYMBOL_CALC_MODE_EXCH_BONDS_MOEX}:
            return self.contract_size * self.face_value / 100.0
        return self.contract_size

    @property
    def hedged_size(self) -> float:
        """Return what covered volume is charged by: a contract size, or with an initial margin an amount."""
        if self.margin_hedged is not None:
            return self.margin_hedged
        return self.margin_initial or self.contract_size

    def fixed_margin(self, *, maintenance: bool) -> float:
        """Return the margin per lot that replaces the formula, in the margin currency; 0.0 for none.

        Args:
            maintenance: That of holding a position; otherwise that of opening one.
        """
        return (maintenance and self.margin_maintenance) or self.margin_initial

    def margin_rate_of(self, order_type: int) -> float:
        """Return the multiplier for an order type; positions and market orders share theirs."""
        if order_type in {ORDER_TYPE_BUY_LIMIT, ORDER_TYPE_SELL_LIMIT}:
            return self.margin_rate_limit
        if order_type in {ORDER_TYPE_BUY_STOP, ORDER_TYPE_SELL_STOP}:
            return self.margin_rate_stop
        if order_type in {ORDER_TYPE_BUY_STOP_LIMIT, ORDER_TYPE_SELL_STOP_LIMIT}:
            return self.margin_rate_stop_limit
        if order_type == ORDER_TYPE_SELL and self.margin_rate_short is not None:
            return self.margin_rate_short
        return self.margin_rate

    @property
    def margin_currency(self) -> str:
        """Return the currency margin is counted in."""
        return self.currency_margin or self.currency_base

    def price(self, value: float) -> float:
        """Return a price rounded to the symbol's digits."""
        return round(value, self.digits)

    def on_step(self, value: float) -> bool:
        """Tell whether a price, once on the symbol's digits, lies on its tick size."""
        if not self.tick_size:
            return True
        steps = self.price(value) / self.tick_size
        return abs(steps - round(steps)) < 1e-3


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
