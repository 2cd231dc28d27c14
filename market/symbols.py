"""Which of a broker's symbols is meant by a canonical name.

Brokers decorate: EURUSD.m, EURUSDm, EURUSDpro, #AAPL; one broker may list several variants, some of them not tradable.
The name alone does not decide: the currencies must fit, symbols open for trading come before others, and of those
the least decorated is taken. Two that are equally good are never chosen between: the user is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from market.instrument import TradeMode

# Enough to tell a currency pair from another name of six letters (NATGAS, COPPER).
_CURRENCIES: Final = (
    "AUD BRL CAD CHF CNH CNY CZK DKK EUR GBP HKD HUF ILS INR JPY KRW MXN NOK NZD PLN RON RUB SEK SGD THB TRY TWD "
    "USD ZAR XAG XAU XPD XPT BCH BTC ETH LTC XRP"
)
_KNOWN = frozenset(_CURRENCIES.split(" "))


class BrokerSymbol(msgspec.Struct, frozen=True):
    """What matching needs to know of a symbol, as the terminal tells it."""

    name: str
    currency_base: str = ""
    currency_profit: str = ""
    trade_mode: int = int(TradeMode.FULL)
    path: str = ""


class SymbolNotFoundError(LookupError):
    """The broker has no symbol for a canonical name."""


class SymbolAmbiguousError(LookupError):
    """Several of the broker's symbols fit a canonical name equally well; `candidates` names them."""

    def __init__(self, text: str, candidates: tuple[str, ...]) -> None:
        super().__init__(text)
        self.candidates = candidates


def match_symbol(
    canonical: str,
    offered: Iterable[BrokerSymbol],
    *,
    explicit: Mapping[str, str] | None = None,
    preferred_path: str = "",
) -> BrokerSymbol:
    """Return the broker's symbol for a canonical name.

    Args:
        canonical: Such as EURUSD or AAPL.
        offered: The broker's symbols.
        explicit: The user's own choices, canonical to broker name; they win over every rule.
        preferred_path: Symbols whose path begins with this come first.

    Raises:
        SymbolNotFoundError: none fits, or the user's choice is not offered.
        SymbolAmbiguousError: several fit equally well.
    """
    symbols = list(offered)
    chosen = (explicit or {}).get(canonical)
    if chosen is not None:
        for symbol in symbols:
            if symbol.name == chosen:
                return symbol
        raise SymbolNotFoundError(
            f"{canonical} is mapped to {chosen!r}, which this broker does not offer: correct the symbol map"
        )
    ranks = [(_rank(canonical, symbol, preferred_path), symbol) for symbol in symbols if _fits(canonical, symbol)]
    if not ranks:
        raise SymbolNotFoundError(
            f"this broker offers no symbol like {canonical}: if it has another name there, put it in the symbol map"
        )
    least = min(rank for rank, _ in ranks)
    best = [symbol for rank, symbol in ranks if rank == least]
    if len(best) > 1:
        names = tuple(sorted(symbol.name for symbol in best))
        raise SymbolAmbiguousError(
            f"{canonical} could be any of {', '.join(names)} at this broker: name the right one in the symbol map",
            names,
        )
    return best[0]


def _rank(canonical: str, symbol: BrokerSymbol, preferred_path: str) -> tuple[int, int, int]:
    tradable = {int(TradeMode.FULL): 0, int(TradeMode.DISABLED): 2}.get(symbol.trade_mode, 1)
    path = 0 if preferred_path and symbol.path.startswith(preferred_path) else 1
    return tradable, path, len(symbol.name) - len(canonical)


def _fits(canonical: str, symbol: BrokerSymbol) -> bool:
    wanted = canonical.upper()
    at = symbol.name.upper().find(wanted)
    if at < 0 or not wanted:
        return False
    proven = False
    if (pair := _pair(wanted)) is not None:
        given = symbol.currency_base.upper(), symbol.currency_profit.upper()
        # Some brokers give metals (XAUUSD) the quote currency as base.
        proven = given == pair or (pair[0].startswith("X") and given == (pair[1], pair[1]))
        if not proven and any(given):
            return False
    prefix, suffix = symbol.name[:at], symbol.name[at + len(wanted) :]
    return _is_decoration(prefix[-1:], proven=proven) and _is_decoration(suffix[:1], proven=proven)


def _is_decoration(neighbour: str, *, proven: bool) -> bool:
    """Say whether what stands directly beside the name can be decoration (empty: nothing stands there).

    A digit or a capital there makes another name (US30 and US300, AAPL and AAPLX); a capital does not when the
    currencies prove the symbol (EURUSDECN).
    """
    return not neighbour.isdigit() and (proven or not neighbour.isupper())


def _pair(canonical: str) -> tuple[str, str] | None:
    base, profit = canonical[:3], canonical[3:]
    return (base, profit) if {base, profit} <= _KNOWN else None
