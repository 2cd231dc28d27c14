"""The life of an order as one table: which state may follow which, and why.

``received`` and ``sent`` live in memory only. A restart finds ``intended`` in the journal for both and has to take
it for ``unknown``, since the bytes may have left. `docs/orders.md` shows the table, and a drawing that
``python -m broker_adapter.order_states`` makes from it; a test compares them.

Editing rule: a state that claims "nothing happened" may be entered only from an answer that says so definitely, from
evidence, or by the operator's word. Time alone never ends `State.UNKNOWN`.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """Where one of our orders stands."""

    RECEIVED = "received"
    REFUSED = "refused"
    INTENDED = "intended"
    SENT = "sent"
    DONE = "done"
    REJECTED = "rejected"
    UNKNOWN = "unknown"
    AMBIGUOUS = "ambiguous"
    NOT_EXECUTED = "not_executed"
    UNRESOLVED = "unresolved"


class Transition(NamedTuple):
    """One row of the table."""

    before: State
    after: State
    reason: str


TRANSITIONS: tuple[Transition, ...] = (
    Transition(State.RECEIVED, State.REFUSED, "validation, risk gate or trading mode forbids it"),
    Transition(State.RECEIVED, State.INTENDED, "the intent is on its way to the disk"),
    Transition(State.INTENDED, State.SENT, "the intent is durable and handed to the trade link"),
    Transition(State.INTENDED, State.REJECTED, "never handed over: its time to live passed, or the account changed"),
    Transition(State.INTENDED, State.UNKNOWN, "the adapter restarted: it may have been sent"),
    Transition(State.SENT, State.DONE, "the terminal said so, and the effect was seen"),
    Transition(State.SENT, State.REJECTED, "a definite refusal: nothing happened"),
    Transition(State.SENT, State.UNKNOWN, "no answer, or one that leaves the outcome open"),
    Transition(State.UNKNOWN, State.DONE, "evidence of the effect, or the operator says so"),
    Transition(State.UNKNOWN, State.REJECTED, "evidence that the broker refused or cancelled it unfilled"),
    Transition(State.UNKNOWN, State.NOT_EXECUTED, "complete reads show no effect, or the operator says so"),
    Transition(State.UNKNOWN, State.AMBIGUOUS, "something fits but carries neither magic nor comment"),
    Transition(State.AMBIGUOUS, State.DONE, "evidence of the effect, or the operator says so"),
    Transition(State.AMBIGUOUS, State.REJECTED, "evidence that the broker refused or cancelled it unfilled"),
    Transition(State.AMBIGUOUS, State.NOT_EXECUTED, "the operator says so"),
    Transition(State.AMBIGUOUS, State.UNRESOLVED, "the watch ended without evidence"),
    Transition(State.NOT_EXECUTED, State.DONE, "a late fill: alerted"),
)

_ALLOWED = frozenset((row.before, row.after) for row in TRANSITIONS)

FINAL = frozenset({State.REFUSED, State.DONE, State.REJECTED, State.NOT_EXECUTED, State.UNRESOLVED})
"""The caller can be told the end of the story, if only that nobody knows it (`State.UNRESOLVED`)."""
OPEN = frozenset({State.RECEIVED, State.INTENDED, State.SENT})
"""In flight: its answer is still to come."""
UNDECIDED = frozenset({State.UNKNOWN, State.AMBIGUOUS})
"""May have taken effect: counted as if it had."""
DURABLE = frozenset(State) - {State.RECEIVED, State.SENT}
"""What a journal can hold."""


def may_follow(before: State, after: State) -> bool:
    """Say whether the table has a row from `before` to `after`."""
    return (before, after) in _ALLOWED


def check(before: State, after: State) -> State:
    """Return `after`.

    Raises:
        RuntimeError: The table has no such row: the caller is wrong about the order, and must not go on.
    """
    if not may_follow(before, after):
        raise RuntimeError(f"an order cannot go from {before} to {after}: see broker_adapter/order_states.py")
    return after


def after_restart(state: State) -> State:
    """Return what a state found in the journal means to an adapter that has just started."""
    return State.UNKNOWN if state in OPEN else state


def drawing() -> str:
    """Return the table as a Mermaid state diagram: final states lead to the end."""
    ends = [f"    {state} --> [*]" for state in State if state in FINAL]
    steps = [f"    {row.before} --> {row.after}" for row in TRANSITIONS]
    return "\n".join(["stateDiagram-v2", "    direction LR", f"    [*] --> {State.RECEIVED}", *steps, *ends])


if __name__ == "__main__":
    sys.stdout.write(drawing() + "\n")
