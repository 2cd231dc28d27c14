"""The tick feed on a real link: starting now, starting at the first, resuming, a clock that goes back."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from broker_adapter.connection import Connection
from broker_adapter.server_clock import ServerClock
from broker_adapter.tick_begins import TickBegins
from broker_adapter.tick_feed import TickFeed
from protocol.ticks import TICK_DTYPE, ticks_array
from tests.broker_adapter.rig import Rig

START = 1_700_000_000_000


class FeedRig(Rig):
    """A rig with a tick feed."""

    def __init__(self, folder: Path, *, from_first: bool) -> None:
        super().__init__(folder)
        self.from_first = from_first
        self.epoch = 1
        self.got: list[int] = []
        self.begun: list[tuple[str, bool]] = []
        self.tick_times: list[int] = []
        self.connection = Connection(self.loop, self.links, self.settings, path=str(self.folder))
        self.feed = self.new_feed()

    def new_feed(self) -> TickFeed:
        clock = ServerClock(self.loop.clock, setting="utc", feed=False, symbols=1, folder=self.home.adapter)
        return TickFeed(
            self.loop,
            self.connection,
            clock,
            self.settings.adapter,
            on_ticks=lambda _symbol, records: self.got.extend(ticks_array(records)["time_msc"].tolist()),
            on_begin=lambda symbol, whole: self.begun.append((symbol, whole)),
            begins=TickBegins(self.home.adapter, epoch=self.epoch),
            from_first=self.from_first,
            folder=self.home.adapter,
        )

    def add(self, *times: int) -> None:
        self.tick_times += times
        ticks = np.zeros(len(self.tick_times), TICK_DTYPE)
        ticks["time_msc"] = self.tick_times
        ticks["time"] = ticks["time_msc"] // 1000
        fresh = self.folder / "fresh.npy"
        np.save(fresh, ticks)
        fresh.replace(self.folder / "ticks.npy")

    def run(self) -> None:
        self.links.start()
        self.until(lambda: self.connection.state == "attached")
        self.feed.follow({"EURUSD": "EURUSD"})


def test_it_starts_at_the_newest_tick_and_misses_none_after(tmp_path: Path) -> None:
    rig = FeedRig(tmp_path, from_first=False)
    try:
        rig.add(START, START + 1, START + 1)
        rig.run()
        rig.until(lambda: rig.got)
        assert rig.got == [START + 1]
        rig.add(START + 1, START + 2)
        rig.until(lambda: len(rig.got) == 3)
        rig.add(START + 2)  # the same millisecond, the same prices: only a sweep finds it
        rig.until(lambda: len(rig.got) == 4)
        assert rig.got == [START + 1, START + 1, START + 2, START + 2]
        assert rig.begun == [("EURUSD", False)]
    finally:
        rig.close()


def test_ticks_that_cannot_be_read_are_a_gap_until_they_are(tmp_path: Path) -> None:
    rig = FeedRig(tmp_path, from_first=False)
    try:
        assert rig.feed.has_gap("EURUSD")  # not followed yet
        rig.add(START)
        rig.run()
        rig.until(lambda: rig.got)
        assert not rig.feed.has_gap("EURUSD")
        rig.behave({"copy_ticks_from": {"error": [-1, "Terminal: Call failed"]}})
        rig.add(START + 1)
        rig.until(lambda: rig.feed.has_gap("EURUSD"))
        rig.behave({})
        rig.until(lambda: rig.got[-1] == START + 1)
        assert not rig.feed.has_gap("EURUSD")
    finally:
        rig.close()


def test_a_symbol_followed_again_goes_on_where_it_was_left(tmp_path: Path) -> None:
    rig = FeedRig(tmp_path, from_first=False)
    try:
        rig.add(START)
        rig.run()
        rig.until(lambda: rig.got)
        rig.feed.follow({})
        rig.add(START + 1, START + 2)
        rig.feed.follow({"EURUSD": "EURUSD"})
        rig.until(lambda: len(rig.got) == 3)
        assert rig.got == [START, START + 1, START + 2]
        assert rig.begun == [("EURUSD", False)]
    finally:
        rig.close()


def test_a_feed_with_its_own_clock_is_taken_from_its_first_tick_and_resumed(tmp_path: Path) -> None:
    rig = FeedRig(tmp_path, from_first=True)
    try:
        rig.add(START, START, START + 1)
        rig.run()
        rig.until(lambda: len(rig.got) == 3)
        assert rig.begun == [("EURUSD", True)]
        rig.until(lambda: b'"time_msc":0' not in _kept(rig) and str(START + 1).encode() in _kept(rig))
        rig.feed.follow({})
        rig.got.clear()
        rig.feed = rig.new_feed()
        rig.feed.follow({"EURUSD": "EURUSD"})
        rig.add(START + 1, START + 5)
        rig.until(lambda: len(rig.got) == 2)
        assert rig.got == [START + 1, START + 5]
        assert len(rig.begun) == 1, "it goes on where it stopped"
    finally:
        rig.close()


def test_a_clock_set_back_does_not_silence_a_symbol(tmp_path: Path) -> None:
    rig = FeedRig(tmp_path, from_first=False)
    try:
        rig.add(START)
        rig.run()
        rig.until(lambda: rig.got)
        rig.tick_times.clear()
        rig.add(START - 3_600_000)
        rig.until(lambda: len(rig.got) == 2, what="a tick of the new time")
        assert rig.got == [START, START - 3_600_000]
        assert rig.begun == [("EURUSD", False)] * 2
    finally:
        rig.close()


def _kept(rig: FeedRig) -> bytes:
    file = rig.home.adapter / "tick_cursors.json"
    return file.read_bytes() if file.exists() else b""
