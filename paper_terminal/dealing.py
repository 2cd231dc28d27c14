"""Making orders, deals and positions: the records each event of trading leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from paper_terminal import constants as api
from paper_terminal.accounts import Account
from paper_terminal.checks import BUY_TYPES
from paper_terminal.ledger_records import Deal, Order, Position, TradeRequest
from paper_terminal.margin import Converter
from paper_terminal.specifications import Specification

VOLUME_DIGITS = 8


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


class Dealer:
    """Books openings, closings and deposits on an account."""

    def __init__(
        self, tickets: Tickets, converter: Converter, *, commission_per_lot: float, now: Callable[[], Moment]
    ) -> None:
        """Prepare; `commission_per_lot` (account currency, per side) counts where a symbol says nothing."""
        self._tickets = tickets
        self._converter = converter
        self._commission_per_lot = commission_per_lot
        self._now = now

    def deposit(self, account: Account, amount: float, comment: str) -> Deal:
        """Book a balance operation."""
        now = self._now()
        deal = Deal(
            ticket=self._tickets.deal(),
            time=now.seconds,
            time_msc=now.milliseconds,
            type=api.DEAL_TYPE_BALANCE,
            profit=account.money(amount),
            comment=comment,
        )
        account.add_deal(deal)
        return deal

    def commission(self, account: Account, symbol: Specification, volume: float) -> float:
        """Return what one side of a volume costs, as a negative amount."""
        per_lot = self._commission_per_lot if symbol.commission_per_lot is None else symbol.commission_per_lot
        return -account.money(per_lot * volume) if per_lot else 0.0

    def open(
        self,
        account: Account,
        symbol: Specification,
        order: Order,
        *,
        name: str,
        price: float,
        market_price: float,
    ) -> Deal:
        """Fill an order, new or pending, with a new position of its ticket."""
        now = self._now()
        buy = order.type in BUY_TYPES
        volume = order.volume_current
        account.put_position(
            Position(
                ticket=order.ticket,
                time=now.seconds,
                time_msc=now.milliseconds,
                time_update=now.seconds,
                time_update_msc=now.milliseconds,
                type=api.POSITION_TYPE_BUY if buy else api.POSITION_TYPE_SELL,
                magic=order.magic,
                identifier=order.ticket,
                reason=order.reason,
                volume=volume,
                price_open=price,
                sl=order.sl,
                tp=order.tp,
                price_current=market_price,
                swap=0.0,
                profit=0.0,
                symbol=name,
                comment=order.comment,
            )
        )
        deal = Deal(
            ticket=self._tickets.deal(),
            order=order.ticket,
            time=now.seconds,
            time_msc=now.milliseconds,
            type=api.DEAL_TYPE_BUY if buy else api.DEAL_TYPE_SELL,
            entry=api.DEAL_ENTRY_IN,
            magic=order.magic,
            position_id=order.ticket,
            reason=order.reason,
            volume=volume,
            price=price,
            commission=self.commission(account, symbol, volume),
            symbol=name,
            comment=order.comment,
        )
        self._finish(account, order, api.ORDER_STATE_FILLED, position_id=order.ticket, price_current=market_price)
        account.add_deal(deal)
        return deal

    def close(
        self,
        account: Account,
        symbol: Specification,
        position: Position,
        *,
        volume: float,
        price: float,
        origin: Origin,
    ) -> tuple[Order, Deal]:
        """Close all or part of a position with an opposite order.

        Raises:
            NoRate: the profit cannot be converted to the account's currency.
        """
        now = self._now()
        profit = account.money(
            self._converter.profit(
                symbol,
                buy=position.is_buy,
                volume=volume,
                opened=position.price_open,
                closed=price,
                to=account.settings.currency,
            )
        )
        rest = round(position.volume - volume, VOLUME_DIGITS)
        swap = position.swap if rest <= 0 else account.money(position.swap * volume / position.volume)
        sell = position.is_buy
        order = Order(
            ticket=self._tickets.order(),
            time_setup=now.seconds,
            time_setup_msc=now.milliseconds,
            type=api.ORDER_TYPE_SELL if sell else api.ORDER_TYPE_BUY,
            type_time=origin.type_time,
            type_filling=origin.filling,
            state=api.ORDER_STATE_STARTED,
            magic=origin.magic,
            reason=origin.reason,
            volume_initial=volume,
            volume_current=volume,
            price_open=price,
            symbol=position.symbol,
            comment=origin.comment,
        )
        deal = Deal(
            ticket=self._tickets.deal(),
            order=order.ticket,
            time=now.seconds,
            time_msc=now.milliseconds,
            type=api.DEAL_TYPE_SELL if sell else api.DEAL_TYPE_BUY,
            entry=api.DEAL_ENTRY_OUT,
            magic=origin.magic,
            position_id=position.identifier,
            reason=origin.reason,
            volume=volume,
            price=price,
            commission=self.commission(account, symbol, volume),
            swap=swap,
            profit=profit,
            symbol=position.symbol,
            comment=origin.comment,
        )
        self._reduce(account, position, rest, swap, now)
        self._finish(account, order, api.ORDER_STATE_FILLED, position_id=position.identifier, price_current=price)
        account.add_deal(deal)
        return order, deal

    @staticmethod
    def _reduce(account: Account, position: Position, rest: float, swap: float, now: Moment) -> None:
        if rest <= 0:
            account.drop_position(position.ticket)
            return
        position.volume = rest
        position.swap = account.money(position.swap - swap)
        position.time_update, position.time_update_msc = now
        account.put_position(position)

    def new_order(self, request: TradeRequest, *, name: str, price: float, expires_s: int = 0) -> Order:
        """Return an order of a request, not yet in any book."""
        now = self._now()
        return Order(
            ticket=self._tickets.order(),
            time_setup=now.seconds,
            time_setup_msc=now.milliseconds,
            time_expiration=expires_s,
            type=request.type,
            type_time=request.type_time,
            type_filling=request.type_filling,
            state=api.ORDER_STATE_PLACED,
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

    def cancel(self, account: Account, order: Order, state: int) -> None:
        """File an active order as cancelled, expired or rejected."""
        self._finish(account, order, state, position_id=0, price_current=order.price_current)

    def _finish(self, account: Account, order: Order, state: int, *, position_id: int, price_current: float) -> None:
        order.time_done, order.time_done_msc = self._now()
        order.state = state
        order.position_id = position_id
        order.price_current = price_current
        if state == api.ORDER_STATE_FILLED:
            order.volume_current = 0.0
        account.finish_order(order)
