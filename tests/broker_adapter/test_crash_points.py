"""The adapter killed between any two steps of an order's life: no effect is doubled, none is lost, all is told once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from protocol.messages import ClosePosition, DealEvent, ModifyPosition, OrderRequest, SubmitOrder
from tests.broker_adapter.fake_broker import World

ENOUGH_STEPS = 12  # more than an order takes from request to reply

Make = Callable[[int], OrderRequest]

REQUESTS: dict[str, Make] = {
    "open": lambda position: SubmitOrder(1, "x", "confluence", 0, "EURUSD", "buy", 0.2, sl=1.09),
    "close": lambda position: ClosePosition(1, "x", "confluence", 0, position),
    "partial": lambda position: ClosePosition(1, "x", "confluence", 0, position, 0.1),
    "modify": lambda position: ModifyPosition(1, "x", "confluence", 0, position, 1.09, 0.0),
}
FATES = ("executed", "late", "never")
"""What becomes of a command that is with the link when the adapter dies, and of one after its restart."""


class Case:
    """One crash, and what must hold after it."""

    def __init__(self, folder: Path, action: str, *, part: float, comment_changes: bool) -> None:
        self.world = World(folder).ready()
        self.world.ask(SubmitOrder(1, "first", "confluence", 0, "EURUSD", "buy", 0.4))
        self.world.settle()
        self.position = next(iter(self.world.broker.positions))
        self.request = REQUESTS[action](self.position)
        self.action = action
        self.world.broker.fill_part = part
        self.world.broker.changes_comment = comment_changes
        self.sent_before = len(self.world.broker.sent)
        self.deals_before = self.world.broker.trades

    def crash_after(self, steps: int, fate: str) -> bool:
        """Ask, do so many steps, die; say whether the order was still under way."""
        caller = self.world.ask(self.request)
        for _ in range(steps):
            if not self.world.step():
                break
        link = self.world.link
        answered = bool(caller.replies)
        self.world.crash()
        late = []
        while link.taken:
            command, _ = link.taken.popleft()
            if fate == "executed":
                self.world.broker.execute(command.request)
            elif fate == "late":
                late.append(command.request)
        self.world.restart()
        self.world.ready()
        self.world.wait(10, every_s=5)
        for request in late:
            self.world.broker.execute(request)
        return not answered

    def check(self) -> None:
        """Repeat the decision as a restarted strategy would, let everything come to rest, and judge."""
        world = self.world
        caller = world.ask(self.request)
        world.settle()
        world.wait(140, every_s=7)
        world.wait(3)
        effects = len([r for r in world.broker.sent[self.sent_before :] if not self._is_repair(r.action)])
        state = world.state("x")
        assert effects <= 1, f"doubled: {effects}"
        assert state in {"done", "not_executed"}, state
        assert (state == "done") == (effects == 1), (state, effects)
        assert caller.replies
        self._check_events()

    def _is_repair(self, action: int) -> bool:
        return self.action == "open" and action == 6

    def _check_events(self) -> None:
        world = self.world
        events = world.journal.events_after(0, 100_000)
        assert [event.offset for event in events] == list(range(1, len(events) + 1))
        deals = Counter(event.body.deal.ticket for event in events if isinstance(event.body, DealEvent))
        assert deals == Counter(deal.ticket for deal in world.broker.deals)
        keys = Counter(event.body.key() for event in events if type(event.body).__name__ == "IntentEvent")
        assert not [key for key, count in keys.items() if count > 1]
        told = {event.offset: event for event in world.published}
        assert all(events[offset - 1].body == event.body for offset, event in told.items())
        ours = [e.body.deal for e in events if isinstance(e.body, DealEvent)][self.deals_before :]
        assert all(deal.strategy == "confluence" for deal in ours)


@pytest.mark.parametrize("comment_changes", [False, True], ids=["comment kept", "comment changed"])
@pytest.mark.parametrize("part", [1.0, 0.5], ids=["full", "partial"])
@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("action", list(REQUESTS))
def test_the_adapter_dies_at_every_step(
    tmp_path: Path, action: str, fate: str, part: float, *, comment_changes: bool
) -> None:
    if action == "modify" and part != 1.0:
        pytest.skip("there is nothing to fill")
    for steps in range(ENOUGH_STEPS):
        folder = tmp_path / str(steps)
        folder.mkdir()
        case = Case(folder, action, part=part, comment_changes=comment_changes)
        under_way = case.crash_after(steps, fate)
        case.check()
        case.world.close()
        if not under_way:
            return
    raise AssertionError(f"the order took more than {ENOUGH_STEPS} steps")


@pytest.mark.parametrize("action", list(REQUESTS))
def test_the_adapter_dies_twice(tmp_path: Path, action: str) -> None:
    """A second crash while the first one's order is still unknown changes nothing."""
    case = Case(tmp_path, action, part=1.0, comment_changes=True)
    case.world.ask(case.request)
    while not case.world.link.taken:
        assert case.world.step()
    case.world.crash()
    case.world.restart()
    case.world.ready()
    assert case.world.state("x") == "unknown"
    case.world.wait(60, every_s=5)
    case.world.crash()
    case.world.restart()
    case.world.ready()
    case.world.wait(100, every_s=5)
    assert case.world.state("x") == "unknown"  # the time before the second start does not count
    case.check()
    case.world.close()


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
