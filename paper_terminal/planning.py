"""Planning trade requests, one planner per action: what passes every check becomes a plan that can be carried out."""

from __future__ import annotations

from typing import Final

import msgspec

from paper_terminal import checks
from paper_terminal import constants as api
from paper_terminal.accounts import Account
from paper_terminal.booking import VOLUME_EPSILON
from paper_terminal.checks import MARKET_TYPES
from paper_terminal.engine import Engine
from paper_terminal.ledger_records import TradeRequest
from paper_terminal.pending_planning import PendingPlanning
from paper_terminal.plans import Outcome, Plan, Planning, rounded
from paper_terminal.position_planning import PositionPlanning
from paper_terminal.price_desk import PriceDesk
from paper_terminal.retcodes import Refusal

_UNPRICED_EXECUTION: Final = frozenset({api.SYMBOL_TRADE_EXECUTION_MARKET, api.SYMBOL_TRADE_EXECUTION_EXCHANGE})


class Planner(Planning):
    """Plans every kind of trade request, market orders itself."""

    def __init__(self, engine: Engine) -> None:
        """Serve this engine's accounts."""
        super().__init__(engine, PriceDesk(engine.settings))
        self._of_positions = PositionPlanning(engine, self._prices)
        pending = PendingPlanning(engine, self._prices)
        self._planners = {
            api.TRADE_ACTION_DEAL: self._plan_deal,
            api.TRADE_ACTION_PENDING: pending.plan_placing,
            api.TRADE_ACTION_SLTP: self._of_positions.plan_stops,
            api.TRADE_ACTION_MODIFY: pending.plan_modifying,
            api.TRADE_ACTION_REMOVE: pending.plan_removing,
            api.TRADE_ACTION_CLOSE_BY: self._of_positions.plan_close_by,
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

    def _plan_deal(self, account: Account, request: TradeRequest) -> Plan:
        if request.position and not account.netting:
            return self._of_positions.plan_close(account, request)
        if request.position:
            self._position(account, request.position, request.symbol)
        name = request.symbol
        symbol, quote = self._market(name)
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
        checks.check_price_given(symbol, request)
        checks.check_stops(symbol, buy=buy, sl=request.sl, tp=request.tp, price=quote.bid if buy else quote.ask)
        checks.check_filling(symbol, request)
        if not reduces:
            self._check_limits(account, symbol, request)
        self._require_open(name)
        self._check_market_price(account, name, request, quote, price)
        request = rounded(symbol, request)
        trial = self._engine.rehearsal.market_order(name, kind=request.type, volume=request.volume, price=price)
        if not reduces and not self._engine.rehearsal.affords(account, trial, volume=request.volume, price=price):
            raise Refusal(api.TRADE_RETCODE_NO_MONEY)

        def execute() -> Outcome:
            self._require_liquidity(symbol, request)
            agreed = self._agreed_price(account, name, request, quote, price)
            order = self._engine.dealer.new_order(request, name=name, price=agreed)
            return self._executed(account, order, agreed, quote)

        return Plan(
            execute,
            lambda: self._engine.rehearsal.after_fill(account, trial, volume=request.volume, price=price),
        )


def _reduces(account: Account, request: TradeRequest) -> bool:
    """Tell whether a market order only makes a netting account's position smaller."""
    if not account.netting:
        return False
    buy = request.type == api.ORDER_TYPE_BUY
    return any(
        each.is_buy != buy and request.volume <= each.volume + VOLUME_EPSILON
        for each in account.positions_on(request.symbol)
    )
