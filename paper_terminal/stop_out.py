"""The broker's last resort: below the stop-out level it removes orders and closes positions until the account is above.

The order is that of the Manager's documents: first the waiting orders that hold margin, the largest margin first;
then the positions, the largest loss first (all in profit: the smallest profit), by their result without swap and
commission. After each step the level is looked at again. A symbol whose market is closed is passed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from paper_terminal import constants as api
from paper_terminal.accounts import Account
from paper_terminal.checks import MARKET_TYPES
from paper_terminal.ledger_records import Order, Position
from paper_terminal.margin import NoRate
from paper_terminal.matching import closing_price

if TYPE_CHECKING:
    from paper_terminal.engine import Engine

_COMMENT_LENGTH: Final = 29


class StopOut:
    """Keeps accounts above their stop-out level."""

    def __init__(self, engine: Engine) -> None:
        """Watch this engine's accounts."""
        self._engine = engine

    def enforce(self, account: Account) -> None:
        """Bring an account above its stop-out level, as far as open markets allow."""
        while account.positions or account.orders:
            level = self._level(account)
            if level is None or level > account.settings.stop_out_level:
                return
            if not (self._remove_order(account) or self._close_position(account, level)):
                return

    @staticmethod
    def _percent(account: Account) -> bool:
        return account.settings.stop_out_mode == api.ACCOUNT_STOPOUT_MODE_PERCENT

    def _level(self, account: Account) -> float | None:
        """Return the margin level or the equity, as the account counts; None where there is none."""
        try:
            worth = self._engine.valuer.value_as_priced(account)
        except NoRate:
            return None
        if not self._percent(account):
            return worth.equity
        return worth.margin_level if worth.margin > 0 else None

    def _remove_order(self, account: Account) -> bool:
        waiting = [
            each
            for each in account.orders.values()
            if each.type not in MARKET_TYPES
            and each.state != api.ORDER_STATE_PARTIAL
            and self._engine.trades(each.symbol)
            and self._margin(account, each) > 0
        ]
        if not waiting:
            return False
        largest = max(waiting, key=lambda each: (self._margin(account, each), -each.ticket))
        self._engine.dealer.cancel(account, largest, api.ORDER_STATE_CANCELED)
        return True

    def _margin(self, account: Account, order: Order) -> float:
        try:
            return self._engine.valuer.order_margin(account, order)
        except NoRate:
            return 0.0

    def _close_position(self, account: Account, level: float) -> bool:
        for position in sorted(account.positions.values(), key=lambda each: each.profit):
            if self._engine.trades(position.symbol) and self._closed(account, position, level):
                return True
        return False

    def _closed(self, account: Account, position: Position, level: float) -> bool:
        engine = self._engine
        quote = engine.quotes.get(position.symbol)
        if quote is None:
            return False
        comment = f"[so {level:.2f}{'%' if self._percent(account) else ''}]"[:_COMMENT_LENGTH]
        origin = engine.server_origin(api.DEAL_REASON_SO, position, comment)
        volume = self._volume(account, position)
        try:
            engine.close(account, position, price=closing_price(position, quote), origin=origin, volume=volume)
        except NoRate:
            return False
        if position.ticket in account.positions:
            position.comment = comment
            account.put_position(position)
        return True

    def _volume(self, account: Account, position: Position) -> float:
        """Return what is closed at once: on real netting accounts no more than the symbol's largest volume."""
        real = account.settings.trade_mode == api.ACCOUNT_TRADE_MODE_REAL
        if not (account.netting and real):
            return position.volume
        return min(position.volume, self._engine.symbols[position.symbol].volume_max)
