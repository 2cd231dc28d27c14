"""Bars and their periods.

Bar prices are bid prices, as the terminal's. A period without ticks has no bar. Periods are aligned on the
broker's server clock: midnight there starts a D1 bar, so an H4 or D1 bar starts at another UTC hour in winter
than in summer.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

_MINUTE_S = 60
_HOUR_S = 3600
_DAY_S = 86_400
_WEEK_S = 7 * _DAY_S
# 1970-01-01 was a Thursday; the terminal's weeks start on Sunday, three days later.
_FIRST_SUNDAY_MS = 3 * _DAY_S * 1000
_MONTH_NOMINAL_S = 30 * _DAY_S

_HOURS_CODE = 0x4000
_WEEK_CODE = 0x8001
_MONTH_CODE = 0xC001


class Bar(msgspec.Struct, frozen=True, array_like=True):
    """One completed or forming bar. Prices are bid prices."""

    open_time_ms: int
    """UTC milliseconds since 1970."""
    open: float
    high: float
    low: float
    close: float
    tick_volume: int
    """Number of ticks."""
    spread_points: int
    """Lowest spread seen in the bar, in points."""
    real_volume: int = 0
    """Traded volume where an exchange tells it."""


class Timeframe(msgspec.Struct, frozen=True):
    """The period of a bar: S5, M1, H4, D1, W1, MN1 and the like. Get one with `Timeframe.parse`."""

    name: str
    seconds: int
    """Length of the period; a month counts as 30 days here."""
    mt5_code: int | None
    """The terminal's TIMEFRAME constant, or None where it has no such period (seconds)."""

    @staticmethod
    def parse(name: str) -> Timeframe:
        """Return the period called `name`.

        Known: seconds and minutes that divide 60 (S1 to S30, M1 to M30), hours that divide 24 (H1 to H12),
        D1, W1, MN1.

        Raises:
            ValueError: there is no such period.
        """
        return _parse(name)

    @property
    def milliseconds(self) -> int:
        """Return the length of the period in milliseconds; a month counts as 30 days."""
        return self.seconds * 1000

    def open_time_ms(self, server_time_ms: int) -> int:
        """Return when the period that contains `server_time_ms` opened. Both in server time, milliseconds."""
        if self.name == "MN1":
            moment = datetime.fromtimestamp(server_time_ms // 1000, UTC)
            return int(datetime(moment.year, moment.month, 1, tzinfo=UTC).timestamp()) * 1000
        anchor_ms = _FIRST_SUNDAY_MS if self.name == "W1" else 0
        return server_time_ms - (server_time_ms - anchor_ms) % self.milliseconds

    def next_open_ms(self, server_open_ms: int) -> int:
        """Return when the period after the one opened at `server_open_ms` opens. Both in server time."""
        if self.name == "MN1":
            moment = datetime.fromtimestamp(server_open_ms // 1000, UTC)
            year, month = divmod(moment.year * 12 + moment.month, 12)
            return int(datetime(year, month + 1, 1, tzinfo=UTC).timestamp()) * 1000
        return server_open_ms + self.milliseconds


@lru_cache(maxsize=256)
def _parse(name: str) -> Timeframe:
    match = re.fullmatch(r"(S|M|H|D|W|MN)([1-9][0-9]?)", name)
    if match is not None:
        unit, count = match[1], int(match[2])
        if unit == "S" and count < 60 and 60 % count == 0:
            return Timeframe(name, count, None)
        if unit == "M" and count < 60 and 60 % count == 0:
            return Timeframe(name, count * _MINUTE_S, count)
        if unit == "H" and count < 24 and 24 % count == 0:
            return Timeframe(name, count * _HOUR_S, _HOURS_CODE + count)
    whole = {
        "D1": Timeframe("D1", _DAY_S, _HOURS_CODE + 24),
        "W1": Timeframe("W1", _WEEK_S, _WEEK_CODE),
        "MN1": Timeframe("MN1", _MONTH_NOMINAL_S, _MONTH_CODE),
    }
    if name not in whole:
        raise ValueError(
            f"unknown timeframe {name!r}: use seconds or minutes that divide 60 (S5, M15), "
            "hours that divide 24 (H4), or D1, W1, MN1"
        )
    return whole[name]
