"""What must hold over any history of trading."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from paper_terminal import constants as api
from paper_terminal.settings import AccountSettings
from tests.paper_terminal.broker import Broker

FINAL = {
    api.ORDER_STATE_FILLED,
    api.ORDER_STATE_CANCELED,
    api.ORDER_STATE_REJECTED,
    api.ORDER_STATE_EXPIRED,
}
volumes = st.integers(1, 200).map(lambda steps: steps / 100)
offsets = st.integers(-400, 400)


class Trading(RuleBasedStateMachine):
    """Random trading on a small account, so that stops, rejections and stop-outs all happen."""

    def __init__(self) -> None:
        super().__init__()
        self.broker = Broker(account=AccountSettings(balance=2000.0))
        self.points = 0

    def price(self, points: int) -> float:
        return round(1.1 + points * 1e-5, 5)

    @rule(move=offsets, spread=st.integers(1, 30), wait=st.integers(1, 90_000) | st.integers(1, 200_000_000))
    def quote(self, move: int, spread: int, wait: int) -> None:
        self.points += move
        self.broker.quote("EURUSD", self.price(self.points), self.price(self.points + spread), after_ms=wait)

    @rule(side=st.sampled_from([0, 1]), volume=volumes, sl=offsets, tp=offsets)
    def deal(self, side: int, volume: float, sl: int, tp: int) -> None:
        stops = {"sl": self.price(self.points + sl) if sl > 0 else 0.0, "tp": self.price(self.points + tp)}
        self.broker.send(type=side, volume=volume, **stops)
        self.broker.send(type=side, volume=volume)

    @rule(kind=st.integers(2, 5), volume=volumes, offset=offsets, life=st.integers(0, 300))
    def pend(self, kind: int, volume: float, offset: int, life: int) -> None:
        expiration = self.broker.engine.moment().seconds + life
        self.broker.send(
            action=api.TRADE_ACTION_PENDING,
            type=kind,
            volume=volume,
            price=self.price(self.points + offset),
            type_filling=2,
            type_time=api.ORDER_TIME_SPECIFIED,
            expiration=expiration,
        )

    @rule(pick=st.integers(0, 5), volume=volumes)
    def close(self, pick: int, volume: float) -> None:
        positions = list(self.broker.account.positions.values())
        if pick < len(positions):
            self.broker.close(positions[pick], min(volume, positions[pick].volume))

    @rule(pick=st.integers(0, 5))
    def remove(self, pick: int) -> None:
        orders = list(self.broker.account.orders)
        if pick < len(orders):
            self.broker.send(action=api.TRADE_ACTION_REMOVE, order=orders[pick])

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
        assert account.positions or worth.margin == 0

    @invariant()
    def every_position_is_explained_by_its_deals(self) -> None:
        account = self.broker.account
        volume: dict[int, float] = {}
        for deal in account.deals.all():
            if deal.position_id:
                sign = 1 if deal.entry == api.DEAL_ENTRY_IN else -1
                volume[deal.position_id] = round(volume.get(deal.position_id, 0.0) + sign * deal.volume, 8)
        assert {ticket: left for ticket, left in volume.items() if left} == {
            each.identifier: each.volume for each in account.positions.values()
        }

    @invariant()
    def final_and_active_orders_are_apart(self) -> None:
        account = self.broker.account
        assert all(order.state == api.ORDER_STATE_PLACED for order in account.orders.values())
        assert all(order.state in FINAL and order.time_done for order in account.history_orders.all())
        assert not set(account.orders) & {order.ticket for order in account.history_orders.all()}


Trading.TestCase.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestTrading = Trading.TestCase
