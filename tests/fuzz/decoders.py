"""Every decoder of bytes that come from somebody else, each with the errors it may raise."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from broker_adapter import link_messages
from protocol import codec
from protocol.errors import BusError
from protocol.ticks import first_tick, rates_array, ticks_array
from protocol.topics import parse_topic
from tests.fuzz.frames import Frames

_LINK_TYPES = [
    value
    for value in vars(link_messages).values()
    if isinstance(value, type) and issubclass(value, msgspec.Struct) and value.__module__ == link_messages.__name__
]
_LINK_DECODERS = [msgspec.msgpack.Decoder(kind) for kind in _LINK_TYPES]


class Decoded(NamedTuple):
    """What came of many frames."""

    frames: int
    outcomes: Counter[str]
    seconds: float


def feed(frame: bytes) -> str:
    """Give a frame to every decoder; return what the main one said.

    Raises:
        Exception: Whatever a decoder lets out that is no error of ours: the finding.
    """
    for decoder in (codec.split, codec.decode_request, parse_topic, ticks_array, rates_array, first_tick):
        _ours_only(decoder, frame)
    codec.request_id(frame)
    for link_decoder in _LINK_DECODERS:
        try:
            link_decoder.decode(frame.partition(b"\0")[2])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue  # as `broker_adapter` catches them
    return _ours_only(codec.decode, frame)


def run(frames: int, seed: int) -> Decoded:
    """Feed many frames."""
    source, outcomes, began = Frames(seed), Counter[str](), time.monotonic()
    for _ in range(frames):
        outcomes[feed(source.next())] += 1
    return Decoded(frames, outcomes, time.monotonic() - began)


def _ours_only(decoder: Callable[[bytes], object], frame: bytes) -> str:
    try:
        decoder(frame)
    except BusError as error:
        assert len(error.text) < 2000
        return error.code
    return "taken"
