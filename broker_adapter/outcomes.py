"""What a link's answer to an order means for its intent. Pure.

The question is never "did it work?" but "what is certain?": certainly done, certainly nothing happened, or open.
"""

from __future__ import annotations

import msgspec

from broker_adapter.api_types import ApiSendResult
from broker_adapter.intents import CLOSING, TRADING, Intent
from broker_adapter.link_messages import NO_API, NO_TERMINAL, REFUSED, SendOutcome
from broker_adapter.link_results import LinkResult
from broker_adapter.order_states import State
from broker_adapter.retcodes import Verdict, meaning_of, meaning_of_no_result
from protocol.errors import BusError, DataInvalid, NoConnection, NotReady, StateConflict, UnknownOutcome

NO_IPC_CONNECTION = -10_004

# The link says these of itself, before it touches the terminal.
_NEVER_REACHED = frozenset({NO_API, NO_TERMINAL, REFUSED})

_NOT_SENT: dict[str, tuple[type[BusError], str]] = {
    "deadline": (StateConflict, "not sent: its time to live had passed"),
    "adapter_gone": (NoConnection, "not sent: the adapter that decided on it had ended"),
    "not_attached": (NoConnection, "not sent: the link is not attached to a terminal with an account"),
    "wrong_account": (StateConflict, "not sent: the terminal is on another account"),
    "position_gone": (StateConflict, "not sent: the position is closed already"),
    "position_unreadable": (NotReady, "not sent: the position could not be read just before"),
}


class Judgement(msgspec.Struct, frozen=True):
    """What is certain after an answer.

    Attributes:
        error: What a refusal, or an open outcome, is called.
        result: The terminal's result, if it gave one.
    """

    verdict: Verdict
    error: type[BusError]
    text: str
    result: ApiSendResult | None = None

    @property
    def retcode(self) -> int:
        """The trade retcode, 0 where none was given."""
        return 0 if self.result is None else self.result.retcode


def judge(answer: LinkResult) -> Judgement:
    """Return what is certain after a link's answer to `Send`. Whatever is not understood leaves the outcome open."""
    if answer.status == "lost":
        if not answer.was_sent:
            return Judgement(Verdict.REFUSED, NoConnection, "not sent: no link to the terminal took it")
        return _open(f"the link to the terminal was lost with the order in it ({answer.reason})")
    if answer.status == "failed":
        text = f"the link reported {answer.code}: {answer.text}"
        if answer.code == NO_IPC_CONNECTION:  # `Connection` did not hand it to a link that is not attached
            return Judgement(Verdict.REFUSED, NoConnection, f"not sent: {text}")
        if answer.code in _NEVER_REACHED:
            return Judgement(Verdict.REFUSED, NotReady, f"not sent: {text}")
        return _open(text)
    try:
        outcome = answer.decode(SendOutcome)
    except DataInvalid as error:
        return _open(f"the link's answer cannot be read: {error.text}")
    return _judge_outcome(outcome)


def refusal(intent: Intent, judgement: Judgement) -> Intent:
    """Return the intent as definitely not carried out."""
    details = {"retcode": str(judgement.retcode)} if judgement.result is not None else {}
    return intent.moved(
        State.REJECTED,
        retcode=judgement.retcode,
        code=judgement.error.code,
        text=judgement.text,
        details=details,
    )


def unknown(intent: Intent, text: str, *, retcode: int = 0) -> Intent:
    """Return the intent as of unknown outcome."""
    return intent.moved(
        State.UNKNOWN,
        retcode=retcode or intent.retcode,
        code=UnknownOutcome.code,
        text=f"the outcome is unknown: {text}. Do not send it again; the adapter finds out",
    )


def with_tickets(intent: Intent, result: ApiSendResult | None) -> Intent:
    """Return the intent with the tickets that the answer names: witnesses for what follows."""
    if result is None:
        return intent
    named = intent.action in TRADING
    return msgspec.structs.replace(
        intent,
        retcode=result.retcode,
        order=result.order if named and result.order else intent.order,
        deal=result.deal if named and result.deal else intent.deal,
    )


def done_as_told(intent: Intent, result: ApiSendResult | None, text: str) -> Intent:
    """Return the intent as carried out by the terminal's word alone, its effect not being visible (yet)."""
    fills = intent.action in CLOSING | {"open"} and result is not None
    opened = intent.action == "open" and result is not None
    return intent.moved(
        State.DONE,
        text=text,
        # A position bears the ticket of the order that opened it; where positions net, one may have been there.
        position=(_netted_into(intent) or intent.order) if opened else intent.position,
        filled_volume=result.volume if fills and result is not None else 0.0,
        fill_price=result.price if fills and result is not None else 0.0,
        stops=intent.stops_when_done,
    )


def _netted_into(intent: Intent) -> int:
    return next(iter(intent.known.positions), 0) if intent.netting else 0


def _judge_outcome(outcome: SendOutcome) -> Judgement:
    if outcome.not_sent:
        error, text = _NOT_SENT.get(outcome.not_sent, (NotReady, f"not sent: {outcome.not_sent}"))
        return Judgement(Verdict.REFUSED, error, f"{text}: {outcome.comment}" if outcome.comment else text)
    if outcome.result is None:
        meaning = meaning_of_no_result(outcome.code)
        text = f"{meaning.text} ({outcome.code}: {outcome.text})"
        return Judgement(meaning.verdict, meaning.error, text)
    result = outcome.result
    meaning = meaning_of(result.retcode)
    said = f": {result.comment[:60]}" if result.comment else ""
    return Judgement(meaning.verdict, meaning.error, f"{meaning.text} (retcode {result.retcode}{said})", result)


def _open(text: str) -> Judgement:
    return Judgement(Verdict.OPEN, UnknownOutcome, text)
