"""Decisions about unknown orders: which evidence decides what, and that deciding twice changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_adapter.account_records import Records
from broker_adapter.broker_state import BrokerRead
from broker_adapter.evidence import Finding, Marks, effect_of
from broker_adapter.intents import Intent
from broker_adapter.order_states import State, may_follow
from broker_adapter.reconcile import Circumstances, Decision, reconcile
from broker_adapter.witnesses import KnownTickets, make_comment, make_magic
from market.orders import ACTIONS
from protocol.messages import Account, Deal, Order, Position

TAG = 77
CREATED_MS = 1_760_000_000_000
SECOND = 1_000_000_000
ACCOUNT = Account("Broker", 1, "n", "USD", 100, 0, 2, 0, 0, 0, 0, 0, 0, 0, True, True)
MARKS = Marks(tag=TAG)


def intent(number: int = 1, action: str = "open", **changes: object) -> Intent:
    side = "sell" if action in {"close", "close_by"} else "buy"
    it = Intent(
        number=number,
        client_order_id=f"id-{number}",
        fingerprint="",
        server="Broker",
        login=1,
        strategy="s",
        action=action,
        state=State.UNKNOWN,
        symbol="EURUSD",
        created_ms=CREATED_MS,
        side=side,
        volume=0.2,
        magic=make_magic(TAG, 1, number),
        comment=make_comment(number, ""),
        known=KnownTickets((500,), (), 1000),
        position=500 if action in {"close", "close_by", "modify_position"} else 0,
        ticket=500 if action in {"close", "close_by", "modify_position"} else 0,
        order=700 if action in {"cancel", "modify_order"} else 0,
    )
    return msgspec.structs.replace(it, **changes)


def deal(of: Intent | None = None, **changes: object) -> Deal:
    closes = of is not None and of.action == "close"
    made = Deal(
        ticket=1100,
        order=1099,
        position_id=500 if closes else 1099,
        symbol="EURUSD",
        type=1 if closes else 0,
        entry=1 if closes else 0,
        reason=3,
        volume=0.2,
        price=1.1,
        profit=0.0,
        commission=0.0,
        swap=0.0,
        fee=0.0,
        magic=0 if of is None else of.magic,
        comment="" if of is None else of.comment,
        time_ms=CREATED_MS + 5,
    )
    return msgspec.structs.replace(made, **changes)


def position(identifier: int = 1099, **changes: object) -> Position:
    made = Position(identifier, identifier, "EURUSD", 0, 0.2, 1.1, 0.0, 0.0, 1.1, 0.0, 0.0, 0, "", 3, 1, 1)
    return msgspec.structs.replace(made, **changes)


def order(ticket: int, state: int, **changes: object) -> Order:
    made = Order(ticket, "EURUSD", 0, state, 0.2, 0.2, 1.1, 0.0, 0.0, 0.0, 0, 0, 0, 0, 0, "", 3, 1, 2, 0)
    return msgspec.structs.replace(made, **changes)


def read(
    *, at_s: float = 1000.0, history_orders: Iterable[Order] = (), deals: Iterable[Deal] = (), **changes: object
) -> BrokerRead:
    ns = round(at_s * SECOND)
    made = BrokerRead(
        account=ACCOUNT,
        positions=(),
        orders=(),
        history_orders=Records(history_orders),
        deals=Records(deals),
        history_from_ms=CREATED_MS - 86_400_000,
        connected=True,
        started_ns=ns,
        finished_ns=ns,
        market_ms=CREATED_MS + 1000,
    )
    return msgspec.structs.replace(made, **changes)


def circumstances(*, unknown_s: float = 0.0, connected_s: float | None = 0.0, **changes: object) -> Circumstances:
    made = Circumstances(
        marks=MARKS,
        unknown_since_ns=dict.fromkeys(range(100), round(unknown_s * SECOND)),
        connected_since_ns=None if connected_s is None else round(connected_s * SECOND),
        not_executed_after_s=120.0,
        wall_ms=CREATED_MS,
        watch_ms=7 * 86_400_000,
    )
    return msgspec.structs.replace(made, **changes)


def decide(one: Intent, seen: BrokerRead, by: Circumstances | None = None) -> str:
    decisions = reconcile([one], seen, by or circumstances())
    return decisions[0].after.state.value if decisions else "undecided"


OPEN = intent()
CLOSE = intent(action="close")
LIMIT = intent(action="pending", price=1.1)
LONGER = intent(action="modify_order", price=1.1, expiration_ms=CREATED_MS + 3_600_000)


@pytest.mark.parametrize(
    ("one", "seen", "outcome"),
    [
        (OPEN, {"deals": (deal(OPEN),), "positions": (position(),)}, "done"),
        (OPEN, {"deals": (deal(OPEN, comment="x"),), "positions": (position(),)}, "done"),
        (OPEN, {"deals": (deal(OPEN, magic=0),), "positions": (position(),)}, "done"),
        (OPEN, {"deals": (deal(OPEN, comment=f"broker:{OPEN.comment[:10]}", magic=9),)}, "done"),
        (OPEN, {"deals": (deal(OPEN, magic=0, comment=""),)}, "ambiguous"),
        (OPEN, {"positions": (position(magic=OPEN.magic),)}, "done"),
        (OPEN, {"positions": (position(),)}, "ambiguous"),
        (OPEN, {"positions": (position(500, magic=0),)}, "not_executed"),  # known before
        (OPEN, {"deals": (deal(OPEN, magic=0, comment="", reason=0),)}, "not_executed"),  # by hand
        (OPEN, {"deals": (deal(OPEN, magic=0, comment="", ticket=999),)}, "not_executed"),  # known before
        (OPEN, {"deals": (deal(OPEN, magic=0, comment="", type=1),)}, "not_executed"),  # another side
        (OPEN, {"deals": (deal(OPEN, magic=0, comment="", volume=0.3),)}, "not_executed"),  # too much
        (OPEN, {"deals": (deal(OPEN, magic=make_magic(TAG, 1, 2), comment=""),)}, "not_executed"),  # another's
        (OPEN, {"history_orders": (order(900, 5, magic=OPEN.magic),)}, "rejected"),
        (OPEN, {"history_orders": (order(900, 2, magic=OPEN.magic),)}, "rejected"),
        (OPEN, {"history_orders": (order(900, 4, magic=OPEN.magic),)}, "ambiguous"),  # filled, yet no deal
        (OPEN, {"orders": (order(900, 1, magic=OPEN.magic),)}, "undecided"),  # at work
        (OPEN, {"history_orders": (order(900, 4, time_setup_ms=CREATED_MS),)}, "ambiguous"),  # unmarked, filled
        (OPEN, {"history_orders": (order(900, 5, time_setup_ms=CREATED_MS),)}, "not_executed"),  # unmarked, refused
        (LIMIT, {"orders": (order(900, 1, type=2, time_setup_ms=CREATED_MS),)}, "ambiguous"),  # unmarked, waiting
        (LIMIT, {"orders": (order(900, 1, type=2, time_setup_ms=CREATED_MS - 70_000),)}, "not_executed"),  # older
        (LIMIT, {"orders": (order(900, 1, type=2, time_setup_ms=CREATED_MS, price_open=1.2),)}, "not_executed"),
        (LIMIT, {"orders": (order(900, 1, type=3, time_setup_ms=CREATED_MS),)}, "not_executed"),  # another side
        (LIMIT, {"orders": (order(900, 1, type=2, time_setup_ms=CREATED_MS, reason=0),)}, "not_executed"),  # by hand
        (intent(action="pending"), {"orders": (order(900, 1, magic=OPEN.magic),)}, "done"),
        (intent(action="pending"), {"history_orders": (order(900, 6, magic=OPEN.magic),)}, "done"),
        (intent(action="pending"), {"history_orders": (order(900, 5, magic=OPEN.magic),)}, "rejected"),
        (CLOSE, {"deals": (deal(CLOSE),)}, "done"),
        (CLOSE, {"deals": (deal(CLOSE, magic=0, comment="[so]"),)}, "done"),  # by position and volume
        (CLOSE, {"deals": (deal(CLOSE, magic=0, comment="", reason=4),)}, "not_executed"),  # its SL
        (CLOSE, {"deals": (deal(CLOSE, magic=0, comment="", volume=0.1),)}, "not_executed"),
        (CLOSE, {"deals": (deal(CLOSE, magic=0, comment="", position_id=501),)}, "not_executed"),
        (CLOSE, {"deals": (deal(CLOSE, magic=0, comment="", ticket=999),)}, "not_executed"),
        (intent(action="modify_position", sl=1.0, tp=1.2), {"positions": (position(500, sl=1.0, tp=1.2),)}, "done"),
        (intent(action="modify_position", sl=1.0), {"positions": (position(500, sl=1.01),)}, "not_executed"),
        (intent(action="modify_position", sl=1.0), {"deals": (deal(CLOSE),)}, "not_executed"),
        (intent(action="cancel"), {"history_orders": (order(700, 2),)}, "done"),
        (intent(action="cancel"), {"history_orders": (order(700, 4),)}, "not_executed"),
        (intent(action="modify_order", price=1.1), {"orders": (order(700, 1),)}, "done"),
        (intent(action="modify_order", price=1.2), {"orders": (order(700, 1),)}, "not_executed"),
        (LONGER, {"orders": (order(700, 1),)}, "not_executed"),
        (LONGER, {"orders": (order(700, 1, time_expiration_ms=CREATED_MS + 3_600_000),)}, "done"),
        (LONGER, {"orders": (order(700, 1, time_expiration_ms=CREATED_MS + 3_590_000),)}, "done"),
        (OPEN, {}, "not_executed"),
    ],
)
def test_what_decides_what(one: Intent, seen: dict[str, Any], outcome: str) -> None:
    assert decide(one, read(**seen)) == outcome


@pytest.mark.parametrize(
    ("seen", "by"),
    [
        (read(at_s=119.9), circumstances()),
        (read(at_s=1000), circumstances(unknown_s=881)),
        (read(at_s=1000), circumstances(connected_s=881)),
        (read(at_s=1000), circumstances(connected_s=None)),
        (read(at_s=1000, connected=False), circumstances()),
        (read(at_s=1000, history_from_ms=CREATED_MS - 1000), circumstances()),
        (read(at_s=1000, account=msgspec.structs.replace(ACCOUNT, login=2)), circumstances()),
        (read(at_s=1000, account=msgspec.structs.replace(ACCOUNT, server="Other")), circumstances()),
        (read(at_s=1000), circumstances(unknown_since_ns={})),
    ],
)
def test_not_executed_needs_every_condition(seen: BrokerRead, by: Circumstances) -> None:
    assert decide(OPEN, seen, by) == "undecided"


def test_evidence_needs_no_waiting() -> None:
    seen = read(at_s=1, connected=False, deals=(deal(OPEN),), positions=(position(),))
    assert decide(OPEN, seen, circumstances(connected_s=None)) == "done"


def test_a_partial_fill_is_not_final_while_more_may_come() -> None:
    part = deal(OPEN, volume=0.1)
    early = read(at_s=1, deals=(part,), positions=(position(),))
    assert decide(OPEN, early) == "undecided"
    ended = msgspec.structs.replace(early, history_orders=Records((order(1099, 4, magic=OPEN.magic),)))
    decision = reconcile([OPEN], ended, circumstances())[0]
    assert (decision.after.state, decision.after.filled_volume) == (State.DONE, 0.1)


def test_several_fills_of_one_order_are_added_up() -> None:
    fills = (deal(OPEN, volume=0.05, price=1.0), deal(OPEN, ticket=1101, volume=0.15, price=1.2))
    decision = reconcile([OPEN], read(deals=fills, positions=(position(),)), circumstances())[0]
    assert decision.after.filled_volume == 0.2
    assert decision.after.fill_price == pytest.approx(1.15)


def test_one_unmarked_deal_decides_only_one_of_two_equal_closes() -> None:
    both = [intent(1, "close"), intent(2, "close")]
    seen = read(deals=(deal(CLOSE, magic=0, comment=""),))
    states = [d.after.state for d in reconcile(both, seen, circumstances())]
    assert states == [State.DONE, State.NOT_EXECUTED]


def test_a_deal_that_another_order_accounts_for_decides_nothing() -> None:
    owner = intent(1, "close", state=State.DONE, order=1099, deal=1100)
    seen = read(deals=(deal(CLOSE, magic=0, comment=""),))
    decisions = reconcile([owner, intent(2, "close")], seen, circumstances())
    assert [(d.before.number, d.after.state) for d in decisions] == [(2, State.NOT_EXECUTED)]


def test_with_a_fixed_magic_symbol_side_and_volume_are_proof() -> None:
    fixed = intent(magic=4711, comment="mb00000001")
    marks = Marks(tag=TAG, fixed_magic=4711)
    by = circumstances(marks=marks)
    seen = read(at_s=1, deals=(deal(None, magic=4711, comment="changed"),), positions=(position(magic=4711),))
    assert decide(fixed, seen, by) == "done"
    other = msgspec.structs.replace(
        seen, deals=Records((deal(None, magic=4711, comment=make_comment(9, "")),)), positions=()
    )
    assert decide(fixed, other, by) == "undecided"
    known = msgspec.structs.replace(seen, deals=Records((deal(None, magic=4711, ticket=999),)), positions=())
    assert effect_of(fixed, known, marks).finding is Finding.NOTHING


def test_what_was_ruled_out_is_watched_and_then_let_go() -> None:
    by = circumstances()
    ruled_out = reconcile([OPEN], read(), by)[0].after
    assert ruled_out.state is State.NOT_EXECUTED
    assert ruled_out.live
    assert reconcile([ruled_out], read(), by) == ()
    late = reconcile([ruled_out], read(deals=(deal(OPEN),), positions=(position(),)), by)[0]
    assert (late.after.state, late.late, late.alert) == (State.DONE, True, "late_fill")
    fits = read(deals=(deal(OPEN, magic=0, comment=""),))
    assert reconcile([ruled_out], fits, by) == ()  # no proof, no alarm
    over = circumstances(wall_ms=CREATED_MS + 8 * 86_400_000)
    let_go = reconcile([ruled_out], read(), over)[0].after
    assert let_go.state is State.NOT_EXECUTED
    assert not let_go.live


def test_an_unmarked_close_of_the_same_size_is_no_late_fill() -> None:
    ruled_out = reconcile([CLOSE], read(), circumstances())[0].after
    assert reconcile([ruled_out], read(deals=(deal(CLOSE, magic=0, comment=""),)), circumstances()) == ()


WATCHED_MS = CREATED_MS + 1000
numbers = st.integers(1, 4)
intents = st.builds(
    lambda number, action, state, volume, sl, netting, watched_ms: intent(
        number,
        action,
        state=state,
        volume=volume,
        sl=sl,
        netting=netting,
        position_by=501 if action == "close_by" else 0,
        watch_until_ms=0 if state in {State.UNKNOWN, State.DONE} else watched_ms,
    ),
    numbers,
    st.sampled_from(ACTIONS),
    st.sampled_from([State.UNKNOWN, State.UNKNOWN, State.AMBIGUOUS, State.NOT_EXECUTED, State.DONE]),
    st.sampled_from([0.1, 0.2]),
    st.sampled_from([0.0, 1.0]),
    st.booleans(),
    st.sampled_from([WATCHED_MS, CREATED_MS - 1]),
)
magics = st.one_of(st.just(0), numbers.map(lambda number: make_magic(TAG, 1, number)), st.just(12345))
comments = st.one_of(st.just(""), numbers.map(lambda number: make_comment(number, "x")))
deals = st.builds(
    lambda ticket, position_id, side, entry, reason, volume, magic, comment: deal(
        None,
        ticket=ticket,
        order=ticket - 1,
        position_id=position_id,
        type=side,
        entry=entry,
        reason=reason,
        volume=volume,
        magic=magic,
        comment=comment,
    ),
    st.integers(990, 1010),
    st.sampled_from([500, 501, 1099]),
    st.integers(0, 2),
    st.integers(0, 3),
    st.sampled_from([0, 3, 4]),
    st.sampled_from([0.1, 0.2]),
    magics,
    comments,
)
positions = st.builds(
    lambda identifier, side, sl, magic, comment: position(identifier, type=side, sl=sl, magic=magic, comment=comment),
    st.sampled_from([500, 501, 1099]),
    st.integers(0, 1),
    st.sampled_from([0.0, 1.0]),
    magics,
    comments,
)
orders = st.builds(
    lambda ticket, state, side, current, magic, comment: order(
        ticket, state, type=side, volume_current=current, magic=magic, comment=comment
    ),
    st.sampled_from([700, 701, 999, 1009]),
    st.integers(0, 6),
    st.integers(0, 3),
    st.sampled_from([0.0, 0.1, 0.2]),
    magics,
    comments,
)
reads = st.builds(
    lambda ps, os, hs, ds, connected, at_s: read(
        at_s=at_s, positions=tuple(ps), orders=tuple(os), history_orders=tuple(hs), deals=tuple(ds), connected=connected
    ),
    st.lists(positions, max_size=3),
    st.lists(orders, max_size=3),
    st.lists(orders, max_size=3),
    st.lists(deals, max_size=4),
    st.booleans(),
    st.sampled_from([1.0, 1000.0]),
)


def applied(all_of_them: list[Intent], decisions: tuple[Decision, ...]) -> list[Intent]:
    after = {decision.before.number: decision.after for decision in decisions}
    return [after.get(one.number, one) for one in all_of_them]


@given(st.lists(intents, max_size=4, unique_by=lambda one: one.number), reads)
def test_deciding_twice_changes_nothing(ones: list[Intent], seen: BrokerRead) -> None:
    by = circumstances()
    first = reconcile(ones, seen, by)
    assert reconcile(ones, seen, by) == first
    after = applied(ones, first)
    assert reconcile(after, seen, by) == ()
    # Nor does a later look at the same, but for what was found late and for watches that end.
    later = reconcile(after, seen, circumstances(wall_ms=CREATED_MS + 30 * 86_400_000))
    assert {decision.after.state for decision in later} <= {State.UNRESOLVED, State.NOT_EXECUTED}
    assert not any(decision.after.live for decision in later)


@given(st.lists(intents, max_size=4, unique_by=lambda one: one.number), reads)
def test_nothing_is_ruled_out_early_or_against_evidence(ones: list[Intent], seen: BrokerRead) -> None:
    for decision in reconcile(ones, seen, circumstances()):
        after = decision.after
        assert may_follow(decision.before.state, after.state) or decision.before.state is after.state
        if after.state is not State.NOT_EXECUTED or decision.before.state is not State.UNKNOWN:
            assert after.state is not State.NOT_EXECUTED or decision.before.state is State.NOT_EXECUTED
        elif decision.effect.finding is not Finding.IMPOSSIBLE:
            assert seen.connected
            assert seen.started_ns >= 120 * SECOND
        if after.state in {State.NOT_EXECUTED, State.REJECTED} and after.opens:
            assert not [d for d in seen.deals if d.magic == after.magic and d.entry in {0, 2} and d.type == 0]
