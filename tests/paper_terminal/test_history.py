"""Ticks and bars as served: against a plain reckoning of the same ticks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

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


def opens_at(moment: datetime, name: str) -> datetime:
    """Return when the bar of a period begins that a moment falls in, by the calendar."""
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if name == "MN1":
        return midnight.replace(day=1)
    if name == "W1":
        return midnight - timedelta(days=moment.isoweekday() % 7)
    if name == "D1":
        return midnight
    step = int(name[1:])
    if name.startswith("H"):
        return midnight.replace(hour=moment.hour // step * step)
    return midnight.replace(hour=moment.hour, minute=moment.minute // step * step)


def plain_bars(records: Records, name: str, ahead: Callable[[datetime], timedelta], *, by_last: bool = False) -> Any:
    """Build bars one tick at a time; `ahead` is the server's clock minus UTC."""
    bars: dict[int, list[Any]] = {}
    for tick in records:
        moment = datetime.fromtimestamp(int(tick["time"]), UTC)
        open_s = int(opens_at(moment + ahead(moment), name).timestamp())
        if by_last and not int(tick["flags"]) & 0b1111000:
            continue
        price, spread = float(tick["last" if by_last else "bid"]), max(0, round((tick["ask"] - tick["bid"]) / POINT))
        volume = int(tick["volume"]) if int(tick["flags"]) & 0b1111000 else 0
        bar = bars.setdefault(open_s, [open_s, price, price, price, price, 0, spread, 0])
        bar[2], bar[3], bar[4] = max(bar[2], price), min(bar[3], price), price
        bar[5], bar[6], bar[7] = bar[5] + 1, min(bar[6], spread), bar[7] + volume
    return [tuple(bar) for bar in bars.values()]


def new_york_plus_7(moment: datetime) -> timedelta:
    return (moment.astimezone(ZoneInfo("America/New_York")).utcoffset() or timedelta()) + timedelta(hours=7)


CLOCKS: dict[str | int, Callable[[datetime], timedelta]] = {
    "utc": lambda _moment: timedelta(),
    150: lambda _moment: timedelta(minutes=150),
    "ny+7": new_york_plus_7,
}
# Quiet hours, days and weeks between the ticks; the autumn hour that comes twice is tested apart.
waits = st.one_of(st.integers(0, 40_000), st.integers(0, 90_000_000), st.integers(0, 900_000_000))
long_walks = st.lists(st.tuples(waits, st.integers(-30, 30), st.integers(-4, 12)), min_size=1, max_size=80)
starts = st.integers(1_735_700_000_000, 1_756_000_000_000)


@given(long_walks, starts, st.sampled_from(sorted(FRAMES)), st.sampled_from(list(CLOCKS)), st.booleans(), st.data())
def test_bars_of_every_period_equal_a_plain_reckoning(
    steps: list[tuple[int, int, int]],
    start_ms: int,
    frame: str,
    clock: str | int,
    by_last: bool,
    data: st.DataObject,
) -> None:
    """Whatever the cuts at which ticks arrive, and whatever was asked for in between."""
    records = walked(steps, start_ms=start_ms)
    if clock == "ny+7":  # from January to the end of October: through spring's change of the clock
        records = records[records["time"] < 1_761_900_000]
    kinds = data.draw(st.lists(st.sampled_from([2, 4, 6, 88, 56]), min_size=len(records), max_size=len(records)))
    records["flags"], records["last"] = kinds, records["bid"] + POINT
    records["volume"] = records["volume_real"] = np.arange(len(records)) % 7
    history = SymbolHistory(ServerTimeRule(clock), point=POINT, by_last=by_last)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(records)), max_size=5)))
    for first, end in pairwise([0, *cuts, len(records)]):
        history.append(records[first:end])
        if data.draw(st.booleans()):
            history.bars(FRAMES[frame])
    expected = plain_bars(records, frame.removeprefix("TIMEFRAME_"), CLOCKS[clock], by_last=by_last)
    assert [bar.item() for bar in history.bars(FRAMES[frame])] == expected


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


def test_bars_given_out_do_not_change_when_the_bar_goes_on() -> None:
    history = history_of(ticks((START_MS, 1.1, 1.1001)))
    given_out = [history.bars_from_position(frame, 0, 1) for frame in (api.TIMEFRAME_M1, api.TIMEFRAME_H1)]
    history.append(ticks((START_MS + 1000, 1.2, 1.2001)))
    assert [float(bars["close"][0]) for bars in given_out] == [1.1, 1.1]
    assert float(history.bars_from_position(api.TIMEFRAME_H1, 0, 1)["close"][0]) == 1.2


def test_an_unknown_period_is_refused_before_and_after_a_tick() -> None:
    history = SymbolHistory(ServerTimeRule("utc"), point=POINT)
    for _ in range(2):
        with pytest.raises(BadRequest):
            history.bars_from_position(7, 0, 1)
        history.append(ticks((START_MS, 1.1, 1.1001)))


# The day -----------------------------------------------------------------------------------------------------


@given(long_walks, starts, st.data())
def test_the_day_is_that_of_the_newest_tick(
    steps: list[tuple[int, int, int]], start_ms: int, data: st.DataObject
) -> None:
    records = walked(steps, start_ms=start_ms)
    records["flags"] = data.draw(st.lists(st.sampled_from([6, 88]), min_size=len(records), max_size=len(records)))
    records["last"] = records["ask"]
    records["volume"] = records["volume_real"] = 1 + np.arange(len(records)) % 5
    history = SymbolHistory(ServerTimeRule("utc"), point=POINT)
    for first, end in pairwise(
        sorted({0, len(records), *data.draw(st.lists(st.integers(0, len(records)), max_size=4))})
    ):
        history.append(records[first:end])
        history.day()
    day = history.day()
    number = int(records["time"][-1]) // 86_400
    today = [tick for tick in records if tick["time"] // 86_400 == number]
    earlier = [tick for tick in records if tick["time"] // 86_400 < number]
    deals = [tick for tick in today if tick["flags"] == 88]
    assert (day.number, day.opened) == (number, today[0]["bid"])
    assert day.closed_before == (earlier[-1]["bid"] if earlier else 0.0)
    assert (day.bid_high, day.bid_low) == (max(t["bid"] for t in today), min(t["bid"] for t in today))
    assert (day.ask_high, day.ask_low) == (max(t["ask"] for t in today), min(t["ask"] for t in today))
    assert (day.last_high, day.last_low) == (
        max((t["last"] for t in deals), default=0.0),
        min((t["last"] for t in deals), default=0.0),
    )
    assert (day.deals, day.volume) == (len(deals), sum(t["volume_real"] for t in deals))
    assert day.value == pytest.approx(sum(t["last"] * t["volume_real"] for t in deals))
