"""The margin of an account's positions and orders on one symbol together, by the rules of its way of counting.

Hedging accounts charge the uncovered volume, the covered one by the symbol's hedged size, and each type of pending
order apart; or, with `margin_hedged_use_leg`, the larger of the buying and the selling side. Netting accounts charge
the larger side of position, market and limit orders, and stop orders on top unless they go against the position.
Orders that only close a position cost nothing.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from paper_terminal import constants as api
from paper_terminal.ledger_records import Order, Position
from paper_terminal.margin import SHARES, Converter, Quote
from paper_terminal.specifications import Specification

_SIDES: Final = (api.ORDER_TYPE_BUY, api.ORDER_TYPE_SELL)
_STOPS: Final = frozenset({
    api.ORDER_TYPE_BUY_STOP,
    api.ORDER_TYPE_SELL_STOP,
    api.ORDER_TYPE_BUY_STOP_LIMIT,
    api.ORDER_TYPE_SELL_STOP_LIMIT,
})


class _Volume:
    """Lots at their weighted mean price."""

    __slots__ = ("_value", "lots")

    def __init__(self, lots: float = 0.0, value: float = 0.0) -> None:
        self.lots = lots
        self._value = value

    def copy(self) -> _Volume:
        return _Volume(self.lots, self._value)

    def add(self, lots: float, price: float) -> None:
        self.lots += lots
        self._value += lots * price

    @property
    def price(self) -> float:
        return self._value / self.lots if self.lots else 0.0


class Volumes:
    """The lots on one symbol that margin is charged for: of positions by side, of orders that may open by type."""

    def __init__(self, *, netting: bool) -> None:
        """Begin with none, of a netting account or a hedging one."""
        self.netting = netting
        self.sides: dict[int, _Volume] = {kind: _Volume() for kind in _SIDES}
        self.waiting: dict[int, _Volume] = {}

    def copy(self) -> Volumes:
        """Return volumes of their own."""
        copied = Volumes(netting=self.netting)
        copied.sides = {kind: each.copy() for kind, each in self.sides.items()}
        copied.waiting = {kind: each.copy() for kind, each in self.waiting.items()}
        return copied

    def add_position(self, position: Position) -> None:
        """Add a position's lots."""
        self.sides[position.type].add(position.volume, position.price_open)

    def add_order(self, order: Order) -> None:
        """Add an order's lots, if it may open anything: on a hedging account one that names a position closes it."""
        if self.netting or order.position_id in {0, order.ticket}:
            volume = self.waiting.get(order.type)
            if volume is None:
                volume = self.waiting[order.type] = _Volume()
            volume.add(order.volume_current, order.price_open)

    @property
    def priced(self) -> bool:
        """Tell whether every mean price is above 0."""
        return all(each.price > 0 for each in (*self.sides.values(), *self.waiting.values()) if each.lots)


class Terms(NamedTuple):
    """What margin is reckoned by besides the symbol: the account's leverage, currency and way of counting."""

    leverage: int
    currency: str
    netting: bool


class Requirement(NamedTuple):
    """Margin in the account's currency, unrounded: of open positions, and of orders that wait."""

    positions: float
    orders: float


class Reckoner:
    """Reckons margin over a converter's quotes."""

    def __init__(self, converter: Converter) -> None:
        """Convert with this."""
        self._converter = converter

    def order_margin(self, symbol: Specification, order: Order, terms: Terms, quote: Quote | None) -> float:
        """Return the margin of a waiting order by itself, in the account's currency, unrounded.

        Raises:
            NoRate: the margin's currency cannot be converted.
        """
        volume = _Volume()
        volume.add(order.volume_current, order.price_open)
        return self._charge(symbol, volume, terms, quote, kind=order.type)

    def requirement(
        self,
        symbol: Specification,
        volumes: Volumes,
        terms: Terms,
        quote: Quote | None,
    ) -> Requirement:
        """Return the margin of positions and orders on one symbol together.

        Raises:
            NoRate: the margin's currency cannot be converted.
        """
        sides = volumes.sides
        held = self._held(symbol, sides, terms, quote)
        waiting = {kind: each for kind, each in volumes.waiting.items() if symbol.margin_rate_of(kind)}
        if not waiting:
            return Requirement(held, 0.0)
        charges = {kind: self._charge(symbol, each, terms, quote, kind=kind) for kind, each in waiting.items()}
        if not terms.netting and not symbol.margin_hedged_use_leg:
            return Requirement(held, sum(charges.values()))
        together = self._larger_side(symbol, sides, waiting, charges, terms, quote)
        return Requirement(held, max(0.0, together - held))

    def stands(self, symbol: Specification, volumes: Volumes, terms: Terms) -> bool:
        """Tell whether a requirement is the same at all quotes."""
        if symbol.calc_mode in SHARES:
            return False
        if symbol.margin_currency == terms.currency:
            return True
        own = {symbol.margin_currency, terms.currency} == {symbol.currency_base, symbol.currency_profit}
        return own and volumes.priced

    def _held(self, symbol: Specification, sides: dict[int, _Volume], terms: Terms, quote: Quote | None) -> float:
        if terms.netting or symbol.margin_hedged_use_leg:
            return max(self._side(symbol, sides, kind, terms, quote) for kind in _SIDES)
        buys, sells = (sides[kind] for kind in _SIDES)
        larger = _SIDES[0] if buys.lots >= sells.lots else _SIDES[1]
        covered = min(buys.lots, sells.lots)
        uncovered = _Volume()
        uncovered.add(round(sides[larger].lots - covered, 8), sides[larger].price)
        margin = self._charge(symbol, uncovered, terms, quote, kind=larger, maintenance=True)
        if not covered:
            return margin
        lots = buys.lots + sells.lots
        mean = _Volume()
        mean.add(covered, (buys.lots * buys.price + sells.lots * sells.price) / lots)
        rates = (buys.lots * symbol.margin_rate_of(_SIDES[0]) + sells.lots * symbol.margin_rate_of(_SIDES[1])) / lots
        return margin + self._charge(
            symbol, mean, terms, quote, rate=rates, size=symbol.margin_hedged, maintenance=True
        )

    def _larger_side(
        self,
        symbol: Specification,
        sides: dict[int, _Volume],
        waiting: dict[int, _Volume],
        charges: dict[int, float],
        terms: Terms,
        quote: Quote | None,
    ) -> float:
        """Return what position and orders cost where the larger side counts.

        On a netting account what goes against the position costs nothing as long as it is no larger.
        """
        totals = {kind: self._side(symbol, sides, kind, terms, quote) for kind in _SIDES}
        against = dict.fromkeys(_SIDES, 0.0)
        for kind, volume in waiting.items():
            against[kind % 2] += volume.lots
        extra = 0.0
        for kind, charge in charges.items():
            side = kind % 2  # even types buy
            held = sides[1 - side].lots if terms.netting else 0.0
            if held and round(against[side] - held, 8) <= 0:
                continue
            if terms.netting and kind in _STOPS and not held:
                extra += charge
            else:
                totals[side] += charge
        return max(totals.values()) + extra

    def _side(
        self, symbol: Specification, sides: dict[int, _Volume], kind: int, terms: Terms, quote: Quote | None
    ) -> float:
        return self._charge(symbol, sides[kind], terms, quote, kind=kind, maintenance=True)

    def _charge(
        self,
        symbol: Specification,
        volume: _Volume,
        terms: Terms,
        quote: Quote | None,
        *,
        kind: int = api.ORDER_TYPE_BUY,
        rate: float | None = None,
        size: float | None = None,
        maintenance: bool = False,
    ) -> float:
        if not volume.lots:
            return 0.0
        last = quote.last if quote is not None and symbol.calc_mode in SHARES else 0.0
        return self._converter.margin(
            symbol,
            volume=volume.lots,
            price=last or volume.price,
            leverage=terms.leverage,
            to=terms.currency,
            rate=symbol.margin_rate_of(kind) if rate is None else rate,
            size=size,
            maintenance=maintenance,
        )
