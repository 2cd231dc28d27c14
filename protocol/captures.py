"""Capture files: the wire format is the log format.

A file is MessagePack in zstd: a header ``["mt5bus capture", format, adapter, made_ms, software]``, then records
``[recorded_ms, monotonic_ns, stream, frame]`` with the frames as they travelled, and at a clean end a record of stream
``end``. A file cut short by a crash reads up to its last whole record and says so.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgpack
import zstandard

from protocol import codec
from protocol.clock import Clock, SystemClock
from protocol.errors import DataInvalid
from protocol.messages import Message
from protocol.topics import Topic

log = logging.getLogger(__name__)

MAGIC = "mt5bus capture"
FORMAT = 1
SUFFIX = ".mt5cap"
END = "end"
STREAMS = "streams"
QUERIES = "queries"  # requests and their replies, told apart by kind
ORDERS = "orders"
FLUSH_INTERVAL_S = 1.0

_CHUNK_BYTES = 64 * 1024
_MAX_WINDOW_BYTES = 2**25
_MAX_RECORD_BYTES = codec.MAX_FRAME_BYTES + 4096


class Header(NamedTuple):
    """What a file says of itself."""

    format: int
    adapter: str
    made_ms: int
    software: str


class Record(NamedTuple):
    """One frame with when it was recorded: UTC milliseconds, and the recorder's monotonic clock for intervals."""

    recorded_ms: int
    monotonic_ns: int
    stream: str
    frame: bytes


class Decoded(NamedTuple):
    """A record whose frame was decoded."""

    record: Record
    topic: Topic
    message: Message


class CaptureWriter:
    """Writes frames into dated files of one folder, a new one each UTC day.

    Memory is bounded: what was written waits in the compressor, at most a block, until `flush`.

    Args:
        folder: Where the files go; made if absent.
        software: Version of the software that records.
        level: zstd's, 1 to 19.
        on_file: Called with the path of each new file, after its header is written.
    """

    def __init__(
        self,
        folder: Path,
        adapter: str,
        *,
        software: str,
        level: int = 3,
        clock: Clock | None = None,
        on_file: Callable[[Path], None] | None = None,
    ) -> None:
        self._folder = folder
        self._adapter = adapter
        self._software = software
        self._level = level
        self._clock: Clock = clock or SystemClock()
        self._on_file = on_file
        self._packer = msgpack.Packer(use_bin_type=True)
        self._file: IO[bytes] | None = None
        self._stream: zstandard.ZstdCompressionWriter | None = None
        self._day: date | None = None
        self.paths: list[Path] = []
        self.records = 0
        self.bytes = 0

    def write(self, stream: str, frame: bytes) -> None:
        """Append `frame`, stamped now.

        Raises:
            OSError: The disk is full, or the folder cannot be written.
        """
        now_ms = self._clock.wall_ms()
        day = datetime.fromtimestamp(now_ms / 1000, UTC).date()
        if day != self._day:
            self._open(day, now_ms)
        self._put([now_ms, self._clock.monotonic_ns(), stream, frame])
        self.records += 1
        self.bytes += len(frame)

    def flush(self) -> None:
        """Hand everything written so far to the system: a crash of the process then loses nothing of it."""
        if self._stream is not None and self._file is not None:
            self._stream.flush(zstandard.FLUSH_BLOCK)
            self._file.flush()

    def close(self) -> None:
        """End the file cleanly."""
        stream, file = self._stream, self._file
        if stream is None or file is None:
            return
        try:
            self._put([self._clock.wall_ms(), self._clock.monotonic_ns(), END, b""])
            stream.close()  # type: ignore[no-untyped-call]  # its stub lacks the return type
        finally:
            self._stream = self._file = self._day = None
            file.close()

    def abandon(self) -> None:
        """Close without an end, after a write failed."""
        file, self._stream, self._file, self._day = self._file, None, None, None
        if file is None:
            return
        try:
            file.close()
        except OSError as error:  # the disk is full: what was still to be written is lost with the end
            log.warning("a capture was left without its last records", extra={"reason": str(error)})

    def _open(self, day: date, now_ms: int) -> None:
        self.close()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._free_path(datetime.fromtimestamp(now_ms / 1000, UTC))
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        self._file = os.fdopen(descriptor, "wb")
        self._stream = zstandard.ZstdCompressor(level=self._level).stream_writer(self._file, closefd=False)
        self._day = day
        self.paths.append(path)
        self._put([MAGIC, FORMAT, self._adapter, now_ms, self._software])
        self.flush()
        if self._on_file is not None:
            self._on_file(path)

    def _free_path(self, now: datetime) -> Path:
        stem, number = f"{self._adapter}-{now:%Y-%m-%d-%H%M%S}", 1
        path = self._folder / f"{stem}{SUFFIX}"
        while path.exists():
            number += 1
            path = self._folder / f"{stem}-{number}{SUFFIX}"
        return path

    def _put(self, value: list[object]) -> None:
        assert self._stream is not None
        self._stream.write(self._packer.pack(value))


class Capture:
    """A capture file. Every reading starts anew, so that it can be read more than once.

    Attributes:
        header: What the file says of itself.
        count: Whole records seen by the last complete reading.
        complete: Whether that reading came to a clean end.
        damage: What stopped it otherwise: empty for a file that is just cut short, or still being written.

    Raises:
        DataInvalid: Not a capture, or one of a newer format.
        OSError: The file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self.complete = False
        self.damage = ""
        with path.open("rb") as file:
            self.header = _header(path, _Objects(file))

    def __iter__(self) -> Iterator[Record]:
        return self.records()

    @property
    def truncated(self) -> bool:
        """Whether the last reading ended before a clean end."""
        return not self.complete

    def records(
        self,
        *,
        kinds: Collection[str] = (),
        symbols: Collection[str] = (),
        from_ms: int | None = None,
        to_ms: int | None = None,
    ) -> Iterator[Record]:
        """Yield the records in order, filtered; an empty filter lets all pass.

        Args:
            kinds: Of messages, such as ``tick``, ``event``.
            symbols: As the frame's topic names them.
            from_ms: Recorded at or after, UTC milliseconds.
            to_ms: Recorded at or before.

        Raises:
            OSError: The file cannot be read.
        """
        self.count, self.complete, self.damage = 0, False, ""
        with self.path.open("rb") as file:
            objects = _Objects(file)
            _header(self.path, objects)
            for value in objects:
                record = _record(value)
                if record is None:
                    self.damage = f"record {self.count + 1} is none"
                    return
                if record.stream == END:
                    self.complete = True
                    return
                self.count += 1
                if _passes(record, kinds, symbols, from_ms, to_ms):
                    yield record
            self.damage = objects.damage

    def decoded(self, **filters: Any) -> Iterator[Decoded]:
        """Yield what `records` does, decoded; frames that are no message of this version are left out."""
        for record in self.records(**filters):
            try:
                topic, message = codec.decode(record.frame)
            except DataInvalid:
                continue
            yield Decoded(record, topic, message)


class _Objects:
    """The MessagePack objects of a zstd stream, as far as it goes; memory is bounded whatever the bytes say."""

    def __init__(self, file: IO[bytes]) -> None:
        decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
        self._source = decompressor.stream_reader(file, closefd=False)
        self._unpacker = msgpack.Unpacker(
            raw=False,
            use_list=True,
            strict_map_key=False,
            max_buffer_size=_MAX_RECORD_BYTES + _CHUNK_BYTES,
            max_str_len=4096,
            max_bin_len=codec.MAX_FRAME_BYTES,
            max_array_len=64,
            max_map_len=64,
            max_ext_len=64,
        )
        self.damage = ""

    def __iter__(self) -> _Objects:
        return self

    def __next__(self) -> object:
        while True:
            try:
                return self._unpacker.unpack()
            except msgpack.OutOfData:
                self._feed()
            except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
                self.damage = f"no MessagePack: {error}"
                raise StopIteration from None

    def _feed(self) -> None:
        try:
            chunk = self._source.read(_CHUNK_BYTES)
            if chunk:
                self._unpacker.feed(chunk)
                return
        except zstandard.ZstdError as error:
            self.damage = f"no zstd stream from here: {error}"
        except msgpack.BufferFull:
            self.damage = f"no MessagePack: a record of more than {_MAX_RECORD_BYTES} bytes"
        raise StopIteration


def _header(path: Path, objects: _Objects) -> Header:
    value = next(objects, None)
    if not isinstance(value, list) or len(value) < 5 or value[0] != MAGIC:
        raise DataInvalid(f"{path} is no mt5bus capture{f' ({objects.damage})' if objects.damage else ''}")
    header = Header(*value[1:5])
    kinds_fit = [isinstance(part, kind) for part, kind in zip(header, (int, str, int, str), strict=True)]
    if not all(kinds_fit):
        raise DataInvalid(f"{path} has a damaged header: {value!r}")
    if header.format > FORMAT:
        raise DataInvalid(
            f"{path} has capture format {header.format} (made by version {header.software}); this version reads up to"
            f" {FORMAT}: update mt5bus"
        )
    return header


def _record(value: object) -> Record | None:
    if not isinstance(value, list) or len(value) < 4:
        return None
    recorded_ms, monotonic_ns, stream, frame = value[:4]
    fits = isinstance(recorded_ms, int) and isinstance(monotonic_ns, int) and isinstance(stream, str)
    return Record(recorded_ms, monotonic_ns, stream, frame) if fits and isinstance(frame, bytes) else None


def _passes(
    record: Record, kinds: Collection[str], symbols: Collection[str], from_ms: int | None, to_ms: int | None
) -> bool:
    if from_ms is not None and record.recorded_ms < from_ms:
        return False
    if to_ms is not None and record.recorded_ms > to_ms:
        return False
    if not kinds and not symbols:
        return True
    try:
        topic, _ = codec.split(record.frame)
    except DataInvalid:
        return False
    return (not kinds or topic.kind in kinds) and (not symbols or topic.symbol in symbols)
