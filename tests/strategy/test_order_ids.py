"""Ids follow from the decision: the same again, and never the same for two."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.order_ids import (
    MAX_ID_CHARS,
    AccountKey,
    BarTrigger,
    EventTrigger,
    RefusalTrigger,
    ResyncTrigger,
    TickTrigger,
    TimerTrigger,
    Trigger,
    order_id,
    signal_id,
)

ACCOUNT = AccountKey("Paper-Demo", 5001)
BAR = BarTrigger("EURUSD", "S5", 1_700_000_000_000)

texts = st.text(max_size=20)
numbers = st.integers(min_value=0, max_value=2**62)
triggers: st.SearchStrategy[Trigger] = st.one_of(
    st.builds(BarTrigger, texts, texts, numbers, st.integers(0, 1)),
    st.builds(TickTrigger, texts, numbers, st.integers(0, 100)),
    st.builds(TimerTrigger, texts, numbers),
    st.builds(EventTrigger, texts, numbers),
    st.builds(RefusalTrigger, texts),
    st.builds(ResyncTrigger, texts, numbers, texts),
)
decisions = st.tuples(
    st.builds(AccountKey, texts, numbers), st.text(min_size=1, max_size=31), triggers, st.integers(0, 50)
)


@given(decisions)
def test_id_is_derived_and_fits_the_wire(decision: tuple[AccountKey, str, Trigger, int]) -> None:
    found = order_id(*decision)
    assert found == order_id(*decision)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,40}", found)
    assert len(found) <= MAX_ID_CHARS


@given(decisions, decisions)
def test_different_decisions_have_different_ids(
    one: tuple[AccountKey, str, Trigger, int], other: tuple[AccountKey, str, Trigger, int]
) -> None:
    same = one == other and type(one[2]) is type(other[2])
    assert (order_id(*one) == order_id(*other)) == same


def test_signal_and_order_of_one_decision_have_different_ids() -> None:
    assert order_id(ACCOUNT, "s", BAR, 0) != signal_id(ACCOUNT, "s", BAR, 0)


def test_equal_tuples_of_two_kinds_of_trigger_have_different_ids() -> None:
    assert order_id(ACCOUNT, "s", TimerTrigger("x", 1), 0) != order_id(ACCOUNT, "s", EventTrigger("x", 1), 0)


def test_id_is_pinned() -> None:
    """Another value here would let a restart after an upgrade repeat a decision under a new id."""
    assert order_id(ACCOUNT, "confluence", BAR, 0) == PINNED


@pytest.mark.parametrize("name", ["confluence", "a-very-long-strategy-name", "größe"])
def test_id_begins_with_the_strategy_s_name(name: str) -> None:
    readable = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:12]
    assert order_id(ACCOUNT, name, BAR, 0).startswith(f"{readable}-")


PINNED = "confluence-onmhteraxdl43hhz3trr2uvg"
