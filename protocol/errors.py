"""The error tree: what can go wrong on the bus, grouped by what the caller does next.

::

    BusError
    ├── TryAgainLater            nothing took effect; the same request may work later
    │   ├── NoConnection         no peer to talk to: the request never left
    │   ├── NoAnswer             a query's deadline passed (an order's becomes UnknownOutcome)
    │   ├── CircuitOpen          the adapter stopped trying to reach the terminal for a while
    │   └── NotReady             the peer runs but has not finished starting
    ├── ChangeTheRequest         the same request will never work
    │   ├── ValidationFailed     a field is wrong; ``details["field"]`` names it
    │   ├── NotFound             the thing asked for does not exist
    │   │   └── EventsGone       events right after a position are no longer kept: take a snapshot, go on from it
    │   ├── StateConflict        valid in itself, but not now (position closed, id reused)
    │   └── DataInvalid          bytes that are no message, or data that cannot be true
    │       └── UnknownKind      a well-formed frame of a kind this version does not know
    ├── AskTheOperator           a person has to change something
    │   ├── InitialisationFailed the terminal could not be attached to
    │   ├── AuthenticationFailed login, password, server or key refused
    │   ├── RiskRefused          a risk limit or the trading mode forbids it
    │   └── MarketRefused        the broker refused: closed, no money, trading disabled
    └── UnknownOutcome           an order may or may not have taken effect: wait for the evidence

Each class has a stable ``code`` that travels in ``ErrorReply`` and is raised as the same type at the caller.
"Not found", "no answer" and "no connection" are three different things.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class BusError(Exception):
    """Root of every error that mt5bus raises on purpose.

    Attributes:
        text: What happened, what it means and what to do.
        details: Machine-readable fields, such as ``field``, ``limit``, ``retcode``.
    """

    code: ClassVar[str] = "error"

    def __init__(self, text: str, details: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.details = dict(details or {})


class TryAgainLater(BusError):
    """Nothing took effect; the same request may work later."""

    code = "try_again_later"


class NoConnection(TryAgainLater):
    """No peer is connected: the request never left this process."""

    code = "no_connection"


class NoAnswer(TryAgainLater):
    """The deadline of a request without side effects passed."""

    code = "no_answer"


class CircuitOpen(TryAgainLater):
    """The adapter stopped trying to reach the terminal for a while."""

    code = "circuit_open"


class NotReady(TryAgainLater):
    """The peer runs but has not finished starting, or the terminal is away."""

    code = "not_ready"


class ChangeTheRequest(BusError):
    """The same request will never work."""

    code = "change_the_request"


class ValidationFailed(ChangeTheRequest):
    """A field of the request is wrong; ``details["field"]`` names it."""

    code = "validation_failed"


class NotFound(ChangeTheRequest):
    """The symbol, position, order or node asked for does not exist."""

    code = "not_found"


class EventsGone(NotFound):
    """Events right after a reader's position are no longer kept: it takes a snapshot and goes on from there.

    ``details`` name ``log_id``, ``first_offset`` and ``last_offset``.
    """

    code = "events_gone"


class StateConflict(ChangeTheRequest):
    """The request is valid in itself but contradicts the present state."""

    code = "state_conflict"


class DataInvalid(ChangeTheRequest):
    """Bytes that are no message, or data that cannot be true."""

    code = "data_invalid"


class UnknownKind(DataInvalid):
    """A well-formed frame of a kind this version does not know: count and skip."""

    code = "unknown_kind"


class AskTheOperator(BusError):
    """A person has to change something first."""

    code = "ask_the_operator"


class InitialisationFailed(AskTheOperator):
    """The terminal could not be attached to."""

    code = "initialisation_failed"


class AuthenticationFailed(AskTheOperator):
    """Login, password, server or Curve key was refused."""

    code = "authentication_failed"


class RiskRefused(AskTheOperator):
    """A risk limit, the trading mode or arming forbids the order."""

    code = "risk_refused"


class MarketRefused(AskTheOperator):
    """The terminal or the broker refused; ``details["retcode"]`` says which way."""

    code = "market_refused"


class UnknownOutcome(BusError):
    """An order may or may not have taken effect.

    Never send it again under a new id: the adapter finds out and reports on the event stream.
    """

    code = "unknown_outcome"


def _tree(root: type[BusError]) -> dict[str, type[BusError]]:
    found = {root.code: root}
    for branch in root.__subclasses__():
        found.update(_tree(branch))
    return found


ERRORS_BY_CODE: Mapping[str, type[BusError]] = _tree(BusError)


def error_from_code(code: str, text: str, details: Mapping[str, str] | None = None) -> BusError:
    """Return the error that `code` stands for; an unknown code gives the root type and keeps the code in details."""
    kind = ERRORS_BY_CODE.get(code)
    if kind is None:
        return BusError(text, {**(details or {}), "code": code})
    return kind(text, details)
