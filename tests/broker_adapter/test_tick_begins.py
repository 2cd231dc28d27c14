"""Where each life began in the history: kept for later lives, bounded, and no loss where the file cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker_adapter.tick_begins import FILE_NAME, LIVES_KEPT, Begin, TickBegins


def test_a_later_life_knows_where_the_ones_before_began(tmp_path: Path) -> None:
    first = TickBegins(tmp_path, epoch=10)
    first.note("EURUSD", time_msc=1000, taken=2)
    first.note("EURUSD", time_msc=9000, taken=0)  # the first time counts
    first.note("XAUUSD", time_msc=1500, taken=0)
    second = TickBegins(tmp_path, epoch=20)
    assert second.of("EURUSD", 10) == first.of("EURUSD", 10) == Begin(10, "EURUSD", 1000, 2)
    assert second.of("EURUSD", 20) is None
    second.note("EURUSD", time_msc=5000, taken=1)
    assert TickBegins(tmp_path, epoch=30).of("EURUSD", 20) == Begin(20, "EURUSD", 5000, 1)


def test_only_the_newest_lives_are_kept(tmp_path: Path) -> None:
    for epoch in range(1, LIVES_KEPT + 10):
        TickBegins(tmp_path, epoch=epoch).note("EURUSD", time_msc=epoch, taken=0)
    last = TickBegins(tmp_path, epoch=1000)
    known = [epoch for epoch in range(1, 100) if last.of("EURUSD", epoch) is not None]
    assert known == list(range(10, LIVES_KEPT + 10))


@pytest.mark.parametrize("spoilt", [b"", b"[{", b"\xff\xfe", b'{"epoch": 1}', b"[1]"])
def test_a_damaged_file_counts_as_none(tmp_path: Path, spoilt: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(spoilt)
    begins = TickBegins(tmp_path, epoch=5)
    begins.note("EURUSD", time_msc=7, taken=0)
    assert TickBegins(tmp_path, epoch=6).of("EURUSD", 5) == Begin(5, "EURUSD", 7, 0)


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    begins = TickBegins(tmp_path / "absent", epoch=5)
    begins.note("EURUSD", time_msc=7, taken=0)
    assert begins.of("EURUSD", 5) == Begin(5, "EURUSD", 7, 0)
