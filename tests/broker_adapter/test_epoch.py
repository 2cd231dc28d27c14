"""A new life's epoch is greater than the last one's, whatever the wall clock did."""

from __future__ import annotations

from pathlib import Path

from broker_adapter.epoch import FILE_NAME, next_epoch


def test_epoch_is_the_wall_clock_in_the_first_life(tmp_path: Path) -> None:
    assert next_epoch(tmp_path, wall_ms=1_000) == 1_000


def test_epoch_grows_when_the_clock_was_set_back(tmp_path: Path) -> None:
    first = next_epoch(tmp_path, wall_ms=5_000)
    assert next_epoch(tmp_path, wall_ms=1_000) == first + 1
    assert next_epoch(tmp_path, wall_ms=9_000) == 9_000


def test_damaged_file_counts_as_no_life_before(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"\xff\x00")
    assert next_epoch(tmp_path, wall_ms=1_000) == 1_000
