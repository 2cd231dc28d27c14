"""Ticks and bars as served: against a plain reckoning of the same ticks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paper_terminal import constants as api
from paper_terminal.history import BadRequest, Growing, SymbolHistory, bar_opens
from paper_terminal.records import TICK_DTYPE, TICK_FLAG_BID, TICK_FLAG_LAST, Records
from paper_terminal.server_time import ServerTimeRule
from tests.paper_terminal.broker import START_MS, ticks

POINT = 1e-5
FRAMES = {name: value for name, value in vars(api).items() if name.startswith("TIMEFRAME_")}

walks = st.lists(st.tuples(st.integers(0, 40_000), st.integers(-30, 30), st.integers(-4, 12)), min_size=1, max_size=200)


def walked(steps: list[tuple[int, int, int]], *, start_ms: int = START_MS) -> Records:
    time_ms, points, rows = start_ms, 110_000, []
    for wait, move, spread in steps:
        time_ms, points = time_ms + wait, points + move
        rows.append((time_ms, points * POINT, (points + spread) * POINT))
    return ticks(*rows)


def history_of(records: Records, rule: str | int = "utc", *, cut: int | None = None) -> SymbolHistory:
    history = SymbolHistory(ServerTimeRule(rule), point=POINT)
    history.append(records[:cut] if cut is not None else records)
    if cut is not None:
        history.append(records[cut:])
    return history


def plain_bars(records: Records, timeframe: int) -> list[tuple[Any, ...]]:
    bars: dict[int, list[Any]] = {}
    for tick in records:
        open_s = int(bar_opens(np.array([tick["time"]]), timeframe)[0])
        bid, spread = float(tick["bid"]), max(0, round((tick["ask"] - tick["bid"]) / POINT))
        bar = bars.setdefault(open_s, [open_s, bid, bid, bid, bid, 0, spread, 0])
        bar[2], bar[3], bar[4] = max(bar[2], bid), min(bar[3], bid), bid
        bar[5], bar[6] = bar[5] + 1, min(bar[6], spread)
    return [tuple(bar) for bar in bars.values()]


@given(walks, st.sampled_from(sorted(FRAMES.values())), st.data())
def test_bars_equal_a_plain_reckoning(steps: list[tuple[int, int, int]], timeframe: int, data: st.DataObject) -> None:
    records = walked(steps)
    history = history_of(records, cut=data.draw(st.integers(0, len(records))))
    assert [bar.item() for bar in history.bars(timeframe)] == plain_bars(records, timeframe)


@pytest.mark.parametrize(
    ("timeframe", "opens"),
    [
        (api.TIMEFRAME_M5, (2026, 2, 25, 13, 35)),
        (api.TIMEFRAME_H4, (2026, 2, 25, 12, 0)),
        (api.TIMEFRAME_D1, (2026, 2, 25, 0, 0)),
        (api.TIMEFRAME_W1, (2026, 2, 22, 0, 0)),
        (api.TIMEFRAME_MN1, (2026, 2, 1, 0, 0)),
    ],
)
def test_bars_open_where_the_terminal_opens_them(timeframe: int, opens: tuple[int, ...]) -> None:
    moment = int(datetime(2026, 2, 25, 13, 37, 5, tzinfo=UTC).timestamp())
    expected = int(datetime(*opens, tzinfo=UTC).timestamp())  # type: ignore[misc, arg-type]
    assert bar_opens(np.array([moment]), timeframe)[0] == expected


def test_bars_open_on_the_servers_clock() -> None:
    records = ticks((START_MS, 1.1, 1.1001))
    assert history_of(records, 120).bars(api.TIMEFRAME_M1)["time"][0] == START_MS // 60_000 * 60 + 7200


@given(walks, st.integers(-5, 5), st.integers(-5, 5))
def test_tick_ranges_include_both_whole_seconds(steps: list[tuple[int, int, int]], low: int, high: int) -> None:
    records = walked(steps)
    history = history_of(records)
    from_s, to_s = int(records["time"][0]) + low, int(records["time"][-1]) + high
    inside = (records["time_msc"] >= from_s * 1000) & (records["time_msc"] <= to_s * 1000)
    assert (history.ticks_range(from_s, to_s, -1) == records[inside]).all()
    assert len(history.ticks_range(from_s, to_s, -1)) == inside.sum()
    assert (history.ticks_from(from_s, 7, -1) == records[records["time_msc"] >= from_s * 1000][:7]).all()


def test_ticks_of_one_millisecond_are_all_kept_in_order() -> None:
    records = ticks((START_MS, 1.1, 1.2), (START_MS, 1.1, 1.2), (START_MS, 1.3, 1.4))
    assert (history_of(records).ticks_from(START_MS // 1000, 10, -1) == records).all()


def test_copy_flags_choose_kinds_of_ticks() -> None:
    records = ticks((START_MS, 1.1, 1.2), (START_MS, 1.1, 1.2))
    records["flags"] = [TICK_FLAG_BID, TICK_FLAG_LAST]
    history = history_of(records)
    assert [len(history.ticks_from(1, 9, flags)) for flags in (-1, 1, 2, 3)] == [2, 1, 1, 2]
    with pytest.raises(BadRequest):
        history.ticks_from(1, 9, 64)


def test_rates_are_counted_back_and_ascend() -> None:
    history = history_of(ticks(*((START_MS + minute * 60_000, 1.1, 1.1001) for minute in range(10))))
    opens = history.bars(1)["time"]
    assert list(history.bars_from_position(1, 0, 3)["time"]) == list(opens[-3:])
    assert list(history.bars_from_position(1, 2, 3)["time"]) == list(opens[-5:-2])
    assert list(history.bars_from(1, int(opens[4]), 2)["time"]) == list(opens[3:5])
    assert list(history.bars_from(1, int(opens[4]) - 1, 2)["time"]) == list(opens[2:4])
    assert list(history.bars_range(1, int(opens[2]), int(opens[4]))["time"]) == list(opens[2:5])
    assert len(history.bars_from_position(1, 99, 3)) == 0
    for start, count in ((-1, 1), (0, 0)):
        with pytest.raises(BadRequest):
            history.bars_from_position(1, start, count)


def test_an_empty_history_answers_with_nothing() -> None:
    history = SymbolHistory(ServerTimeRule("utc"), point=POINT)
    assert history.last_tick() is None
    assert len(history.ticks_range(1, 2, -1)) == 0
    assert [len(history.bars(frame)) for frame in FRAMES.values()] == [0] * len(FRAMES)


def test_bars_ascend_through_the_repeated_hour() -> None:
    start = int(datetime(2026, 11, 1, 5, 0, tzinfo=UTC).timestamp() * 1000)
    history = history_of(ticks(*((start + minute * 60_000, 1.1, 1.1001) for minute in range(180))), "ny+7")
    assert (np.diff(history.bars(1)["time"]) > 0).all()
    assert history.bars(1)["tick_volume"].sum() == 180


def test_slices_given_out_survive_growth() -> None:
    growing = Growing(TICK_DTYPE)
    growing.extend(ticks((1, 1.0, 2.0)))
    before = growing.filled
    growing.extend(ticks(*((index, 1.5, 2.5) for index in range(10_000))))
    assert len(before) == 1
    assert before["bid"][0] == growing.filled["bid"][0] == 1.0
