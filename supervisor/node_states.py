"""The states of a supervised process, as one table.

Everything that can happen to a process is an event; what follows from it is looked up, never coded. An event
that the table does not have for a state is a fault of ours and raises.

    stopped   not running, and not wanted to
    starting  the process runs, but its pongs do not say `ready` yet (or none came so far)
    running   its pongs say `ready`
    degraded  its pongs say that it works with something missing (no terminal, broker away)
    hung      it stopped answering; it is being killed
    backoff   it ended; a restart is due
    failed    it ended too often; only a person restarts it
    stopping  it was told to end
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """What a supervised process is doing."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    DEGRADED = "degraded"
    HUNG = "hung"
    BACKOFF = "backoff"
    FAILED = "failed"
    STOPPING = "stopping"


class Event(StrEnum):
    """What can happen to it."""

    LAUNCHED = "launched"  # its process was started, or found running
    READY = "ready"  # it says that it does its work
    IMPAIRED = "impaired"  # it says that it works with something missing
    UNREADY = "unready"  # it says that it is starting (again)
    SILENT = "silent"  # no hello in time, or too many pongs missing
    ENDED = "ended"  # its process is gone; a restart is allowed
    EXHAUSTED = "exhausted"  # its process is gone (or could not be started) once too often
    TOLD_TO_STOP = "told to stop"


ALIVE = frozenset({State.STARTING, State.RUNNING, State.DEGRADED, State.HUNG, State.STOPPING})
"""States in which there is a process."""
ANSWERING = frozenset({State.STARTING, State.RUNNING, State.DEGRADED})
"""States in which pongs are expected."""
HEALTHY = frozenset({State.RUNNING})

_S, _E = State, Event
TRANSITIONS: dict[State, dict[Event, State]] = {
    _S.STOPPED: {_E.LAUNCHED: _S.STARTING, _E.ENDED: _S.BACKOFF, _E.EXHAUSTED: _S.FAILED, _E.TOLD_TO_STOP: _S.STOPPED},
    _S.STARTING: {
        _E.READY: _S.RUNNING,
        _E.IMPAIRED: _S.DEGRADED,
        _E.UNREADY: _S.STARTING,
        _E.SILENT: _S.HUNG,
        _E.ENDED: _S.BACKOFF,
        _E.EXHAUSTED: _S.FAILED,
        _E.TOLD_TO_STOP: _S.STOPPING,
    },
    _S.RUNNING: {
        _E.READY: _S.RUNNING,
        _E.IMPAIRED: _S.DEGRADED,
        _E.UNREADY: _S.STARTING,
        _E.SILENT: _S.HUNG,
        _E.ENDED: _S.BACKOFF,
        _E.EXHAUSTED: _S.FAILED,
        _E.TOLD_TO_STOP: _S.STOPPING,
    },
    _S.DEGRADED: {
        _E.READY: _S.RUNNING,
        _E.IMPAIRED: _S.DEGRADED,
        _E.UNREADY: _S.STARTING,
        _E.SILENT: _S.HUNG,
        _E.ENDED: _S.BACKOFF,
        _E.EXHAUSTED: _S.FAILED,
        _E.TOLD_TO_STOP: _S.STOPPING,
    },
    # A kill is under way: what it still says no longer counts.
    _S.HUNG: {
        _E.READY: _S.HUNG,
        _E.IMPAIRED: _S.HUNG,
        _E.UNREADY: _S.HUNG,
        _E.SILENT: _S.HUNG,
        _E.ENDED: _S.BACKOFF,
        _E.EXHAUSTED: _S.FAILED,
        _E.TOLD_TO_STOP: _S.STOPPING,
    },
    _S.BACKOFF: {
        _E.LAUNCHED: _S.STARTING,
        _E.ENDED: _S.BACKOFF,
        _E.EXHAUSTED: _S.FAILED,
        _E.TOLD_TO_STOP: _S.STOPPED,
    },
    _S.FAILED: {_E.LAUNCHED: _S.STARTING, _E.TOLD_TO_STOP: _S.STOPPED},
    _S.STOPPING: {
        _E.READY: _S.STOPPING,
        _E.IMPAIRED: _S.STOPPING,
        _E.UNREADY: _S.STOPPING,
        _E.SILENT: _S.STOPPING,
        _E.ENDED: _S.STOPPED,
        _E.EXHAUSTED: _S.STOPPED,
        _E.TOLD_TO_STOP: _S.STOPPING,
    },
}


class ImpossibleTransition(RuntimeError):
    """An event came in a state that cannot have it: a fault in the supervisor."""


def following(state: State, event: Event) -> State:
    """Return the state after an event.

    Raises:
        ImpossibleTransition: The table has no such event for this state.
    """
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise ImpossibleTransition(f"'{event}' cannot happen to a process that is {state}") from None
