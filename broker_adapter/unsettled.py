"""Orders without an outcome, as an operator sees them and ends them. Pure.

Evidence ends what it can. What is left is either still waiting for evidence, or something on the account fits that
carries none of our marks: then a person who looks into the terminal knows more than any record does.
"""

from __future__ import annotations

import msgspec

from broker_adapter.broker_state import BrokerRead
from broker_adapter.evidence import CLOCK_SLACK_MS, NOTHING, Effect, Finding, effect_of
from broker_adapter.intents import Intent
from broker_adapter.order_states import OPEN, UNDECIDED, State
from broker_adapter.reconcile import Circumstances, done
from protocol.errors import StateConflict
from protocol.messages import UnsettledOrder

DONE, NOT_EXECUTED = "done", "not_executed"
OUTCOMES = (DONE, NOT_EXECUTED)


def is_unsettled(intent: Intent) -> bool:
    """Whether the order is in flight, undecided, or watched for a late fill."""
    return intent.state in OPEN | UNDECIDED or intent.watch_until_ms > 0


def describe(intent: Intent, read: BrokerRead | None, by: Circumstances) -> UnsettledOrder:
    """Return an order with what the account shows of it and what its outcome waits for.

    Args:
        read: The newest complete read; None before the first.
    """
    return UnsettledOrder(
        outcome=intent.event(),
        created_ms=intent.created_ms,
        magic=intent.magic,
        comment=intent.comment,
        evidence=_evidence(intent, read, by),
        waits_for=_waits_for(intent, read, by),
        watch_until_ms=intent.watch_until_ms,
    )


def settled(
    intent: Intent, outcome: str, reason: str, *, read: BrokerRead | None, by: Circumstances
) -> tuple[Intent, Effect]:
    """Return the order as the operator says, with the tickets of what fits it, if anything does.

    Raises:
        StateConflict: Its outcome is known, or still to come.
    """
    if intent.state in OPEN:
        raise StateConflict(
            f"{intent.client_order_id} is {intent.state}: its answer is still to come. Settle it if it stays unknown",
            {"state": intent.state.value},
        )
    if intent.state not in UNDECIDED:
        raise StateConflict(
            f"{intent.client_order_id} is {intent.state} already: only unknown and ambiguous orders can be settled",
            {"state": intent.state.value},
        )
    text = f"settled by the operator as {outcome.replace('_', ' ')}" + (f": {reason}" if reason else "")
    effect = _effect(intent, read, by)
    if outcome == DONE:
        after = done(intent, effect, text)
        # Without anything to look at there are no stops to check.
        return (after if after.position or after.order else msgspec.structs.replace(after, stops="")), effect
    after = intent.moved(State.NOT_EXECUTED, code="state_conflict", text=text, watch_until_ms=by.wall_ms + by.watch_ms)
    return after, effect


def _effect(intent: Intent, read: BrokerRead | None, by: Circumstances) -> Effect:
    if read is None or (intent.server, intent.login) != (read.account.server, read.account.login):
        return NOTHING
    return effect_of(intent, read, by.marks)


def _evidence(intent: Intent, read: BrokerRead | None, by: Circumstances) -> str:
    if read is None:
        return "the account has not been read yet"
    if (intent.server, intent.login) != (read.account.server, read.account.login):
        return f"the terminal is on another account than {intent.login} at {intent.server}"
    effect = effect_of(intent, read, by.marks)
    return effect.text or effect.finding.value


def _waits_for(intent: Intent, read: BrokerRead | None, by: Circumstances) -> str:
    if intent.state in OPEN:
        return "the terminal's answer, and its effect on the account"
    if intent.state is State.AMBIGUOUS:
        return f"evidence, or mt5bus settle {intent.client_order_id}"
    if intent.state not in UNDECIDED:
        return "nothing; a late fill would be alerted"
    if read is None or by.connected_since_ns is None:
        return "a connection between terminal and broker"
    if _effect(intent, read, by).finding is Finding.WORKING:
        return "its order at the broker to be filled or cancelled"
    if read.history_from_ms > intent.created_ms - CLOCK_SLACK_MS:
        return "a read of the history from before it was sent"
    since_ns = max(by.unknown_since_ns.get(intent.number, read.started_ns), by.connected_since_ns)
    unbroken_s = max(0, read.started_ns - since_ns) / 1e9
    return f"{by.not_executed_after_s:.0f} s of unbroken connection; {unbroken_s:.0f} s so far"
