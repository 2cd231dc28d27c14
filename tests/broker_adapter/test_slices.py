"""Work in slices: the same results in the same order, and the loop turns between."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_adapter.slices import SLICE_S, in_slices
from protocol.clock import ManualClock
from protocol.errors import BusError, DataInvalid
from protocol.loop import Loop


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def loop(clock: ManualClock) -> Iterator[Loop]:
    loop = Loop(clock)
    yield loop
    loop.close()


class Outcome:
    """What came of the work."""

    def __init__(self) -> None:
        self.done: list[list[int]] = []
        self.errors: list[BusError] = []


def test_a_little_is_done_at_once(loop: Loop) -> None:
    outcome = Outcome()
    in_slices(loop, range(100), lambda item: item + 1, outcome.done.append, outcome.errors.append)
    assert outcome.done == [list(range(1, 101))]


def test_much_leaves_the_turns_between_to_others(loop: Loop, clock: ManualClock) -> None:
    outcome, beats, worked = Outcome(), list[int](), list[int]()

    def work(item: int) -> int:
        clock.advance(SLICE_S / 20)
        worked.append(item)
        return item

    loop.every(SLICE_S / 10, lambda: beats.append(len(worked)))
    in_slices(loop, range(200), work, outcome.done.append, outcome.errors.append)
    turns = 0
    while not outcome.done:
        turns += 1
        loop.turn(0)
    assert outcome.done == [list(range(200))]
    assert turns >= 5
    assert all(later - earlier <= 24 for earlier, later in pairwise(beats))


@pytest.mark.parametrize("at", [0, 150])
def test_an_error_is_told_once_and_ends_it(loop: Loop, clock: ManualClock, at: int) -> None:
    outcome = Outcome()

    def work(item: int) -> int:
        clock.advance(SLICE_S / 20)
        if item == at:
            raise DataInvalid("damaged")
        return item

    in_slices(loop, range(200), work, outcome.done.append, outcome.errors.append)
    for _ in range(20):
        loop.turn(0)
    assert [error.text for error in outcome.errors] == ["damaged"]
    assert not outcome.done


@given(st.lists(st.floats(0, 2 * SLICE_S), max_size=40))
def test_every_item_is_worked_on_once_whatever_it_takes(times_s: list[float]) -> None:
    clock, outcome = ManualClock(), Outcome()
    loop = Loop(clock)

    def work(item: tuple[int, float]) -> int:
        clock.advance(item[1])
        return item[0]

    in_slices(loop, list(enumerate(times_s)), work, outcome.done.append, outcome.errors.append)
    for _ in range(len(times_s)):
        loop.turn(0)
    loop.close()
    assert outcome.done == [list(range(len(times_s)))]
