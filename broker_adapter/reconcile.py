"""Decisions about orders of unknown outcome, from evidence alone. Pure: run twice, it changes nothing.

"Not executed" is the dangerous claim: whoever hears it may send the order again. So it takes the right account, a
complete read that reaches back before the order, and `not_executed_after_s` of unbroken connection after the order
became unknown; the order is then watched on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from broker_adapter.broker_state import BrokerRead
from broker_adapter.evidence import CLOCK_SLACK_MS, Effect, Finding, Marks, effect_of
from broker_adapter.intents import TRADING, Intent
from broker_adapter.order_states import State


class Circumstances(msgspec.Struct, frozen=True, kw_only=True):
    """What besides the read bears on a decision.

    Attributes:
        marks: How to tell whose something is.
        unknown_since_ns: Monotonic time since when each intent (by number) is unknown: nothing we did can reach the
            terminal after it. Of this life of the adapter: a restart begins anew.
        connected_since_ns: Monotonic time since when terminal and broker are connected without a break; None: not now.
        not_executed_after_s: How long both must have lasted.
        wall_ms: Wall clock, UTC.
        watch_ms: How long a late fill is looked for after "not executed".
    """

    marks: Marks
    unknown_since_ns: Mapping[int, int]
    connected_since_ns: int | None
    not_executed_after_s: float
    wall_ms: int
    watch_ms: int


class Decision(msgspec.Struct, frozen=True):
    """What became of one intent. `late`: it was believed not executed; `alert`: a code, if a person must know."""

    before: Intent
    after: Intent
    effect: Effect
    alert: str = ""
    late: bool = False


def reconcile(intents: Sequence[Intent], read: BrokerRead, by: Circumstances) -> tuple[Decision, ...]:
    """Return the decisions that `read` allows, at most one for each intent; none where nothing changes.

    Looks at intents that are unknown, ambiguous, or watched after "not executed"; others are left alone, but what they
    account for is theirs.
    """
    decisions = []
    orders = {intent.order for intent in intents if intent.order}
    claimed: set[int] = {intent.deal for intent in intents if intent.deal}
    by_all = msgspec.structs.replace(by.marks, claimed_orders=_Either(by.marks.claimed_orders, orders))
    for intent in sorted(intents, key=lambda one: one.number):
        if (intent.server, intent.login) != (read.account.server, read.account.login):
            continue
        marks = msgspec.structs.replace(by_all, claimed_deals=_Either(by.marks.claimed_deals, claimed))
        effect = effect_of(intent, read, marks)
        if effect.finding is Finding.DONE:
            claimed.update(effect.deals)
        decision = _decide(intent, effect, read, by)
        if decision is not None:
            decisions.append(decision)
    return tuple(decisions)


class _Either:
    """Membership in one of two containers, without copying either."""

    def __init__(self, one: object, other: set[int]) -> None:
        self._one = one
        self._other = other

    def __contains__(self, item: object) -> bool:
        return item in self._other or item in self._one  # type: ignore[operator]


def _decide(intent: Intent, effect: Effect, read: BrokerRead, by: Circumstances) -> Decision | None:
    if intent.state in {State.UNKNOWN, State.AMBIGUOUS}:
        return _decide_undecided(intent, effect, read, by)
    if intent.state is State.NOT_EXECUTED and intent.watch_until_ms:
        return _decide_watched(intent, effect, by)
    return None


def _decide_undecided(intent: Intent, effect: Effect, read: BrokerRead, by: Circumstances) -> Decision | None:
    long_enough = _long_enough(intent, read, by)
    if effect.finding is Finding.DONE and (effect.settled or long_enough):
        return Decision(intent, done(intent, effect, "found on the account"), effect)
    if effect.finding is Finding.UNFILLED:
        after = intent.moved(
            State.REJECTED, order=effect.order, code="market_refused", text=f"the broker did not fill it: {effect.text}"
        )
        return Decision(intent, after, effect)
    if intent.state is State.AMBIGUOUS:
        return _watch_over(intent, effect, by)
    impossible = effect.finding is Finding.IMPOSSIBLE
    if impossible or (effect.finding is Finding.NOTHING and long_enough):
        return Decision(intent, _not_executed(intent, effect, by), effect)
    if effect.finding is Finding.FITS and long_enough:
        text = f"{effect.text}: it may be this order or somebody else's. Look into the terminal"
        after = intent.moved(
            State.AMBIGUOUS, code="unknown_outcome", text=text, watch_until_ms=by.wall_ms + by.watch_ms
        )
        return Decision(intent, after, effect, alert="order_ambiguous")
    return None


def _decide_watched(intent: Intent, effect: Effect, by: Circumstances) -> Decision | None:
    # A changed value or a fit proves nothing here: others trade on. Only a deal or position that names the order does.
    if intent.action in TRADING and effect.finding is Finding.DONE and effect.proven:
        text = "filled late, after it had been ruled out"
        return Decision(intent, done(intent, effect, text), effect, alert="late_fill", late=True)
    return _watch_over(intent, effect, by)


def _watch_over(intent: Intent, effect: Effect, by: Circumstances) -> Decision | None:
    if by.wall_ms < intent.watch_until_ms:
        return None
    if intent.state is State.AMBIGUOUS:
        text = "no evidence decided it while it was watched: whether it took effect is for a person to say"
        after = intent.moved(State.UNRESOLVED, code="unknown_outcome", text=text, watch_until_ms=0)
        return Decision(intent, after, effect)
    return Decision(intent, msgspec.structs.replace(intent, watch_until_ms=0), effect)


def done(intent: Intent, effect: Effect, text: str) -> Intent:
    """Return the intent as carried out, with what the evidence tells about it."""
    fills = intent.action in TRADING
    return intent.moved(
        State.DONE,
        order=effect.order or intent.order,
        deal=effect.deal or intent.deal,
        position=effect.position or intent.position,
        filled_volume=effect.volume if fills else 0.0,
        fill_price=effect.price if fills else 0.0,
        stops=intent.stops_when_done,
        watch_until_ms=0,
        code="",
        text=text,
    )


def _not_executed(intent: Intent, effect: Effect, by: Circumstances) -> Intent:
    why = effect.text or "no trace of it on the account after an unbroken connection"
    return intent.moved(
        State.NOT_EXECUTED,
        code="state_conflict",
        text=f"not executed: {why}",
        watch_until_ms=by.wall_ms + by.watch_ms,
    )


def _long_enough(intent: Intent, read: BrokerRead, by: Circumstances) -> bool:
    unknown_since = by.unknown_since_ns.get(intent.number)
    if unknown_since is None or by.connected_since_ns is None or not read.connected:
        return False
    if read.history_from_ms > intent.created_ms - CLOCK_SLACK_MS:  # history must reach back before the order
        return False
    since = max(unknown_since, by.connected_since_ns)
    return read.started_ns - since >= round(by.not_executed_after_s * 1e9)
