"""What reads become: every change once, in order, ours or not, also over a restart and a moment of empty lists."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from broker_adapter.account_records import Records
from broker_adapter.api_types import ApiTradeRequest
from broker_adapter.broker_state import BrokerRead
from broker_adapter.trade_events import Changes, Published, differences
from protocol.messages import Account, Deal, DealEvent, Order, OrderEvent, Position, PositionEvent, SubmitOrder
from tests.broker_adapter.fake_broker import World
from tests.broker_adapter.test_reconcile import reads

ACCOUNT = Account("Broker", 1, "n", "USD", 100, 0, 2, 0, 0, 0, 0, 0, 0, 0, True, True)
SECOND = 1_000_000_000
NOW_MS = 1_760_000_000_000


class Nobody:
    """Attributes nothing."""

    def of(self, *, magic: int, comment: str, order: int, position: int, opening: bool) -> tuple[str, str]:
        return (f"s{magic}", f"o{order}") if magic else ("", "")


def position(identifier: int, volume: float = 0.1, sl: float = 0.0, **changes: object) -> Position:
    made = Position(identifier, identifier, "EURUSD", 0, volume, 1.1, sl, 0.0, 1.1, 0.0, 0.0, 0, "", 0, NOW_MS, NOW_MS)
    return msgspec.structs.replace(made, **changes)


def deal(ticket: int, position_id: int, entry: int = 0, **changes: object) -> Deal:
    side = 0 if entry == 0 else 1  # the positions here are long
    made = Deal(
        ticket, ticket, position_id, "EURUSD", side, entry, 0, 0.1, 1.1, 0.0, 0.0, 0.0, 0.0, 0, "", NOW_MS + ticket
    )
    return msgspec.structs.replace(made, **changes)


def order(ticket: int, state: int = 1, **changes: object) -> Order:
    done_ms = 0 if state == 1 else NOW_MS + ticket
    made = Order(ticket, "EURUSD", 2, state, 0.1, 0.1, 1.1, 0, 0, 0, 2, 0, 0, 0, 0, "", 0, NOW_MS, done_ms, 0)
    return msgspec.structs.replace(made, **changes)


class Follower:
    """Reads one after another."""

    def __init__(self) -> None:
        self.published = Published()
        self.reads = 0

    def read(
        self,
        *positions: Position,
        deals: tuple[Deal, ...] = (),
        orders: tuple[Order, ...] = (),
        final: tuple[Order, ...] = (),
        connected: bool = True,
        at_s: float | None = None,
    ) -> Changes:
        self.reads += 1
        ns = round((self.reads if at_s is None else at_s) * SECOND)
        seen = BrokerRead(
            account=ACCOUNT,
            positions=positions,
            orders=orders,
            history_orders=Records(final),
            deals=Records(deals),
            history_from_ms=0,
            connected=connected,
            started_ns=ns,
            finished_ns=ns,
            market_ms=NOW_MS + self.reads,
        )
        changes = differences(self.published, seen, Nobody(), serial=f"1-{self.reads}")
        self.published = changes.published
        return changes

    def told(self, *positions: Position, **more: object) -> list[str]:
        return [words(one.body) for one in self.read(*positions, **more).events]  # type: ignore[arg-type]


def words(body: object) -> str:
    if isinstance(body, DealEvent):
        return f"deal {body.deal.ticket}"
    if isinstance(body, OrderEvent):
        return f"order {body.order.ticket} {body.order.state}"
    assert isinstance(body, PositionEvent)
    return f"position {body.position.identifier} {body.change}"


def test_a_trade_made_by_hand_is_seen_from_opening_to_stop() -> None:
    follow = Follower()
    assert follow.told() == []
    bought = (deal(1, 1),)
    assert follow.told(position(1), deals=bought, final=(order(1, 4),)) == [
        "order 1 4",
        "deal 1",
        "position 1 opened",
    ]
    assert follow.told(position(1), deals=bought) == []
    assert follow.told(position(1, sl=1.0), deals=bought) == ["position 1 changed"]
    assert follow.told(position(1, price_current=2.0, profit=9.0, swap=-1.0, sl=1.0), deals=bought) == []  # state
    stopped = (*bought, deal(2, 1, 1, reason=4))
    assert follow.told(deals=stopped) == ["deal 2", "position 1 closed"]
    assert follow.told(deals=stopped) == []


def test_deposits_are_deals_too() -> None:
    money = deal(9, 0, type=2, order=0, symbol="", volume=0.0, price=0.0, profit=100.0)
    assert Follower().told(deals=(money,)) == ["deal 9"]


def test_the_same_stop_again_is_another_change() -> None:
    follow = Follower()
    keys = [one.key for sl in (0.0, 1.0, 1.05, 1.0, 1.05) for one in follow.read(position(1, sl=sl)).events]
    assert len(keys) == len(set(keys)) == 5


def test_empty_lists_of_a_terminal_that_just_connected_close_nothing() -> None:
    follow = Follower()
    follow.told(position(1), position(2))
    assert follow.told(at_s=10, connected=False) == []
    assert follow.told(at_s=11) == []
    assert follow.told(position(1), at_s=12) == []
    assert follow.told(position(1), at_s=15.9) == []
    assert follow.told(position(1), at_s=16) == ["position 2 closed"]


def test_a_partial_close_and_an_empty_list_close_nothing() -> None:
    follower = Follower()
    rest = position(1, 0.05, time_update_ms=NOW_MS + 2)
    told = (deal(1, 1), deal(2, 1, entry=1, volume=0.05))
    follower.read(position(1))
    follower.read(rest, deals=told)
    assert not follower.read(deals=told).events
    assert not follower.read(rest, deals=told).events
    assert not follower.read(deals=told[1:]).events  # the opening deal is older than what is read
    closed = follower.read(deals=(*told, deal(3, 1, entry=1, volume=0.05)))
    assert [one.body.change for one in closed.events if isinstance(one.body, PositionEvent)] == ["closed"]


def test_the_close_of_an_old_position_is_told_at_once() -> None:
    follower = Follower()
    follower.read(position(1))
    closed = follower.read(deals=(deal(3, 1, entry=1),))
    assert [one.body.change for one in closed.events if isinstance(one.body, PositionEvent)] == ["closed"]


def test_a_price_that_is_no_number_is_told_once() -> None:
    follower = Follower()
    for count in range(3):
        odd = math.nan * 1.0  # another object each time, as decoding makes them
        changes = follower.read(position(1, sl=odd), orders=(order(5, price_open=odd),))
        assert len(changes.events) == (0 if count else 2)


def test_time_without_a_connection_is_no_absence() -> None:
    follow = Follower()
    follow.told(position(1))
    for second in range(10, 30):
        assert follow.told(at_s=second, connected=False) == []
    assert follow.told(at_s=31) == []
    assert follow.told(at_s=37) == ["position 1 closed"]


def test_a_position_whose_ticket_changes_stays_the_same() -> None:
    follow = Follower()
    follow.told(position(1))
    assert follow.told(position(1, ticket=77)) == ["position 1 changed"]


def test_orders_appear_change_and_end_once() -> None:
    follow = Follower()
    assert follow.told(orders=(order(5),)) == ["order 5 1"]
    assert follow.told(orders=(order(5),)) == []
    assert follow.told(orders=(order(5, price_open=1.2),)) == ["order 5 1"]
    assert follow.told() == []  # between two lists: not final before the history says so
    changes = follow.read(final=(order(5, 2),))
    assert [words(one.body) for one in changes.events] == ["order 5 2"]
    assert changes.orders == ((5, None),)
    assert follow.told(final=(order(5, 2),)) == []
    assert follow.told(orders=(order(5),), final=(order(5, 2),)) == []  # a list that lags behind


def test_deals_come_in_the_order_of_their_time() -> None:
    late = deal(3, 1, time_ms=NOW_MS)
    assert Follower().told(deals=(deal(7, 1), deal(5, 1), late)) == ["deal 3", "deal 5", "deal 7"]


@given(st.lists(st.lists(st.integers(1, 6), unique=True), max_size=8))
def test_positions_alternate_between_opened_and_closed(history: list[list[int]]) -> None:
    follow = Follower()
    opened: set[int] = set()
    for step, identifiers in enumerate(history):
        changes = follow.read(*(position(one) for one in identifiers), at_s=step * 3.0)
        for one in changes.events:
            assert isinstance(one.body, PositionEvent)
            identifier = one.body.position.identifier
            assert (one.body.change == "closed") == (identifier in opened)
            opened ^= {identifier}
        assert opened >= set(identifiers)
        assert dict.fromkeys(opened) == dict.fromkeys(changes.published.positions)


def test_what_happened_while_the_adapter_was_down_is_told_once(tmp_path: Path) -> None:
    world = World(tmp_path).ready()
    world.ask(SubmitOrder(1, "a", "confluence", 0, "EURUSD", "buy", 0.2, sl=1.05))
    world.settle()
    ours = next(iter(world.broker.positions))
    world.crash()
    # Meanwhile: a stop closes ours, and somebody trades by hand.
    world.broker.deal(ApiTradeRequest(1, 0, 0, "EURUSD.m", 0.2, 1.0, type=1, position=ours), reason=4)
    world.broker.deal(ApiTradeRequest(1, 0, 0, "EURUSD.m", 0.3, 1.0, type=0), reason=0)
    world.restart()
    before = len(world.published)
    world.ready()
    assert [words(event.body) for event in world.published[before:]] == [
        "order 1003 4",
        "order 1005 4",
        "deal 1004",
        "deal 1006",
        "position 1005 opened",
        f"position {ours} closed",
    ]
    stop = next(e.body.deal for e in world.published if isinstance(e.body, DealEvent) and e.body.deal.reason == 4)
    assert (stop.strategy, stop.client_order_id) == ("confluence", "")  # its strategy, but no order of it
    world.crash()
    world.restart()
    before = len(world.published)
    world.ready()
    world.wait(10)
    assert world.published[before:] == []
    world.close()


def with_each_ticket_once(seen: BrokerRead) -> BrokerRead:
    return msgspec.structs.replace(
        seen,
        positions=tuple({p.identifier: p for p in seen.positions}.values()),
        orders=tuple({o.ticket: o for o in seen.orders}.values()),
        history_orders=Records(msgspec.structs.replace(o, time_done_ms=NOW_MS) for o in seen.history_orders),
    )


@given(st.lists(reads, min_size=1, max_size=5))
def test_the_same_read_again_tells_nothing(history: list[BrokerRead]) -> None:
    published = Published()
    for number, seen in enumerate(map(with_each_ticket_once, history)):
        published = differences(published, seen, Nobody(), serial=f"1-{number}").published
        again = differences(published, seen, Nobody(), serial=f"2-{number}")
        assert again.events == ()
        assert (again.positions, again.orders) == ((), ())


def test_a_position_reopened_at_the_rollover_changes_and_neither_closes_nor_opens() -> None:
    follow = Follower()
    opened = deal(1, 1, volume=0.3)
    follow.read(position(1, 0.3), deals=(opened,))
    closed = deal(2, 1, entry=1, volume=0.3, order=0, reason=10)
    back = deal(3, 1, volume=0.3, order=0, reason=10)
    between = follow.read(deals=(opened, closed, back))  # the list lags behind the deals
    assert [type(each.body).__name__ for each in between.events] == ["DealEvent", "DealEvent"]
    renewed = position(1, 0.3, ticket=9, price_open=1.2)
    (told,) = follow.read(renewed, deals=(opened, closed, back)).events
    assert told.body == PositionEvent("changed", renewed)


def test_a_reversed_position_changes_and_is_closed_once_all_of_it_is() -> None:
    follow = Follower()
    opened, turned = deal(1, 1, volume=0.3), deal(2, 1, entry=2, volume=0.5, type=1)
    follow.read(position(1, 0.3), deals=(opened,))
    short = position(1, 0.2, ticket=2, type=1)
    told = [each.body for each in follow.read(short, deals=(opened, turned)).events]
    assert told[-1] == PositionEvent("changed", short)
    assert follow.read(deals=(opened, turned)).events == ()  # a terminal that has just connected
    ended = deal(3, 1, entry=1, volume=0.2, type=0)
    told = [each.body for each in follow.read(deals=(opened, turned, ended)).events]
    assert told[-1] == PositionEvent("closed", short)
