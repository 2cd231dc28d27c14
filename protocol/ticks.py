"""The 60-byte tick and bar records: MetaTrader 5's own layout, with times in UTC.

Packed little-endian, unaligned: ``volume_real`` (ticks) and ``real_volume`` (rates) sit at offset 52.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from protocol.errors import DataInvalid

TICK_DTYPE = np.dtype([
    ("time", "<i8"),
    ("bid", "<f8"),
    ("ask", "<f8"),
    ("last", "<f8"),
    ("volume", "<u8"),
    ("time_msc", "<i8"),
    ("flags", "<u4"),
    ("volume_real", "<f8"),
])
RATE_DTYPE = np.dtype([
    ("time", "<i8"),
    ("open", "<f8"),
    ("high", "<f8"),
    ("low", "<f8"),
    ("close", "<f8"),
    ("tick_volume", "<u8"),
    ("spread", "<i4"),
    ("real_volume", "<u8"),
])
RECORD_BYTES = 60

TickArray = NDArray[np.void]

_ONE_TICK = struct.Struct("<qdddQqId")


def check_whole(records: bytes) -> None:
    """Raise ValueError unless `records` is a whole number of records; a decoder makes it `DataInvalid`."""
    if len(records) % RECORD_BYTES:
        raise ValueError(f"{len(records)} bytes are no whole number of {RECORD_BYTES}-byte records")


class Tick(NamedTuple):
    """One quote. `time_ms` is UTC milliseconds; `flags` tell what changed (bid 2, ask 4, last 8, volume 16)."""

    time_ms: int
    bid: float
    ask: float
    last: float
    volume: int
    flags: int
    volume_real: float


def first_tick(records: bytes, index: int = 0) -> Tick:
    """Return the tick at `index` of packed records: faster than numpy for one.

    Raises:
        DataInvalid: `records` holds no such tick.
    """
    try:
        _, bid, ask, last, volume, time_ms, flags, real = _ONE_TICK.unpack_from(records, index * RECORD_BYTES)
    except struct.error:
        raise DataInvalid(f"no tick {index} in {len(records)} bytes") from None
    return Tick(time_ms, bid, ask, last, volume, flags, real)


def ticks_array(records: bytes) -> TickArray:
    """Return packed tick records as a read-only array of `TICK_DTYPE`, without a copy.

    Raises:
        DataInvalid: The length is no multiple of 60.
    """
    return _array(records, TICK_DTYPE)


def rates_array(records: bytes) -> TickArray:
    """Return packed bar records as a read-only array of `RATE_DTYPE`; ``time`` is the open time, UTC seconds.

    Raises:
        DataInvalid: The length is no multiple of 60.
    """
    return _array(records, RATE_DTYPE)


def _array(records: bytes, dtype: np.dtype[Any]) -> TickArray:
    if len(records) % RECORD_BYTES:
        raise DataInvalid(f"{len(records)} bytes are no whole number of {RECORD_BYTES}-byte records")
    return np.frombuffer(records, dtype=dtype)
