"""What must hold over any history of trading, on hedging and netting accounts."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from paper_terminal import constants as api
from paper_terminal.ledger_records import Order
from paper_terminal.settings import AccountSettings
from tests.paper_terminal.broker import EURUSD, Broker

FINAL = {
    api.ORDER_STATE_FILLED,
    api.ORDER_STATE_CANCELED,
    api.ORDER_STATE_REJECTED,
    api.ORDER_STATE_EXPIRED,
}
ACTIVE = {api.ORDER_STATE_PLACED, api.ORDER_STATE_PARTIAL}
volumes = st.integers(1, 200).map(lambda steps: steps / 100)
offsets = st.integers(-400, 400)
fillings = st.sampled_from([api.ORDER_FILLING_FOK, api.ORDER_FILLING_IOC, api.ORDER_FILLING_RETURN])


class Trading(RuleBasedStateMachine):
    """Random trading on a small account, so that stops, rejections, partial fills and stop-outs all happen."""

    margin_mode: ClassVar[int] = api.ACCOUNT_MARGIN_MODE_RETAIL_HEDGING
    swap_mode: ClassVar[int] = api.SYMBOL_SWAP_MODE_POINTS

    def __init__(self) -> None:
        super().__init__()
        symbol = msgspec.structs.replace(
            EURUSD,
            exemode=api.SYMBOL_TRADE_EXECUTION_EXCHANGE,
            liquidity_lots=0.7,
            swap_mode=self.swap_mode,
            order_gtc_mode=1,
        )
        account = AccountSettings(balance=2000.0, margin_mode=self.margin_mode)
        self.broker = Broker(symbols=(symbol,), account=account, fee_per_lot=0.5)
        self.points = 0

    def price(self, points: int) -> float:
        return round(1.1 + points * 1e-5, 5)

    @rule(move=offsets, spread=st.integers(1, 30), wait=st.integers(1, 90_000) | st.integers(1, 200_000_000))
    def quote(self, move: int, spread: int, wait: int) -> None:
        self.points += move
        self.broker.quote("EURUSD", self.price(self.points), self.price(self.points + spread), after_ms=wait)

    @rule(side=st.sampled_from([0, 1]), volume=volumes, sl=offsets, tp=offsets, filling=fillings)
    def deal(self, side: int, volume: float, sl: int, tp: int, filling: int) -> None:
        stops = {"sl": self.price(self.points + sl) if sl > 0 else 0.0, "tp": self.price(self.points + tp)}
        self.broker.send(type=side, volume=volume, type_filling=filling, **stops)
        self.broker.send(type=side, volume=volume, type_filling=filling)

    @rule(kind=st.integers(2, 7), volume=volumes, offset=offsets, life=st.integers(0, 300), filling=fillings)
    def pend(self, kind: int, volume: float, offset: int, life: int, filling: int) -> None:
        expiration = self.broker.engine.moment().seconds + life
        self.broker.send(
            action=api.TRADE_ACTION_PENDING,
            type=kind,
            volume=volume,
            price=self.price(self.points + offset),
            stoplimit=self.price(self.points + offset // 2),
            type_filling=filling,
            type_time=api.ORDER_TIME_SPECIFIED if life else api.ORDER_TIME_GTC,
            expiration=expiration,
        )

    @rule(pick=st.integers(0, 5), volume=volumes, filling=fillings)
    def close(self, pick: int, volume: float, filling: int) -> None:
        positions = list(self.broker.account.positions.values())
        if pick < len(positions):
            self.broker.close(positions[pick], min(volume, positions[pick].volume), type_filling=filling)

    @rule(pick=st.integers(0, 5), other=st.integers(0, 5))
    def close_by(self, pick: int, other: int) -> None:
        tickets = list(self.broker.account.positions)
        if max(pick, other) < len(tickets):
            self.broker.send(
                action=api.TRADE_ACTION_CLOSE_BY, position=tickets[pick], position_by=tickets[other], symbol=""
            )

    @rule(pick=st.integers(0, 5))
    def remove(self, pick: int) -> None:
        orders = list(self.broker.account.orders)
        if pick < len(orders):
            self.broker.send(action=api.TRADE_ACTION_REMOVE, order=orders[pick])

    @rule(amount=st.integers(-500, 500))
    def deposit(self, amount: int) -> None:
        self.broker.engine.dealer.deposit(self.broker.account, amount / 10, "by hand")
        self.broker.engine.commit()

    @rule()
    def restart(self) -> None:
        before = self.broker.account
        self.broker.engine.valuer.value(before)
        self.broker.restart()
        after = self.broker.account
        self.broker.engine.valuer.value(after)
        assert after.balance == before.balance
        assert after.positions == before.positions
        assert [moved(each) for each in after.orders.values()] == [moved(each) for each in before.orders.values()]
        assert after.deals.all() == before.deals.all()
        assert {each.ticket for each in after.history_orders.all()} == {
            each.ticket for each in before.history_orders.all()
        }

    @invariant()
    def balance_is_the_sum_of_the_deals(self) -> None:
        account = self.broker.account
        total = sum(deal.profit + deal.commission + deal.swap + deal.fee for deal in account.deals.all())
        assert abs(account.balance - total) < 1e-6

    @invariant()
    def equity_is_balance_plus_floating(self) -> None:
        account = self.broker.account
        worth = self.broker.engine.valuer.value(account)
        floating = sum(each.profit + each.swap for each in account.positions.values())
        assert abs(worth.equity - account.balance - floating) < 1e-6
        assert worth.margin >= 0
        assert account.positions or account.orders or worth.margin == 0

    @invariant()
    def every_position_is_explained_by_its_deals(self) -> None:
        account = self.broker.account
        volume: dict[int, float] = {}
        for deal in account.deals.all():
            if deal.position_id:
                sign = 1 if deal.type == api.DEAL_TYPE_BUY else -1
                volume[deal.position_id] = round(volume.get(deal.position_id, 0.0) + sign * deal.volume, 8)
        assert {ticket: left for ticket, left in volume.items() if left} == {
            each.identifier: each.volume if each.is_buy else -each.volume for each in account.positions.values()
        }
        assert all(each.volume > 0 for each in account.positions.values())

    @invariant()
    def every_order_is_explained_by_its_deals(self) -> None:
        account = self.broker.account
        filled: dict[int, float] = {}
        for deal in account.deals.all():
            if deal.order and deal.entry != api.DEAL_ENTRY_OUT_BY:
                filled[deal.order] = round(filled.get(deal.order, 0.0) + deal.volume, 8)
        for order in [*account.orders.values(), *account.history_orders.all()]:
            if order.type != api.ORDER_TYPE_CLOSE_BY and order.state != api.ORDER_STATE_CANCELED:
                done = round(order.volume_initial - order.volume_current, 8)
                assert done == filled.get(order.ticket, 0.0)

    @invariant()
    def final_and_active_orders_are_apart(self) -> None:
        account = self.broker.account
        assert all(order.state in ACTIVE and not order.time_done for order in account.orders.values())
        assert all(order.state in FINAL and order.time_done for order in account.history_orders.all())
        assert not set(account.orders) & {order.ticket for order in account.history_orders.all()}


class Netting(Trading):
    """The same on an account with one position a symbol."""

    margin_mode = api.ACCOUNT_MARGIN_MODE_RETAIL_NETTING

    @invariant()
    def a_symbol_has_one_position(self) -> None:
        assert len(self.broker.account.positions) <= 1


class Reopening(Trading):
    """The same where the night closes and reopens positions."""

    swap_mode = api.SYMBOL_SWAP_MODE_REOPEN_CURRENT


def moved(order: Order) -> dict[str, Any]:
    """Return an order without the price that moves with the market."""
    values: dict[str, Any] = msgspec.structs.asdict(order)
    del values["price_current"]
    return values


for machine, examples in ((Trading, 30), (Netting, 25), (Reopening, 10)):
    machine.TestCase.settings = settings(
        max_examples=examples, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
    )
TestTrading = Trading.TestCase
TestNetting = Netting.TestCase
TestReopening = Reopening.TestCase
