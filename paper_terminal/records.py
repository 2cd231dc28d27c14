"""The terminal's packed records of ticks and bars, and the tick flags.

Both are the 60-byte little-endian records of the MetaTrader5 package: unaligned, so that the last field of
either sits at offset 52. Times are milliseconds or seconds since the epoch, in UTC inside the terminal and on
the server's wall clock where a client sees them.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Records: TypeAlias = NDArray[np.void]
"""A one-dimensional array of `TICK_DTYPE` or `RATE_DTYPE`, from a feed of bars of `BAR_TICK_DTYPE`."""

TICK_DTYPE: Final[np.dtype[Any]] = np.dtype([
    ("time", "<i8"),
    ("bid", "<f8"),
    ("ask", "<f8"),
    ("last", "<f8"),
    ("volume", "<u8"),
    ("time_msc", "<i8"),
    ("flags", "<u4"),
    ("volume_real", "<f8"),
])
RATE_DTYPE: Final[np.dtype[Any]] = np.dtype([
    ("time", "<i8"),
    ("open", "<f8"),
    ("high", "<f8"),
    ("low", "<f8"),
    ("close", "<f8"),
    ("tick_volume", "<u8"),
    ("spread", "<i4"),
    ("real_volume", "<u8"),
])
BAR_TICK_DTYPE: Final[np.dtype[Any]] = np.dtype([*TICK_DTYPE.descr, ("ticks", "<u4"), ("traded", "<u8")])
"""A tick made of a bar, inside the terminal only: how many ticks, and how much traded volume, it stands for."""

TICK_FLAG_BID: Final = 2
TICK_FLAG_ASK: Final = 4
TICK_FLAG_LAST: Final = 8
TICK_FLAG_VOLUME: Final = 16
TICK_FLAG_BUY: Final = 32
TICK_FLAG_SELL: Final = 64

QUOTE_FLAGS: Final = TICK_FLAG_BID | TICK_FLAG_ASK
DEAL_FLAGS: Final = TICK_FLAG_LAST | TICK_FLAG_VOLUME | TICK_FLAG_BUY | TICK_FLAG_SELL
"""A tick with one of these is a deal."""
