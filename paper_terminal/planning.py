"""Checking trade requests, one planner per action: what passes every check becomes a plan that can be carried out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from paper_terminal import checks
from paper_terminal import constants as api
from paper_terminal.accounts import Account
from paper_terminal.booking import VOLUME_EPSILON, Origin
from paper_terminal.checks import BUY_TYPES, LIMIT_TYPES, MARKET_TYPES
from paper_terminal.engine import Engine
from paper_terminal.ledger_records import Order, Position, TradeRequest
from paper_terminal.margin import Quote
from paper_terminal.matching import closing_price, expires_at_s, fill_price
from paper_terminal.retcodes import Refusal
from paper_terminal.specifications import Specification

_UNPRICED_EXECUTION: Final = frozenset({api.SYMBOL_TRADE_EXECUTION_MARKET, api.SYMBOL_TRADE_EXECUTION_EXCHANGE})


class Outcome(NamedTuple):
    """What carrying out a request gave."""

    deal: int = 0
    order: int = 0
    volume: float = 0.0
    price: float = 0.0
    quote: Quote | None = None
    retcode: int = api.TRADE_RETCODE_DONE


class Plan(NamedTuple):
    """A request that passed every check: how to carry it out, and for a check what it would open."""

    execute: Callable[[], Outcome]
    opens: Position | None = None
    cost: float = 0.0


class Planner:
    """Plans trade requests for the accounts of one engine."""

    def __init__(self, engine: Engine) -> None:
        """Serve this engine's accounts."""
        self._engine = engine
        self._planners = {
            api.TRADE_ACTION_DEAL: self._plan_deal,
            api.TRADE_ACTION_PENDING: self._plan_pending,
            api.TRADE_ACTION_SLTP: self._plan_stops,
            api.TRADE_ACTION_MODIFY: self._plan_modify,
            api.TRADE_ACTION_REMOVE: self._plan_remove,
            api.TRADE_ACTION_CLOSE_BY: self._plan_close_by,
        }

    def plan(self, account: Account, request: TradeRequest, refuse: int = 0) -> Plan:
        """Return how to carry out a request; nothing is changed yet.

        Raises:
            Refusal: a check fails, or `refuse` is a return code.
            NoRate: a currency cannot be converted.
        """
        if refuse:
            raise Refusal(refuse)
        if not account.settings.trade_allowed:
            raise Refusal(api.TRADE_RETCODE_TRADE_DISABLED)
        if not account.settings.trade_expert:
            raise Refusal(api.TRADE_RETCODE_SERVER_DISABLES_AT)
        planner = self._planners.get(request.action)
        if planner is None:
            raise Refusal(api.TRADE_RETCODE_INVALID)
        return planner(account, request)

    def _market(self, name: str) -> tuple[Specification, Quote]:
        symbol = self._engine.symbols.get(name)
        if symbol is None:
            raise Refusal(api.TRADE_RETCODE_INVALID)
        quote = self._engine.quotes.get(name)
        if quote is None:
            raise Refusal(api.TRADE_RETCODE_PRICE_OFF)
        return symbol, quote

    def _require_open(self) -> None:
        if not self._engine.is_open(self._engine.now_ms):
            raise Refusal(api.TRADE_RETCODE_MARKET_CLOSED)

    # Market orders -------------------------------------------------------------------------------------------

    def _plan_deal(self, account: Account, request: TradeRequest) -> Plan:
        if request.position and not account.netting:
            return self._plan_close(account, request)
        if request.position:
            self._position(account, request)
        symbol, quote = self._market(request.symbol)
        if request.type not in MARKET_TYPES:
            raise Refusal(api.TRADE_RETCODE_INVALID_ORDER)
        buy = request.type == api.ORDER_TYPE_BUY
        price = quote.ask if buy else quote.bid
        reduces = _reduces(account, request)
        if not self._engine.settings.stops_in_request and symbol.exemode in _UNPRICED_EXECUTION:
            request = msgspec.structs.replace(request, sl=0.0, tp=0.0)
        checks.check_direction(symbol, buy=buy, reduces=reduces)
        checks.check_order_mode(symbol, request)
        checks.check_volume(symbol, request.volume)
        if not reduces:
            self._check_limits(account, symbol, request)
        checks.check_filling(symbol, request)
        self._require_open()
        checks.check_price(symbol, request, price)
        checks.check_stops(symbol, buy=buy, sl=request.sl, tp=request.tp, price=quote.bid if buy else quote.ask)
        if not reduces:
            self._require_money(account, request.symbol, buy=buy, volume=request.volume, price=price)
        request = _rounded(symbol, request)

        def execute() -> Outcome:
            self._require_liquidity(symbol, request)
            order = self._engine.dealer.new_order(request, name=request.symbol, price=price)
            return self._executed(account, order, price, quote)

        opens = self._engine.imagined(request.symbol, buy=buy, volume=request.volume, price=price)
        return Plan(execute, opens, self._engine.dealer.commission(account, symbol, request.volume))

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

    def _require_money(self, account: Account, name: str, *, buy: bool, volume: float, price: float) -> None:
        if not self._engine.affords(account, name, buy=buy, volume=volume, price=price):
            raise Refusal(api.TRADE_RETCODE_NO_MONEY)

    @staticmethod
    def _check_limits(account: Account, symbol: Specification, request: TradeRequest) -> None:
        """Refuse what exceeds the limits of volume (10034), positions (10040) or direction (10046)."""
        buy = request.type in BUY_TYPES
        held = sum(each.volume if each.is_buy == buy else -each.volume for each in account.positions_on(request.symbol))
        if not account.netting:
            held = sum(each.volume for each in account.positions_on(request.symbol) if each.is_buy == buy)
        waiting = sum(
            each.volume_current
            for each in account.orders.values()
            if each.symbol == request.symbol and (each.type in BUY_TYPES) == buy
        )
        if symbol.volume_limit and held + waiting + request.volume > symbol.volume_limit + VOLUME_EPSILON:
            raise Refusal(api.TRADE_RETCODE_LIMIT_VOLUME)
        limit, opened = account.settings.limit_positions, len(account.positions)
        if account.netting:
            opened -= bool(account.positions_on(request.symbol))
        else:
            opened += len(account.orders)
        if limit and opened >= limit:
            raise Refusal(api.TRADE_RETCODE_LIMIT_POSITIONS)
        opposite = any(each.is_buy != buy for each in account.positions_on(request.symbol))
        if account.settings.hedge_prohibited and not account.netting and opposite:
            raise Refusal(_HEDGE_PROHIBITED)

    # Positions -----------------------------------------------------------------------------------------------

    def _position(self, account: Account, request: TradeRequest) -> Position:
        position = account.positions.get(request.position)
        if position is None and not request.position and account.netting:
            position = next(iter(account.positions_on(request.symbol)), None)
        if position is None:
            raise Refusal(api.TRADE_RETCODE_POSITION_CLOSED)
        if request.symbol and request.symbol != position.symbol:
            raise Refusal(api.TRADE_RETCODE_INVALID)
        return position

    @staticmethod
    def _require_no_closing_order(account: Account, position: Position) -> None:
        for order in account.orders.values():
            closing = order.position_id == position.identifier and order.type in MARKET_TYPES
            if closing and order.ticket != position.identifier:
                raise Refusal(api.TRADE_RETCODE_CLOSE_ORDER_EXIST)

    def _plan_close(self, account: Account, request: TradeRequest) -> Plan:
        position = self._position(account, request)
        symbol, quote = self._market(position.symbol)
        if request.type != (api.ORDER_TYPE_SELL if position.is_buy else api.ORDER_TYPE_BUY):
            raise Refusal(api.TRADE_RETCODE_INVALID)
        if symbol.trade_mode == api.SYMBOL_TRADE_MODE_DISABLED:
            raise Refusal(api.TRADE_RETCODE_TRADE_DISABLED)
        price = closing_price(position, quote)
        checks.check_close_volume(symbol, position, request.volume)
        checks.check_filling(symbol, request)
        self._require_open()
        checks.check_price(symbol, request, price)
        checks.check_freeze(symbol, quote, buy=position.is_buy, sl=position.sl, tp=position.tp)
        self._require_no_closing_order(account, position)
        if account.settings.fifo_close and _oldest(account, position.symbol) is not position:
            raise Refusal(api.TRADE_RETCODE_FIFO_CLOSE)
        origin = Origin(
            api.ORDER_REASON_EXPERT, request.magic, request.comment, request.type_filling, request.type_time
        )
        # A profit that cannot be converted is found here, before anything changes.
        self._engine.dealer.profit(account, symbol, position, volume=request.volume, price=price)

        def execute() -> Outcome:
            self._require_liquidity(symbol, request)
            order = self._engine.dealer.closing_order(position, volume=request.volume, price=price, origin=origin)
            return self._executed(account, order, price, quote)

        cost = self._engine.dealer.commission(account, symbol, request.volume, entry=api.DEAL_ENTRY_OUT)
        return Plan(execute, None, cost)

    def _plan_close_by(self, account: Account, request: TradeRequest) -> Plan:
        if account.netting:
            raise Refusal(api.TRADE_RETCODE_INVALID)
        position = self._position(account, request)
        other = self._position(account, msgspec.structs.replace(request, position=request.position_by))
        symbol, quote = self._market(position.symbol)
        if other.symbol != position.symbol or other.is_buy == position.is_buy:
            raise Refusal(api.TRADE_RETCODE_INVALID)
        checks.check_close_by(symbol)
        self._require_open()
        for each in (position, other):
            checks.check_freeze(symbol, quote, buy=each.is_buy, sl=each.sl, tp=each.tp)
            self._require_no_closing_order(account, each)
        volume = min(position.volume, other.volume)
        self._engine.dealer.profit(account, symbol, position, volume=volume, price=other.price_open)

        def execute() -> Outcome:
            order, _ = self._engine.dealer.close_by(account, symbol, position, other, magic=request.magic)
            for each in account.positions_on(position.symbol):
                self._engine.valuer.reprice(account, each)
            return Outcome(0, order.ticket, volume, order.price_open, quote)

        return Plan(execute)

    def _plan_stops(self, account: Account, request: TradeRequest) -> Plan:
        position = self._position(account, request)
        symbol, quote = self._market(position.symbol)
        sl, tp = symbol.price(_finite(request.sl)), symbol.price(_finite(request.tp))
        if sl == position.sl and tp == position.tp:
            raise Refusal(api.TRADE_RETCODE_NO_CHANGES)
        self._require_open()
        checks.check_freeze(symbol, quote, buy=position.is_buy, sl=position.sl, tp=position.tp)
        checks.check_stops(symbol, buy=position.is_buy, sl=sl, tp=tp, price=closing_price(position, quote))

        def execute() -> Outcome:
            position.sl, position.tp = sl, tp
            account.put_position(position)
            return Outcome(quote=quote)

        return Plan(execute)

    # Pending orders ------------------------------------------------------------------------------------------

    def _plan_pending(self, account: Account, request: TradeRequest) -> Plan:
        symbol, quote = self._market(request.symbol)
        if request.type in MARKET_TYPES:
            raise Refusal(api.TRADE_RETCODE_INVALID_ORDER)
        checks.check_order_mode(symbol, request)
        checks.check_direction(symbol, buy=request.type in BUY_TYPES)
        checks.check_volume(symbol, request.volume)
        self._check_limits(account, symbol, request)
        checks.check_filling(symbol, request)
        limit = account.settings.limit_orders
        if limit and len(account.orders) >= limit:
            raise Refusal(api.TRADE_RETCODE_LIMIT_ORDERS)
        expires_s = self._check_pending(symbol, request, quote)
        request = _rounded(symbol, request)

        def execute() -> Outcome:
            order = self._engine.dealer.new_order(
                request, name=request.symbol, price=request.price, expires_s=expires_s
            )
            order.price_current = quote.ask if order.type in BUY_TYPES else quote.bid
            if _through_the_market(symbol, request, quote):
                return self._executed(account, order, fill_price(order, quote, better=True), quote)
            account.put_order(order)
            retcode = self._engine.settings.placed_retcode
            return Outcome(0, order.ticket, request.volume, request.price, quote, retcode)

        return Plan(execute)

    def _check_pending(self, symbol: Specification, request: TradeRequest, quote: Quote) -> int:
        """Check what placing and modifying share; return the expiry in server seconds."""
        now_s = self._engine.moment().seconds
        checks.check_expiration(symbol, request, now_s)
        self._require_open()
        if not _through_the_market(symbol, request, quote):
            checks.check_pending_price(symbol, request, quote)
        elif request.type_filling == api.ORDER_FILLING_BOC:  # it may only wait in the book
            raise Refusal(api.TRADE_RETCODE_REJECT)
        entry = request.stoplimit if request.type in checks.STOP_LIMIT_TYPES else request.price
        checks.check_stops(symbol, buy=request.type in BUY_TYPES, sl=request.sl, tp=request.tp, price=entry)
        return expires_at_s(request.type_time, request.expiration, now_s)

    @staticmethod
    def _order(account: Account, request: TradeRequest) -> Order:
        order = account.orders.get(request.order)
        if order is None:
            raise Refusal(api.TRADE_RETCODE_INVALID)
        return order

    def _plan_modify(self, account: Account, request: TradeRequest) -> Plan:
        order = self._order(account, request)
        symbol, quote = self._market(order.symbol)
        if order.type in MARKET_TYPES:
            raise Refusal(api.TRADE_RETCODE_INVALID)
        checks.check_order_freeze(symbol, quote, order)
        wanted = _rounded(symbol, msgspec.structs.replace(request, type=order.type, symbol=order.symbol))
        expires_s = self._check_pending(symbol, wanted, quote)
        before = (order.price_open, order.price_stoplimit, order.sl, order.tp, order.type_time, order.time_expiration)
        after = (wanted.price, wanted.stoplimit, wanted.sl, wanted.tp, wanted.type_time, expires_s)
        if before == after:
            raise Refusal(api.TRADE_RETCODE_NO_CHANGES)

        def execute() -> Outcome:
            order.price_open, order.price_stoplimit, order.sl, order.tp, order.type_time, order.time_expiration = after
            account.put_order(order)
            return Outcome(0, order.ticket, 0.0, wanted.price, quote)

        return Plan(execute)

    def _plan_remove(self, account: Account, request: TradeRequest) -> Plan:
        order = self._order(account, request)
        symbol, quote = self._market(order.symbol)
        if order.type not in MARKET_TYPES:
            checks.check_order_freeze(symbol, quote, order)

        def execute() -> Outcome:
            self._engine.dealer.cancel(account, order, api.ORDER_STATE_CANCELED)
            return Outcome(0, order.ticket)

        return Plan(execute)


_HEDGE_PROHIBITED: Final = 10046  # no constant of the package


def _reduces(account: Account, request: TradeRequest) -> bool:
    """Tell whether a market order only makes a netting account's position smaller."""
    if not account.netting:
        return False
    buy = request.type == api.ORDER_TYPE_BUY
    return any(
        each.is_buy != buy and request.volume <= each.volume + VOLUME_EPSILON
        for each in account.positions_on(request.symbol)
    )


def _oldest(account: Account, name: str) -> Position:
    return min(account.positions_on(name), key=lambda each: (each.time_msc, each.identifier))


def _through_the_market(symbol: Specification, request: TradeRequest, quote: Quote) -> bool:
    """Tell whether a limit order would be executed at once: only exchange execution takes such."""
    if symbol.exemode != api.SYMBOL_TRADE_EXECUTION_EXCHANGE or request.type not in LIMIT_TYPES:
        return False
    if not (math.isfinite(request.price) and request.price > 0):
        return False
    return request.price >= quote.ask if request.type in BUY_TYPES else request.price <= quote.bid


def _finite(price: float) -> float:
    if not math.isfinite(price):
        raise Refusal(api.TRADE_RETCODE_INVALID_STOPS)
    return price


def _rounded(symbol: Specification, request: TradeRequest) -> TradeRequest:
    """Return the request with its prices on the symbol's digits."""
    return msgspec.structs.replace(
        request,
        price=symbol.price(_finite(request.price)),
        stoplimit=symbol.price(_finite(request.stoplimit)),
        sl=symbol.price(_finite(request.sl)),
        tp=symbol.price(_finite(request.tp)),
    )
