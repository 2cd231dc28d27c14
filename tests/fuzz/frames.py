"""Frames that nobody sends on purpose: made from sound ones by damage, or from nothing. Seeded."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import msgpack

from protocol import codec
from protocol.errors import BusError
from protocol.messages import Request
from tests.protocol.samples import MESSAGES

SOUND = [codec.encode(message, "main", "EURUSD") for message in MESSAGES.values()]
REQUESTS = [codec.encode(message) for message in MESSAGES.values() if isinstance(message, Request)]
KINDS = sorted(codec.MESSAGE_TYPES)
# Bytes that mean something to MessagePack: lengths of every size, and the largest.
_MARKS = [
    b"\xc0", b"\xc1", b"\xc4\xff", b"\xc5\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc7\xff\x05",
    b"\xc9\xff\xff\xff\xff\x01",
    b"\xca\x7f\xc0\x00\x00", b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00", b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",
    b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00", b"\xd9\xff", b"\xda\xff\xff",
    b"\xdb\xff\xff\xff\xff", b"\xdc\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xde\xff\xff", b"\xdf\xff\xff\xff\xff",
    b"\x91" * 2000, b"\x81\x01" * 1000, b"\xd6\xff\x00\x00\x00\x00", b"\xa4\xff\xfe\xfd\xfc", b"\0", b"v1/", b"/",
]  # fmt: skip
_VALUES: list[object] = [
    None, True, -1, 0, 2**63 - 1, 2**64 - 1, -(2**63), 1.5, float("nan"), float("inf"), -0.0, 1e308, "", "x" * 300,
    "../x",
    "EUR*", "\u202e", "\0", b"\0" * 61, b"x" * 60, [], [[]], {}, {"a": 1}, ["deal", []], ["submit_order"],
]  # fmt: skip


class Frames:
    """An endless source of hostile frames.

    Args:
        seed: The same seed gives the same frames.
        sources: Sound frames to begin with.
    """

    def __init__(self, seed: int, sources: list[bytes] | None = None) -> None:
        self._random = random.Random(seed)
        self._sources = sources or SOUND
        self._ways: list[Callable[[bytes], bytes]] = [
            self._flip, self._flip, self._cut, self._mark, self._splice, self._repeat, self._value, self._value,
            self._kind, self._version, self._noise, self._topic, self._append, self._length,
        ]  # fmt: skip

    def next(self) -> bytes:
        """Return the next frame: a sound one damaged in one to three ways."""
        frame = self._random.choice(self._sources)
        for _ in range(self._random.choice((1, 1, 1, 2, 3))):
            frame = self._random.choice(self._ways)(frame)
        return frame

    def next_refused(self) -> bytes:
        """Return the next frame that is no request a server may carry out."""
        while True:
            frame = self.next()
            if len(frame) < 100_000 and not is_request(frame):
                return frame

    def parts(self) -> list[bytes]:
        """Return some parts in some order, such as no envelope has."""
        count = self._random.choice((1, 2, 2, 3, 4, 5, 9))
        return [self.next_refused()[:200] for _ in range(count)]

    def noise(self, size: int) -> bytes:
        """Return random bytes."""
        return self._random.randbytes(size)

    def _flip(self, frame: bytes) -> bytes:
        damaged = bytearray(frame or b"\0")
        for _ in range(self._random.randint(1, 8)):
            damaged[self._random.randrange(len(damaged))] = self._random.randrange(256)
        return bytes(damaged)

    def _cut(self, frame: bytes) -> bytes:
        start = self._random.choice((0, 0, 0, self._random.randrange(len(frame) + 1)))
        return frame[start : self._random.randrange(len(frame) + 1)]

    def _mark(self, frame: bytes) -> bytes:
        at = self._random.randrange(len(frame) + 1)
        mark = self._random.choice(_MARKS)
        return frame[:at] + mark + frame[at + self._random.choice((0, len(mark))) :]

    def _splice(self, frame: bytes) -> bytes:
        other = self._random.choice(self._sources)
        return frame[: self._random.randrange(len(frame) + 1)] + other[self._random.randrange(len(other) + 1) :]

    def _repeat(self, frame: bytes) -> bytes:
        start = self._random.randrange(len(frame) + 1)
        piece = frame[start : start + self._random.randint(1, 40)]
        return frame[:start] + piece * self._random.choice((2, 3, 50)) + frame[start:]

    def _value(self, frame: bytes) -> bytes:
        topic, _, body = frame.partition(b"\0")
        try:
            values = msgpack.unpackb(body, strict_map_key=False)
        except (ValueError, TypeError, RecursionError):
            return self._flip(frame)
        if not isinstance(values, list) or not values:
            return self._flip(frame)
        target = values
        while isinstance(inner := self._random.choice(target), list) and inner and self._random.random() < 0.7:
            target = inner
        target[self._random.randrange(len(target))] = self._random.choice(_VALUES)
        return topic + b"\0" + bytes(msgpack.packb(values))

    def _kind(self, frame: bytes) -> bytes:
        _, _, body = frame.partition(b"\0")
        return f"v1/{self._random.choice(KINDS)}/main/EURUSD\0".encode() + body

    def _version(self, frame: bytes) -> bytes:
        return self._random.choice((b"v2", b"v0", b"V1", b"v11", b"", b"\xff")) + frame[2:]

    def _noise(self, _: bytes) -> bytes:
        return self._random.randbytes(self._random.choice((0, 1, 7, 60, 300, 5000)))

    def _topic(self, frame: bytes) -> bytes:
        _, _, body = frame.partition(b"\0")
        return self._random.randbytes(self._random.randrange(200)).replace(b"\0", b"/") + b"\0" + body

    def _append(self, frame: bytes) -> bytes:
        return frame + self._random.choice(_MARKS) * self._random.choice((1, 1, 100))

    def _length(self, frame: bytes) -> bytes:
        head, _, body = frame.partition(b"\0")
        size = self._random.choice((0, 1, 0xFFFF, self._random.randrange(0x10000)))
        return head + b"\0\xdc" + struct.pack(">H", size) + body[1:]


def is_request(frame: bytes) -> bool:
    """Return whether a server would carry a frame out."""
    try:
        codec.decode_request(frame)
    except BusError:
        return False
    return True
