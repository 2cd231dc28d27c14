"""Money: profit and margin of a volume, converted to the account's currency at the present quotes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from paper_terminal.constants import (
    SYMBOL_CALC_MODE_CFD,
    SYMBOL_CALC_MODE_CFDINDEX,
    SYMBOL_CALC_MODE_CFDLEVERAGE,
    SYMBOL_CALC_MODE_EXCH_BONDS,
    SYMBOL_CALC_MODE_EXCH_BONDS_MOEX,
    SYMBOL_CALC_MODE_EXCH_FUTURES,
    SYMBOL_CALC_MODE_EXCH_OPTIONS,
    SYMBOL_CALC_MODE_EXCH_OPTIONS_MARGIN,
    SYMBOL_CALC_MODE_EXCH_STOCKS,
    SYMBOL_CALC_MODE_EXCH_STOCKS_MOEX,
    SYMBOL_CALC_MODE_FOREX,
    SYMBOL_CALC_MODE_FOREX_NO_LEVERAGE,
    SYMBOL_CALC_MODE_FUTURES,
    SYMBOL_CALC_MODE_SERV_COLLATERAL,
)
from paper_terminal.specifications import Specification

FUTURES: Final = frozenset({SYMBOL_CALC_MODE_FUTURES, SYMBOL_CALC_MODE_EXCH_FUTURES})
SHARES: Final = frozenset({SYMBOL_CALC_MODE_EXCH_STOCKS, SYMBOL_CALC_MODE_EXCH_STOCKS_MOEX})
"""Modes whose margin goes by the last price, where the feed has one."""
BONDS: Final = frozenset({SYMBOL_CALC_MODE_EXCH_BONDS, SYMBOL_CALC_MODE_EXCH_BONDS_MOEX})
"""Modes whose price is in percent of the face value."""
EXCHANGE_MODES: Final = SHARES | BONDS | {SYMBOL_CALC_MODE_EXCH_FUTURES}
"""Modes whose pending orders wait for the last price, where the feed has one."""
OPTIONS: Final = frozenset({SYMBOL_CALC_MODE_EXCH_OPTIONS, SYMBOL_CALC_MODE_EXCH_OPTIONS_MARGIN})
"""Modes whose formulas are documented nowhere."""
_PRICED: Final = SHARES | BONDS | {SYMBOL_CALC_MODE_CFD, SYMBOL_CALC_MODE_CFDLEVERAGE, SYMBOL_CALC_MODE_CFDINDEX}
_LEVERAGED: Final = frozenset({SYMBOL_CALC_MODE_FOREX, SYMBOL_CALC_MODE_CFDLEVERAGE})
CALC_MODES: Final = (
    _PRICED | FUTURES | {SYMBOL_CALC_MODE_FOREX, SYMBOL_CALC_MODE_FOREX_NO_LEVERAGE, SYMBOL_CALC_MODE_SERV_COLLATERAL}
)
"""Calculation modes offered."""


class Quote(NamedTuple):
    """The latest prices of a symbol; `time_ms` is UTC, `last` the price of the last deal or 0."""

    bid: float
    ask: float
    time_ms: int
    last: float = 0.0


class Closing(NamedTuple):
    """What every position of a symbol that closes at one price gives."""

    price: float
    per_price: float
    """Profit currency, per lot and a move of the price by 1."""
    rate: float
    """Of the profit currency in the account's."""
    by_value: bool
    """Whether the whole value counts, whatever it cost."""

    def profit(self, *, buy: bool, volume: float, opened: float) -> float:
        """Return the profit of a volume, unrounded."""
        cost = 0.0 if self.by_value else opened
        return (self.price - cost if buy else cost - self.price) * self.per_price * volume * self.rate


class NoRate(Exception):
    """A currency cannot be converted: no chain of quoted symbols joins it to the account's."""


class Converter:
    """Conversion between currencies over the symbols that have quotes."""

    def __init__(self, specifications: Iterable[Specification], quotes: Mapping[str, Quote]) -> None:
        self._quotes = quotes
        self._neighbours: dict[str, list[tuple[str, str, bool]]] = {}
        for each in specifications:
            if each.currency_base == each.currency_profit:
                continue
            self._neighbours.setdefault(each.currency_base, []).append((each.currency_profit, each.name, True))
            self._neighbours.setdefault(each.currency_profit, []).append((each.currency_base, each.name, False))

    def rate(self, source: str, target: str) -> float:
        """Return how much of `target` one unit of `source` is sold for: bid one way, ask the other.

        Raises:
            NoRate: no chain of quoted symbols joins the two.
        """
        rates, front = {source: 1.0}, [source]
        while front and target not in rates:
            found: list[str] = []
            for currency in front:
                for other, symbol, forward in self._neighbours.get(currency, ()):
                    quote = self._quotes.get(symbol)
                    if other in rates or quote is None:
                        continue
                    rates[other] = rates[currency] * (quote.bid if forward else 1.0 / quote.ask)
                    found.append(other)
            front = found
        if target not in rates:
            raise NoRate(f"no quoted symbols join {source} to {target}")
        return rates[target]

    def profit(
        self, symbol: Specification, *, buy: bool, volume: float, opened: float, closed: float, to: str
    ) -> float:
        """Return the profit of a closed volume in currency `to`, unrounded.

        A bond's is the change of its price alone: the documents give its whole value, interest included, which it
        cost to buy as well. Of a collateral asset it is the value that counts, whatever it cost.

        Raises:
            NoRate: the profit's currency cannot be converted.
        """
        return self.closing(symbol, closed, to).profit(buy=buy, volume=volume, opened=opened)

    def closing(self, symbol: Specification, closed: float, to: str) -> Closing:
        """Return what closing at a price gives in currency `to`.

        Raises:
            NoRate: the profit's currency cannot be converted.
        """
        by_value = symbol.calc_mode == SYMBOL_CALC_MODE_SERV_COLLATERAL
        if by_value:
            closed *= symbol.liquidity_rate
        rate = self._rate_at(symbol, symbol.currency_profit, to, closed)
        return Closing(closed, symbol.profit_per_price, rate, by_value)

    def margin(
        self,
        symbol: Specification,
        *,
        volume: float,
        price: float,
        leverage: int,
        to: str,
        rate: float | None = None,
        size: float | None = None,
        maintenance: bool = False,
    ) -> float:
        """Return the margin of a volume in currency `to`, unrounded.

        Args:
            symbol: What is traded. Its initial margin, where it has one, replaces the formula of its mode.
            volume: Lots.
            price: Price of the position or order; of shares the last price where there is one.
            leverage: The account's.
            to: Currency of the result.
            rate: Multiplier; None: that of a long position.
            size: Charge by this contract size instead, or by this amount where the symbol's margin is an amount.
            maintenance: Charge what holding a position costs, not what opening it does.

        Raises:
            NoRate: the margin's currency cannot be converted.
        """
        if symbol.calc_mode == SYMBOL_CALC_MODE_SERV_COLLATERAL:
            return 0.0
        amount = volume * (symbol.margin_rate if rate is None else rate)
        fixed = symbol.fixed_margin(maintenance=maintenance)
        if fixed:
            amount *= fixed if size is None else size
        else:
            amount *= symbol.contract_size if size is None else size
            amount *= self._formula(symbol, price, leverage)
        return amount * self._rate_at(symbol, symbol.margin_currency, to, price) if amount else 0.0

    @staticmethod
    def _formula(symbol: Specification, price: float, leverage: int) -> float:
        """Return what the calculation mode makes of one unit."""
        factor = price if symbol.calc_mode in _PRICED else 1.0
        if symbol.calc_mode == SYMBOL_CALC_MODE_CFDINDEX:
            factor *= symbol.tick_worth / symbol.step
        if symbol.calc_mode in BONDS:
            factor *= symbol.face_value / 100.0
        return factor / leverage if symbol.calc_mode in _LEVERAGED else factor

    def _rate_at(self, symbol: Specification, source: str, target: str, price: float) -> float:
        """Convert at the symbol's own `price` where it is the pair of the two currencies."""
        if source == target:
            return 1.0
        if price > 0 and {source, target} == {symbol.currency_base, symbol.currency_profit}:
            return price if source == symbol.currency_base else 1.0 / price
        return self.rate(source, target)
