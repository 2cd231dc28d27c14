"""The dispatch log on disk: in order, whole after a crash, one file a day; and replays of it."""

from __future__ import annotations

from pathlib import Path

import msgpack
import msgspec
import pytest

from mt5bus.errors import ConfigError
from protocol.errors import DataInvalid
from strategy.dispatch_log import DispatchLog, log_files, read_file, read_log
from strategy.inputs import Ended, Fired, Joined, Record
from strategy.replay import decisions, first_difference, logged, replay
from tests.strategy.example_strategies import Eager, Recorder
from tests.strategy.samples import START_MS, began, position, snapshot
from tests.strategy.test_dispatch import Life, arrived, make

DAY_MS = 86_400_000


class Wall:
    def __init__(self) -> None:
        self.now_ms = START_MS

    def __call__(self) -> int:
        return self.now_ms


def filled(folder: Path, count: int = 5) -> list[Record]:
    life = Life(Eager)
    for number in range(count):
        life.feed(arrived(number), Fired("beat", START_MS + number * 10_000))
    log = DispatchLog(folder, wall_ms=Wall())
    for record in life.records:
        log.append(record)
    log.close()
    return life.records


def test_records_come_back_in_order(tmp_path: Path) -> None:
    records = filled(tmp_path)
    assert list(logged(tmp_path)) == records
    assert [path.name for path, _ in log_files(tmp_path)] == ["dispatch-2023-11-14.mpk"]


def test_file_is_plain_messagepack(tmp_path: Path) -> None:
    records = filled(tmp_path)
    (path, _), *_ = log_files(tmp_path)
    with path.open("rb") as file:
        assert len(list(msgpack.Unpacker(file, raw=False, strict_map_key=False))) == len(records)


def test_record_with_decisions_is_in_the_file_at_once_and_others_after_a_flush(tmp_path: Path) -> None:
    log = DispatchLog(tmp_path, wall_ms=Wall())
    log.append(Record(1, Ended("quiet")))
    assert log_files(tmp_path) == []
    log.flush()
    assert len(list(logged(tmp_path))) == 1
    log.append(filled(tmp_path / "other")[-2])
    assert len(list(logged(tmp_path))) == 2
    log.close()


def test_file_cut_anywhere_reads_to_its_last_whole_record_and_is_appended_from_there(tmp_path: Path) -> None:
    records = filled(tmp_path, count=2)
    (path, _), *_ = log_files(tmp_path)
    data = path.read_bytes()
    ends = [end for end, _ in read_file(path).records]
    for cut in range(0, len(data), 7):
        path.write_bytes(data[:cut])
        whole = sum(end <= cut for end in ends)
        assert read_file(path).records == list(zip(ends, records, strict=True))[:whole]
        log = DispatchLog(tmp_path, wall_ms=Wall())
        log.append(Record(7, Ended("after the crash")))
        log.close()
        assert [record for _, record in read_log(tmp_path)][-1].input == Ended("after the crash")


def test_zeros_left_by_a_power_cut_are_cut_away(tmp_path: Path) -> None:
    records = filled(tmp_path)
    (path, _), *_ = log_files(tmp_path)
    path.write_bytes(path.read_bytes() + bytes(500))
    assert list(logged(tmp_path)) == records


def test_new_day_gets_a_new_file_and_old_ones_go(tmp_path: Path) -> None:
    wall = Wall()
    log = DispatchLog(tmp_path, wall_ms=wall, keep_days=2)
    for _ in range(5):
        log.append(Record(wall.now_ms, Ended("night")))
        wall.now_ms += DAY_MS
    log.close()
    assert [str(day) for _, day in log_files(tmp_path)] == ["2023-11-16", "2023-11-17", "2023-11-18"]


def test_position_leads_to_what_was_written_after_it(tmp_path: Path) -> None:
    log = DispatchLog(tmp_path, wall_ms=Wall())
    log.append(Record(1, Ended("before")))
    log.flush()
    place = log.position
    log.append(Record(2, Ended("after")))
    log.close()
    assert [record.now_ms for _, record in read_log(tmp_path, place)] == [2]


def test_disk_that_refuses_is_told_and_nothing_is_raised(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    log = DispatchLog(folder, wall_ms=Wall())
    log.append(Record(1, Ended("held")))
    (folder / "dispatch-2023-11-14.mpk").mkdir()  # a folder in the file's place: writing fails as on a full disk
    log.flush()
    assert log.refused
    (folder / "dispatch-2023-11-14.mpk").rmdir()
    log.close()
    assert log.refused == ""
    assert len(list(logged(folder))) == 1


def test_replay_decides_the_same_byte_for_byte(tmp_path: Path) -> None:
    records = filled(tmp_path)
    assert decisions(records)
    again = list(replay(logged(tmp_path)))
    assert again == records
    assert first_difference(records, again) is None


def test_replay_of_several_lives_gives_each_its_own_state(tmp_path: Path) -> None:
    lives = [Life(Eager, state=b"1", last_bars={"EURUSD": START_MS}), Life(Eager)]
    for life in lives:
        life.feed(arrived(0), arrived(1))
    records = [record for life in lives for record in life.records]
    assert list(replay(records)) == records
    assert len(decisions(lives[0].records)) < len(decisions(lives[1].records))


def test_replay_of_a_changed_strategy_shows_where_it_differs() -> None:
    life = Life(Eager)
    life.feed(arrived(0), arrived(1))
    found = first_difference(life.records, replay(life.records, make=lambda _: make(Recorder)))
    assert found is not None
    assert found.place == 3
    assert found.logged
    assert not found.replayed


def test_run_that_ends_early_differs() -> None:
    life = Life(Eager)
    life.feed(arrived(0))
    assert first_difference(life.records, life.records[:-1]) is not None


def test_log_without_its_beginning_is_refused() -> None:
    with pytest.raises(DataInvalid, match="first file is missing"):
        list(replay([Record(1, Joined(snapshot(positions=(position(),))))]))


def test_log_of_a_newer_version_is_refused() -> None:
    with pytest.raises(DataInvalid, match="version 99"):
        list(replay([Record(1, began(make(), version=99))]))


def test_replay_of_a_class_that_is_gone_says_so() -> None:
    with pytest.raises(ConfigError, match="there is no class"):
        list(replay([Record(1, began(make(), class_path="tests.strategy.samples:Gone"))]))


def test_what_a_disk_does_not_take_is_held_up_to_a_bound_and_then_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "log"
    log = DispatchLog(folder, wall_ms=Wall())
    records = [Record(number, Ended("quiet"), (), "it raised") for number in range(10)]
    size = len(msgspec.msgpack.encode(records[0]))
    monkeypatch.setattr("strategy.dispatch_log._MOST_HELD_BYTES", 3 * size)
    folder.rename(tmp_path / "away")
    for record in records:
        log.append(record)
    assert log.dropped == 7
    assert log.refused
    (tmp_path / "away").rename(folder)
    log.flush()
    assert list(logged(folder)) == records[:3]
    assert not log.refused
    log.close()
