"""What must hold over any history of trading, on hedging and netting accounts, in several currencies."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from paper_terminal import constants as api
from tests.paper_terminal.trader import START, ForeignTrader, NettingTrader, ReopeningTrader, Trader

names = st.sampled_from(sorted(START))
volumes = st.integers(1, 200).map(lambda steps: steps / 100)
offsets = st.integers(-400, 400)
fillings = st.sampled_from([api.ORDER_FILLING_FOK, api.ORDER_FILLING_IOC, api.ORDER_FILLING_RETURN])
picks = st.integers(0, 5)


class Trading(RuleBasedStateMachine):
    """Everything a trader can do, as rules."""

    kind: ClassVar[type[Trader]] = Trader

    def __init__(self) -> None:
        super().__init__()
        self.trader = self.kind()

    @rule(
        name=names, move=offsets, spread=st.integers(1, 30), wait=st.integers(1, 90_000) | st.integers(1, 200_000_000)
    )
    def quote(self, **values: Any) -> None:
        self.trader.quote(**values)

    @rule(name=names, side=st.sampled_from([0, 1]), volume=volumes, sl=offsets, tp=offsets, filling=fillings)
    def deal(self, **values: Any) -> None:
        self.trader.deal(**values)

    @rule(
        name=names, kind=st.integers(2, 7), volume=volumes, offset=offsets, life=st.integers(0, 300), filling=fillings
    )
    def pend(self, **values: Any) -> None:
        self.trader.pend(**values)

    @rule(pick=picks, volume=volumes, filling=fillings)
    def close(self, **values: Any) -> None:
        self.trader.close(**values)

    @rule(pick=picks, other=picks)
    def close_by(self, **values: Any) -> None:
        self.trader.close_by(**values)

    @rule(pick=picks, sl=offsets, tp=offsets)
    def set_stops(self, **values: Any) -> None:
        self.trader.set_stops(**values)

    @rule(pick=picks, offset=offsets)
    def modify(self, **values: Any) -> None:
        self.trader.modify(**values)

    @rule(pick=picks)
    def remove(self, **values: Any) -> None:
        self.trader.remove(**values)

    @rule(amount=st.integers(-500, 500))
    def deposit(self, **values: Any) -> None:
        self.trader.deposit(**values)

    @rule(name=names, side=st.sampled_from([0, 1]), volume=volumes)
    def checking_changes_nothing(self, **values: Any) -> None:
        self.trader.checking_changes_nothing(**values)

    @rule()
    def restart(self) -> None:
        self.trader.restart()

    @invariant()
    def all_holds(self) -> None:
        self.trader.check()


class Netting(Trading):
    """The same where positions net, in a foreign currency."""

    kind = ForeignTrader


class Reopening(Trading):
    """The same where nights reopen positions."""

    kind = ReopeningTrader


for machine, examples in ((Trading, 40), (Netting, 40), (Reopening, 15)):
    machine.TestCase.settings = settings(
        max_examples=examples, stateful_step_count=50, suppress_health_check=list(HealthCheck)
    )
TestTrading = Trading.TestCase
TestNetting = Netting.TestCase
TestReopening = Reopening.TestCase


# Long histories -------------------------------------------------------------------------------------------------

STEPS = 400
SEEDS = 6


class Dice:
    """What a busy trader does next: mostly quotes and orders, now and then anything else."""

    def __init__(self, trader: Trader, seed: int) -> None:
        self._random = random.Random(seed)
        self._trader = trader
        self._doings: list[tuple[int, Callable[[], None]]] = [
            (40, self._quote),
            (14, self._deal),
            (16, self._pend),
            (8, lambda: trader.close(self._pick(), self._lots(), self._filling())),
            (4, lambda: trader.close_by(self._pick(), self._pick())),
            (6, lambda: trader.set_stops(self._pick(), self._offset(), self._offset())),
            (4, lambda: trader.modify(self._pick(), self._offset())),
            (2, lambda: trader.remove(self._pick())),
            (2, lambda: trader.deposit(self._random.randint(-500, 900))),
            (2, lambda: trader.checking_changes_nothing(self._name(), self._random.randint(0, 1), self._lots())),
            (2, trader.restart),
        ]

    def _name(self) -> str:
        return self._random.choice(sorted(START))

    def _pick(self) -> int:
        return self._random.randint(0, 4)

    def _lots(self) -> float:
        return self._random.randint(1, 120) / 100

    def _offset(self) -> int:
        return self._random.randint(-250, 250)

    def _filling(self) -> int:
        return self._random.randint(0, 2)

    def _quote(self) -> None:
        wait = self._random.choice([self._random.randint(1, 60_000), self._random.randint(1, 40_000_000)])
        self._trader.quote(self._name(), self._random.randint(-120, 120), self._random.randint(1, 20), wait)

    def _deal(self) -> None:
        side, distance = self._random.randint(0, 1), self._random.randint(20, 250)
        stops = (-distance, distance) if side == 0 else (distance, -distance)
        self._trader.deal(self._name(), side, self._lots(), *stops, self._filling())

    def _pend(self) -> None:
        kind, distance = self._random.randint(2, 7), self._random.randint(25, 250)
        # Types 2, 5 and 7 wait below the market, 3, 4 and 6 above it.
        offset = -distance if kind in {2, 5, 7} else distance
        self._trader.pend(
            self._name(), kind, self._lots(), offset, self._random.choice([0, 0, 200, 4000]), self._filling()
        )

    def step(self) -> None:
        """Do something."""
        weights = [weight for weight, _ in self._doings]
        ((_, doing),) = self._random.choices(self._doings, weights)
        doing()


@pytest.mark.parametrize("kind", [Trader, NettingTrader, ForeignTrader, ReopeningTrader])
def test_all_holds_over_long_histories_in_which_everything_happens(kind: type[Trader]) -> None:
    seen: Counter[Any] = Counter()
    for seed in range(SEEDS):
        trader = kind()
        dice = Dice(trader, seed)
        for _ in range(STEPS):
            dice.step()
            trader.check()
        account = trader.broker.account
        seen.update(("entry", deal.entry, deal.reason) for deal in account.deals.all() if deal.position_id)
        seen.update(("state", order.state) for order in account.history_orders.all())
        seen.update(("type", order.type) for order in account.history_orders.all())
        seen.update(("swap", deal.swap != 0) for deal in account.deals.all())
        seen.update(("parts", order) for order, count in _fills(trader).items() if count > 1)
    for reason in (api.DEAL_REASON_EXPERT, api.DEAL_REASON_SL, api.DEAL_REASON_TP, api.DEAL_REASON_SO):
        assert seen["entry", api.DEAL_ENTRY_OUT, reason], reason
    for state in (
        api.ORDER_STATE_CANCELED,
        api.ORDER_STATE_FILLED,
        api.ORDER_STATE_REJECTED,
        api.ORDER_STATE_EXPIRED,
    ):
        assert seen["state", state], state
    assert seen["swap", True]
    assert any(what == "parts" for what, *_ in seen)
    assert seen["type", api.ORDER_TYPE_CLOSE_BY] or account.netting
    assert seen["entry", api.DEAL_ENTRY_INOUT, api.DEAL_REASON_EXPERT] or not account.netting


def _fills(trader: Trader) -> Counter[int]:
    return Counter(deal.order for deal in trader.broker.account.deals.all() if deal.order)
