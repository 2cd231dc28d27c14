"""Backoff and restart intensity."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.restarts import RestartHistory, RestartPolicy, backoff_s
from tests.held import held

POLICY = RestartPolicy(backoff_first_s=0.5, backoff_max_s=4.0, max_restarts=5, window_s=100.0)


def test_the_first_restart_is_at_once_and_the_next_ones_wait_twice_as_long_each() -> None:
    history = RestartHistory(POLICY)
    pauses = [history.after_end(now_s=float(n), ran_s=0.1) for n in range(5)]
    assert pauses == [0.0, 0.5, 1.0, 2.0, 4.0]


def test_too_many_restarts_within_the_window_give_up() -> None:
    history = RestartHistory(POLICY)
    for n in range(5):
        assert history.after_end(now_s=float(n), ran_s=0.1) is not None
    assert history.after_end(now_s=5.0, ran_s=0.1) is None
    assert history.count == 5
    history.forgive()
    assert history.after_end(now_s=6.0, ran_s=0.1) == 0.0


def test_restarts_further_apart_than_the_window_go_on_for_ever() -> None:
    history = RestartHistory(POLICY)
    pauses = [history.after_end(now_s=n * 30.0, ran_s=29.0) for n in range(50)]
    assert pauses == [0.0] * 50


def test_a_long_life_ends_a_row() -> None:
    history = RestartHistory(POLICY)
    history.after_end(now_s=0.0, ran_s=0.0)
    history.after_end(now_s=1.0, ran_s=0.0)
    assert history.after_end(now_s=10.0, ran_s=POLICY.stable_after_s) == 0.0


@given(st.integers(0, 10_000), st.floats(0.001, 10), st.floats(0.001, 1000))
def test_backoff_never_exceeds_its_limit_and_never_shrinks(n: int, first_s: float, max_s: float) -> None:
    pause = backoff_s(n, first_s=first_s, max_s=max_s)
    assert 0 <= pause <= max_s
    assert backoff_s(n + 1, first_s=first_s, max_s=max_s) >= pause


@given(st.lists(st.floats(0, 20), max_size=60))
def test_no_window_ever_holds_more_restarts_than_allowed(gaps_s: list[float]) -> None:
    history, now_s, granted = RestartHistory(POLICY), 0.0, []
    for gap_s in gaps_s:
        now_s += gap_s
        if history.after_end(now_s=now_s, ran_s=0.0) is not None:
            granted.append(now_s)
    for end in granted:
        assert sum(end - POLICY.window_s <= moment <= end for moment in granted) <= POLICY.max_restarts + 1


@given(st.lists(st.tuples(st.floats(0, 200), st.booleans()), max_size=200))
def test_only_the_restarts_of_the_window_are_remembered(ends: list[tuple[float, bool]]) -> None:
    history, now_s = RestartHistory(POLICY), 0.0
    for gap_s, asked in ends:
        now_s += gap_s
        if history.after_end(now_s=now_s, ran_s=0.0) is None and asked:
            history.forgive()
        assert held(history) <= POLICY.max_restarts


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        backoff_s(-1, first_s=1, max_s=1)
