"""Every tick once: cursors against a tick history that grows in any way, in pages of any size."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from broker_adapter.api_types import ApiTick
from broker_adapter.link_messages import PollTicks, ReadTicks, TickCursor
from broker_adapter.link_ticks import TickReader
from protocol.ticks import TICK_DTYPE
from tests.broker_adapter.fake_api import Tick, filled


class TickHistory:
    """An API with one symbol whose ticks grow."""

    def __init__(self) -> None:
        self.ticks = np.empty(0, TICK_DTYPE)
        self.copies = 0

    def add(self, times_msc: list[int]) -> None:
        fresh = np.zeros(len(times_msc), TICK_DTYPE)
        fresh["time_msc"] = times_msc
        fresh["time"] = fresh["time_msc"] // 1000
        fresh["bid"] = np.arange(len(self.ticks), len(self.ticks) + len(fresh))  # tells one tick from another
        self.ticks = np.concatenate([self.ticks, fresh])

    def symbol_info_tick(self, symbol: str) -> Any:
        if not len(self.ticks):
            return filled(Tick, ApiTick)
        return Tick(*(each.item() for each in self.ticks[-1]))

    def copy_ticks_from(self, symbol: str, from_s: int, count: int, flags: int) -> Any:
        self.copies += 1
        assert from_s >= 1
        return self.ticks[self.ticks["time"] >= from_s][:count].copy()

    def last_error(self) -> tuple[int, str]:
        return (1, "Success")


START = 1_700_000_000_000
GAPS = st.lists(st.sampled_from([0, 0, 0, 1, 7, 400, 1000, 3000]), max_size=60)


@given(st.lists(GAPS, max_size=8), st.integers(1, 20))
def test_no_tick_is_missed_or_repeated(batches: list[list[int]], limit: int) -> None:
    api = TickHistory()
    reader = TickReader(api)
    cursor = TickCursor("X", 1, 0, 0)
    taken: list[float] = []
    time_msc = START
    for gaps in batches:
        times = [time_msc := time_msc + gap for gap in gaps]
        api.add(times)
        for _ in range(len(api.ticks) + 2):
            # Only a sweep is sure to see a repeat of the newest tick.
            found = reader.poll(PollTicks((cursor,), sweep=True, limit=limit)).symbols
            if not found or not found[0].records:
                break
            records = np.frombuffer(found[0].records, TICK_DTYPE)
            assert len(records) <= limit
            taken += records["bid"].tolist()
            cursor = found[0].cursor
    assert taken == list(range(len(api.ticks)))


@given(GAPS, st.integers(1, 20), st.integers(0, 5000), st.integers(0, 8000))
def test_pages_of_history_fit_together(gaps: list[int], limit: int, begin: int, length: int) -> None:
    api = TickHistory()
    time_msc = START
    api.add([time_msc := time_msc + gap for gap in gaps])
    reader = TickReader(api)
    from_msc, to_msc, skip = START + begin, START + begin + length, 0
    inside = api.ticks[(api.ticks["time_msc"] >= from_msc) & (api.ticks["time_msc"] <= to_msc)]
    taken: list[float] = []
    more = True
    while more:
        page = reader.read(ReadTicks("X", from_msc, to_msc, skip, limit))
        records = np.frombuffer(page.records, TICK_DTYPE)
        assert len(records) <= limit
        taken += records["bid"].tolist()
        from_msc, skip, more = page.next_msc, page.next_skip, page.more
    assert taken == inside["bid"].tolist()


def test_a_symbol_without_news_costs_one_look() -> None:
    api = TickHistory()
    api.add([START, START + 1])
    reader = TickReader(api)
    cursor = reader.poll(PollTicks((TickCursor("X", 1, 0, 0),))).symbols[0].cursor
    copies = api.copies
    assert reader.poll(PollTicks((cursor,))).symbols == ()
    assert api.copies == copies


def test_starting_now_takes_the_newest_tick_only() -> None:
    api = TickHistory()
    api.add([START, START, START + 5, START + 5])
    reader = TickReader(api)
    found = reader.poll(PollTicks((TickCursor("X", 0, 0, 0),))).symbols[0]
    assert np.frombuffer(found.records, TICK_DTYPE)["bid"].tolist() == [3.0]
    api.add([START + 5, START + 6])
    again = reader.poll(PollTicks((found.cursor,))).symbols[0]
    assert np.frombuffer(again.records, TICK_DTYPE)["bid"].tolist() == [4.0, 5.0]


def test_a_full_answer_defers_the_other_symbols() -> None:
    api = TickHistory()
    api.add([START + each for each in range(50)])
    reader = TickReader(api)
    cursors = tuple(TickCursor(name, 1, 0, 0) for name in "ABC")
    polled = reader.poll(PollTicks(cursors, limit=30, total=40))
    assert [len(each.records) // 60 for each in polled.symbols] == [30, 10]
    assert all(each.more for each in polled.symbols)
    assert polled.deferred
