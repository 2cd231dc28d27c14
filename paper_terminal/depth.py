"""Market depth: the offers around the present quote.

Feeds hold quotes only, so the volumes are made: for each price a pure function of it and of the tick's time, larger
away from the market. Sells come first, then buys, prices descending; on each side the best price is the quote's.
"""

from __future__ import annotations

from typing import Any, Final

from paper_terminal import constants as api
from paper_terminal.specifications import Specification

_MULTIPLIER: Final = 0x9E3779B97F4A7C15
_MASK: Final = 0xFFFFFFFFFFFFFFFF


def depth(symbol: Specification, *, bid: float, ask: float, time_msc: int) -> list[list[Any]]:
    """Return rows of type, price, volume (units) and volume in lots, `book_depth` of them on each side."""
    sells = [_row(symbol, api.BOOK_TYPE_SELL, ask, level, time_msc) for level in reversed(range(symbol.book_depth))]
    buys = [_row(symbol, api.BOOK_TYPE_BUY, bid, level, time_msc) for level in range(symbol.book_depth)]
    return sells + buys


def _row(symbol: Specification, side: int, best: float, level: int, time_msc: int) -> list[Any]:
    away = level if side == api.BOOK_TYPE_SELL else -level
    price = symbol.price(best + away * symbol.step)
    mixed = ((time_msc // 1000 + level * 31 + side) * _MULTIPLIER) & _MASK
    lots = float((1 + level) * 10 + (mixed >> 60))
    if symbol.liquidity_lots and level == 0:
        lots = symbol.liquidity_lots
    return [side, price, round(lots), lots]
