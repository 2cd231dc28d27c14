"""The dispatch log: what was dispatched to a strategy, in order, and what it decided on it.

One file per UTC day, ``dispatch-YYYY-MM-DD.mpk``: a plain sequence of MessagePack arrays (`strategy.inputs.Record`).
A record with decisions reaches the operating system before the decisions leave the process; others wait a second at
most. What a power cut takes is a tail, and then the same decisions, if they come again, come under the same ids.
A file cut short is read up to its last whole record, and appended to from there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgpack
import msgspec

from strategy.inputs import Record

PREFIX = "dispatch-"
SUFFIX = ".mpk"
FLUSH_BYTES = 64 * 1024
_MOST_HELD_BYTES = 4 * 1024 * 1024  # while the disk refuses; beyond it records are dropped and counted

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)

log = logging.getLogger(__name__)


class LogPosition(NamedTuple):
    """A place between two records: the file's name and the bytes before it."""

    file: str
    offset: int


START = LogPosition("", 0)


class DispatchLog:
    """Appends records to the file of the day.

    Args:
        folder: Of one strategy; made if absent.
        wall_ms: The wall clock, UTC milliseconds: which day it is.
        keep_days: Older files are removed when a new day begins.

    Attributes:
        dropped: Records lost because the disk refused them.
        refused: Why the last write failed; empty once one works.
    """

    def __init__(self, folder: Path, *, wall_ms: Callable[[], int], keep_days: int = 14) -> None:
        self._folder = folder
        self._wall_ms = wall_ms
        self._keep_days = keep_days
        self._held = bytearray()
        self._file: BinaryIO | None = None
        self._day: date | None = None
        self._offset = 0
        self.dropped = 0
        self.refused = ""
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def position(self) -> LogPosition:
        """How far the file is written; what is held comes after it."""
        return LogPosition(_file_name(self._day) if self._day else "", self._offset)

    def append(self, record: Record) -> None:
        """Take a record; one with decisions is in the operating system's hands when this returns, or counted lost."""
        self._turn_day()
        encoded = _encoder.encode(record)
        if len(self._held) + len(encoded) > _MOST_HELD_BYTES:
            self.dropped += 1
            return
        self._held += encoded
        if record.decisions or record.error or len(self._held) >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand what is held to the operating system. A full disk is noted in `refused`; nothing is raised."""
        if not self._held:
            return
        try:
            file = self._open()
            rest = memoryview(bytes(self._held))
            while rest:
                rest = rest[file.write(rest) :]
        except OSError as error:
            if not self.refused:
                log.exception("the dispatch log cannot be written", extra={"folder": str(self._folder)})
            self.refused = str(error)
            self._cut_back()
            return
        self._offset += len(self._held)
        self._held.clear()
        self.refused = ""

    def close(self) -> None:
        """Write what is held and close the file."""
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _turn_day(self) -> None:
        day = datetime.fromtimestamp(self._wall_ms() / 1000, UTC).date()
        if self._day is not None and day <= self._day:
            return  # also when the wall clock was set back: the order of the files stays the order of time
        if self._day is not None:
            self.close()
            self._held.clear()
        self._day = day
        self._offset = self._whole_bytes(day)
        self._remove_old(day)

    def _whole_bytes(self, day: date) -> int:
        path = self._folder / _file_name(day)
        return read_file(path).whole_bytes if path.exists() else 0

    def _open(self) -> BinaryIO:
        if self._file is None:
            assert self._day is not None
            path = self._folder / _file_name(self._day)
            # Unbuffered: a record is with the operating system, or it is not.
            self._file = path.open("r+b" if path.exists() else "w+b", buffering=0)
            self._file.truncate(self._offset)
            self._file.seek(self._offset)
        return self._file

    def _cut_back(self) -> None:
        """Leave no half record behind; what was held stays held."""
        if self._file is None:
            return
        try:
            self._file.truncate(self._offset)
            self._file.seek(self._offset)
        except OSError as error:
            self.refused = str(error)

    def _remove_old(self, today: date) -> None:
        for path, day in log_files(self._folder):
            if day < today - timedelta(days=self._keep_days):
                try:
                    path.unlink()
                except OSError:
                    continue  # somebody reads it (Windows): the next day tries again


class FileRecords(NamedTuple):
    """What one file holds: its records, each with the offset at which it ends; a cut tail is left out."""

    records: list[tuple[int, Record]]
    whole_bytes: int
    cut_bytes: int


def read_file(path: Path, offset: int = 0) -> FileRecords:
    """Return the records of a file from byte `offset` on, up to the last whole one.

    Raises:
        OSError: It cannot be read.
    """
    data = path.read_bytes()
    records = []
    position = min(offset, len(data))
    for end in _ends(data, position):
        try:
            records.append((end, _decoder.decode(data[position:end])))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            break
        position = end
    return FileRecords(records, position, len(data) - position)


def read_log(folder: Path, start: LogPosition = START) -> Iterator[tuple[LogPosition, Record]]:
    """Yield the records of a strategy's log from `start` on, each with the position after it, in the order of writing.

    Raises:
        OSError: A file cannot be read.
    """
    for path, _ in log_files(folder):
        if path.name < start.file:
            continue
        found = read_file(path, start.offset if path.name == start.file else 0)
        if found.cut_bytes:
            log.warning("a dispatch log ends in half a record", extra={"file": str(path), "bytes": found.cut_bytes})
        for end, record in found.records:
            yield LogPosition(path.name, end), record


def log_files(folder: Path) -> list[tuple[Path, date]]:
    """Return the log's files with their days, oldest first."""
    found = []
    for path in folder.glob(f"{PREFIX}*{SUFFIX}"):
        try:
            found.append((path, date.fromisoformat(path.name.removeprefix(PREFIX).removesuffix(SUFFIX))))
        except ValueError:
            continue  # not one of ours
    return sorted(found, key=lambda entry: entry[1])


def _file_name(day: date) -> str:
    return f"{PREFIX}{day.isoformat()}{SUFFIX}"


def _ends(data: bytes, offset: int) -> Iterator[int]:
    """Yield where each MessagePack value from `offset` on ends."""
    unpacker = msgpack.Unpacker(raw=True, strict_map_key=False, max_buffer_size=0)
    unpacker.feed(memoryview(data)[offset:])
    while True:
        try:
            unpacker.skip()
        except (msgpack.OutOfData, ValueError, msgpack.StackError):
            return
        yield offset + int(unpacker.tell())
