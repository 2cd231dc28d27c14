"""One account's book: balance, positions, active orders, and the history of orders and deals.

Every change to the book goes through a method here, which also notes it for the durable state. The balance is
the sum over all deals of profit, commission, swap and fee; what deals of type CREDIT give is kept apart as credit.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from copy import copy
from typing import Generic, TypeVar

from paper_terminal.constants import ACCOUNT_MARGIN_MODE_RETAIL_HEDGING, DEAL_TYPE_CREDIT
from paper_terminal.ledger_records import Deal, Order, Position
from paper_terminal.settings import AccountSettings
from paper_terminal.state import Change, Loaded
from paper_terminal.symbol_book import SymbolBook

R = TypeVar("R", bound=Order | Deal)

_BACK_S = 3600  # so far the server's clock steps back, when summer time ends


class History(Generic[R]):
    """Final records in the order they happened, found by ticket, position or time."""

    def __init__(self, time_s: Callable[[R], int]) -> None:
        self._time_s: Callable[[R], int] = time_s
        self._records: list[R] = []
        self._by_ticket: dict[int, R] = {}
        self._by_position: dict[int, list[R]] = {}
        # The server's clock steps back in autumn; the running maximum keeps the list searchable.
        self._latest_s: list[int] = []

    def __len__(self) -> int:
        return len(self._records)

    def frozen(self) -> History[R]:
        """Return a copy to which nothing is added."""
        copied = History(self._time_s)
        copied._records = self._records.copy()
        copied._by_ticket = self._by_ticket.copy()
        copied._by_position = {number: records.copy() for number, records in self._by_position.items()}
        copied._latest_s = self._latest_s.copy()
        return copied

    def add(self, ticket: int, record: R) -> None:
        """Append a record that happened after all others."""
        self._records.append(record)
        self._by_ticket[ticket] = record
        self._by_position.setdefault(record.position_id, []).append(record)
        time_s = self._time_s(record)
        self._latest_s.append(max(time_s, self._latest_s[-1]) if self._latest_s else time_s)

    def get(self, ticket: int) -> R | None:
        """Return the record of a ticket."""
        return self._by_ticket.get(ticket)

    def of_position(self, number: int) -> list[R]:
        """Return the records of a position, by its identifier."""
        return self._by_position.get(number, [])

    def all(self) -> list[R]:
        """Return every record."""
        return self._records

    def between(self, from_s: int, to_s: int) -> list[R]:
        """Return the records with from_s <= time <= to_s, server seconds."""
        # A record is at most an hour older than the latest before it: only the first and last hour must be looked at.
        first = bisect_left(self._latest_s, from_s)
        inside = bisect_left(self._latest_s, from_s + _BACK_S, first)
        last = max(inside, bisect_right(self._latest_s, to_s))
        end = bisect_right(self._latest_s, to_s + _BACK_S, last)
        return [
            *self._within(first, inside, from_s, to_s),
            *self._records[inside:last],
            *self._within(last, end, from_s, to_s),
        ]

    def _within(self, first: int, end: int, from_s: int, to_s: int) -> list[R]:
        return [each for each in self._records[first:end] if from_s <= self._time_s(each) <= to_s]


class Account:
    """One account and its book."""

    def __init__(self, settings: AccountSettings, loaded: Loaded, changes: list[Change]) -> None:
        """Take over the records of the durable state; later changes are appended to `changes`."""
        self.settings = settings
        self.positions: dict[int, Position] = {}
        self.orders: dict[int, Order] = {}
        self.books: dict[str, SymbolBook] = {}
        """The symbols with positions or orders."""
        self._swap: float | None = None
        self._next_expiry_s: int | None = None
        self._symbols: list[str] | None = None
        self.history_orders: History[Order] = History(lambda order: order.time_done)
        self.deals: History[Deal] = History(lambda deal: deal.time)
        self.balance = 0.0
        self.credit = 0.0
        self._changes = changes
        for position in loaded.positions:
            self._take_position(position)
        for active in loaded.orders:
            self._take_order(active)
        for order in sorted(loaded.history_orders, key=lambda each: (each.time_done_msc, each.ticket)):
            self.history_orders.add(order.ticket, order)
        for deal in loaded.deals:
            self._book(deal)

    def sketch(self, symbol: str) -> Account:
        """Return a copy to try something out on: without history, and with the very same records.

        Only what is on `symbol` may change, and a record only after a copy of it was put in its place.
        """
        copied = Account(self.settings, Loaded([], [], [], []), [])
        copied.balance, copied.credit = self.balance, self.credit
        copied.positions, copied.orders = self.positions.copy(), self.orders.copy()
        copied.books = self.books.copy()
        if symbol in copied.books:
            copied.books[symbol] = copied.books[symbol].copy()
        copied._swap, copied._symbols = self._swap, self._symbols
        return copied

    def apart(self) -> Account:
        """Return a copy without history, with records of its own."""
        positions, orders = map(copy, self.positions.values()), map(copy, self.orders.values())
        copied = Account(self.settings, Loaded([*positions], [*orders], [], []), [])
        copied.balance, copied.credit = self.balance, self.credit
        return copied

    def frozen(self) -> Account:
        """Return a copy in which nothing happens any more."""
        copied = self.apart()
        copied.history_orders, copied.deals = self.history_orders.frozen(), self.deals.frozen()
        return copied

    @property
    def login(self) -> int:
        """Return the account's number."""
        return self.settings.login

    @property
    def netting(self) -> bool:
        """Tell whether a symbol has one position at most."""
        return self.settings.margin_mode != ACCOUNT_MARGIN_MODE_RETAIL_HEDGING

    def money(self, amount: float) -> float:
        """Return an amount rounded to the currency's digits."""
        return round(amount, self.settings.currency_digits)

    def positions_on(self, symbol: str) -> list[Position]:
        """Return the open positions on a symbol."""
        book = self.books.get(symbol)
        return list(book.positions.values()) if book is not None else []

    def orders_on(self, symbol: str) -> list[Order]:
        """Return the active orders on a symbol."""
        book = self.books.get(symbol)
        return list(book.orders.values()) if book is not None else []

    def forbids(self, symbol: str, *, buy: bool) -> bool:
        """Tell whether a position in a direction would be a hedge, which the account does not take."""
        if self.netting or not self.settings.hedge_prohibited:
            return False
        return any(each.is_buy != buy for each in self.positions_on(symbol))

    def position_of(self, symbol: str, identifier: int) -> Position | None:
        """Return the open position with an identifier on a symbol."""
        book = self.books.get(symbol)
        return book.by_identifier.get(identifier) if book is not None else None

    @property
    def symbols(self) -> list[str]:
        """Return the symbols with positions or orders: by the oldest position, then by the oldest order.

        Sums over symbols go in this order, so that they are the same in every run.
        """
        if self._symbols is None:
            held = (each.symbol for each in self.positions.values())
            self._symbols = list(dict.fromkeys((*held, *(each.symbol for each in self.orders.values()))))
        return self._symbols

    @property
    def swap(self) -> float:
        """Return the swaps of all open positions."""
        if self._swap is None:
            self._swap = sum((each.swap for each in self.positions.values()), 0.0)
        return self._swap

    @property
    def next_expiry_s(self) -> int:
        """Return the server second at which the first of the active orders expires, 0 for never."""
        if self._next_expiry_s is None:
            expiries = [each.time_expiration for each in self.orders.values() if each.time_expiration > 0]
            self._next_expiry_s = min(expiries, default=0)
        return self._next_expiry_s

    def put_position(self, position: Position) -> None:
        """Add or change an open position."""
        self._take_position(position)
        self._changes.append(Change("positions", self.login, position.ticket, position))

    def drop_position(self, ticket: int) -> None:
        """Remove a closed position."""
        position = self.positions.pop(ticket)
        book = self.books[position.symbol]
        if next(iter(book.positions)) == ticket:
            self._symbols = None
        book.drop_position(position)
        self._swap = None
        if not book:
            del self.books[position.symbol]
        self._changes.append(Change("positions", self.login, ticket, None))

    def put_order(self, order: Order) -> None:
        """Add or change an active order."""
        self._take_order(order)
        self._changes.append(Change("orders", self.login, order.ticket, order))

    def finish_order(self, order: Order) -> None:
        """File an order in history; if it was active it no longer is."""
        if self.orders.pop(order.ticket, None) is not None:
            self._drop_order(order)
            self._changes.append(Change("orders", self.login, order.ticket, None))
        self.history_orders.add(order.ticket, order)
        self._changes.append(Change("history_orders", self.login, order.ticket, order))

    def add_deal(self, deal: Deal) -> None:
        """Add a deal and what it does to the balance."""
        self._book(deal)
        self._changes.append(Change("deals", self.login, deal.ticket, deal))

    def _take_position(self, position: Position) -> None:
        self.positions[position.ticket] = position
        book = self._book_of(position.symbol)
        if not book.positions:
            self._symbols = None
        book.put_position(position)
        self._swap = None

    def _take_order(self, order: Order) -> None:
        self.orders[order.ticket] = order
        book = self._book_of(order.symbol)
        if not book:
            self._symbols = None
        book.put_order(order)
        self._next_expiry_s = None

    def _drop_order(self, order: Order) -> None:
        book = self.books[order.symbol]
        if not book.positions and next(iter(book.orders)) == order.ticket:
            self._symbols = None
        book.drop_order(order)
        self._next_expiry_s = None
        if not book:
            del self.books[order.symbol]

    def _book_of(self, symbol: str) -> SymbolBook:
        book = self.books.get(symbol)
        if book is None:
            book = self.books[symbol] = SymbolBook()
        return book

    def _book(self, deal: Deal) -> None:
        self.deals.add(deal.ticket, deal)
        if deal.type == DEAL_TYPE_CREDIT:
            self.credit = self.money(self.credit + deal.profit)
            return
        self.balance = self.money(self.balance + deal.profit + deal.commission + deal.swap + deal.fee)
