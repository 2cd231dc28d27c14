"""The audit finds what it is there to find: each broken promise shows, and a sound run breaks none."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mt5bus.chaos.audit import BrokerDeal, BrokerOrder, BrokerPosition, Decided, Evidence, audit
from protocol.messages import Deal, DealEvent, Event, EventBody, IntentEvent, Order, OrderEvent

MAGIC = 77 << 56 | 1 << 40 | 1


def intent(state: str, **fields: Any) -> IntentEvent:
    done = {"order": 11, "deal": 21, "position": 11, "filled_volume": 0.03} if state == "done" else {}
    return IntentEvent("chaos-a", "chaos", "open", state, "EURUSD", "buy", 0.03, 0.0, 0.0, 0.0, **(done | fields))


def done(action: str, **fields: Any) -> IntentEvent:
    return IntentEvent(f"chaos-{action}", "chaos", action, "done", "EURUSD", "", 0.01, 0.0, 0.0, 0.0, **fields)


DEAL = Deal(21, 11, 11, "EURUSD", 0, 0, 3, 0.03, 1.1, 0.0, 0.0, 0.0, 0.0, MAGIC, "", 1000)
CLOSING = msgspec.structs.replace(DEAL, ticket=22, order=13, type=1, entry=1, volume=0.01, magic=MAGIC + 2)
ORDER = Order(11, "EURUSD", 0, 4, 0.03, 0.0, 1.1, 0.0, 0.0, 0.0, 0, 0, 11, 0, MAGIC, "", 3, 1000, 1000, 0)
PENDING = msgspec.structs.replace(ORDER, ticket=12, state=2, magic=MAGIC + 1)
CLOSE = msgspec.structs.replace(ORDER, ticket=13, magic=MAGIC + 2)
REST: tuple[EventBody, ...] = (
    done("modify_position", position=11),
    done("pending", order=12),
    done("modify_order", order=12),
    done("cancel", order=12),
    OrderEvent(PENDING),
    done("close", order=13, deal=22, position=11, filled_volume=0.01),
    OrderEvent(CLOSE),
    DealEvent(CLOSING),
)


def logged(*bodies: EventBody) -> tuple[Event, ...]:
    return tuple(Event("log", place, 1, 0, 0, "S", 1, body) for place, body in enumerate(bodies, start=1))


def at_broker(deal: Deal) -> BrokerDeal:
    return BrokerDeal(deal.ticket, deal.order, deal.position_id, deal.volume, deal.price, deal.profit)


SOUND_LOG = logged(intent("intended"), intent("done"), OrderEvent(ORDER), DealEvent(DEAL), *REST)
SOUND = Evidence(
    followed=SOUND_LOG,
    resyncs=0,
    ticks=100,
    ticks_given_up=0,
    ticks_unseen=0,
    ticks_wrong=0,
    logged=SOUND_LOG,
    decisions=(Decided("timer beat 100", b"buy", "chaos-a"),),
    dispatched={"chaos": (tuple(range(1, 8)), (), tuple(range(6, len(SOUND_LOG) + 1)))},
    told_refused=frozenset(),
    broker_orders=tuple(
        BrokerOrder(each.ticket, each.state, 3, each.magic, each.position_id, True, 0.0, 0.0)
        for each in (ORDER, PENDING, CLOSE)
    ),
    broker_deals=(at_broker(DEAL), at_broker(CLOSING)),
    broker_positions=(BrokerPosition(11, 0.02, 0.0, 0.0),),
    our_positions=(BrokerPosition(11, 0.02, 0.0, 0.0),),
    stored_deals=(at_broker(DEAL), at_broker(CLOSING)),
    replayed_otherwise="",
    not_settled="",
)


def broken(**changes: Any) -> set[str]:
    return {row.name for row in audit(msgspec.structs.replace(SOUND, **changes)) if row.broken}


def both(*bodies: EventBody) -> dict[str, Any]:
    return {"followed": logged(*bodies), "logged": logged(*bodies)}


def test_a_sound_run_breaks_no_promise() -> None:
    assert broken() == set()
    counts = {row.name: row.value for row in audit(SOUND)}
    assert counts["orders submitted"] == 6
    assert counts["effects at the broker"] == 3


@pytest.mark.parametrize(
    ("promise", "changes"),
    [
        (
            "kinds of order of which none was done: nothing is proven",
            both(*(each.body for each in SOUND_LOG if getattr(each.body, "action", "") != "modify_order")),
        ),
        (
            "effects doubled",
            {"broker_orders": (*SOUND.broker_orders, BrokerOrder(14, 4, 3, MAGIC, 14, False, 0.0, 0.0))},
        ),
        (
            "effects that no order of ours accounts for",
            both(intent("intended"), intent("rejected"), OrderEvent(ORDER), DealEvent(DEAL)),
        ),
        ("orders done without an effect", both(*(e.body for e in SOUND_LOG), intent("done", order=15))),
        (
            "two orders with one effect",
            both(*(e.body for e in SOUND_LOG), msgspec.structs.replace(intent("done"), client_order_id="chaos-b")),
        ),
        ("fills that differ", {"broker_deals": (BrokerDeal(21, 11, 11, 0.02, 1.1, 0.0), at_broker(CLOSING))}),
        ("stops set that the broker does not show", {"broker_positions": (BrokerPosition(11, 0.02, 1.0, 0.0),)}),
        ("orders lost on the way", {"decisions": (Decided("timer beat 200", b"sell", "chaos-c"),)}),
        ("unknown left without an alert", both(*(e.body for e in SOUND_LOG), intent("unknown"))),
        (
            "decisions repeated under another id",
            {"decisions": (*SOUND.decisions, Decided("timer beat 100", b"buy", "chaos-b"))},
        ),
        ("decisions that a replay does not repeat", {"replayed_otherwise": "record 7"}),
        ("events missing or out of order in the log", {"logged": SOUND_LOG[1:], "followed": SOUND_LOG[1:]}),
        ("events missing or out of order at the subscriber", {"followed": SOUND_LOG[:-1]}),
        ("events missing or out of order at the subscriber", {"followed": SOUND_LOG[::-1]}),
        ("events missing or out of order at the subscriber", {"resyncs": 1}),
        ("events missing or out of order at a strategy", {"dispatched": {"chaos": ((*range(1, 6), *range(7, 13)),)}}),
        ("events missing or out of order at a strategy", {"dispatched": {"chaos": ((1, 2, 3), tuple(range(5, 13)))}}),
        ("events missing or out of order at a strategy", {"dispatched": {"chaos": ((1, 2, 2, *range(3, 13)),)}}),
        ("events missing or out of order at a strategy", {"dispatched": {"chaos": ((1, 2),)}}),
        ("events missing or out of order at a strategy", {"dispatched": {"chaos": ()}}),
        ("ticks given up after healing", {"ticks_given_up": 1}),
        ("ticks of the broker that never came", {"ticks_unseen": 1}),
        ("ticks told twice, out of order or wrongly", {"ticks_wrong": 1}),
        ("facts told twice", both(*(e.body for e in SOUND_LOG), DealEvent(DEAL))),
        ("deals not told as events", both(intent("done"), OrderEvent(ORDER))),
        ("final orders not told as events", both(intent("done"), DealEvent(DEAL))),
        ("deals that differ in the store", {"stored_deals": ()}),
        ("deals that differ in the store", {"stored_deals": (BrokerDeal(21, 11, 11, 0.02, 1.1, 0.0),)}),
        ("open positions that differ from ours", {"our_positions": ()}),
        ("did not settle", {"not_settled": "the adapter is away"}),
    ],
)
def test_a_broken_promise_shows(promise: str, changes: dict[str, Any]) -> None:
    assert promise in broken(**changes)
