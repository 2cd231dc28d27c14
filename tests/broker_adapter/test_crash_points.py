"""Adapter and trade link killed at every step of every kind of order, on both kinds of account.

Each case is one order, one step at which one process dies, and one thing that became of the order at the broker by
then: nothing, a full fill, a part, or a fill that comes later; with the comment kept or changed. Judged by the broker's
own records: at most one effect, an outcome that says the truth, everything told once, and nothing left to decide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from broker_adapter.api_types import ApiTradeRequest
from broker_adapter.link_results import LinkResult
from broker_adapter.order_ledger import Batch
from market.orders import ACTIONS
from protocol.messages import (
    AlertEvent,
    CancelOrder,
    CloseBy,
    ClosePosition,
    DealEvent,
    IntentEvent,
    ModifyOrder,
    ModifyPosition,
    OrderRequest,
    SubmitOrder,
)
from tests.broker_adapter.fake_account import HEDGING, NETTING
from tests.broker_adapter.fake_broker import World

ENOUGH_STEPS = 14  # more than an order takes from request to reply
KINDS = {"hedging": HEDGING, "netting": NETTING}
STOPS = 6  # TRADE_ACTION_SLTP
FIXED_MAGIC = 4711
WITNESSES = ("kept", "comment changed", "one magic, comment changed", "both changed")
"""What the broker leaves of an order's marks."""


class Tickets(NamedTuple):
    """What is there before the order: a long position of 0.4, a short one of 0.3 (hedging), a buy limit."""

    long: int
    short: int
    pending: int


Make = Callable[[Tickets], OrderRequest]


def market(side: str, volume: float, **more: float) -> Make:
    return lambda _: SubmitOrder(1, "x", "confluence", 0, "EURUSD", side, volume, **more)  # type: ignore[arg-type]


CLOSE: Make = lambda t: ClosePosition(1, "x", "confluence", 0, t.long)  # noqa: E731
PARTIAL: Make = lambda t: ClosePosition(1, "x", "confluence", 0, t.long, 0.1)  # noqa: E731
PENDING: Make = lambda _: SubmitOrder(1, "x", "confluence", 0, "EURUSD", "buy", 0.2, "limit", 1.08)  # noqa: E731
STOPS_MOVED: Make = lambda t: ModifyPosition(1, "x", "confluence", 0, t.long, 1.08, 1.2)  # noqa: E731
ORDER_MOVED: Make = lambda t: ModifyOrder(1, "x", "confluence", 0, t.pending, 1.07)  # noqa: E731
CANCEL: Make = lambda t: CancelOrder(1, "x", "confluence", 0, t.pending)  # noqa: E731
CLOSE_BY: Make = lambda t: CloseBy(1, "x", "confluence", 0, t.long, t.short)  # noqa: E731

FILLED: dict[tuple[str, str], Make] = {
    ("hedging", "open"): market("buy", 0.2, sl=1.09),
    ("hedging", "close"): CLOSE,
    ("hedging", "partial"): PARTIAL,
    ("netting", "add"): market("buy", 0.2),
    ("netting", "reduce"): market("sell", 0.2),
    ("netting", "reverse"): market("sell", 0.6, sl=1.12),
    ("netting", "close"): CLOSE,
    ("netting", "partial"): PARTIAL,
}
"""Orders that may be filled in part."""
WHOLE: dict[tuple[str, str], Make] = {
    ("hedging", "close_by"): CLOSE_BY,
    **{
        (kind, action): make
        for kind in KINDS
        for action, make in (
            ("pending", PENDING),
            ("modify_position", STOPS_MOVED),
            ("modify_order", ORDER_MOVED),
            ("cancel", CANCEL),
        )
    },
}
FATES = {"none": 1.0, "full": 1.0, "partial": 0.5, "late": 1.0}
"""What became of the order at the broker, and how much of it is filled."""
CASES = [(*which, fate) for fate in FATES for which in (*FILLED, *(WHOLE if fate != "partial" else ()))]


class Case:
    """One order, one death, and what must hold after it."""

    def __init__(self, folder: Path, kind: str, action: str, *, part: float = 1.0, witness: str = "kept") -> None:
        fixed_magic = FIXED_MAGIC if witness.startswith("one magic") else 0
        self.world = world = World(folder, margin_mode=KINDS[kind], fixed_magic=fixed_magic).ready()
        self.unmarked = witness == "both changed"
        tickets = self._prepare(hedging=kind == "hedging")
        self.request = {**FILLED, **WHOLE}[kind, action](tickets)
        world.broker.fill_part = part
        world.broker.changes_comment = witness != "kept"
        world.broker.changes_magic = self.unmarked
        self.effects_before = len(world.broker.effects)
        self.deals_before = world.broker.trades
        self.late: list[ApiTradeRequest] = []

    def _prepare(self, *, hedging: bool) -> Tickets:
        world, tickets = self.world, []
        orders = [SubmitOrder(1, "long", "confluence", 0, "EURUSD", "buy", 0.4, sl=1.09)]
        if hedging:
            orders.append(SubmitOrder(1, "short", "confluence", 0, "EURUSD", "sell", 0.3))
        orders.append(SubmitOrder(1, "waits", "confluence", 0, "EURUSD", "buy", 0.1, "limit", 1.085))
        for order in orders:
            caller = world.ask(order)
            world.settle()
            world.wait(1)
            tickets.append(caller.outcome.order)
        return Tickets(tickets[0], tickets[1] if hedging else 0, tickets[-1])

    # The death.

    def ask_and_step(self, steps: int) -> bool:
        """Ask and do so many steps; say whether the order is still under way."""
        caller = self.world.ask(self.request)
        for _ in range(steps):
            if not self.world.step():
                break
        return not caller.replies

    def kill_adapter(self, fate: str) -> None:
        """Kill the adapter, and its links with it, and start it again."""
        world = self.world
        world.crash()
        self._decide(fate)
        world.restart()
        world.ready()

    def kill_link(self, fate: str) -> None:
        """Kill the trade link; what it had is lost, and so is an answer that had not arrived."""
        link = self.world.link
        lost = [on_result for _, on_result in (*link.taken, *link.answered)]
        link.answered.clear()
        self._decide(fate)
        for on_result in lost:
            on_result(LinkResult("lost", reason="died", was_sent=True))

    def _decide(self, fate: str) -> None:
        """What becomes of a command that was with the link when it died."""
        link = self.world.link
        while link.taken:
            command, _ = link.taken.popleft()
            if fate in {"full", "partial"}:
                link.normally(command)
            elif fate == "late":
                # It has left: what the link looks at before it sends has been looked at.
                self.late.append(command.request)

    # What must hold.

    def check(self) -> None:
        """Let the late come, repeat the decision as a restarted strategy would, come to rest, and judge."""
        world = self.world
        world.settle()
        world.wait(10, every_s=5)
        for request in self.late:
            world.broker.execute(request)
        caller = world.ask(self.request)
        world.settle()
        world.wait(3)
        if world.state("x") not in {"done", "rejected"}:
            world.wait(140, every_s=9)
        assert caller.replies
        self._check_outcome()
        self._check_account()
        self._check_events()
        self._check_again()

    def _check_outcome(self) -> None:
        world = self.world
        effects = [r for r in world.broker.effects[self.effects_before :] if not self._is_repair(r)]
        outcome = world.desk.intent("x")
        assert outcome is not None
        assert len(effects) <= 1, f"doubled: {effects}"
        if self.unmarked and outcome.state == "ambiguous":
            # Nothing names the order: a person has to say. Here he says the truth.
            assert len(effects) == 1
            batch = Batch()
            outcome = world.desk.settle("x", "done", "", batch)
            world.desk.ledger.commit(batch)
            world.settle()
            world.wait(3)
        assert outcome.state in {"done", "not_executed"}, outcome
        assert (outcome.state == "done") == (len(effects) == 1), (outcome, effects)
        assert len({"done", "not_executed"} & set(world.states("x"))) == 1, "ruled out too early"
        deals = world.broker.deals[self.deals_before :]
        filled = deals[:1] if outcome.action == "close_by" else deals
        assert outcome.filled_volume == pytest.approx(sum(deal.volume for deal in filled)), outcome

    def _is_repair(self, request: ApiTradeRequest) -> bool:
        return request.action == STOPS and not isinstance(self.request, ModifyPosition)

    def _check_account(self) -> None:
        world = self.world
        shown = {p.ticket: (p.type, p.volume, p.sl, p.tp) for p in world.desk.positions}
        assert shown == {p.ticket: (p.type, p.volume, p.sl, p.tp) for p in world.broker.positions.values()}
        assert all(p.strategy == "confluence" for p in world.desk.positions)
        longs = [p for p in world.broker.positions.values() if p.type == 0]
        assert all(p.sl for p in longs), "a stop was lost"
        assert world.desk.unsettled() == () or world.state("x") == "not_executed"
        assert world.desk.exposure().intents == ()

    def _check_events(self) -> None:
        world = self.world
        events = world.journal.events_after(0, 100_000)
        assert [event.offset for event in events] == list(range(1, len(events) + 1))
        deals = Counter(event.body.deal.ticket for event in events if isinstance(event.body, DealEvent))
        assert deals == Counter(deal.ticket for deal in world.broker.deals)
        keys = Counter(event.body.key() for event in events if isinstance(event.body, IntentEvent))
        assert not [key for key, count in keys.items() if count > 1]
        told = {event.offset: event for event in world.published}
        assert all(events[offset - 1].body == event.body for offset, event in told.items())
        ours = [e.body.deal for e in events if isinstance(e.body, DealEvent)][self.deals_before :]
        if not self.unmarked:
            assert all((deal.strategy, deal.client_order_id) == ("confluence", "x") for deal in ours)

    def _check_again(self) -> None:
        """A second reconciliation, by another life of the adapter, finds nothing to do."""
        world = self.world
        before, sent = world.journal.last_offset, len(world.broker.sent)
        world.crash()
        world.restart()
        world.ready()
        world.wait(6, every_s=3)
        assert world.journal.last_offset == before, world.journal.events_after(before, 100)
        assert len(world.broker.sent) == sent


def each_step(
    folder: Path, kind: str, action: str, fate: str, *, witness: str, kill: Callable[[Case, str], None]
) -> Iterator[Case]:
    """Yield the case after a death at each step of the order in turn, until it is answered before the death."""
    for steps in range(ENOUGH_STEPS):
        own = folder / str(steps)
        own.mkdir()
        case = Case(own, kind, action, part=FATES[fate], witness=witness)
        under_way = case.ask_and_step(steps)
        kill(case, fate)
        yield case
        case.world.close()
        if not under_way:
            return
    raise AssertionError(f"the order took more than {ENOUGH_STEPS} steps")


@pytest.mark.parametrize("witness", WITNESSES)
@pytest.mark.parametrize(("kind", "action", "fate"), CASES)
def test_the_adapter_dies_at_every_step(tmp_path: Path, kind: str, action: str, fate: str, witness: str) -> None:
    for case in each_step(tmp_path, kind, action, fate, witness=witness, kill=Case.kill_adapter):
        case.check()


@pytest.mark.parametrize("witness", WITNESSES[:2])
@pytest.mark.parametrize(("kind", "action", "fate"), CASES)
def test_the_trade_link_dies_at_every_step(tmp_path: Path, kind: str, action: str, fate: str, witness: str) -> None:
    for case in each_step(tmp_path, kind, action, fate, witness=witness, kill=Case.kill_link):
        case.check()


@pytest.mark.parametrize(("kind", "action"), [*FILLED, *WHOLE])
def test_the_adapter_dies_twice(tmp_path: Path, kind: str, action: str) -> None:
    """A second crash while the first one's order is still unknown changes nothing."""
    case = Case(tmp_path, kind, action, witness="comment changed")
    world = case.world
    world.ask(case.request)
    while not world.link.taken:
        assert world.step()
    case.kill_adapter("none")
    assert world.state("x") == "unknown"
    world.wait(60, every_s=5)
    case.kill_adapter("none")
    world.wait(100, every_s=5)
    assert world.state("x") == "unknown"  # the time before the second start does not count
    case.check()
    world.close()


@pytest.mark.parametrize("kind", list(KINDS))
def test_an_exit_that_is_filled_late_after_the_stop_was_hit_is_told_as_it_is(tmp_path: Path, kind: str) -> None:
    """On a hedging account it is refused, on a netting account it opens the other side: no adapter can prevent that."""
    case = Case(tmp_path, kind, "close")
    world = case.world
    world.ask(case.request)
    while not world.link.taken:
        assert world.step()
    case.kill_adapter("late")
    position = next(p for p in world.broker.positions.values() if p.type == 0)
    stop = ApiTradeRequest(action=1, symbol="EURUSD.m", volume=position.volume, type=1, position=position.ticket)
    world.broker.deal(stop, reason=4)
    (late,) = case.late
    world.broker.execute(msgspec.structs.replace(late, position=late.position if kind == "hedging" else 0))
    world.wait(140, every_s=9)
    assert world.state("x") == ("not_executed" if kind == "hedging" else "done")
    alerts = [event.body.code for event in world.published if isinstance(event.body, AlertEvent)]
    assert alerts == ([] if kind == "hedging" else ["exit_reversed"])
    world.close()


def test_a_first_order_that_never_reached_the_disk_was_never_sent(tmp_path: Path) -> None:
    world = World(tmp_path).ready()
    request = SubmitOrder(1, "x", "confluence", 0, "EURUSD", "buy", 0.2)
    world.ask(request)
    world.crash()
    assert not world.broker.sent
    world.restart()
    world.ready()
    assert world.state("x") == ""
    caller = world.ask(msgspec.structs.replace(request, id=5))
    world.settle()
    assert caller.outcome.state == "done"
    world.close()


def test_every_action_has_its_crash_points() -> None:
    assert set(ACTIONS) <= {action for _, action in (*FILLED, *WHOLE)}
