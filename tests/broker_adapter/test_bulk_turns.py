"""Pages of history in turn: none lost, none twice, no client behind all that another asked for, rests between."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_adapter.bulk_turns import LONGEST_REST_S, BulkTurns
from broker_adapter.connection import Connection
from broker_adapter.link_messages import AnyCommand, LinkRole, ReadTicks
from broker_adapter.link_results import LinkResult
from protocol.clock import ManualClock
from protocol.loop import Loop

DEADLINE_S = 10.0


class OneLink:
    """A connection that keeps what it is asked until told how it ended."""

    def __init__(self) -> None:
        self.asked: deque[tuple[str, Callable[[LinkResult], None], float]] = deque()
        self.most = 0

    def call(
        self, role: LinkRole, command: AnyCommand, on_result: Callable[[LinkResult], None], *, deadline_s: float
    ) -> None:
        assert role is LinkRole.BULK
        assert isinstance(command, ReadTicks)
        self.asked.append((command.symbol, on_result, deadline_s))
        self.most = max(self.most, len(self.asked))

    def answer(self, *, elapsed_ms: float = 0.0) -> str:
        name, on_result, _ = self.asked.popleft()
        on_result(LinkResult("ok", elapsed_ms=elapsed_ms))
        return name


class Scene:
    """Turns over a link that answers when told, and a clock that is turned."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.loop = Loop(self.clock)
        self.link = OneLink()
        self.turns = BulkTurns(self.loop, cast("Connection", self.link), deadline_s=DEADLINE_S)
        self.results: list[tuple[str, LinkResult]] = []

    def ask(self, client: str, name: str) -> None:
        command = ReadTicks(name, 0, 0)
        self.turns.ask(client, command, lambda result: self.results.append((name, result)))

    def answer_all(self) -> list[str]:
        order = []
        while self.link.asked:
            order.append(self.link.answer())
            self.loop.turn(0)
        return order


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.loop.close()


def test_one_page_is_with_the_link_and_clients_take_turns(scene: Scene) -> None:
    for number in range(3):
        scene.ask("greedy", f"greedy {number}")
    scene.ask("modest", "modest 0")
    assert len(scene.link.asked) == 1
    assert scene.answer_all() == ["greedy 0", "modest 0", "greedy 1", "greedy 2"]
    assert scene.link.most == 1


def test_who_asks_again_at_once_shares_with_who_asked_for_everything(scene: Scene) -> None:
    for number in range(4):
        scene.ask("greedy", f"greedy {number}")
    order: list[str] = []
    scene.ask("modest", "modest 0")
    for number in range(1, 8):
        order.append(scene.link.answer())
        if order[-1].startswith("modest"):
            scene.ask("modest", f"modest {number}")
        scene.loop.turn(0)
    assert [name.split()[0] for name in order] == ["greedy", "modest"] * 3 + ["greedy"]


@pytest.mark.parametrize(("took_ms", "rest_s"), [(4.0, 0.004), (900.0, LONGEST_REST_S)])
def test_the_link_rests_as_long_as_a_page_took_within_bounds(scene: Scene, took_ms: float, rest_s: float) -> None:
    scene.ask("a", "first")
    scene.ask("b", "second")
    scene.link.answer(elapsed_ms=took_ms)
    scene.clock.advance(rest_s - 0.001)
    scene.loop.turn(0)
    assert not scene.link.asked
    scene.ask("c", "third")  # nor does one who comes meanwhile end the rest
    assert not scene.link.asked
    scene.clock.advance(0.001)
    scene.loop.turn(0)
    assert [name for name, *_ in scene.link.asked] == ["second"]


def test_what_waited_too_long_is_told_so_and_not_sent(scene: Scene) -> None:
    scene.ask("a", "slow")
    scene.ask("b", "late")
    scene.clock.advance(DEADLINE_S - 1)
    scene.ask("c", "in time")
    scene.clock.advance(1)
    scene.link.answer()
    scene.loop.turn(0)
    assert [(name, result.status, result.was_sent) for name, result in scene.results] == [
        ("slow", "ok", False),
        ("late", "lost", False),
    ]
    name, _, deadline_s = scene.link.asked[0]
    assert name == "in time"
    assert deadline_s == pytest.approx(9.0)


STEPS = st.lists(st.one_of(st.sampled_from(["a", "b", "c"]), st.none(), st.floats(0, 12)), max_size=60)


@given(STEPS)
def test_every_question_is_answered_once(steps: list[Any]) -> None:
    scene, asked = Scene(), 0
    for step in steps:
        if isinstance(step, str):
            scene.ask(step, str(asked))
            asked += 1
        elif step is None and scene.link.asked:
            scene.link.answer(elapsed_ms=1)
        else:
            scene.clock.advance(step or 0)
            scene.loop.turn(0)
    for _ in range(asked + 1):
        if scene.link.asked:
            scene.link.answer()
        scene.clock.advance(LONGEST_REST_S)
        scene.loop.turn(0)
    scene.loop.close()
    assert sorted(int(name) for name, _ in scene.results) == list(range(asked))
    assert scene.link.most <= 1
