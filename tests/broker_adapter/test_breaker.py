"""Backoff and the circuit breaker."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker_adapter.breaker import Breaker, backoff_s

SECOND = 1_000_000_000


def test_it_opens_after_the_limit_and_lets_one_try_through_later() -> None:
    breaker = Breaker(failures=3, open_s=60, max_s=600)
    for now in range(3):
        assert breaker.allows(now)
        breaker.failed(now)
    assert breaker.state(SECOND) == "open"
    assert not breaker.allows(SECOND)
    later = 61 * SECOND
    assert breaker.state(later) == "half_open"
    assert breaker.allows(later)
    assert not breaker.allows(later)


def test_a_try_that_came_to_nothing_is_given_back() -> None:
    breaker = Breaker(failures=1, open_s=60, max_s=600)
    breaker.failed(0)
    later = 61 * SECOND
    assert breaker.allows(later)
    breaker.not_tried()
    assert breaker.state(later) == "half_open"
    assert breaker.allows(later)


def test_a_failed_try_doubles_the_time_up_to_the_limit() -> None:
    breaker = Breaker(failures=1, open_s=60, max_s=200)
    now = 0
    lengths = []
    for _ in range(4):
        breaker.failed(now)
        lengths.append(round(breaker.open_for_s(now)))
        now += round(breaker.open_for_s(now) * SECOND)
        assert breaker.allows(now)
    assert lengths == [60, 120, 200, 200]


def test_success_closes_and_forgets() -> None:
    breaker = Breaker(failures=2, open_s=60, max_s=600)
    breaker.failed(0)
    breaker.succeeded()
    breaker.failed(1)
    assert breaker.state(2) == "closed"
    breaker.failed(3)
    assert breaker.state(4) == "open"
    breaker.reset()
    assert breaker.state(5) == "closed"


@given(st.integers(1, 1000), st.floats(0.01, 10), st.floats(10, 600), st.floats(0, 1))
def test_backoff_stays_within_its_bounds(failures: int, first_s: float, max_s: float, chance: float) -> None:
    pause = backoff_s(failures, first_s=first_s, max_s=max_s, chance=chance)
    assert first_s / 2 <= pause <= max_s
    assert backoff_s(failures + 1, first_s=first_s, max_s=max_s, chance=chance) >= pause
