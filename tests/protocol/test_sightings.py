"""What is remembered of keys: the newest of those that came in, and fewer of those that were refused."""

from __future__ import annotations

from pathlib import Path

from protocol.clock import ManualClock
from protocol.sightings import Sightings, read_sightings


def test_strangers_without_end_make_room_for_each_other_and_not_for_friends(tmp_path: Path) -> None:
    path = tmp_path / "seen.json"
    seen = Sightings(path, ManualClock())
    seen.admitted(b"friend", "client", "query", "127.0.0.1")
    for number in range(1000):
        seen.refused(b"stranger-%d" % number, "unknown", "query", "192.0.2.7")
    seen.save()
    found = read_sightings(path)
    assert [each.public for each in found] == ["friend", *(f"stranger-{number}" for number in range(950, 1000))]


def test_of_keys_that_came_in_the_newest_are_remembered(tmp_path: Path) -> None:
    path = tmp_path / "seen.json"
    seen = Sightings(path, ManualClock())
    for number in range(300):
        seen.admitted(b"key-%d" % number, f"name-{number}", "query", "127.0.0.1")
        seen.heard(b"key-0", "name-0", "query")
    seen.save()
    found = {each.public for each in read_sightings(path)}
    assert found == {"key-0", *(f"key-{number}" for number in range(101, 300))}
