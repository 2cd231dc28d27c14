"""When and whence each key was seen at the sockets of one process, kept in a file for `mt5bus keys list`.

Written at most every `SAVE_INTERVAL_S`, without a sync: it informs people and decides nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import msgspec

from protocol.clock import Clock

SAVE_INTERVAL_S = 5.0
_MAX_ADMITTED = 200
_MAX_REFUSED = 50

log = logging.getLogger(__name__)


class Sighting(msgspec.Struct, frozen=True):
    """A key at one role's socket: `reason` is empty if it was admitted, `count` its handshakes."""

    public: str
    name: str
    role: str
    address: str
    time_ms: int
    reason: str = ""
    count: int = 1


class Sightings:
    """What one process saw; continued from its file."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._found: dict[tuple[str, str, bool], Sighting] = {_place(each): each for each in read_sightings(path)}
        self._saved_ns = clock.monotonic_ns()
        self._changed = False
        self._failed = False

    def admitted(self, public: bytes, name: str, role: str, address: str) -> None:
        """Note that a key came in."""
        self._note(Sighting(public.decode("ascii"), name, role, address, self._clock.wall_ms()))

    def refused(self, public: bytes, reason: str, role: str, address: str) -> None:
        """Note that a key was refused."""
        self._note(Sighting(public.decode("ascii"), "", role, address, self._clock.wall_ms(), reason))

    def heard(self, public: bytes, name: str, role: str) -> None:
        """Note that a key that came in is there now."""
        before = self._found.get((public.decode("ascii"), role, False))
        if before is not None:
            self._put(msgspec.structs.replace(before, name=name, time_ms=self._clock.wall_ms()))

    def save_if_due(self) -> None:
        """Write the file, if something changed and the last time is long enough ago."""
        now_ns = self._clock.monotonic_ns()
        if self._changed and now_ns - self._saved_ns >= SAVE_INTERVAL_S * 1e9:
            self._saved_ns = now_ns
            self.save()

    def save(self) -> None:
        """Write the file; what cannot be written now is tried again at the next time."""
        fresh = self._path.with_suffix(".new")
        try:
            fresh.write_bytes(msgspec.json.encode(list(self._found.values())))
            Path(fresh).replace(self._path)
        except OSError as error:
            if not self._failed:
                log.warning(
                    "sightings of keys cannot be written", extra={"path": str(self._path), "reason": str(error)}
                )
            self._failed = True
            return
        self._changed = self._failed = False

    def _note(self, sighting: Sighting) -> None:
        before = self._found.get(_place(sighting))
        count = before.count + 1 if before is not None else 1
        self._put(msgspec.structs.replace(sighting, count=count))

    def _put(self, sighting: Sighting) -> None:
        place = _place(sighting)
        # Newest last, so that the oldest makes room.
        self._found.pop(place, None)
        self._found[place] = sighting
        self._changed = True
        refused = bool(sighting.reason)
        alike = [each for each in self._found if each[2] == refused]
        if len(alike) > (_MAX_REFUSED if refused else _MAX_ADMITTED):
            del self._found[alike[0]]


def read_sightings(path: Path) -> tuple[Sighting, ...]:
    """Return what a file holds; nothing if it is absent or damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[Sighting, ...])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return ()


def newest(sightings: Iterable[Sighting]) -> Sighting | None:
    """Return the newest of some sightings."""
    return max(sightings, key=lambda each: each.time_ms, default=None)


def _place(sighting: Sighting) -> tuple[str, str, bool]:
    return sighting.public, sighting.role, bool(sighting.reason)
