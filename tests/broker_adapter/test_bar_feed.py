"""Bars from ticks, and their check against the terminal's own: the terminal is a table here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from broker_adapter.api_types import ApiSymbol
from broker_adapter.bar_feed import CHECK_INTERVAL_S, BarFeed, bars_from, rates_from
from broker_adapter.conversion import instrument_from
from broker_adapter.link_messages import Call, LinkRole
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


class Terminal:
    """Stands for the connection: answers `copy_rates_range` from a list of bars."""

    def __init__(self) -> None:
        self.bars: list[Bar] = []
        self.asked: list[tuple[Any, ...]] = []

    def attached(self, _role: LinkRole) -> bool:
        return True

    def call(
        self, _role: LinkRole, command: Call, on_result: Callable[[LinkResult], None], *, deadline_s: float
    ) -> None:
        self.asked.append(command.args)
        _, _, first_s, last_s = command.args
        inside = [bar for bar in self.bars if first_s <= bar.open_time_ms // 1000 <= last_s]
        on_result(LinkResult("ok", value=msgspec.msgpack.encode(rates_from(inside))))


class Rig:
    def __init__(self, folder: Path, *, whole_start: bool = True) -> None:
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
            whole_start=whole_start,
        )

    def ticks(self, *ticks: tuple[int, float]) -> None:
        records = np.zeros(len(ticks), TICK_DTYPE)
        records["time_msc"] = [START + at for at, _ in ticks]
        records["bid"] = [bid for _, bid in ticks]
        records["ask"] = records["bid"] + 0.0001
        self.feed.on_ticks("EURUSD", records.tobytes())

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


def test_a_partial_first_bar_comes_only_from_the_terminal(tmp_path: Path) -> None:
    rig = Rig(tmp_path, whole_start=False)
    try:
        rig.ticks((30_000, 1.1), (MINUTE, 1.3))
        assert rig.published == []
        theirs = Bar(START, 1.0, 1.2, 1.0, 1.1, 50, 9)
        rig.terminal.bars = [theirs]
        rig.check()
        assert rig.published == [("M1", 1, theirs)]
        rig.ticks((MINUTE + 5000, 1.4))
        assert [(name, revision) for name, revision, _ in rig.published[1:]] == [("S5", 0)]
    finally:
        rig.loop.close()


def test_records_and_bars_are_the_same() -> None:
    bars = [Bar(START, 1.0, 1.2, 1.0, 1.1, 50, 9, 3), Bar(START + MINUTE, 1.1, 1.1, 1.1, 1.1, 1, -2)]
    assert bars_from(rates_array(rates_from(bars))) == bars
    assert rates_from([]) == b""
