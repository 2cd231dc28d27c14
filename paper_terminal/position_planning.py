"""Planning what is asked of open positions: closing, closing one by another, stop loss and take profit."""

from __future__ import annotations

from paper_terminal import checks
from paper_terminal import constants as api
from paper_terminal.accounts import Account
from paper_terminal.booking import Origin
from paper_terminal.checks import MARKET_TYPES
from paper_terminal.ledger_records import Position, TradeRequest
from paper_terminal.matching import closing_price
from paper_terminal.plans import Outcome, Plan, Planning
from paper_terminal.retcodes import Refusal
from paper_terminal.valuation import Valuation


class PositionPlanning(Planning):
    """Plans requests that name a position."""

    def plan_close(self, account: Account, request: TradeRequest) -> Plan:
        """Plan closing a hedging account's position or a part of it.

        Raises:
            Refusal: a check fails.
            NoRate: the profit cannot be converted.
        """
        position = self._position(account, request.position, request.symbol)
        name = position.symbol
        symbol, quote = self._market(name)
        if request.type != (api.ORDER_TYPE_SELL if position.is_buy else api.ORDER_TYPE_BUY):
            raise Refusal(api.TRADE_RETCODE_INVALID)
        checks.check_not_disabled(symbol)
        price = closing_price(position, quote)
        checks.check_close_volume(symbol, position, request.volume)
        checks.check_price_given(symbol, request)
        checks.check_filling(symbol, request)
        checks.check_freeze(symbol, quote, buy=position.is_buy, sl=position.sl, tp=position.tp)
        self._require_no_closing_order(account, position)
        if account.settings.fifo_close and _oldest(account, name) is not position:
            raise Refusal(api.TRADE_RETCODE_FIFO_CLOSE)
        self._require_open(name)
        self._check_market_price(account, name, request, quote, price)
        origin = Origin(
            api.ORDER_REASON_EXPERT, request.magic, request.comment, request.type_filling, request.type_time
        )
        # A profit that cannot be converted is found here, before anything changes.
        self._engine.dealer.profit(account, symbol, position, volume=request.volume, price=price)

        def execute() -> Outcome:
            self._require_liquidity(symbol, request)
            agreed = self._agreed_price(account, name, request, quote, price)
            order = self._engine.dealer.closing_order(position, volume=request.volume, price=agreed, origin=origin)
            return self._executed(account, order, agreed, quote)

        def preview() -> Valuation:
            rehearsal, volume = self._engine.rehearsal, request.volume
            trial = rehearsal.market_order(
                name, kind=request.type, volume=volume, price=price, position_id=position.identifier
            )
            return rehearsal.after_fill(account, trial, volume=volume, price=price)

        return Plan(execute, preview)

    @staticmethod
    def _require_no_closing_order(account: Account, position: Position) -> None:
        for order in account.orders_on(position.symbol):
            closing = order.position_id == position.identifier and order.type in MARKET_TYPES
            if closing and order.ticket != position.identifier:
                raise Refusal(api.TRADE_RETCODE_CLOSE_ORDER_EXIST)

    def plan_close_by(self, account: Account, request: TradeRequest) -> Plan:
        """Plan closing a position by an opposite one.

        Raises:
            Refusal: a check fails.
            NoRate: the profit cannot be converted.
        """
        if account.netting:
            raise Refusal(api.TRADE_RETCODE_INVALID)
        position = self._position(account, request.position, request.symbol)
        other = self._position(account, request.position_by, request.symbol)
        name = position.symbol
        symbol, quote = self._market(name)
        if other.symbol != name or other.is_buy == position.is_buy:
            raise Refusal(api.TRADE_RETCODE_INVALID)
        checks.check_not_disabled(symbol)
        checks.check_close_by(symbol)
        for each in (position, other):
            checks.check_freeze(symbol, quote, buy=each.is_buy, sl=each.sl, tp=each.tp)
            self._require_no_closing_order(account, each)
        self._require_open(name)
        volume = min(position.volume, other.volume)
        self._engine.dealer.profit(account, symbol, position, volume=volume, price=other.price_open)

        def execute() -> Outcome:
            order, _ = self._engine.dealer.close_by(account, symbol, position, other, magic=request.magic)
            self._engine.valuer.reprice_positions(account, name, account.positions_on(name))
            return Outcome(0, order.ticket, volume, order.price_open, quote)

        return Plan(execute, lambda: self._engine.rehearsal.after_close_by(account, position.ticket, other.ticket))

    def plan_stops(self, account: Account, request: TradeRequest) -> Plan:
        """Plan new stop loss and take profit for a position; 0 removes one.

        Raises:
            Refusal: a check fails.
        """
        position = self._position(account, request.position, request.symbol)
        symbol, quote = self._market(position.symbol)
        checks.check_not_disabled(symbol)
        checks.check_stop_modes(symbol, request)
        checks.check_stops_finite(request)
        sl, tp = symbol.price(request.sl), symbol.price(request.tp)
        if sl == position.sl and tp == position.tp:
            raise Refusal(api.TRADE_RETCODE_NO_CHANGES)
        checks.check_stops(symbol, buy=position.is_buy, sl=sl, tp=tp, price=closing_price(position, quote))
        checks.check_freeze(symbol, quote, buy=position.is_buy, sl=position.sl, tp=position.tp)
        self._require_open(position.symbol)

        def execute() -> Outcome:
            position.sl, position.tp = sl, tp
            account.put_position(position)
            return Outcome(quote=quote)

        return Plan(execute, lambda: self._unchanged(account))


def _oldest(account: Account, name: str) -> Position:
    return min(account.positions_on(name), key=lambda each: (each.time_msc, each.identifier))
