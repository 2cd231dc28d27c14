"""Fills: the deals of orders, and what they do to positions on hedging and netting accounts."""

from __future__ import annotations

import msgspec

from paper_terminal import constants as api
from paper_terminal.accounts import Account
from paper_terminal.booking import VOLUME_DIGITS, VOLUME_EPSILON, Booking
from paper_terminal.checks import BUY_TYPES
from paper_terminal.ledger_records import Deal, Order, Position
from paper_terminal.specifications import Specification

_MEAN_PRICE_DIGITS = 8


class Dealer(Booking):
    """Books openings, closings and everything between on an account."""

    def fill(
        self, account: Account, symbol: Specification, order: Order, *, volume: float, price: float, market_price: float
    ) -> Deal:
        """Fill an order, new or active, or a part of it; a rest stays active.

        On a hedging account it opens a position (or adds to the one its earlier part opened), or closes the one
        it names. On a netting account it opens, adds to, reduces or reverses the symbol's one position.

        Raises:
            NoRate: a profit cannot be converted to the account's currency.
        """
        position = self.met(account, order)
        if position is None:
            return self._open(account, symbol, order, volume, price, market_price)
        if position.is_buy == (order.type in BUY_TYPES):
            return self._add(account, symbol, order, position, volume, price, market_price)
        if volume > position.volume + VOLUME_EPSILON:
            return self._reverse(account, symbol, order, position, volume, price, market_price)
        return self._close(account, symbol, order, position, volume, price, market_price)

    @staticmethod
    def met(account: Account, order: Order) -> Position | None:
        """Return the position that a fill of an order changes; None: it opens one."""
        if account.netting:
            return next(iter(account.positions_on(order.symbol)), None)
        return account.position_of(order.symbol, order.position_id or order.ticket)

    def _open(
        self, account: Account, symbol: Specification, order: Order, volume: float, price: float, market_price: float
    ) -> Deal:
        now = self._now()
        position = Position(
            ticket=order.ticket,
            time=now.seconds,
            time_msc=now.milliseconds,
            time_update=now.seconds,
            time_update_msc=now.milliseconds,
            type=api.POSITION_TYPE_BUY if order.type in BUY_TYPES else api.POSITION_TYPE_SELL,
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
            symbol=order.symbol,
            comment=order.comment,
        )
        account.put_position(position)
        return self._book(account, symbol, order, position, api.DEAL_ENTRY_IN, volume, price, market_price)

    def _add(
        self,
        account: Account,
        symbol: Specification,
        order: Order,
        position: Position,
        volume: float,
        price: float,
        market_price: float,
    ) -> Deal:
        total = round(position.volume + volume, VOLUME_DIGITS)
        mean = (position.price_open * position.volume + price * volume) / total
        position.price_open = round(mean, _MEAN_PRICE_DIGITS)
        position.volume = total
        if order.position_id != position.identifier:
            # The latest order's stops replace the position's, and 0 clears them; a further fill of the same order
            # does not, for they may have been changed since its first.
            position.sl, position.tp = order.sl, order.tp
        position.time_update, position.time_update_msc = self._now()
        account.put_position(position)
        return self._book(account, symbol, order, position, api.DEAL_ENTRY_IN, volume, price, market_price)

    def _close(
        self,
        account: Account,
        symbol: Specification,
        order: Order,
        position: Position,
        volume: float,
        price: float,
        market_price: float,
    ) -> Deal:
        profit = self.profit(account, symbol, position, volume=volume, price=price)
        swap = self.reduce(account, position, volume)
        entry = api.DEAL_ENTRY_OUT
        return self._book(account, symbol, order, position, entry, volume, price, market_price, swap, profit)

    def _reverse(
        self,
        account: Account,
        symbol: Specification,
        order: Order,
        position: Position,
        volume: float,
        price: float,
        market_price: float,
    ) -> Deal:
        """Close all and open the rest the other way: identifier kept, ticket that of the reversing order."""
        profit = self.profit(account, symbol, position, volume=position.volume, price=price)
        rest, swap, now = round(volume - position.volume, VOLUME_DIGITS), position.swap, self._now()
        account.drop_position(position.ticket)
        reversed_position = msgspec.structs.replace(
            position,
            ticket=order.ticket,
            time=now.seconds,
            time_msc=now.milliseconds,
            time_update=now.seconds,
            time_update_msc=now.milliseconds,
            type=api.POSITION_TYPE_SELL if position.is_buy else api.POSITION_TYPE_BUY,
            magic=order.magic,
            reason=order.reason,
            volume=rest,
            price_open=price,
            sl=order.sl,
            tp=order.tp,
            price_current=market_price,
            swap=0.0,
            profit=0.0,
            comment=order.comment,
        )
        account.put_position(reversed_position)
        entry = api.DEAL_ENTRY_INOUT
        return self._book(account, symbol, order, reversed_position, entry, volume, price, market_price, swap, profit)

    def profit(
        self, account: Account, symbol: Specification, position: Position, *, volume: float, price: float
    ) -> float:
        """Return what closing a volume of a position at a price gives, in the account's currency, rounded.

        Raises:
            NoRate: it cannot be converted.
        """
        return account.money(
            self._converter.profit(
                symbol,
                buy=position.is_buy,
                volume=volume,
                opened=position.price_open,
                closed=price,
                to=account.settings.currency,
            )
        )

    def reduce(self, account: Account, position: Position, volume: float) -> float:
        """Take a volume from a position, the last of it removes it; return the part of its swap that goes along."""
        rest = round(position.volume - volume, VOLUME_DIGITS)
        if rest <= 0:
            account.drop_position(position.ticket)
            return position.swap
        swap = account.money(position.swap * volume / position.volume)
        position.volume = rest
        position.swap = account.money(position.swap - swap)
        position.time_update, position.time_update_msc = self._now()
        account.put_position(position)
        return swap

    def _book(
        self,
        account: Account,
        symbol: Specification,
        order: Order,
        position: Position,
        entry: int,
        volume: float,
        price: float,
        market_price: float,
        swap: float = 0.0,
        profit: float = 0.0,
    ) -> Deal:
        """Add the deal of a fill and bring its order up to date."""
        now = self._now()
        deal = Deal(
            ticket=self._tickets.deal(),
            order=order.ticket,
            time=now.seconds,
            time_msc=now.milliseconds,
            type=api.DEAL_TYPE_BUY if order.type in BUY_TYPES else api.DEAL_TYPE_SELL,
            entry=entry,
            magic=order.magic,
            position_id=position.identifier,
            reason=order.reason,
            volume=volume,
            price=price,
            commission=self.commission(account, symbol, volume, entry=entry),
            fee=self.fee(account, volume),
            swap=swap,
            profit=profit,
            symbol=order.symbol,
            comment=order.comment,
        )
        order.position_id = position.identifier
        order.price_current = market_price
        order.volume_current = round(order.volume_current - volume, VOLUME_DIGITS)
        if order.volume_current > 0:
            order.state = api.ORDER_STATE_PARTIAL
            account.put_order(order)
        else:
            self.finish(account, order, api.ORDER_STATE_FILLED)
        account.add_deal(deal)
        return deal

    def close_by(
        self, account: Account, symbol: Specification, position: Position, other: Position, *, magic: int
    ) -> tuple[Order, Deal]:
        """Close two opposite positions against each other: one order, two deals, no spread paid.

        Each deal is at the opening price of the other position; the whole result is on that of `position`.

        Raises:
            NoRate: the profit cannot be converted.
        """
        volume = min(position.volume, other.volume)
        profit = self.profit(account, symbol, position, volume=volume, price=other.price_open)
        order = self.new(
            type=api.ORDER_TYPE_CLOSE_BY,
            magic=magic,
            reason=api.ORDER_REASON_EXPERT,
            volume_initial=volume,
            volume_current=volume,
            price_open=other.price_open,
            price_current=other.price_open,
            position_id=position.identifier,
            position_by_id=other.identifier,
            symbol=position.symbol,
            comment=f"close #{position.ticket} by #{other.ticket}"[:29],
        )
        first = self._closed_by(account, order, position, other.price_open, volume, profit)
        self._closed_by(account, order, other, position.price_open, volume, 0.0)
        order.volume_current = 0.0
        self.finish(account, order, api.ORDER_STATE_FILLED)
        return order, first

    def _closed_by(
        self, account: Account, order: Order, position: Position, price: float, volume: float, profit: float
    ) -> Deal:
        now = self._now()
        deal = Deal(
            ticket=self._tickets.deal(),
            order=order.ticket,
            time=now.seconds,
            time_msc=now.milliseconds,
            type=api.DEAL_TYPE_SELL if position.is_buy else api.DEAL_TYPE_BUY,
            entry=api.DEAL_ENTRY_OUT_BY,
            magic=order.magic,
            position_id=position.identifier,
            reason=order.reason,
            volume=volume,
            price=price,
            swap=self.reduce(account, position, volume),
            profit=profit,
            symbol=position.symbol,
            comment=order.comment,
        )
        account.add_deal(deal)
        return deal

    def reopen(
        self, account: Account, symbol: Specification, position: Position, *, closed: float, opened: float
    ) -> None:
        """Close a position and open it again at another price: its ticket changes, its identifier does not.

        Raises:
            NoRate: the profit cannot be converted.
        """
        profit = self.profit(account, symbol, position, volume=position.volume, price=closed)
        now, swap = self._now(), position.swap
        out = self._rollover_deal(position, api.DEAL_ENTRY_OUT, closed, swap, profit)
        account.drop_position(position.ticket)
        back = self._rollover_deal(position, api.DEAL_ENTRY_IN, opened, 0.0, 0.0)
        renewed = msgspec.structs.replace(
            position,
            ticket=self._tickets.order(),
            time_update=now.seconds,
            time_update_msc=now.milliseconds,
            price_open=opened,
            price_current=closed,
            swap=0.0,
            profit=0.0,
        )
        account.put_position(renewed)
        account.add_deal(out)
        account.add_deal(back)

    def _rollover_deal(self, position: Position, entry: int, price: float, swap: float, profit: float) -> Deal:
        now = self._now()
        buys = position.is_buy == (entry == api.DEAL_ENTRY_IN)
        return Deal(
            ticket=self._tickets.deal(),
            time=now.seconds,
            time_msc=now.milliseconds,
            type=api.DEAL_TYPE_BUY if buys else api.DEAL_TYPE_SELL,
            entry=entry,
            magic=position.magic,
            position_id=position.identifier,
            reason=api.DEAL_REASON_ROLLOVER,
            volume=position.volume,
            price=price,
            swap=swap,
            profit=profit,
            symbol=position.symbol,
            comment="rollover",
        )
