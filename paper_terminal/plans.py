"""What the planners of trade requests share: plans and outcomes, and the checks that need the engine.

The terminal's checks come before the server's, as in MetaTrader: symbol and quotes, trade mode, order type, volume,
prices, stops, filling, limits; then market hours, requotes, liquidity, money.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from paper_terminal import checks
from paper_terminal import constants as api
from paper_terminal.accounts import Account
from paper_terminal.booking import VOLUME_EPSILON
from paper_terminal.checks import BUY_TYPES, MARKET_TYPES
from paper_terminal.engine import Engine
from paper_terminal.ledger_records import Order, Position, TradeRequest
from paper_terminal.margin import Quote
from paper_terminal.price_desk import PriceDesk
from paper_terminal.retcodes import Refusal
from paper_terminal.specifications import Specification
from paper_terminal.valuation import Valuation

HEDGE_PROHIBITED: Final = 10046  # no constant of the package


class Outcome(NamedTuple):
    """What carrying out a request gave."""

    deal: int = 0
    order: int = 0
    volume: float = 0.0
    price: float = 0.0
    quote: Quote | None = None
    retcode: int = api.TRADE_RETCODE_DONE


class Plan(NamedTuple):
    """A request that passed every check: how to carry it out, and what it would leave the account worth."""

    execute: Callable[[], Outcome]
    preview: Callable[[], Valuation]


class Planning:
    """Plans for the accounts of one engine."""

    def __init__(self, engine: Engine, prices: PriceDesk) -> None:
        """Serve this engine's accounts; `prices` is the dealer of Request execution."""
        self._engine = engine
        self._prices = prices

    def _market(self, name: str) -> tuple[Specification, Quote]:
        symbol = self._engine.symbols.get(name)
        if symbol is None:
            raise Refusal(api.TRADE_RETCODE_INVALID)
        quote = self._engine.quotes.get(name)
        if quote is None:
            raise Refusal(api.TRADE_RETCODE_PRICE_OFF)
        return symbol, quote

    def _require_open(self, name: str) -> None:
        if not self._engine.trades(name):
            raise Refusal(api.TRADE_RETCODE_MARKET_CLOSED)

    def _unchanged(self, account: Account) -> Valuation:
        return self._engine.valuer.value(account)

    def _position(self, account: Account, ticket: int, name: str) -> Position:
        """Return the position of a ticket, on netting accounts without one that of a symbol."""
        position = account.positions.get(ticket)
        if position is None and not ticket:
            if not account.netting:  # a hedging account's position has no other name
                raise Refusal(api.TRADE_RETCODE_INVALID)
            position = next(iter(account.positions_on(name)), None)
        if position is None:
            raise Refusal(api.TRADE_RETCODE_POSITION_CLOSED)
        if name and name != position.symbol:
            raise Refusal(api.TRADE_RETCODE_INVALID)
        return position

    # Dealing -------------------------------------------------------------------------------------------------

    def _agreed_price(self, account: Account, name: str, request: TradeRequest, quote: Quote, price: float) -> float:
        """Return the price a market order is dealt at, which under Request execution is the dealer's to say.

        Raises:
            Refusal: the dealer offers another price (10004), or does not want to deal (10006).
        """
        symbol = self._engine.symbols[name]
        if symbol.exemode != api.SYMBOL_TRADE_EXECUTION_REQUEST:
            return price
        return self._prices.agree(account.login, name, symbol, request, quote, now_ms=self._engine.now_ms)

    def _check_market_price(
        self, account: Account, name: str, request: TradeRequest, quote: Quote, price: float
    ) -> None:
        """Refuse a price that the market has left (10004), unless the dealer's offer of it still stands."""
        symbol = self._engine.symbols[name]
        if self._prices.offered(account.login, name, symbol, request, now_ms=self._engine.now_ms) is None:
            checks.check_requote(symbol, request, price, quote)

    @staticmethod
    def _require_liquidity(symbol: Specification, request: TradeRequest) -> None:
        """Refuse a FOK order that the market cannot fill whole (10006)."""
        short = 0 < symbol.liquidity_lots < request.volume
        if short and request.type_filling == api.ORDER_FILLING_FOK:
            raise Refusal(api.TRADE_RETCODE_REJECT)

    def _executed(self, account: Account, order: Order, price: float, quote: Quote) -> Outcome:
        deal = self._engine.execute(account, order, price=price)
        if deal is None:
            raise Refusal(api.TRADE_RETCODE_REJECT)
        partly = deal.volume < order.volume_initial - VOLUME_EPSILON
        retcode = api.TRADE_RETCODE_DONE_PARTIAL if partly else api.TRADE_RETCODE_DONE
        return Outcome(deal.ticket, order.ticket, deal.volume, price, quote, retcode)

    @staticmethod
    def _check_limits(account: Account, symbol: Specification, request: TradeRequest) -> None:
        """Refuse what exceeds the limits of volume (10034), positions (10040) or direction (10046)."""
        buy, name = request.type in BUY_TYPES, request.symbol
        if symbol.volume_limit:
            lots = _lots(account, name, buy=buy) + request.volume
            if lots > symbol.volume_limit + VOLUME_EPSILON:
                raise Refusal(api.TRADE_RETCODE_LIMIT_VOLUME)
        limit = account.settings.limit_positions
        if limit and _counted(account, name) >= limit:
            raise Refusal(api.TRADE_RETCODE_LIMIT_POSITIONS)
        if account.forbids(name, buy=buy):
            raise Refusal(HEDGE_PROHIBITED)


def _lots(account: Account, name: str, *, buy: bool) -> float:
    """Return the lots held and waiting in one direction; on a netting account a position the other way counts less."""
    positions = account.positions_on(name)
    if account.netting:
        held = sum(each.volume if each.is_buy == buy else -each.volume for each in positions)
    else:
        held = sum(each.volume for each in positions if each.is_buy == buy)
    return held + sum(each.volume_current for each in account.orders_on(name) if (each.type in BUY_TYPES) == buy)


def _counted(account: Account, name: str) -> int:
    """Return how many positions count against one more on a symbol; on a hedging account pending orders do too."""
    if account.netting:
        return len(account.positions) - bool(account.positions_on(name))
    return len(account.positions) + sum(each.type not in MARKET_TYPES for each in account.orders.values())


def rounded(symbol: Specification, request: TradeRequest) -> TradeRequest:
    """Return the request with its prices on the symbol's digits; a price that is no number becomes 0."""
    return msgspec.structs.replace(
        request,
        price=symbol.price(request.price) if math.isfinite(request.price) else 0.0,
        stoplimit=symbol.price(request.stoplimit) if math.isfinite(request.stoplimit) else 0.0,
        sl=symbol.price(request.sl),
        tp=symbol.price(request.tp),
    )
