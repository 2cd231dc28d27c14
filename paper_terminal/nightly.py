"""What the server's midnight does: swaps, and the end of orders and stops that live for a day."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paper_terminal import constants as api
from paper_terminal.accounts import Account
from paper_terminal.checks import MARKET_TYPES
from paper_terminal.ledger_records import Position
from paper_terminal.margin import NoRate
from paper_terminal.rollover import REOPENING, nights, reopening_prices, swap_per_night
from paper_terminal.specifications import DAILY, GTC, Specification

if TYPE_CHECKING:
    from paper_terminal.engine import Engine


class Nightly:
    """Settles accounts at midnight."""

    def __init__(self, engine: Engine) -> None:
        """Settle this engine's accounts."""
        self._engine = engine

    def settle(self, account: Account) -> None:
        """Charge the night, then end what the day ends."""
        self._charge_swaps(account)
        self._end_day(account)

    def _charge_swaps(self, account: Account) -> None:
        engine = self._engine
        midnight_s = engine.moment().seconds
        for position in list(account.positions.values()):
            symbol = engine.symbols[position.symbol]
            charged = nights(symbol, midnight_s)
            if not charged:
                continue
            try:
                if symbol.swap_mode in REOPENING:
                    self._reopen(account, symbol, position, charged)
                    continue
                swap = swap_per_night(symbol, position, engine.converter, account.settings.currency)
            except NoRate:  # without quotes that convert it there is nothing to charge by
                continue
            if swap:
                position.swap = account.money(position.swap + charged * swap)
                account.put_position(position)

    def _reopen(self, account: Account, symbol: Specification, position: Position, charged: int) -> None:
        engine = self._engine
        quote = engine.quotes.get(position.symbol)
        if quote is not None:
            closed, opened = reopening_prices(symbol, position, quote, charged)
            engine.dealer.reopen(account, symbol, position, closed=closed, opened=opened)
            name = position.symbol
            engine.valuer.reprice_positions(account, name, account.positions_on(name))

    def _end_day(self, account: Account) -> None:
        symbols = self._engine.symbols
        for order in list(account.orders.values()):
            daily = symbols[order.symbol].order_gtc_mode != GTC
            if daily and order.type_time == api.ORDER_TIME_GTC and order.type not in MARKET_TYPES:
                self._engine.dealer.cancel(account, order, api.ORDER_STATE_EXPIRED)
        exchange = account.settings.margin_mode == api.ACCOUNT_MARGIN_MODE_EXCHANGE
        for position in account.positions.values():
            ends = exchange or symbols[position.symbol].order_gtc_mode == DAILY
            if ends and (position.sl or position.tp):
                position.sl = position.tp = 0.0
                account.put_position(position)
