"""The states of one link's attachment to the terminal, and of the connection as a whole, as tables. Pure."""

from __future__ import annotations

from enum import Enum
from typing import Literal


class Attachment(Enum):
    """Where one link stands."""

    DOWN = "down"
    """Its process is starting or being replaced."""
    DETACHED = "detached"
    """Its process is ready; it waits for its turn to attach."""
    ATTACHING = "attaching"
    ATTACHED = "attached"


class Step(Enum):
    """What happens to one link."""

    READY = "its process greeted"
    LOST = "its process is gone"
    TRIED = "attaching began"
    SUCCEEDED = "attaching succeeded"
    FAILED = "attaching failed"
    BROKEN = "a call found the connection to the terminal broken"
    ANEW = "a person asked to attach anew"


TABLE: dict[tuple[Attachment, Step], Attachment] = {
    (Attachment.DOWN, Step.READY): Attachment.DETACHED,
    (Attachment.DETACHED, Step.TRIED): Attachment.ATTACHING,
    (Attachment.DETACHED, Step.LOST): Attachment.DOWN,
    (Attachment.ATTACHING, Step.SUCCEEDED): Attachment.ATTACHED,
    (Attachment.ATTACHING, Step.FAILED): Attachment.DETACHED,
    (Attachment.ATTACHING, Step.LOST): Attachment.DOWN,
    (Attachment.ATTACHED, Step.BROKEN): Attachment.DETACHED,
    (Attachment.ATTACHED, Step.ANEW): Attachment.DETACHED,
    (Attachment.ATTACHED, Step.LOST): Attachment.DOWN,
}


def after(state: Attachment, step: Step) -> Attachment:
    """Return the state after `step`; a step that means nothing in this state (a late answer) changes nothing."""
    return TABLE.get((state, step), state)


ConnectionState = Literal["attached", "offline", "wrong_account", "no_terminal", "circuit_open", "attaching"]
"""``attached``: all is well. ``offline``: the terminal has no connection to its broker. ``wrong_account``: it is logged
in to another account: nothing is traded. ``no_terminal``: none runs. ``circuit_open``: attaching failed so often that
it rests for a while. ``attaching``: at it."""


def overall(
    *,
    trade: Attachment,
    feed: Attachment,
    account_is_right: bool,
    broker_connected: bool,
    breaker_open: bool,
    terminal_missing: bool,
) -> ConnectionState:
    """Return the state of the connection, from those of its parts."""
    if trade is Attachment.ATTACHED and not account_is_right:
        return "wrong_account"
    if trade is Attachment.ATTACHED and feed is Attachment.ATTACHED:
        return "attached" if broker_connected else "offline"
    if breaker_open:
        return "circuit_open"
    return "no_terminal" if terminal_missing else "attaching"
