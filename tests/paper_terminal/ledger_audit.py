"""The whole ledger of an account as the API shows it, looked through for anything that does not add up."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import pytest

import paper_terminal.client as mt5
from tests.waiting import eventually

FOREVER_S: Final = 2_000_000_000
FINAL: Final = {
    mt5.ORDER_STATE_FILLED,
    mt5.ORDER_STATE_CANCELED,
    mt5.ORDER_STATE_REJECTED,
    mt5.ORDER_STATE_EXPIRED,
}
ACTIVE: Final = {mt5.ORDER_STATE_PLACED, mt5.ORDER_STATE_PARTIAL}
CENT: Final = 0.0051


class Ledger:
    """Everything an account has at one moment; orders and deals by ticket."""

    def __init__(self) -> None:
        # Each call shows its own moment, and the market may fill something between two of them.
        eventually(self._read_whole, what="a moment in which nothing happens")

    def _read_whole(self) -> bool:
        api: Any = mt5
        self.account = api.account_info()
        self.positions = api.positions_get()
        self.active = api.orders_get()
        self.filed = api.history_orders_get(1, FOREVER_S)
        self.deals = api.history_deals_get(1, FOREVER_S)
        self.orders = {each.ticket: each for each in (*self.filed, *self.active)}
        counts = (len(self.filed), len(self.deals), len(self.active))
        return counts == (
            api.history_orders_total(1, FOREVER_S),
            api.history_deals_total(1, FOREVER_S),
            api.orders_total(),
        ) and bool(self.account.balance == api.account_info().balance)

    def audit(self) -> None:
        """Check all of it."""
        self.money()
        self.order_book()
        self.deals_and_their_orders()
        self.positions_and_their_deals()

    def money(self) -> None:
        account = self.account
        total = sum(each.profit + each.commission + each.swap + each.fee for each in self.deals)
        assert account.balance == pytest.approx(total, abs=CENT)
        assert account.equity == pytest.approx(account.balance + account.credit + account.profit, abs=1.0)
        assert account.margin_free == pytest.approx(account.equity - account.margin, abs=CENT)
        assert account.margin >= 0
        if not self.positions and not self.active:
            assert (account.margin, account.margin_level, account.profit) == (0.0, 0.0, 0.0)
            assert account.equity == account.balance

    def order_book(self) -> None:
        assert len(self.orders) == len(self.filed) + len(self.active)
        for order in self.filed:
            assert order.state in FINAL, order
            assert order.time_done_msc >= order.time_setup_msc > 0, order
            assert order.time_done == order.time_done_msc // 1000
        for order in self.active:
            assert order.state in ACTIVE, order
            assert order.time_done == order.time_done_msc == 0, order
            assert order.volume_current > 0

    def deals_and_their_orders(self) -> None:
        tickets = [each.ticket for each in self.deals]
        assert tickets == sorted(set(tickets))
        filled: Counter[int] = Counter()
        for deal in self.deals:
            if not deal.order:
                continue
            order = self.orders[deal.order]
            assert (deal.magic, deal.symbol, deal.reason) == (order.magic, order.symbol, order.reason), (deal, order)
            if order.type == mt5.ORDER_TYPE_CLOSE_BY:
                assert deal.position_id in {order.position_id, order.position_by_id}
                continue
            assert deal.position_id == order.position_id, (deal, order)
            assert deal.type == order.type % 2, (deal, order)
            filled[order.ticket] += round(deal.volume * 100)
            if deal.entry == mt5.DEAL_ENTRY_IN:
                assert deal.profit == 0.0
        for order in self.orders.values():
            if order.type != mt5.ORDER_TYPE_CLOSE_BY:
                assert filled[order.ticket] == round((order.volume_initial - order.volume_current) * 100), order
            assert (order.state == mt5.ORDER_STATE_FILLED) == (order.volume_current == 0), order

    def positions_and_their_deals(self) -> None:
        lots: Counter[int] = Counter()
        for deal in self.deals:
            if deal.position_id:
                lots[deal.position_id] += round(deal.volume * 100) * (1 if deal.type == mt5.DEAL_TYPE_BUY else -1)
        assert {ticket: count for ticket, count in lots.items() if count} == {
            each.identifier: round(each.volume * 100) * (1 if each.type == mt5.POSITION_TYPE_BUY else -1)
            for each in self.positions
        }
        for position in self.positions:
            opening = self.orders[position.identifier]
            if position.ticket == position.identifier:  # not reversed since
                assert (position.magic, position.comment) == (opening.magic, opening.comment)

    def result_of(self, position_id: int) -> float:
        """Return what a position has brought so far."""
        own = [each for each in self.deals if each.position_id == position_id]
        return float(sum(each.profit + each.commission + each.swap + each.fee for each in own))
