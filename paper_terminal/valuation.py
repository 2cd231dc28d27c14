"""What an account is worth now: floating profit, equity, margin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from paper_terminal.accounts import Account
from paper_terminal.ledger_records import Position
from paper_terminal.margin import Converter, NoRate, Quote
from paper_terminal.matching import closing_price
from paper_terminal.specifications import Specification


class Valuation(NamedTuple):
    """An account's money, in its currency."""

    balance: float
    profit: float
    equity: float
    margin: float

    @property
    def margin_free(self) -> float:
        """Return what is left for new positions."""
        return round(self.equity - self.margin, 2)

    @property
    def margin_level(self) -> float:
        """Return equity over margin in percent, 0.0 with no margin in use."""
        return self.equity / self.margin * 100.0 if self.margin > 0 else 0.0


class Valuer:
    """Values positions and accounts at the present quotes."""

    def __init__(self, symbols: Mapping[str, Specification], quotes: Mapping[str, Quote], converter: Converter) -> None:
        """Use these symbols and quotes, by the broker's names."""
        self._symbols = symbols
        self._quotes = quotes
        self._converter = converter

    def reprice(self, account: Account, position: Position) -> None:
        """Bring a position's price and profit up to date; without a quote or rate they stay as they were."""
        quote = self._quotes.get(position.symbol)
        if quote is None:
            return
        price = closing_price(position, quote)
        try:
            position.profit = account.money(
                self._converter.profit(
                    self._symbols[position.symbol],
                    buy=position.is_buy,
                    volume=position.volume,
                    opened=position.price_open,
                    closed=price,
                    to=account.settings.currency,
                )
            )
        except NoRate:
            return
        position.price_current = price

    def quote(self, name: str) -> Quote | None:
        """Return a symbol's present quote."""
        return self._quotes.get(name)

    def profit_at(self, account: Account, symbol: Specification, position: Position, price: float) -> float:
        """Return what a position would be worth at a price, in the account's currency, unrounded.

        Raises:
            NoRate: it cannot be converted.
        """
        return self._converter.profit(
            symbol,
            buy=position.is_buy,
            volume=position.volume,
            opened=position.price_open,
            closed=price,
            to=account.settings.currency,
        )

    def margin(self, account: Account, positions: Iterable[Position]) -> float:
        """Return the margin of positions together.

        Raises:
            NoRate: a margin currency cannot be converted.
        """
        by_symbol: dict[str, list[Position]] = {}
        for position in positions:
            by_symbol.setdefault(position.symbol, []).append(position)
        total = 0.0
        for name, group in by_symbol.items():
            total += self._converter.symbol_margin(
                self._symbols[name],
                group,
                leverage=account.settings.leverage,
                to=account.settings.currency,
                netting=account.netting,
            )
        return account.money(total)

    def value(self, account: Account, *, plus: Position | None = None, cost: float = 0.0) -> Valuation:
        """Return the account's worth; with `plus` and `cost` as if that position were opened at that cost.

        Raises:
            NoRate: a margin currency cannot be converted.
        """
        positions = list(account.positions.values())
        for position in positions:
            self.reprice(account, position)
        if plus is not None:
            self.reprice(account, plus)
            positions.append(plus)
        return self._valued(account, positions, cost)

    def value_as_priced(self, account: Account) -> Valuation:
        """Return the account's worth at the prices its positions hold: the quick form, for every tick.

        Raises:
            NoRate: a margin currency cannot be converted.
        """
        return self._valued(account, list(account.positions.values()), 0.0)

    def _valued(self, account: Account, positions: list[Position], cost: float) -> Valuation:
        balance = account.money(account.balance + cost)
        profit = account.money(sum((each.profit for each in positions), 0.0))
        swap = sum((each.swap for each in positions), 0.0)
        equity = account.money(balance + profit + swap)
        return Valuation(balance, profit, equity, self.margin(account, positions))
