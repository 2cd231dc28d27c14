"""The state table: whole, and without dead ends."""

from __future__ import annotations

import pytest

from supervisor.node_states import ALIVE, ANSWERING, TRANSITIONS, Event, ImpossibleTransition, State, following


def test_every_state_is_in_the_table_and_can_be_reached() -> None:
    reached = {State.STOPPED} | {to for row in TRANSITIONS.values() for to in row.values()}
    assert set(TRANSITIONS) == set(State) == reached


def test_every_process_can_be_told_to_stop_and_its_end_leads_out_of_life() -> None:
    for state in State:
        assert following(state, Event.TOLD_TO_STOP) in {State.STOPPING, State.STOPPED}
    for state in ALIVE:
        assert following(state, Event.ENDED) not in ALIVE
        assert following(state, Event.EXHAUSTED) not in ALIVE
    assert ANSWERING < ALIVE


def test_a_stop_is_never_followed_by_a_restart() -> None:
    assert set(TRANSITIONS[State.STOPPING].values()) == {State.STOPPING, State.STOPPED}


def test_an_event_that_cannot_be_is_a_fault() -> None:
    with pytest.raises(ImpossibleTransition, match="'silent' cannot happen to a process that is stopped"):
        following(State.STOPPED, Event.SILENT)
