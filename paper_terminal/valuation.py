"""What an account is worth now: floating profit, equity, margin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from paper_terminal import constants as api
from paper_terminal.accounts import Account
from paper_terminal.ledger_records import Order, Position
from paper_terminal.margin import Closing, Converter, NoRate, Quote
from paper_terminal.requirement import Reckoner, Requirement, Terms
from paper_terminal.specifications import Specification
from paper_terminal.symbol_book import Reckoned, SymbolBook

_UNKNOWN: Final[Closing | None] = Closing(0.0, 0.0, 0.0, False)


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

    def reprice_positions(self, account: Account, name: str, positions: Iterable[Position]) -> None:
        """Bring price and profit of some positions on a symbol up to date, as `reprice` does."""
        quote = self._quotes.get(name)
        if quote is None:
            return
        symbol, settings = self._symbols[name], account.settings
        digits = settings.currency_digits
        long = short = _UNKNOWN
        for position in positions:
            if position.type == api.POSITION_TYPE_BUY:
                if long is _UNKNOWN:
                    long = self._closing(symbol, quote.bid, settings.currency)
                closing, market = long, quote.bid
            else:
                if short is _UNKNOWN:
                    short = self._closing(symbol, quote.ask, settings.currency)
                closing, market = short, quote.ask
            if closing is None:
                continue
            # `Closing.profit`, written out: this is what a tick costs an account with a thousand positions.
            price, per_price, rate, by_value = closing
            cost = 0.0 if by_value else position.price_open
            gain = price - cost if position.type == api.POSITION_TYPE_BUY else cost - price
            position.profit = round(gain * per_price * position.volume * rate, digits)
            position.price_current = market

    def _closing(self, symbol: Specification, price: float, currency: str) -> Closing | None:
        try:
            return self._converter.closing(symbol, price, currency)
        except NoRate:
            return None

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
        terms = _terms(account)
        for name in account.symbols:
            symbol = self._symbols[name]
            need = self._requirement(symbol, name, account.books[name], terms)
            total += need.positions + need.orders
            waiting += need.orders
            maintenance += need.positions if symbol.margin_maintenance else 0.0
        return total, waiting, maintenance

    def _requirement(self, symbol: Specification, name: str, book: SymbolBook, terms: Terms) -> Requirement:
        known = book.reckoned
        if known is not None and known.symbol is symbol and known.terms == terms:
            return known.requirement
        volumes = book.volumes(netting=terms.netting)
        need = self._reckoner.requirement(symbol, volumes, terms, self._quotes.get(name))
        if self._reckoner.stands(symbol, volumes, terms):
            book.reckoned = Reckoned(symbol, terms, need)
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
