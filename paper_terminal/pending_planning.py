"""Planning what is asked of pending orders: placing, modifying, removing."""

from __future__ import annotations

import math

import msgspec

from paper_terminal import checks
from paper_terminal import constants as api
from paper_terminal.accounts import Account
from paper_terminal.checks import BUY_TYPES, LIMIT_TYPES, MARKET_TYPES
from paper_terminal.ledger_records import Order, TradeRequest
from paper_terminal.margin import Quote
from paper_terminal.matching import expires_at_s, fill_price
from paper_terminal.plans import Outcome, Plan, Planning, rounded
from paper_terminal.retcodes import Refusal
from paper_terminal.specifications import Specification
from paper_terminal.valuation import Valuation


class PendingPlanning(Planning):
    """Plans requests that concern a pending order."""

    def plan_placing(self, account: Account, request: TradeRequest) -> Plan:
        """Plan a new pending order.

        Raises:
            Refusal: a check fails.
        """
        symbol, quote = self._market(request.symbol)
        if request.type in MARKET_TYPES:
            raise Refusal(api.TRADE_RETCODE_INVALID_ORDER)
        checks.check_direction(symbol, buy=request.type in BUY_TYPES)
        checks.check_order_mode(symbol, request)
        checks.check_volume(symbol, request.volume)
        expires_s = self._check_terms(symbol, request, quote)
        checks.check_filling(symbol, request, pending_filling=self._engine.settings.pending_filling)
        self._check_limits(account, symbol, request)
        limit = account.settings.limit_orders
        if limit and sum(each.type not in MARKET_TYPES for each in account.orders.values()) >= limit:
            raise Refusal(api.TRADE_RETCODE_LIMIT_ORDERS)
        self._require_open(request.symbol)
        through = _through_the_market(symbol, request, quote)
        if through and request.type_filling == api.ORDER_FILLING_BOC:  # it may only wait in the book
            raise Refusal(api.TRADE_RETCODE_REJECT)
        request = rounded(symbol, request)
        trial = self._engine.rehearsal.pending_order(request)
        self._require_money(account, trial, quote, through=through)

        def execute() -> Outcome:
            order = self._engine.dealer.new_order(
                request, name=request.symbol, price=request.price, expires_s=expires_s
            )
            order.price_current = quote.ask if order.type in BUY_TYPES else quote.bid
            if through:
                return self._executed(account, order, fill_price(order, quote, better=True), quote)
            account.put_order(order)
            retcode = self._engine.settings.placed_retcode
            return Outcome(0, order.ticket, request.volume, request.price, quote, retcode)

        def preview() -> Valuation:
            if not through:
                return self._engine.rehearsal.after_placing(account, trial)
            volume, price = self._engine.available(trial), fill_price(trial, quote, better=True)
            return self._engine.rehearsal.after_fill(account, trial, volume=volume, price=price)

        return Plan(execute, preview)

    def _require_money(self, account: Account, trial: Order, quote: Quote, *, through: bool) -> None:
        """Refuse an order that the account cannot pay for while it waits, or now where it is filled at once (10019)."""
        rehearsal = self._engine.rehearsal
        if through:
            price = fill_price(trial, quote, better=True)
            afforded = rehearsal.affords(account, trial, volume=trial.volume_current, price=price)
        else:
            costs = self._engine.symbols[trial.symbol].margin_rate_of(trial.type)
            afforded = not costs or rehearsal.affords_placing(account, trial)
        if not afforded:
            raise Refusal(api.TRADE_RETCODE_NO_MONEY)

    def _check_terms(self, symbol: Specification, request: TradeRequest, quote: Quote) -> int:
        """Check what placing and modifying share; return the expiry in server seconds."""
        if not _through_the_market(symbol, request, quote):
            checks.check_pending_price(symbol, request, quote)
        checks.check_on_step(symbol, request)
        entry = request.stoplimit if request.type in checks.STOP_LIMIT_TYPES else request.price
        checks.check_stops(symbol, buy=request.type in BUY_TYPES, sl=request.sl, tp=request.tp, price=entry)
        now_s = self._engine.moment().seconds
        checks.check_expiration(symbol, request, now_s)
        return expires_at_s(request.type_time, request.expiration, now_s)

    @staticmethod
    def _order(account: Account, request: TradeRequest) -> Order:
        order = account.orders.get(request.order)
        if order is None:
            raise Refusal(api.TRADE_RETCODE_INVALID)
        return order

    def plan_modifying(self, account: Account, request: TradeRequest) -> Plan:
        """Plan another price, other stops or another lifetime for a pending order.

        Raises:
            Refusal: a check fails.
        """
        order = self._order(account, request)
        symbol, quote = self._market(order.symbol)
        if order.type in MARKET_TYPES:
            raise Refusal(api.TRADE_RETCODE_INVALID)
        checks.check_not_disabled(symbol)
        checks.check_stop_modes(symbol, request)
        checks.check_stops_finite(request)
        wanted = rounded(symbol, msgspec.structs.replace(request, type=order.type, symbol=order.symbol))
        expires_s = self._check_terms(symbol, wanted, quote)
        before = (order.price_open, order.price_stoplimit, order.sl, order.tp, order.type_time, order.time_expiration)
        after = (wanted.price, wanted.stoplimit, wanted.sl, wanted.tp, wanted.type_time, expires_s)
        if before == after:
            raise Refusal(api.TRADE_RETCODE_NO_CHANGES)
        checks.check_order_freeze(symbol, quote, order)
        self._require_open(order.symbol)

        def execute() -> Outcome:
            order.price_open, order.price_stoplimit, order.sl, order.tp, order.type_time, order.time_expiration = after
            account.put_order(order)
            return Outcome(0, order.ticket, 0.0, wanted.price, quote)

        return Plan(execute, lambda: self._unchanged(account))

    def plan_removing(self, account: Account, request: TradeRequest) -> Plan:
        """Plan the end of an active order.

        Raises:
            Refusal: a check fails.
        """
        order = self._order(account, request)
        symbol, quote = self._market(order.symbol)
        if order.type not in MARKET_TYPES:
            checks.check_order_freeze(symbol, quote, order)
        self._require_open(order.symbol)

        def execute() -> Outcome:
            self._engine.dealer.cancel(account, order, api.ORDER_STATE_CANCELED)
            return Outcome(0, order.ticket, quote=quote)

        return Plan(execute, lambda: self._unchanged(account))


def _through_the_market(symbol: Specification, request: TradeRequest, quote: Quote) -> bool:
    """Tell whether a limit order would be executed at once: only exchange execution takes such."""
    if symbol.exemode != api.SYMBOL_TRADE_EXECUTION_EXCHANGE or request.type not in LIMIT_TYPES:
        return False
    if not (math.isfinite(request.price) and request.price > 0):
        return False
    return request.price >= quote.ask if request.type in BUY_TYPES else request.price <= quote.bid
