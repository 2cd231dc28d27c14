"""The part of an account's book on one symbol, with what is reckoned from it until it changes.

Sums and nearest prices are kept, so that a tick that triggers nothing does not look at each order and position. A new
record is added to them; any other change throws them away, and who needs them next reckons them anew, always in the
order of the book: the sums are then the same to the last bit.
"""

from __future__ import annotations

from typing import NamedTuple

from paper_terminal.ledger_records import Order, Position
from paper_terminal.matching import Triggers
from paper_terminal.requirement import Requirement, Volumes
from paper_terminal.settings import AccountSettings
from paper_terminal.specifications import Specification


class Reckoned(NamedTuple):
    """A margin that stands until the book changes, whatever the quotes, and what it was reckoned by."""

    symbol: Specification
    settings: AccountSettings
    requirement: Requirement


class SymbolBook:
    """Open positions and active orders on one symbol, by ticket."""

    def __init__(self) -> None:
        """Begin empty."""
        self.positions: dict[int, Position] = {}
        self.orders: dict[int, Order] = {}
        self.by_identifier: dict[int, Position] = {}
        """The positions by their identifiers."""
        self.reckoned: Reckoned | None = None
        self._volumes: Volumes | None = None
        self._triggers: Triggers | None = None

    def __bool__(self) -> bool:
        """Tell whether there is anything in it."""
        return bool(self.positions or self.orders)

    def copy(self) -> SymbolBook:
        """Return a book of its own with the same records."""
        copied = SymbolBook()
        copied.positions, copied.orders = self.positions.copy(), self.orders.copy()
        copied.by_identifier, copied.reckoned = self.by_identifier.copy(), self.reckoned
        copied._volumes = self._volumes.copy() if self._volumes is not None else None
        return copied

    def put_position(self, position: Position) -> None:
        """Add a position, or note that it has changed."""
        if position.ticket in self.positions:
            self._forget()
        else:
            self.reckoned = None
            if self._volumes is not None:
                self._volumes.add_position(position)
            if self._triggers is not None:
                self._triggers.add_position(position)
        self.positions[position.ticket] = position
        self.by_identifier[position.identifier] = position

    def drop_position(self, position: Position) -> None:
        """Remove a position."""
        del self.positions[position.ticket]
        del self.by_identifier[position.identifier]
        self._forget()

    def put_order(self, order: Order) -> None:
        """Add an order, or note that it has changed."""
        if order.ticket in self.orders:
            self._forget()
        else:
            self.reckoned = None
            if self._volumes is not None:
                self._volumes.add_order(order)
            if self._triggers is not None:
                self._triggers.add_order(order)
        self.orders[order.ticket] = order

    def drop_order(self, order: Order) -> None:
        """Remove an order."""
        del self.orders[order.ticket]
        self._forget()

    def _forget(self) -> None:
        self.reckoned = self._volumes = self._triggers = None

    def volumes(self, *, netting: bool) -> Volumes:
        """Return the lots that margin is charged for, on a netting account or a hedging one."""
        if self._volumes is None or self._volumes.netting != netting:
            self._volumes = Volumes(netting=netting)
            for position in self.positions.values():
                self._volumes.add_position(position)
            for order in self.orders.values():
                self._volumes.add_order(order)
        return self._volumes

    @property
    def triggers(self) -> Triggers:
        """Return the nearest prices at which something happens."""
        if self._triggers is None:
            self._triggers = Triggers()
            for position in self.positions.values():
                self._triggers.add_position(position)
            for order in self.orders.values():
                self._triggers.add_order(order)
        return self._triggers
