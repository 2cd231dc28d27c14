"""Money: profit and margin of a volume, converted to the account's currency at the present quotes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from paper_terminal.constants import (
    SYMBOL_CALC_MODE_CFD,
    SYMBOL_CALC_MODE_CFDINDEX,
    SYMBOL_CALC_MODE_CFDLEVERAGE,
    SYMBOL_CALC_MODE_EXCH_FUTURES,
    SYMBOL_CALC_MODE_EXCH_STOCKS,
    SYMBOL_CALC_MODE_FOREX,
    SYMBOL_CALC_MODE_FOREX_NO_LEVERAGE,
    SYMBOL_CALC_MODE_FUTURES,
)
from paper_terminal.ledger_records import Position
from paper_terminal.specifications import Specification

FUTURES: Final = frozenset({SYMBOL_CALC_MODE_FUTURES, SYMBOL_CALC_MODE_EXCH_FUTURES})
EXCHANGE_MODES: Final = frozenset({SYMBOL_CALC_MODE_EXCH_STOCKS, SYMBOL_CALC_MODE_EXCH_FUTURES})
"""Modes whose pending orders wait for the last price, where the feed has one."""
_PRICED: Final = frozenset({
    SYMBOL_CALC_MODE_CFD,
    SYMBOL_CALC_MODE_CFDLEVERAGE,
    SYMBOL_CALC_MODE_CFDINDEX,
    SYMBOL_CALC_MODE_EXCH_STOCKS,
})
_LEVERAGED: Final = frozenset({SYMBOL_CALC_MODE_FOREX, SYMBOL_CALC_MODE_CFDLEVERAGE})
CALC_MODES: Final = frozenset({SYMBOL_CALC_MODE_FOREX, SYMBOL_CALC_MODE_FOREX_NO_LEVERAGE}) | _PRICED | FUTURES
"""Calculation modes offered."""


class Quote(NamedTuple):
    """The latest prices of a symbol; `time_ms` is UTC, `last` the price of the last deal or 0."""

    bid: float
    ask: float
    time_ms: int
    last: float = 0.0


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

        Raises:
            NoRate: the profit's currency cannot be converted.
        """
        gain = (closed - opened if buy else opened - closed) * symbol.profit_per_price * volume
        return gain * self._rate_at(symbol, symbol.currency_profit, to, closed)

    def margin(self, symbol: Specification, *, volume: float, price: float, leverage: int, to: str) -> float:
        """Return the margin of an open volume in currency `to`, unrounded.

        Raises:
            NoRate: the margin's currency cannot be converted.
        """
        return self._charge(symbol, volume, None, price, leverage, to)

    def _charge(
        self, symbol: Specification, volume: float, hedged: float | None, price: float, leverage: int, to: str
    ) -> float:
        """Charge a volume by the symbol's size or amount, or with `hedged` by that one instead."""
        if symbol.calc_mode in FUTURES:
            amount = volume * (symbol.margin_initial if hedged is None else hedged)
        else:
            amount = volume * (symbol.contract_size if hedged is None else hedged)
        amount *= symbol.margin_rate
        if symbol.calc_mode in _PRICED:
            amount *= price
        if symbol.calc_mode == SYMBOL_CALC_MODE_CFDINDEX:
            amount *= symbol.tick_worth / symbol.step
        if symbol.calc_mode in _LEVERAGED:
            amount /= leverage
        return amount * self._rate_at(symbol, symbol.margin_currency, to, price)

    def _rate_at(self, symbol: Specification, source: str, target: str, price: float) -> float:
        """Convert at the symbol's own `price` where it is the pair of the two currencies."""
        if source == target:
            return 1.0
        if price > 0 and {source, target} == {symbol.currency_base, symbol.currency_profit}:
            return price if source == symbol.currency_base else 1.0 / price
        return self.rate(source, target)

    def symbol_margin(
        self,
        symbol: Specification,
        positions: Iterable[Position],
        *,
        leverage: int,
        to: str,
        netting: bool = False,
    ) -> float:
        """Return the margin of positions on one symbol together, in currency `to`, unrounded.

        The uncovered volume is charged normally. The covered one is charged by the symbol's hedged size, or with
        `margin_hedged_use_leg` the larger side alone; on a netting account it is closed, so it costs nothing.

        Raises:
            NoRate: the margin's currency cannot be converted.
        """
        volumes, values = [0.0, 0.0], [0.0, 0.0]
        for position in positions:
            side = 0 if position.is_buy else 1
            volumes[side] += position.volume
            values[side] += position.volume * position.price_open
        if symbol.margin_hedged_use_leg and not netting:
            sides = [(volume, value) for volume, value in zip(volumes, values, strict=True) if volume > 0]
            return max(
                (self._charge(symbol, volume, None, value / volume, leverage, to) for volume, value in sides),
                default=0.0,
            )
        larger = 0 if volumes[0] >= volumes[1] else 1
        covered = min(volumes)
        uncovered = round(volumes[larger] - covered, 8)
        margin = 0.0
        if uncovered > 0:
            margin += self._charge(symbol, uncovered, None, values[larger] / volumes[larger], leverage, to)
        if covered > 0 and not netting:
            price = sum(values) / sum(volumes)
            margin += self._charge(symbol, covered, symbol.margin_hedged, price, leverage, to)
        return margin
