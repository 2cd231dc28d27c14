"""Trying a trade out on a copy of an account: what it would leave, and whether there is money for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec.structs

from paper_terminal import constants as api
from paper_terminal.accounts import Account
from paper_terminal.booking import Moment, Tickets
from paper_terminal.checks import BUY_TYPES
from paper_terminal.dealing import Dealer
from paper_terminal.ledger_records import Order, TradeRequest
from paper_terminal.margin import Converter, NoRate, Quote
from paper_terminal.settings import Settings
from paper_terminal.specifications import Specification
from paper_terminal.valuation import Valuation, Valuer

# Tickets of the copy are none that the broker has given out or will.
_FIRST_TRIAL = -1_000_000


class Rehearsal:
    """Carries trades out on copies, by the same dealer's rules."""

    def __init__(
        self,
        symbols: Mapping[str, Specification],
        quotes: Mapping[str, Quote],
        valuer: Valuer,
        converter: Converter,
        *,
        costs: Settings,
        now: Callable[[], Moment],
    ) -> None:
        """Use these symbols and quotes, by the broker's names."""
        self._symbols = symbols
        self._quotes = quotes
        self._valuer = valuer
        self._dealer = Dealer(Tickets(order=_FIRST_TRIAL, deal=_FIRST_TRIAL), converter, costs=costs, now=now)
        self._converter = converter

    def market_order(self, name: str, *, kind: int, volume: float, price: float, position_id: int = 0) -> Order:
        """Return a market order to try; with `position_id` it closes that position on a hedging account."""
        order = self._dealer.new_order(TradeRequest(type=kind, volume=volume, symbol=name), name=name, price=price)
        order.position_id = position_id
        return order

    def pending_order(self, request: TradeRequest) -> Order:
        """Return a pending order to try."""
        return self._dealer.new_order(request, name=request.symbol, price=request.price)

    def after_fill(self, account: Account, order: Order, *, volume: float, price: float) -> Valuation:
        """Return the account's worth after a fill of an order, active or not.

        Raises:
            NoRate: a profit or margin cannot be converted.
        """
        return self._filled(self._apart(account), order, volume=volume, price=price)

    def after_placing(self, account: Account, order: Order) -> Valuation:
        """Return the account's worth with one more order waiting.

        Raises:
            NoRate: a profit or margin cannot be converted.
        """
        return self._placed(self._apart(account), order)

    def after_close_by(self, account: Account, ticket: int, other: int) -> Valuation:
        """Return the account's worth after two positions were closed by each other.

        Raises:
            NoRate: a profit or margin cannot be converted.
        """
        copy = self._apart(account)
        pair = copy.positions[ticket], copy.positions[other]
        self._dealer.close_by(copy, self._symbols[pair[0].symbol], *pair, magic=0)
        return self._valuer.value(copy)

    def affords(self, account: Account, order: Order, *, volume: float, price: float) -> bool:
        """Tell whether equity covers the margin after a fill; a fill that lowers the margin is always afforded.

        What the volume costs to open counts, also where holding it costs less.
        """
        try:
            before = self._margin_before(account)
            after = self._filled(account, order, volume=volume, price=price)
            extra = self._opening_extra(account, order, volume=volume, price=price)
        except NoRate:
            return False
        return after.equity >= after.margin + extra or after.margin <= before

    def affords_placing(self, account: Account, order: Order) -> bool:
        """Tell whether equity covers the margin with one more order waiting."""
        try:
            before, after = self._margin_before(account), self._placed(account, order)
        except NoRate:
            return False
        return after.equity >= after.margin or after.margin <= before

    def _margin_before(self, account: Account) -> float:
        """Bring the account to the present quotes, and return its margin."""
        self._valuer.reprice(account)
        return self._valuer.margin(account)

    def _apart(self, account: Account) -> Account:
        """Return a copy at the present quotes, with records of its own: looking ahead changes nothing."""
        apart = account.apart()
        self._valuer.reprice(apart)
        return apart

    def _filled(self, account: Account, order: Order, *, volume: float, price: float) -> Valuation:
        """Return the worth after a fill of an account whose positions are at the present quotes."""
        name = order.symbol
        copy = account.sketch(name)
        met = self._dealer.met(copy, order)
        if met is not None:
            copy.put_position(msgspec.structs.replace(met))
        quote = self._quotes[name]
        deal = self._dealer.fill(
            copy,
            self._symbols[name],
            msgspec.structs.replace(order),
            volume=volume,
            price=price,
            market_price=quote.bid if order.type in BUY_TYPES else quote.ask,
        )
        changed = copy.position_of(name, deal.position_id)
        if changed is not None:
            self._valuer.reprice_positions(copy, name, (changed,))
        return self._valuer.value_as_priced(copy)

    def _placed(self, account: Account, order: Order) -> Valuation:
        """Return the worth with one more order waiting of an account whose positions are at the present quotes."""
        copy = account.sketch(order.symbol)
        copy.put_order(order)
        return self._valuer.value_as_priced(copy)

    def _opening_extra(self, account: Account, order: Order, *, volume: float, price: float) -> float:
        symbol = self._symbols[order.symbol]
        if not symbol.margin_maintenance:
            return 0.0
        side = api.ORDER_TYPE_BUY if order.type in BUY_TYPES else api.ORDER_TYPE_SELL
        rate = symbol.margin_rate_of(side)
        opening, holding = (
            self._converter.margin(
                symbol,
                volume=volume,
                price=price,
                leverage=account.settings.leverage,
                to=account.settings.currency,
                rate=rate,
                maintenance=maintenance,
            )
            for maintenance in (False, True)
        )
        return max(0.0, opening - holding)
