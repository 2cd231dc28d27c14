"""Bars from ticks, and their check against the terminal's own: the terminal is a table here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from broker_adapter.api_types import ApiSymbol
from broker_adapter.bar_feed import CHECK_INTERVAL_S, MISSING_TRIES, BarFeed
from broker_adapter.bar_reader import bars_from, rates_from
from broker_adapter.conversion import instrument_from
from broker_adapter.link_messages import Call, LinkRole, ReadTicks, TickPage
from broker_adapter.link_results import LinkResult
from broker_adapter.server_clock import ServerClock
from market.bars import Bar
from mt5bus.settings import Adapter
from protocol.clock import ManualClock
from protocol.loop import Loop
from protocol.ticks import TICK_DTYPE, rates_array
from tests.broker_adapter.fake_api import SymbolInfo, filled

MINUTE = 60_000
START = 1_700_000_040_000  # a whole minute


def records_of(ticks: Iterable[tuple[int, float]]) -> bytes:
    """Return tick records from (milliseconds after START, bid)."""
    pairs = list(ticks)
    records = np.zeros(len(pairs), TICK_DTYPE)
    records["time_msc"] = [START + at for at, _ in pairs]
    records["bid"] = [bid for _, bid in pairs]
    records["ask"] = records["bid"] + 0.0001
    return records.tobytes()


class Terminal:
    """Stands for the connection: answers from a list of bars and one of ticks, at once or when told."""

    def __init__(self) -> None:
        self.bars: list[Bar] = []
        self.history: list[tuple[int, float]] = []
        self.asked: list[tuple[Any, ...]] = []
        self.is_attached = True
        self.page_ticks = 1000
        self.waiting: list[Callable[[], None]] | None = None

    def attached(self, _role: LinkRole) -> bool:
        return self.is_attached

    def call(
        self, _role: LinkRole, command: Call | ReadTicks, on_result: Callable[[LinkResult], None], *, deadline_s: float
    ) -> None:
        def answer() -> None:
            value = self._ticks(command) if isinstance(command, ReadTicks) else self._rates(command)
            on_result(LinkResult("ok", value=msgspec.msgpack.encode(value)))

        if self.waiting is None:
            answer()
        else:
            self.waiting.append(answer)

    def _rates(self, command: Call) -> bytes:
        self.asked.append(command.args)
        _, _, first_s, last_s = command.args
        return rates_from([bar for bar in self.bars if first_s <= bar.open_time_ms // 1000 <= last_s])

    def _ticks(self, command: ReadTicks) -> TickPage:
        self.asked.append((command.symbol, command.from_msc - START, command.to_msc - START, command.skip))
        inside = [each for each in self.history if command.from_msc <= START + each[0] <= command.to_msc]
        left = inside[command.skip :]
        page = left[: self.page_ticks]
        more = len(left) > len(page)
        last = page[-1][0] if page else 0
        taken = sum(at == last for at, _ in inside[: command.skip + len(page)])
        return TickPage(records_of(page), more, START + last, taken)


class Rig:
    def __init__(self, folder: Path, *, whole: bool = True) -> None:
        self.clock = ManualClock()
        self.loop = Loop(self.clock)
        self.terminal = Terminal()
        self.published: list[tuple[str, int, Bar]] = []
        symbol = filled(SymbolInfo, ApiSymbol, name="EURUSD", point=0.00001, digits=5)
        instrument = instrument_from(ApiSymbol(*symbol), symbol="EURUSD")
        self.feed = BarFeed(
            self.loop,
            self.terminal,  # type: ignore[arg-type]
            ServerClock(self.clock, setting="utc", feed=False, symbols=1, folder=folder),
            Adapter(timeframes=("S5", "M1")),
            instrument=lambda _symbol: instrument,
            publish=lambda _symbol, name, revision, bar: self.published.append((name, revision, bar)),
        )
        self.feed.begin("EURUSD", whole=whole)

    def ticks(self, *ticks: tuple[int, float]) -> None:
        """Let the terminal show ticks, in its history too."""
        self.terminal.history += ticks
        self.feed.on_ticks("EURUSD", records_of(ticks))

    def check(self) -> None:
        self.clock.advance(CHECK_INTERVAL_S)
        self.loop.turn(0)

    def of(self, name: str) -> list[tuple[int, Bar]]:
        return [(revision, bar) for timeframe, revision, bar in self.published if timeframe == name]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.loop.close()


def test_a_bar_is_published_when_the_next_periods_first_tick_arrives(rig: Rig) -> None:
    rig.ticks((0, 1.1), (30_000, 1.2), (59_999, 1.15))
    assert rig.of("M1") == []
    rig.ticks((MINUTE, 1.3))
    assert rig.of("M1") == [(0, Bar(START, 1.1, 1.2, 1.1, 1.15, 3, 10))]
    assert len(rig.of("S5")) == 3


def test_an_equal_bar_of_the_terminal_changes_nothing(rig: Rig) -> None:
    rig.ticks((0, 1.1), (MINUTE, 1.3))
    rig.terminal.bars = [rig.of("M1")[0][1]]
    rig.check()
    assert rig.terminal.asked == [("EURUSD", 1, START // 1000, START // 1000)]
    assert len(rig.of("M1")) == 1
    assert rig.feed.revisions == 0


def test_a_different_bar_of_the_terminal_wins(rig: Rig) -> None:
    rig.ticks((0, 1.1), (MINUTE, 1.3))
    theirs = Bar(START, 1.1, 1.25, 1.05, 1.1, 9, 8)
    rig.terminal.bars = [theirs]
    rig.check()
    assert rig.of("M1")[-1] == (1, theirs)


def test_a_bar_the_terminal_does_not_have_yet_is_asked_for_again(rig: Rig) -> None:
    rig.ticks((0, 1.1), (MINUTE, 1.3))
    rig.check()
    assert rig.feed.revisions == 0
    rig.terminal.bars = [Bar(START, 1.1, 1.25, 1.05, 1.1, 9, 8)]
    rig.check()
    assert rig.feed.revisions == 1
    rig.check()
    assert len(rig.terminal.asked) == 2


@pytest.fixture
def late(tmp_path: Path) -> Iterator[Rig]:
    """A feed that is joined while bars are forming."""
    made = Rig(tmp_path, whole=False)
    yield made
    made.loop.close()


def test_a_bar_that_was_forming_at_the_start_is_published_whole_from_the_tick_history(late: Rig) -> None:
    late.terminal.history = [(-1, 9.0), (0, 1.0), (1000, 1.3), (1000, 1.2)]
    late.ticks((2000, 1.1), (4999, 1.15))
    assert late.published == []
    late.ticks((5000, 1.4))
    assert late.of("S5") == [(0, Bar(START, 1.0, 1.3, 1.0, 1.15, 5, 10))]
    late.ticks((10_000, 1.5))
    assert [bar.open_time_ms for _, bar in late.of("S5")] == [START, START + 5000]
    assert late.feed.completed == 1


def test_the_history_is_read_in_pages(late: Rig) -> None:
    late.terminal.page_ticks = 2
    late.terminal.history = [(0, 1.0), (1, 1.2), (1, 1.3), (1, 0.9), (2, 1.1)]
    late.ticks((3, 1.1), (5000, 1.4))
    assert late.of("S5") == [(0, Bar(START, 1.0, 1.3, 0.9, 1.1, 6, 10))]


def test_a_forming_bar_of_the_terminals_own_timeframe_comes_from_its_bars(late: Rig) -> None:
    theirs = Bar(START, 1.0, 1.2, 1.0, 1.1, 50, 9)
    late.ticks((30_000, 1.1), (MINUTE, 1.3))
    assert late.of("M1") == []
    late.terminal.bars = [theirs]
    late.check()
    assert late.of("M1") == [(1, theirs)]


def test_bars_wait_for_the_one_that_is_being_completed(late: Rig) -> None:
    late.terminal.waiting = []
    late.ticks((2000, 1.1), (5000, 1.2), (10_000, 1.3), (15_000, 1.4))
    assert late.published == []
    late.terminal.waiting.pop(0)()
    assert [(bar.open_time_ms - START) for _, bar in late.of("S5")] == [0, 5000, 10_000]


def test_a_history_that_lags_behind_is_asked_again(late: Rig) -> None:
    late.feed.on_ticks("EURUSD", records_of([(2000, 1.1), (3000, 1.2), (5000, 1.2)]))
    late.terminal.history = [(0, 1.0), (2000, 1.1)]
    late.check()
    assert late.of("S5") == []
    late.terminal.history += [(3000, 1.2), (3500, 1.25), (5000, 1.2)]
    late.check()
    assert late.of("S5") == [(0, Bar(START, 1.0, 1.25, 1.0, 1.25, 4, 10))]


@pytest.mark.parametrize("attached", [True, False])
def test_a_bar_the_terminal_cannot_complete_holds_nobody_up_for_ever(late: Rig, attached: bool) -> None:
    late.terminal.is_attached = attached
    late.feed.on_ticks("EURUSD", records_of([(2000, 1.1), (5000, 1.2), (10_000, 1.3)]))
    for _ in range(MISSING_TRIES):
        assert late.of("S5") == []
        late.check()
    assert [(revision, bar.open_time_ms - START) for revision, bar in late.of("S5")] == [(0, 5000)]
    assert late.feed.missed == 1


def test_a_break_in_the_ticks_is_bridged_from_the_history(rig: Rig) -> None:
    rig.ticks((0, 1.0), (5000, 1.1))
    rig.terminal.history += [(6000, 1.2), (11_000, 1.3), (15_000, 1.4)]
    rig.feed.begin("EURUSD", whole=False)
    rig.ticks((16_000, 1.5), (20_000, 1.6))
    bars = [bar for _, bar in rig.of("S5")]
    assert [(bar.open_time_ms - START, bar.tick_volume, bar.close) for bar in bars] == [
        (0, 1, 1.0),
        (5000, 2, 1.2),
        (10_000, 1, 1.3),
        (15_000, 2, 1.5),
    ]


def test_of_a_long_break_only_the_forming_bar_is_completed(rig: Rig) -> None:
    rig.ticks((0, 1.0))
    rig.feed.begin("EURUSD", whole=False)
    day = 86_400_000
    rig.terminal.history.append((day, 1.2))
    rig.ticks((day + 1000, 1.5), (day + 5000, 1.6))
    assert [(bar.open_time_ms - START, bar.tick_volume) for _, bar in rig.of("S5")] == [(day, 2)]


def test_a_feed_that_begins_anew_begins_with_whole_bars(rig: Rig) -> None:
    rig.ticks((5000, 1.1), (10_000, 1.2))
    rig.feed.begin("EURUSD", whole=True)
    rig.feed.on_ticks("EURUSD", records_of([(2000, 1.1), (5000, 1.2)]))
    assert [bar.open_time_ms - START for _, bar in rig.of("S5")] == [5000, 0]


def test_answers_from_before_a_change_of_the_rule_are_not_published(late: Rig) -> None:
    late.terminal.waiting = []
    late.ticks((2000, 1.1), (5000, 1.2))
    late.feed.rule_changed()
    late.terminal.waiting.pop(0)()
    assert late.published == []


def test_records_and_bars_are_the_same() -> None:
    bars = [Bar(START, 1.0, 1.2, 1.0, 1.1, 50, 9, 3), Bar(START + MINUTE, 1.1, 1.1, 1.1, 1.1, 1, -2)]
    assert bars_from(rates_array(rates_from(bars))) == bars
    assert rates_from([]) == b""


def test_bars_that_wait_for_one_to_be_completed_are_bounded(late: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker_adapter.bar_feed._MOST_HELD", 3)
    late.terminal.waiting = []  # it never answers
    late.ticks(*((2000 + 5000 * number, 1.1) for number in range(5)))
    assert (late.of("S5"), late.feed.missed) == ([], 0)
    late.ticks((27_000, 1.1))
    assert late.feed.missed == 1
    assert [bar.open_time_ms - START for _, bar in late.of("S5")] == [5000, 10_000, 15_000, 20_000]
    late.ticks((32_000, 1.1))
    assert late.of("S5")[-1][1].open_time_ms - START == 25_000


def test_bars_that_wait_for_the_comparison_are_bounded_and_the_dropped_ones_counted(rig: Rig) -> None:
    rig.terminal.is_attached = False
    count = 4096 + 10
    rig.ticks(*((MINUTE * number, 1.1) for number in range(count + 1)))
    assert len(rig.of("M1")) == count
    assert rig.feed.unchecked_dropped == 10
