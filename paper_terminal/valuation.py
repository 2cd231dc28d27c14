"""What an account is worth now: floating profit, equity, margin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from paper_terminal.accounts import Account
from paper_terminal.ledger_records import Order, Position
from paper_terminal.margin import Converter, NoRate, Quote
from paper_terminal.matching import closing_price
from paper_terminal.requirement import Reckoner, Terms
from paper_terminal.specifications import Specification


class Valuation(NamedTuple):
    """An account's money, in its currency."""

    balance: float
    profit: float
    equity: float
    margin: float
    """Of positions and of orders that wait."""
    margin_initial: float = 0.0
    """The part of it that orders hold."""
    margin_maintenance: float = 0.0
    """What the positions on symbols with a maintenance margin must keep."""

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
        self._reckoner = Reckoner(converter)

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

    def _margins(self, account: Account) -> tuple[float, float, float]:
        """Return the margin in use, the orders' part of it, and the positions' maintenance, unrounded."""
        total = waiting = maintenance = 0.0
        terms = _terms(account)
        held: dict[str, list[Position]] = {}
        waits: dict[str, list[Order]] = {}
        for position in account.positions.values():
            held.setdefault(position.symbol, []).append(position)
        for order in account.orders.values():
            waits.setdefault(order.symbol, []).append(order)
        for name in dict.fromkeys((*held, *waits)):  # in an order of their own, so that sums are the same in every run
            symbol = self._symbols[name]
            need = self._reckoner.requirement(
                symbol, held.get(name, ()), waits.get(name, ()), terms, self._quotes.get(name)
            )
            total += need.positions + need.orders
            waiting += need.orders
            maintenance += need.positions if symbol.margin_maintenance else 0.0
        return total, waiting, maintenance

    def margin(self, account: Account) -> float:
        """Return the margin of an account's positions and orders.

        Raises:
            NoRate: a margin currency cannot be converted.
        """
        return account.money(self._margins(account)[0])

    def order_margin(self, account: Account, order: Order) -> float:
        """Return the margin that an order alone holds while it waits.

        Raises:
            NoRate: its margin currency cannot be converted.
        """
        symbol = self._symbols[order.symbol]
        quote = self._quotes.get(order.symbol)
        return account.money(self._reckoner.order_margin(symbol, order, _terms(account), quote))

    def value(self, account: Account) -> Valuation:
        """Return the account's worth at the present quotes.

        Raises:
            NoRate: a margin currency cannot be converted.
        """
        for position in account.positions.values():
            self.reprice(account, position)
        return self.value_as_priced(account)

    def value_as_priced(self, account: Account) -> Valuation:
        """Return the account's worth at the prices its positions hold: the quick form, for every tick.

        Raises:
            NoRate: a margin currency cannot be converted.
        """
        profit = account.money(sum((each.profit for each in account.positions.values()), 0.0))
        swap = sum((each.swap for each in account.positions.values()), 0.0)
        equity = account.money(account.balance + account.credit + profit + swap)
        total, waiting, maintenance = (account.money(each) for each in self._margins(account))
        return Valuation(account.balance, profit, equity, total, waiting, maintenance)


def _terms(account: Account) -> Terms:
    return Terms(account.settings.leverage, account.settings.currency, account.netting)
