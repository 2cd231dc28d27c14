"""Polling the account, and sweeping what is older: the terminal is a pair of lists here."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from broker_adapter.api_types import ApiAccount, ApiDeal, ApiOrder, ApiTerminal
from broker_adapter.broker_state import BrokerRead
from broker_adapter.link_messages import AnyCommand, HistoryPage, LinkRole, PollTrade, ReadHistory, TradePolled
from broker_adapter.link_results import LinkResult
from broker_adapter.server_clock import ServerClock
from broker_adapter.slices import SLICE_S
from broker_adapter.trade_poll import TradePoll
from market.server_time import ServerTimeRule
from mt5bus.settings import Adapter
from protocol.clock import ManualClock
from protocol.loop import Loop
from protocol.messages import DealEvent, SubmitOrder
from tests.broker_adapter.fake_api import filled
from tests.broker_adapter.fake_broker import LOGIN, SERVER, World
from tests.held import held

DAY_S = 86_400
NOW_S = 1_760_000_000
PAGE = 4


def plain(kind: Any, **values: Any) -> Any:
    """Return an API struct with plain values where none are given."""
    return kind(*filled(lambda **named: tuple(named.values()), kind, **values))


class Terminal:
    """Stands for the connection: answers from its lists when pumped."""

    def __init__(self) -> None:
        self.deals: dict[int, int] = {}
        self.orders: dict[int, int] = {}
        self.commands: list[AnyCommand] = []
        self.roles: set[LinkRole] = set(LinkRole)
        self.failing = False
        self.login = LOGIN
        self._waiting: deque[Callable[[], None]] = deque()

    def attached(self, role: LinkRole) -> bool:
        return role in self.roles

    def call(
        self, role: LinkRole, command: AnyCommand, on_result: Callable[[LinkResult], None], *, deadline_s: float
    ) -> None:
        assert role is (LinkRole.FEED if isinstance(command, PollTrade) else LinkRole.BULK)
        self.commands.append(command)
        self._waiting.append(lambda: on_result(self._answer(command)))

    def note_terminal(self, _terminal: ApiTerminal) -> None:
        pass

    def note_account(self, _login: int, _server: str) -> bool:
        return True

    def serves(self, login: int, server: str) -> bool:
        return (login, server) == (LOGIN, SERVER)

    def pump(self) -> None:
        while self._waiting:
            self._waiting.popleft()()

    def _answer(self, command: AnyCommand) -> LinkResult:
        if isinstance(command, ReadHistory):
            if self.failing:
                return LinkResult("failed", code=-1, text="Terminal: Internal error")
            wanted = self._deals if command.what == "deals" else self._orders
            found = wanted(command.from_s, command.to_s)
            # Whole seconds of at most a page together, or one second that holds more.
            ends = sorted({of_second(each) for each in found})
            fitting = [end for end in ends if sum(of_second(each) <= end for each in found) <= PAGE]
            through_s = command.to_s if len(found) <= PAGE else max(fitting, default=ends[0])
            page: Any = tuple(each for each in found if of_second(each) <= through_s)
            deals = command.what == "deals"
            answer = HistoryPage(() if deals else page, page if deals else (), through_s, self.login, SERVER)
            return LinkResult("ok", value=msgspec.msgpack.encode(answer))
        assert isinstance(command, PollTrade)
        polled = TradePolled(
            terminal=plain(ApiTerminal, connected=True),
            account=plain(ApiAccount, login=LOGIN, server=SERVER, margin_mode=2, currency="USD"),
            positions=(),
            orders=(),
            history_orders=tuple(self._orders(command.from_s, command.to_s)),
            deals=tuple(self._deals(command.from_s, command.to_s)),
            complete=True,
            more=False,
            serial=1,
            connected_after=True,
        )
        return LinkResult("ok", value=msgspec.msgpack.encode(polled))

    def _deals(self, from_s: int, to_s: int) -> list[ApiDeal]:
        return [
            plain(ApiDeal, ticket=ticket, time=at_s, time_msc=at_s * 1000, position_id=ticket, symbol="EURUSD")
            for ticket, at_s in self.deals.items()
            if from_s <= at_s <= to_s
        ]

    def _orders(self, from_s: int, to_s: int) -> list[ApiOrder]:
        return [
            plain(ApiOrder, ticket=ticket, time_done=at_s, time_done_msc=at_s * 1000, state=4, symbol="EURUSD")
            for ticket, at_s in self.orders.items()
            if from_s <= at_s <= to_s
        ]


def of_second(record: Any) -> int:
    """Return the second by which a record is selected."""
    return int(record.time if isinstance(record, ApiDeal) else record.time_done)


class Rig:
    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(wall_ms=NOW_S * 1000)
        self.loop = Loop(self.clock)
        self.terminal = Terminal()
        self.reads: list[BrokerRead] = []
        self.takes = True
        self.folder = folder
        self.poll = self.new_poll()

    def new_poll(self) -> TradePoll:
        return TradePoll(
            self.loop,
            self.terminal,  # type: ignore[arg-type]
            ServerClock(self.clock, setting="utc", feed=False, symbols=1, folder=self.folder),
            Adapter(),
            canonical=lambda name: name,
            on_read=self._on_read,
        )

    def _on_read(self, read: BrokerRead) -> bool:
        self.reads.append(read)
        return self.takes

    def look(self, seconds: float = 0.25) -> BrokerRead | None:
        """Let time pass and answers arrive; return the last read."""
        self.clock.advance(seconds)
        self.loop.turn(0)
        self.terminal.pump()
        return self.reads[-1] if self.reads else None

    def sweeps(self) -> list[ReadHistory]:
        return [each for each in self.terminal.commands if isinstance(each, ReadHistory)]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.loop.close()


def tickets(read: BrokerRead | None) -> list[int]:
    assert read is not None
    return sorted(deal.ticket for deal in read.deals)


def test_nothing_is_told_before_the_first_sweep_and_then_everything_at_once(rig: Rig) -> None:
    rig.terminal.deals = {1: NOW_S - 6 * DAY_S, 2: NOW_S - 60}
    rig.terminal.roles.discard(LinkRole.BULK)
    assert rig.look() is None
    rig.terminal.roles.add(LinkRole.BULK)
    rig.look()
    assert tickets(rig.reads[0]) == [1, 2]
    assert rig.reads[0].history_from_ms <= (NOW_S - 7 * DAY_S) * 1000


def test_what_was_swept_is_in_reads_until_one_is_taken(rig: Rig) -> None:
    rig.terminal.deals = {1: NOW_S - 6 * DAY_S, 2: NOW_S - 60}
    rig.takes = False
    rig.look()
    assert tickets(rig.look()) == [1, 2]
    rig.takes = True
    assert tickets(rig.look()) == [1, 2]
    read = rig.look()
    assert tickets(read) == [2]
    assert read is not None
    assert read.history_from_ms > (NOW_S - 2 * DAY_S) * 1000


def test_a_long_time_down_is_swept_back_to_what_the_journal_knows(rig: Rig) -> None:
    asked = []

    def recorded_ms(server: str, login: int) -> int:
        asked.append((server, login))
        return (NOW_S - 90 * DAY_S) * 1000

    rig.poll.recorded_ms = recorded_ms
    rig.terminal.deals = {number: NOW_S - 91 * DAY_S + number * DAY_S for number in range(1, 92)}
    rig.terminal.orders = {1000 + number: at_s - 1 for number, at_s in rig.terminal.deals.items()}
    rig.look()
    assert tickets(rig.reads[0]) == list(range(1, 92))
    assert len(rig.reads[0].history_orders) == 91
    assert asked == [(SERVER, LOGIN)]
    assert all(each.to_s - each.from_s < 7 * DAY_S for each in rig.sweeps())


@pytest.mark.parametrize("a_second", [PAGE - 1, PAGE, PAGE + 3])
def test_a_stretch_with_more_than_a_page_is_read_page_by_page(rig: Rig, a_second: int) -> None:
    rig.terminal.deals = {number: NOW_S - 3 * DAY_S + number // a_second for number in range(100)}
    rig.look()
    assert tickets(rig.reads[0]) == list(range(100))
    seconds = -(-100 // a_second)
    assert len([each for each in rig.sweeps() if each.what == "deals"]) <= seconds + 2, "nothing is read twice"


def test_a_sweep_that_fails_is_tried_again(rig: Rig) -> None:
    rig.terminal.deals = {1: NOW_S - 6 * DAY_S}
    rig.terminal.failing = True
    assert rig.look() is None
    rig.terminal.failing = False
    assert rig.look() is None
    rig.look(1.0)
    assert tickets(rig.reads[0]) == [1]


def test_a_sweep_takes_nothing_of_another_account(rig: Rig) -> None:
    rig.terminal.deals = {66: NOW_S - 6 * DAY_S}
    rig.terminal.login = LOGIN + 1
    assert rig.look() is None
    rig.terminal.deals = {1: NOW_S - 6 * DAY_S}
    rig.terminal.login = LOGIN
    rig.look(1.0)
    assert tickets(rig.reads[0]) == [1]


def test_a_history_that_cannot_be_read_does_not_stop_trading_for_ever(rig: Rig) -> None:
    rig.terminal.deals = {1: NOW_S - 6 * DAY_S, 2: NOW_S - 60}
    rig.terminal.failing = True
    rig.look()
    assert tickets(rig.look(120.0)) == [2]
    rig.terminal.failing = False
    for _ in range(3):
        rig.look(1.0)
    assert [1, 2] in [tickets(read) for read in rig.reads], "late, not lost"


def test_each_server_day_a_week_is_swept_for_what_was_booked_late(rig: Rig) -> None:
    rig.look()
    before = len(rig.sweeps())
    rig.terminal.deals = {1: NOW_S - 5 * DAY_S}
    rig.look()
    assert len(rig.sweeps()) == before
    rig.look(DAY_S)
    assert 1 in [ticket for read in rig.reads for ticket in tickets(read)]
    after = len(rig.sweeps())
    rig.look()
    assert len(rig.sweeps()) == after


def test_the_time_of_an_undecided_order_stays_in_every_read(rig: Rig) -> None:
    made_ms = (NOW_S - 20 * DAY_S) * 1000
    rig.poll.undecided_ms = lambda: made_ms
    for _ in range(4):
        read = rig.look()
    assert read is not None
    assert read.history_from_ms < made_ms
    rig.poll.undecided_ms = lambda: 0
    rig.look()
    read = rig.look()
    assert read is not None
    assert read.history_from_ms > made_ms


def test_the_journal_knows_the_last_deal_it_recorded(tmp_path: Path) -> None:
    world = World(tmp_path)
    try:
        assert world.journal.last_recorded_ms(SERVER, LOGIN) == 0
        world.ready()
        world.ask(SubmitOrder(1, "a", "confluence", 0, "EURUSD", "buy", 0.1))
        world.settle()
        last = [event for event in world.published if isinstance(event.body, DealEvent)][-1]
        world.wait(600, every_s=60)
        assert world.journal.last_recorded_ms(SERVER, LOGIN) == last.market_ms
        assert world.journal.last_recorded_ms(SERVER, LOGIN + 1) == 0
    finally:
        world.close()


class Learning:
    """A clock and a catalogue that know better after a while."""

    def __init__(self, rig: Rig) -> None:
        self.clock = ServerClock(rig.clock, setting="utc", feed=False, symbols=1, folder=rig.folder)
        self.names: dict[str, str] | None = None
        self.reads: list[BrokerRead] = []
        self.poll = TradePoll(
            rig.loop,
            rig.terminal,  # type: ignore[arg-type]
            self.clock,
            Adapter(),
            canonical=lambda name: (self.names or {}).get(name, name),
            on_read=self._on_read,
            names=lambda: self.names,
        )

    def _on_read(self, read: BrokerRead) -> bool:
        self.reads.append(read)
        return True


def test_what_is_held_is_converted_anew_when_time_or_names_are_learned(rig: Rig) -> None:
    learning = Learning(rig)
    rig.terminal.deals[1], rig.terminal.deals[2] = NOW_S - 60, NOW_S - 3 * DAY_S
    for _ in range(20):
        rig.look()
    assert not learning.reads  # nothing is told under a name of the broker's own
    learning.names = {"EURUSD": "EU"}
    rig.look()
    assert {(deal.ticket, deal.symbol, deal.time_ms) for deal in learning.reads[0].deals} == {
        (1, "EU", (NOW_S - 60) * 1000),
        (2, "EU", (NOW_S - 3 * DAY_S) * 1000),
    }
    learning.clock.rule = ServerTimeRule.parse("fixed:+120")
    rig.look()
    assert [deal.time_ms for deal in learning.reads[-1].deals if deal.ticket == 1] == [(NOW_S - 7260) * 1000]


class TakesTime(dict[str, str]):
    """Names whose look-up takes its time."""

    def __init__(self, rig: Rig) -> None:
        super().__init__(EURUSD="EU")
        self._clock = rig.clock

    def get(self, name: str, default: Any = None) -> Any:
        self._clock.advance(SLICE_S / 4)
        return super().get(name, default)


@pytest.mark.parametrize("rule", ["", "fixed:+120"])
def test_much_that_was_swept_is_converted_in_slices_under_one_rule(rig: Rig, rule: str) -> None:
    """Other work goes on between; what is learned meanwhile holds for all of it."""
    learning = Learning(rig)
    learning.names = TakesTime(rig)
    rig.terminal.deals = {ticket: NOW_S - 2 * DAY_S - ticket * 5000 for ticket in range(1, 61)}
    converting = 0
    for _ in range(200):
        rig.look(0.0)
        learning.poll.poll_now()  # a look that comes between begins no second sweep
        converting += learning.poll.converting
        if converting == 2 and rule:
            learning.clock.rule = ServerTimeRule.parse(rule)
        if not learning.poll.converting:
            rig.look()
        if learning.reads:
            break
    assert converting >= 5
    behind_s = 7200 if rule else 0
    assert {deal.ticket: deal.time_ms for deal in learning.reads[0].deals} == {
        ticket: (at_s - behind_s) * 1000 for ticket, at_s in rig.terminal.deals.items()
    }
    begun = [each for each in rig.sweeps() if each.what == "orders" and each.from_s == NOW_S - 7 * DAY_S]
    assert len(begun) == 2  # the rig's own, and this one's


def test_symbols_that_are_never_learned_hold_nothing_back_for_ever(rig: Rig) -> None:
    learning = Learning(rig)
    for _ in range(130):
        rig.look(1.0)
    assert learning.reads


@pytest.mark.parametrize("count", [4, 400])
def test_what_was_swept_and_told_is_not_kept(rig: Rig, count: int) -> None:
    before = held(rig.poll, beside=(Loop,))
    rig.terminal.deals = {ticket: NOW_S - 6 * DAY_S + 60 * ticket for ticket in range(1, count + 1)}
    rig.terminal.orders = dict(rig.terminal.deals)
    while not rig.reads or len(list(rig.reads[-1].deals)) < count:
        rig.look()
    rig.look()
    assert list(rig.reads[-1].deals) == []
    assert held(rig.poll, beside=(Loop,)) == before
