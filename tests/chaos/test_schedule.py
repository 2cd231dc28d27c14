"""The schedule of disturbances: seeded, complete, in order."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from mt5bus.chaos.schedule import FAULTS, FREEZE_S, PAUSE_S, PROCESSES, WIRE_KINDS, WIRE_TARGETS, make_schedule
from paper_terminal.faults import FAULTS as KNOWN_FAULTS
from paper_terminal.faults import Fault


@given(seed=st.integers(0, 2**31 - 1), length_s=st.floats(0, 600))
def test_the_same_seed_gives_the_same_schedule(seed: int, length_s: float) -> None:
    assert make_schedule(seed, length_s) == make_schedule(seed, length_s)


def test_another_seed_gives_another_schedule() -> None:
    assert make_schedule(1, 120) != make_schedule(2, 120)


@given(seed=st.integers(0, 2**31 - 1))
def test_a_longer_run_begins_as_the_shorter_one(seed: int) -> None:
    short = make_schedule(seed, 60)
    assert make_schedule(seed, 600)[: len(short)] == short


@given(seed=st.integers(0, 2**31 - 1))
def test_actions_come_in_time_with_pauses(seed: int) -> None:
    times = [action.at_s for action in make_schedule(seed, 300)]
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert times[-1] < 300
    assert all(PAUSE_S[0] - 0.01 <= pause <= PAUSE_S[1] + 0.01 for pause in pauses)


@given(seed=st.integers(0, 2**31 - 1))
def test_everything_happens_once_before_anything_comes_again(seed: int) -> None:
    whole = 2 * len(PROCESSES) + len(FAULTS) + len(WIRE_KINDS) * len(WIRE_TARGETS)
    first = make_schedule(seed, whole * PAUSE_S[1])[:whole]
    assert {action.target for action in first if action.kind == "kill"} == set(PROCESSES)
    assert {action.target for action in first if action.kind == "freeze"} == set(PROCESSES)
    assert sorted(action.target for action in first if action.kind == "fault") == sorted(name for name, _ in FAULTS)
    assert {(a.kind, a.target) for a in first if a.lines} == set(itertools.product(WIRE_KINDS, WIRE_TARGETS))
    lasting = [a for a in first if a.kind == "freeze" or (a.lines and a.kind != "cut")]
    assert all(FREEZE_S[0] <= a.duration_s <= FREEZE_S[1] for a in lasting)


def test_every_fault_of_the_paper_terminal_happens() -> None:
    assert {name for name, _ in FAULTS} == set(KNOWN_FAULTS)


def test_the_paper_terminal_knows_every_fault() -> None:
    for action in make_schedule(1, 1000):
        if action.kind == "fault":
            fields = action.params | {"functions": tuple(action.params.get("functions", ()))}
            Fault(name=action.target, **fields).check()
