"""Random lives of a desk: whatever happens, no order that breaks a limit goes out, and no reduction is refused."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from market.risk import TradingMode
from mt5bus.settings import Risk
from protocol.messages import ClosePosition, Deal, ErrorReply, Quote, SetTradingMode, SubmitOrder
from tests.broker_adapter.fake_broker import BID, World
from tests.broker_adapter.served import Requests

LIMITS = Risk(
    max_volume_per_order=0.5,
    max_volume_per_symbol=1.0,
    max_positions=4,
    max_orders_per_minute=2,
    max_daily_loss=100.0,
    max_spread_points=20,
    max_price_age_ms=5_000,
)
VOLUMES = st.sampled_from([0.1, 0.1, 0.1, 0.3, 0.5, 0.51, 1.0])
DAY_MS = 86_400_000


class RandomLife(RuleBasedStateMachine):
    """The model is what a careful person would note down: fills, money paid in, midnights, the time of each order."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.world = World(Path(self.folder.name), risk=LIMITS)
        self.world.quote = self.quote  # type: ignore[method-assign]
        self.spread_points, self.quote_age_ms = 10, 0
        self.orders = 0
        self.opened_ms: list[int] = []
        self.midnight_equity = 0.0
        self.paid_in = 0.0
        self.loss = 0.0
        self.serve()
        self.day = self.server_day()
        self.midnight_equity = self.equity()

    def serve(self) -> None:
        self.requests = Requests().serve(self.world)
        self.world.ready()

    def quote(self, symbol: str) -> Quote:
        return Quote("EURUSD", self.world.clock.wall_ms() - self.quote_age_ms, BID, BID + self.spread_points * 1e-5)

    def server_day(self) -> int:
        return self.world.to_server_ms(self.world.clock.wall_ms()) // DAY_MS

    def equity(self) -> float:
        return self.world.broker.read().account.equity

    def pass_midnight(self) -> None:
        if self.server_day() != self.day:
            self.day, self.paid_in, self.midnight_equity = self.server_day(), 0.0, self.equity()

    # --- What happens -------------------------------------------------------------------------------------------

    @rule(volume=VOLUMES, lost=st.sampled_from([""] * 8 + ["before", "after"]))
    def open(self, volume: float, lost: str) -> None:
        world = self.world
        held = sum(each.volume for each in world.broker.positions.values())
        count = len(world.broker.positions)
        unknown = any(each.state in {"unknown", "ambiguous"} for each in world.desk.intents())
        now_ms = world.clock.wall_ms()
        in_minute = sum(now_ms - at_ms < 60_000 for at_ms in self.opened_ms)
        loss = self.midnight_equity + self.paid_in - self.equity()
        allowed = (
            world.desk.mode is TradingMode.ACTIVE
            and volume <= 0.5
            and held + volume <= 1.0 + 1e-9
            and count < 4
            and in_minute < 2
            and loss < 100.0 - 1e-6
            and self.spread_points <= 20
            and self.quote_age_ms <= 5_000
            and not unknown
        )
        if lost:
            world.link.answers.append(world.link.lost_before if lost == "before" else world.link.lost_after)
        sent = len(world.broker.sent)
        self.orders += 1
        caller = world.ask(SubmitOrder(1, f"o{self.orders}", "confluence", 0, "EURUSD", "buy", volume))
        world.settle()
        taken = not isinstance(caller.replies[0], ErrorReply)
        if taken:
            self.opened_ms.append(now_ms)
        else:
            world.link.answers.clear()
        if not allowed:
            assert not taken, "an order that breaks a limit went out"
            assert len(world.broker.sent) == sent
        elif not taken:
            # Orders that may have been executed count until evidence decides: no other reason is known.
            assert isinstance(caller.replies[0], ErrorReply)
            raise AssertionError(caller.replies[0])

    @precondition(lambda self: bool(self.world.broker.positions))
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        world = self.world
        ticket = data.draw(st.sampled_from(sorted(world.broker.positions)))
        shown = world.desk.position(ticket)
        self.orders += 1
        caller = world.ask(ClosePosition(1, f"c{self.orders}", "confluence", 0, ticket))
        world.settle()
        reply = caller.replies[0]
        if world.desk.mode is TradingMode.HALTED:
            assert isinstance(reply, ErrorReply)
            assert ticket in world.broker.positions
        else:
            assert shown is not None
            assert not isinstance(reply, ErrorReply), reply
            assert ticket not in world.broker.positions

    @rule(mode=st.sampled_from(["active"] * 4 + ["reducing", "halted"]), flatten=st.booleans())
    def switch(self, mode: str, *, flatten: bool) -> None:
        self.requests.ask(self.world, SetTradingMode(1, mode, flatten=flatten and mode != "active"))
        self.world.settle()

    @rule(amount=st.sampled_from([-300.0, 50.0, 500.0]))
    def pay_in(self, amount: float) -> None:
        self.book(2, amount)
        self.paid_in += amount

    @rule(amount=st.sampled_from([-60.0, -30.0, 40.0]))
    def win_or_lose(self, amount: float) -> None:
        self.book(7, amount)  # a commission or a correction: money that nobody paid in

    def book(self, kind: int, amount: float) -> None:
        broker = self.world.broker
        now_ms = self.world.clock.wall_ms()
        broker.deals.append(Deal(broker.ticket(), 0, 0, "", kind, 0, 0, 0.0, 0.0, amount, 0.0, 0.0, 0.0, 0, "", now_ms))
        self.world.read()
        self.world.settle()

    @rule(spread_points=st.sampled_from([5, 5, 5, 20, 21]), age_ms=st.sampled_from([0, 0, 0, 5_000, 5_001]))
    def price(self, spread_points: int, age_ms: int) -> None:
        self.spread_points, self.quote_age_ms = spread_points, age_ms

    @rule(seconds=st.sampled_from([1.0, 1.0, 30.0, 150.0]))
    def wait(self, seconds: float) -> None:
        self.world.wait(seconds, every_s=5.0)
        self.pass_midnight()

    @rule()
    def next_day(self) -> None:
        world = self.world
        server_ms = world.to_server_ms(world.clock.wall_ms())
        world.clock.advance((DAY_MS - server_ms % DAY_MS) / 1000 + 0.25)
        world.read()
        world.settle()
        self.pass_midnight()

    @rule()
    def kill(self) -> None:
        self.world.crash()
        self.world.restart()
        self.world.quote = self.quote  # type: ignore[method-assign]
        self.serve()
        self.pass_midnight()

    # --- What holds ---------------------------------------------------------------------------------------------

    @invariant()
    def nothing_breaks_a_limit(self) -> None:
        positions = self.world.broker.positions.values()
        assert sum(each.volume for each in positions) <= 1.0 + 1e-9
        assert len(positions) <= 4

    def teardown(self) -> None:
        self.world.close()
        self.folder.cleanup()


RandomLife.TestCase.settings = settings(
    max_examples=25, stateful_step_count=40, suppress_health_check=list(HealthCheck)
)
TestRandomLife = RandomLife.TestCase
