"""Trade requests: each action checked and carried out on an account, with the return codes of the API."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from paper_terminal import checks
from paper_terminal import constants as api
from paper_terminal.accounts import Account
from paper_terminal.checks import BUY_TYPES
from paper_terminal.dealing import Origin
from paper_terminal.engine import Engine
from paper_terminal.ledger_records import CheckResult, Order, Position, SendResult, TradeRequest
from paper_terminal.margin import NoRate, Quote
from paper_terminal.matching import closing_price, expires_at_s
from paper_terminal.retcodes import CHECKED_COMMENT, EXECUTED_COMMENT, SERVER_SIDE, Refusal, comment_of
from paper_terminal.specifications import Specification


class Outcome(NamedTuple):
    """What carrying out a request gave."""

    deal: int = 0
    order: int = 0
    volume: float = 0.0
    price: float = 0.0
    quote: Quote | None = None


class Plan(NamedTuple):
    """A request that passed every check: how to carry it out, and for a check what it would open."""

    execute: Callable[[], Outcome]
    opens: Position | None = None
    cost: float = 0.0


class TradeDesk:
    """Takes trade requests for the accounts of one engine."""

    def __init__(self, engine: Engine) -> None:
        """Serve this engine's accounts."""
        self._engine = engine
        self._request_id = 0

    def send(self, account: Account, request: TradeRequest, *, refuse: int = 0) -> SendResult:
        """Carry out a request; what it changes is durable when this returns.

        Args:
            account: Whose order.
            request: What is asked.
            refuse: A return code to refuse with whatever the request is (terminal state, faults); 0: none.

        Raises:
            StateError: the change cannot be made durable.
        """
        try:
            plan = self._plan(account, request, refuse)
            outcome = plan.execute()
        except Refusal as refusal:
            return self._refused(request, refusal.retcode)
        except NoRate:
            return self._refused(request, api.TRADE_RETCODE_PRICE_OFF)
        self._engine.commit()
        self._request_id += 1
        bid, ask = (outcome.quote.bid, outcome.quote.ask) if outcome.quote else (0.0, 0.0)
        return SendResult(
            api.TRADE_RETCODE_DONE,
            outcome.deal,
            outcome.order,
            outcome.volume,
            outcome.price,
            bid,
            ask,
            EXECUTED_COMMENT,
            self._request_id,
            0,
            request,
        )

    def _refused(self, request: TradeRequest, retcode: int) -> SendResult:
        quote = self._engine.quotes.get(request.symbol) if retcode == api.TRADE_RETCODE_REQUOTE else None
        bid, ask = (quote.bid, quote.ask) if quote else (0.0, 0.0)
        self._request_id += retcode in SERVER_SIDE
        request_id = self._request_id if retcode in SERVER_SIDE else 0
        return SendResult(retcode, 0, 0, 0.0, 0.0, bid, ask, comment_of(retcode), request_id, 0, request)

    def check(self, account: Account, request: TradeRequest, *, refuse: int = 0) -> CheckResult:
        """Return what carrying out a request would leave; nothing is changed.

        The numbers are those after the trade; on a refusal they are 0.
        """
        try:
            plan = self._plan(account, request, refuse)
            worth = self._engine.valuer.value(account, plus=plan.opens, cost=plan.cost)
        except Refusal as refusal:
            return CheckResult(refusal.retcode, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, comment_of(refusal.retcode), request)
        except NoRate:
            retcode = api.TRADE_RETCODE_PRICE_OFF
            return CheckResult(retcode, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, comment_of(retcode), request)
        return CheckResult(
            0,
            worth.balance,
            worth.equity,
            worth.profit,
            worth.margin,
            worth.margin_free,
            worth.margin_level,
            CHECKED_COMMENT,
            request,
        )

    # Checks, one planner per action --------------------------------------------------------------------------

    def _plan(self, account: Account, request: TradeRequest, refuse: int) -> Plan:
        if refuse:
            raise Refusal(refuse)
        planners = {
            api.TRADE_ACTION_DEAL: self._plan_deal,
            api.TRADE_ACTION_PENDING: self._plan_pending,
            api.TRADE_ACTION_SLTP: self._plan_stops,
            api.TRADE_ACTION_MODIFY: self._plan_modify,
            api.TRADE_ACTION_REMOVE: self._plan_remove,
        }
        if request.action == api.TRADE_ACTION_CLOSE_BY:  # no symbol offers it: its bit of order_mode is unset
            raise Refusal(api.TRADE_RETCODE_INVALID_ORDER)
        planner = planners.get(request.action)
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

    def _plan_deal(self, account: Account, request: TradeRequest) -> Plan:
        if request.position:
            return self._plan_close(account, request)
        symbol, quote = self._market(request.symbol)
        if request.type not in {api.ORDER_TYPE_BUY, api.ORDER_TYPE_SELL}:
            raise Refusal(api.TRADE_RETCODE_INVALID_ORDER)
        buy = request.type == api.ORDER_TYPE_BUY
        price = quote.ask if buy else quote.bid
        checks.check_direction(symbol, buy=buy)
        checks.check_order_mode(symbol, request)
        checks.check_volume(symbol, request.volume)
        self._check_volume_limit(account, symbol, request)
        checks.check_filling(symbol, request)
        self._require_open()
        checks.check_price(symbol, request, price)
        checks.check_stops(symbol, buy=buy, sl=request.sl, tp=request.tp, price=quote.bid if buy else quote.ask)
        self._require_money(account, request.symbol, buy=buy, volume=request.volume, price=price)
        request = _rounded(symbol, request)

        def execute() -> Outcome:
            order = self._engine.dealer.new_order(request, name=request.symbol, price=price)
            deal = self._engine.fill(account, order, price=price)
            return Outcome(deal, order.ticket, request.volume, price, quote)

        opens = self._engine.imagined(request.symbol, buy=buy, volume=request.volume, price=price)
        return Plan(execute, opens, self._engine.dealer.commission(account, symbol, request.volume))

    def _require_money(self, account: Account, name: str, *, buy: bool, volume: float, price: float) -> None:
        if not self._engine.affords(account, name, buy=buy, volume=volume, price=price):
            raise Refusal(api.TRADE_RETCODE_NO_MONEY)

    @staticmethod
    def _check_volume_limit(account: Account, symbol: Specification, request: TradeRequest) -> None:
        if not symbol.volume_limit:
            return
        buy = request.type in BUY_TYPES
        held = sum(each.volume for each in account.positions_on(request.symbol) if each.is_buy == buy)
        waiting = sum(
            each.volume_current
            for each in account.orders.values()
            if each.symbol == request.symbol and (each.type in BUY_TYPES) == buy
        )
        if held + waiting + request.volume > symbol.volume_limit + 1e-9:
            raise Refusal(api.TRADE_RETCODE_LIMIT_VOLUME)

    def _position(self, account: Account, request: TradeRequest) -> Position:
        position = account.positions.get(request.position)
        if position is None:
            raise Refusal(api.TRADE_RETCODE_POSITION_CLOSED)
        if request.symbol and request.symbol != position.symbol:
            raise Refusal(api.TRADE_RETCODE_INVALID)
        return position

    def _plan_close(self, account: Account, request: TradeRequest) -> Plan:
        position = self._position(account, request)
        symbol, quote = self._market(position.symbol)
        opposite = api.ORDER_TYPE_SELL if position.is_buy else api.ORDER_TYPE_BUY
        if request.type != opposite:
            raise Refusal(api.TRADE_RETCODE_INVALID)
        if symbol.trade_mode == api.SYMBOL_TRADE_MODE_DISABLED:
            raise Refusal(api.TRADE_RETCODE_TRADE_DISABLED)
        price = closing_price(position, quote)
        checks.check_close_volume(symbol, position, request.volume)
        checks.check_filling(symbol, request)
        self._require_open()
        checks.check_price(symbol, request, price)
        checks.check_freeze(symbol, quote, buy=position.is_buy, sl=position.sl, tp=position.tp)
        origin = Origin(
            api.ORDER_REASON_EXPERT, request.magic, request.comment, request.type_filling, request.type_time
        )
        self._engine.converter.profit(
            symbol,
            buy=position.is_buy,
            volume=request.volume,
            opened=position.price_open,
            closed=price,
            to=account.settings.currency,
        )

        def execute() -> Outcome:
            order, deal = self._engine.close(account, position, price=price, origin=origin, volume=request.volume)
            return Outcome(deal, order, request.volume, price, quote)

        return Plan(execute, None, self._engine.dealer.commission(account, symbol, request.volume))

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

    def _plan_pending(self, account: Account, request: TradeRequest) -> Plan:
        symbol, quote = self._market(request.symbol)
        if request.type in {api.ORDER_TYPE_BUY, api.ORDER_TYPE_SELL}:
            raise Refusal(api.TRADE_RETCODE_INVALID_ORDER)
        checks.check_order_mode(symbol, request)
        checks.check_direction(symbol, buy=request.type in BUY_TYPES)
        checks.check_volume(symbol, request.volume)
        self._check_volume_limit(account, symbol, request)
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
            account.put_order(order)
            return Outcome(0, order.ticket, request.volume, request.price, quote)

        return Plan(execute)

    def _check_pending(self, symbol: Specification, request: TradeRequest, quote: Quote) -> int:
        """Check what placing and modifying share; return the expiry in server seconds."""
        now_s = self._engine.moment().seconds
        checks.check_expiration(symbol, request, now_s)
        self._require_open()
        checks.check_pending_price(symbol, request, quote)
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

        def execute() -> Outcome:
            self._engine.dealer.cancel(account, order, api.ORDER_STATE_CANCELED)
            return Outcome(0, order.ticket)

        return Plan(execute)


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
