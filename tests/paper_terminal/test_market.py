"""The market's clock: the machine's, a feed's at any speed, held, and after the last tick."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paper_terminal.feeds import FileFeed, SyntheticFeed, TickFile
from paper_terminal.market import Market, make_feed, weekend_is_open
from paper_terminal.records import Records
from paper_terminal.settings import FeedSettings, FeedSymbol, Settings, SettingsError

TICKS = "2026-03-02 10:00:{:06.3f},1.10000,1.10010\n"


class Clock:
    """Real time, turned by hand."""

    def __init__(self) -> None:
        self.ns = 1_000_000_000

    def __call__(self) -> int:
        return self.ns

    def pass_ms(self, milliseconds: float) -> None:
        self.ns += int(milliseconds * 1_000_000)


@pytest.fixture
def tick_file(tmp_path: Path) -> Path:
    path = tmp_path / "EURUSD-2026-03.csv"
    path.write_text("timestamp,bid,ask\n" + "".join(TICKS.format(second) for second in range(60)), encoding="utf-8")
    return path


def market(path: Path, clock: Clock, *, held: bool = False, **settings: object) -> Market:
    feed = FileFeed([TickFile(path=path, symbol="EURUSD", format_name="truefx")])
    return Market(feed, FeedSettings(**settings), rename=str.lower, held=held, monotonic_ns=clock)  # type: ignore[arg-type]


def count(blocks: list[tuple[str, Records]]) -> int:
    return sum(len(ticks) for _, ticks in blocks)


def test_a_file_feed_passes_at_its_speed(tick_file: Path) -> None:
    clock = Clock()
    replay = market(tick_file, clock, speed=10.0)
    first_ms = replay.now_ms
    clock.pass_ms(1)
    assert [(name, len(ticks)) for name, ticks in replay.advance()] == [("eurusd", 1)]
    clock.pass_ms(1000)
    assert count(replay.advance()) == 10
    assert replay.now_ms == first_ms + 10_010


def test_a_held_feed_waits_for_its_release(tick_file: Path) -> None:
    clock = Clock()
    replay = market(tick_file, clock, held=True, speed=10.0)
    clock.pass_ms(5000)
    assert replay.advance() == []
    assert replay.wait_s() is None
    replay.release()
    clock.pass_ms(1)
    assert count(replay.advance()) == 1


def test_at_max_speed_every_look_brings_one_step(tick_file: Path) -> None:
    clock = Clock()
    replay = market(tick_file, clock, speed="max", step_ms=5000)
    assert replay.advance() == []
    seen = []
    for _ in range(20):
        replay.asked()
        seen.append(count(replay.advance()))
    assert sum(seen) == 60
    assert max(seen) <= 6


def test_after_the_last_tick_time_goes_on_at_real_speed(tick_file: Path) -> None:
    clock = Clock()
    replay = market(tick_file, clock, speed=1000.0)
    clock.pass_ms(500)
    ticks = replay.advance()[0][1]
    assert len(ticks) == 60
    assert replay.ended
    assert replay.now_ms == ticks["time_msc"][-1]
    clock.pass_ms(250)
    assert replay.advance() == []
    assert replay.now_ms == ticks["time_msc"][-1] + 250


def test_the_wall_clock_never_goes_back() -> None:
    now = [1_772_000_000_000]
    feed = SyntheticFeed(1, start_ms=now[0])
    live = Market(feed, FeedSettings(), rename=str, wall=lambda: now[0])
    now[0] += 10_000
    blocks = live.advance()
    assert count(blocks) > 0
    assert all((np.diff(ticks["time_msc"]) >= 0).all() for _, ticks in blocks)
    now[0] -= 5000
    assert live.advance() == []
    assert live.now_ms == 1_772_000_010_000
    wait_s = live.wait_s()
    assert wait_s is not None
    assert wait_s >= 0


def test_the_weekend_is_from_friday_to_sunday_evening() -> None:
    friday = 1_772_200_800_000  # 2026-02-27 14:00 UTC
    hour = 3_600_000
    assert weekend_is_open(friday + 8 * hour - 1)
    assert not weekend_is_open(friday + 8 * hour)
    assert not weekend_is_open(friday + 56 * hour - 1)
    assert weekend_is_open(friday + 56 * hour)


def test_files_and_folders_become_a_feed(tick_file: Path) -> None:
    named = FeedSymbol(symbol="EURUSD", paths=(str(tick_file.parent),), format="truefx")
    settings = Settings(feed=FeedSettings(kind="files", files=(named,), start="2026-03-02T10:00:30"))
    feed = make_feed(settings, resume_ms=None)
    ((name, ticks),) = feed.take(2**60)
    assert (name, len(ticks)) == ("EURUSD", 30)
    resumed = make_feed(settings, resume_ms=int(ticks["time_msc"][9]))
    ((_, left),) = resumed.take(2**60)
    assert len(left) == 20


def test_a_start_that_is_no_date_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"feed\.start"):
        make_feed(Settings(feed=FeedSettings(start="yesterday")), resume_ms=None)
