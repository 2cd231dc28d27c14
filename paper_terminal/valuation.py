"""What an account is worth now: floating profit, equity, margin."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple

from paper_terminal import constants as api
from paper_terminal.accounts import Account
from paper_terminal.ledger_records import Order, Position
from paper_terminal.margin import Closing, Converter, NoRate, Quote
from paper_terminal.requirement import Reckoner, Requirement, Terms
from paper_terminal.specifications import Specification
from paper_terminal.symbol_book import Reckoned

_BUY: Final = api.POSITION_TYPE_BUY


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

    def reprice(self, account: Account) -> None:
        """Bring price and profit of all positions up to date; without a quote or rate they stay as they were."""
        for name, book in account.books.items():
            self.reprice_positions(account, name, book.positions.values())

    def reprice_positions(self, account: Account, name: str, positions: Collection[Position]) -> None:
        """Bring price and profit of some positions on a symbol up to date, as `reprice` does."""
        quote = self._quotes.get(name)
        if quote is None:
            return
        symbol = self._symbols[name]
        long = [each for each in positions if each.type == _BUY]
        if long:
            self._reprice_side(account, symbol, long, quote.bid)
        if len(long) < len(positions):
            short = [each for each in positions if each.type != _BUY] if long else positions
            self._reprice_side(account, symbol, short, quote.ask)

    def _reprice_side(
        self, account: Account, symbol: Specification, positions: Iterable[Position], market: float
    ) -> None:
        settings = account.settings
        try:
            price, per_price, rate, by_value = self._converter.closing(symbol, market, settings.currency)
        except NoRate:
            return
        digits = settings.currency_digits
        # `Closing.profit`, written out: this is what a tick costs an account with a thousand positions.
        for position in positions:
            cost = 0.0 if by_value else position.price_open
            gain = price - cost if position.type == _BUY else cost - price
            position.profit = round(gain * per_price * position.volume * rate, digits)
            position.price_current = market

    def quote(self, name: str) -> Quote | None:
        """Return a symbol's present quote."""
        return self._quotes.get(name)

    def closing(self, account: Account, name: str, price: float) -> Closing:
        """Return what closing positions on a symbol at a price gives, in the account's currency.

        Raises:
            NoRate: it cannot be converted.
        """
        return self._converter.closing(self._symbols[name], price, account.settings.currency)

    def _margins(self, account: Account) -> tuple[float, float, float]:
        """Return the margin in use, the orders' part of it, and the positions' maintenance, unrounded."""
        total = waiting = maintenance = 0.0
        for name in account.symbols:
            symbol = self._symbols[name]
            need = self._requirement(account, symbol, name)
            total += need.positions + need.orders
            waiting += need.orders
            maintenance += need.positions if symbol.margin_maintenance else 0.0
        return total, waiting, maintenance

    def _requirement(self, account: Account, symbol: Specification, name: str) -> Requirement:
        book = account.books[name]
        known = book.reckoned
        if known is not None and known.symbol is symbol and known.settings is account.settings:
            return known.requirement
        terms = _terms(account)
        volumes = book.volumes(netting=terms.netting)
        need = self._reckoner.requirement(symbol, volumes, terms, self._quotes.get(name))
        if self._reckoner.stands(symbol, volumes, terms):
            book.reckoned = Reckoned(symbol, account.settings, need)
        return need

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
        self.reprice(account)
        return self.value_as_priced(account)

    def value_as_priced(self, account: Account) -> Valuation:
        """Return the account's worth at the prices its positions hold: the quick form, for every tick.

        Raises:
            NoRate: a margin currency cannot be converted.
        """
        digits = account.settings.currency_digits
        profit = round(sum((each.profit for each in account.positions.values()), 0.0), digits)
        equity = round(account.balance + account.credit + profit + account.swap, digits)
        total, waiting, maintenance = self._margins(account)
        return Valuation(
            account.balance, profit, equity, round(total, digits), round(waiting, digits), round(maintenance, digits)
        )


def _terms(account: Account) -> Terms:
    return Terms(account.settings.leverage, account.settings.currency, account.netting)
