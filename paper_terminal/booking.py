"""Tickets, orders and balance operations: what every kind of dealing is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from paper_terminal import constants as api
from paper_terminal.accounts import Account
from paper_terminal.ledger_records import Deal, Order, Position, TradeRequest
from paper_terminal.margin import Converter
from paper_terminal.settings import Settings
from paper_terminal.specifications import Specification

VOLUME_DIGITS = 8
VOLUME_EPSILON = 1e-9


class Moment(NamedTuple):
    """A moment on the server's clock."""

    seconds: int
    milliseconds: int


class Origin(NamedTuple):
    """Who causes a deal, as its order says."""

    reason: int
    magic: int = 0
    comment: str = ""
    filling: int = 0
    type_time: int = 0


class Tickets:
    """The broker's ticket numbers; what was given out is in the durable state with the records that bear it."""

    def __init__(self, *, order: int, deal: int) -> None:
        """Go on from the next numbers."""
        self.next_order = order
        self.next_deal = deal

    def order(self) -> int:
        """Return a new order ticket."""
        self.next_order += 1
        return self.next_order - 1

    def deal(self) -> int:
        """Return a new deal ticket."""
        self.next_deal += 1
        return self.next_deal - 1


class Booking:
    """Makes orders and balance operations, and files orders in history."""

    def __init__(self, tickets: Tickets, converter: Converter, *, costs: Settings, now: Callable[[], Moment]) -> None:
        """Prepare; the commission of `costs` (account currency) counts where a symbol says nothing."""
        self._tickets = tickets
        self._converter = converter
        self._costs = costs
        self._now = now

    def deposit(self, account: Account, amount: float, comment: str, *, kind: int = api.DEAL_TYPE_BALANCE) -> Deal:
        """Book a balance operation: a deposit, with a negative amount a withdrawal, or another deal type."""
        now = self._now()
        deal = Deal(
            ticket=self._tickets.deal(),
            time=now.seconds,
            time_msc=now.milliseconds,
            type=kind,
            profit=account.money(amount),
            comment=comment,
        )
        account.add_deal(deal)
        return deal

    def commission(
        self, account: Account, symbol: Specification, volume: float, *, entry: int = api.DEAL_ENTRY_IN
    ) -> float:
        """Return the commission of a deal, as a negative amount."""
        per_lot = self._costs.commission_per_lot if symbol.commission_per_lot is None else symbol.commission_per_lot
        free = {"in": api.DEAL_ENTRY_OUT, "out": api.DEAL_ENTRY_IN}.get(self._costs.commission_on)
        return -account.money(per_lot * volume) if per_lot and entry != free else 0.0

    def fee(self, account: Account, volume: float) -> float:
        """Return the fee of a deal, as a negative amount."""
        return -account.money(self._costs.fee_per_lot * volume) if self._costs.fee_per_lot else 0.0

    # Orders --------------------------------------------------------------------------------------------------

    def new_order(self, request: TradeRequest, *, name: str, price: float, expires_s: int = 0) -> Order:
        """Return an order of a request, not yet in any book."""
        return self.new(
            time_expiration=expires_s,
            type=request.type,
            type_time=request.type_time,
            type_filling=request.type_filling,
            magic=request.magic,
            reason=api.ORDER_REASON_EXPERT,
            volume_initial=request.volume,
            volume_current=request.volume,
            price_open=price,
            sl=request.sl,
            tp=request.tp,
            price_stoplimit=request.stoplimit,
            symbol=name,
            comment=request.comment,
        )

    def closing_order(self, position: Position, *, volume: float, price: float, origin: Origin) -> Order:
        """Return an order that closes a volume of a position, not yet in any book."""
        return self.new(
            type=api.ORDER_TYPE_SELL if position.is_buy else api.ORDER_TYPE_BUY,
            type_time=origin.type_time,
            type_filling=origin.filling,
            magic=origin.magic,
            reason=origin.reason,
            volume_initial=volume,
            volume_current=volume,
            price_open=price,
            position_id=position.identifier,
            symbol=position.symbol,
            comment=origin.comment,
        )

    def new(self, **fields: Any) -> Order:
        """Return an order with a ticket of its own, set up now."""
        now = self._now()
        return Order(
            ticket=self._tickets.order(),
            time_setup=now.seconds,
            time_setup_msc=now.milliseconds,
            state=api.ORDER_STATE_PLACED,
            **fields,
        )

    def cancel(self, account: Account, order: Order, state: int) -> None:
        """File an active order as cancelled, expired or rejected; what it filled before stays."""
        self.finish(account, order, state)

    def finish(self, account: Account, order: Order, state: int) -> None:
        """File an order in history."""
        order.time_done, order.time_done_msc = self._now()
        order.state = state
        account.finish_order(order)
