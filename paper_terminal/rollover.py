"""Swaps: what holding a position over the server's midnight costs or earns."""

from __future__ import annotations

from typing import Final

from paper_terminal import constants as api
from paper_terminal.ledger_records import Position
from paper_terminal.margin import Converter, Quote
from paper_terminal.matching import closing_price
from paper_terminal.specifications import Specification

DAY_S: Final = 86_400
_DAYS_A_YEAR: Final = 360
# The epoch was a Thursday; weekdays count from Sunday as 0.
_EPOCH_WEEKDAY: Final = 4
_OF_CURRENCY: Final = frozenset({api.SYMBOL_SWAP_MODE_CURRENCY_SYMBOL, api.SYMBOL_SWAP_MODE_CURRENCY_MARGIN})
_OF_INTEREST: Final = frozenset({api.SYMBOL_SWAP_MODE_INTEREST_CURRENT, api.SYMBOL_SWAP_MODE_INTEREST_OPEN})
REOPENING: Final = frozenset({api.SYMBOL_SWAP_MODE_REOPEN_CURRENT, api.SYMBOL_SWAP_MODE_REOPEN_BID})
"""Modes that close the position and open it again at a price moved by the swap, in points."""
SWAP_MODES: Final = (
    frozenset({api.SYMBOL_SWAP_MODE_DISABLED, api.SYMBOL_SWAP_MODE_POINTS, api.SYMBOL_SWAP_MODE_CURRENCY_DEPOSIT})
    | _OF_CURRENCY
    | _OF_INTEREST
    | REOPENING
)
"""Swap modes offered."""


def nights(symbol: Specification, midnight_s: int) -> int:
    """Return how many nights the midnight at a server second charges.

    One after each working day, three after the symbol's triple day, none after Saturday and Sunday.
    """
    ended = (midnight_s // DAY_S - 1 + _EPOCH_WEEKDAY) % 7
    if ended in {api.DAY_OF_WEEK_SATURDAY, api.DAY_OF_WEEK_SUNDAY}:
        return 0
    return 3 if ended == symbol.swap_rollover3days else 1


def swap_per_night(symbol: Specification, position: Position, converter: Converter, currency: str) -> float:
    """Return one night's swap of a position in `currency`, unrounded; negative is a cost.

    Raises:
        NoRate: the swap's currency cannot be converted.
    """
    rate = symbol.swap_long if position.is_buy else symbol.swap_short
    if symbol.swap_mode == api.SYMBOL_SWAP_MODE_DISABLED or not rate:
        return 0.0
    if symbol.swap_mode in _OF_CURRENCY:
        of_symbol = symbol.swap_mode == api.SYMBOL_SWAP_MODE_CURRENCY_SYMBOL
        source = symbol.currency_base if of_symbol else symbol.margin_currency
        return rate * position.volume * converter.rate(source, currency)
    if symbol.swap_mode == api.SYMBOL_SWAP_MODE_CURRENCY_DEPOSIT:
        return rate * position.volume
    # What a move of the price by 1 is worth: of futures that is not their contract size.
    worth = symbol.profit_per_price * position.volume * converter.rate(symbol.currency_profit, currency)
    if symbol.swap_mode == api.SYMBOL_SWAP_MODE_POINTS:
        return rate * symbol.point * worth
    opened = symbol.swap_mode == api.SYMBOL_SWAP_MODE_INTEREST_OPEN
    price = position.price_open if opened else position.price_current
    return price * worth * rate / 100.0 / _DAYS_A_YEAR


def reopening_prices(symbol: Specification, position: Position, quote: Quote, charged: int) -> tuple[float, float]:
    """Return at which prices a position is closed and opened again for so many nights."""
    closed = closing_price(position, quote)
    points = charged * (symbol.swap_long if position.is_buy else symbol.swap_short)
    base = quote.bid if symbol.swap_mode == api.SYMBOL_SWAP_MODE_REOPEN_BID else closed
    moved = base - points * symbol.point if position.is_buy else base + points * symbol.point
    return closed, symbol.price(moved)
