"""The broker's clock: the rule that turns UTC into the wall-clock time MetaTrader shows, written as if it were UTC."""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from paper_terminal.records import Records

_HOUR_MS = 3_600_000
_DAY = timedelta(days=1)
_ZONES = {
    "ny+7": ("America/New_York", 7 * 60),
    "eu+2": ("Europe/Helsinki", 0),
    "utc": ("UTC", 0),
}


class ServerTimeRule:
    """Offset of the server's clock from UTC, by date.

    `ny+7` is the usual foreign-exchange convention: New York's time plus seven hours, so that a day ends with the
    New York session. `eu+2` is UTC+2, in summer UTC+3 by European dates; `utc`; or a fixed number of minutes.
    """

    def __init__(self, rule: str | int) -> None:
        """Prepare a rule.

        Raises:
            ValueError: an unknown name, or more than 14 hours.
        """
        if isinstance(rule, int):
            if abs(rule) > 14 * 60:
                raise ValueError(f"server_time: {rule} minutes is more than 14 hours from UTC")
            self._zone, self._plus_minutes = ZoneInfo("UTC"), rule
            return
        if rule not in _ZONES:
            raise ValueError(f"server_time: {rule!r} is not one of {', '.join(_ZONES)} or a number of minutes")
        name, self._plus_minutes = _ZONES[rule]
        self._zone = ZoneInfo(name)

    def offset_ms(self, utc_ms: int) -> int:
        """Return server time minus UTC at a moment, milliseconds."""
        starts, offsets = self._table(datetime.fromtimestamp(utc_ms / 1000, UTC).year)
        return offsets[bisect_right(starts, utc_ms) - 1]

    def to_server_ms(self, utc_ms: int) -> int:
        """Return a moment on the server's clock."""
        return utc_ms + self.offset_ms(utc_ms)

    def to_utc_ms(self, server_ms: int, *, latest: bool = False) -> int:
        """Return the moment the server's clock shows this; of the two in autumn's repeated hour, the earlier.

        Args:
            server_ms: Server time, milliseconds.
            latest: Take the later of the two moments instead.
        """
        before, after = self.offset_ms(server_ms - 24 * _HOUR_MS), self.offset_ms(server_ms + 24 * _HOUR_MS)
        candidates = sorted({server_ms - before, server_ms - after})
        fitting = [utc for utc in candidates if self.to_server_ms(utc) == server_ms] or candidates
        return fitting[-1] if latest else fitting[0]

    def to_utc_all(self, server_ms: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the moments of many server times, milliseconds; of an hour that comes twice the earlier."""
        hours, place = np.unique(server_ms // _HOUR_MS, return_inverse=True)
        offsets = np.array([self.to_utc_ms(int(hour) * _HOUR_MS) - int(hour) * _HOUR_MS for hour in hours], np.int64)
        moments: NDArray[np.int64] = server_ms + offsets[place]
        return moments

    def to_server_ticks(self, ticks: Records) -> Records:
        """Return a copy of ticks, in time order, with both times on the server's clock."""
        served = ticks.copy()
        if len(ticks):
            times: NDArray[np.int64] = ticks["time_msc"]
            served["time_msc"] += self._offsets(times)
            served["time"] = served["time_msc"] // 1000
        return served

    def to_server_seconds(self, times_s: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return UTC seconds, ascending, as the server's clock shows them."""
        served: NDArray[np.int64] = times_s + self._offsets(times_s * 1000) // 1000
        return served

    def _offsets(self, times_ms: NDArray[np.int64]) -> NDArray[np.int64] | int:
        first, last = int(times_ms[0]), int(times_ms[-1])
        years = range(datetime.fromtimestamp(first / 1000, UTC).year, datetime.fromtimestamp(last / 1000, UTC).year + 1)
        tables = [self._table(year) for year in years]
        starts = [start for table in tables for start in table[0]]
        offsets = [offset for table in tables for offset in table[1]]
        low, high = bisect_right(starts, first) - 1, bisect_right(starts, last) - 1
        if low == high:
            return offsets[low]
        picked: NDArray[np.int64] = np.array(offsets)[np.searchsorted(starts, times_ms, side="right") - 1]
        return picked

    def _table(self, year: int) -> tuple[list[int], list[int]]:
        return _offset_table(self._zone, self._plus_minutes, year)


@lru_cache(maxsize=256)
def _offset_table(zone: ZoneInfo, plus_minutes: int, year: int) -> tuple[list[int], list[int]]:
    """Return the moments (UTC ms) of a year from which an offset holds, and the offsets (ms)."""
    moment, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)

    def offset(at: datetime) -> timedelta:
        return at.astimezone(zone).utcoffset() or timedelta()

    starts, offsets = [moment], [offset(moment)]
    while moment < end:
        if offset(moment + _DAY) != offsets[-1]:
            change = next(at for hour in range(25) if offset(at := moment + timedelta(hours=hour)) != offsets[-1])
            starts.append(change)
            offsets.append(offset(change))
        moment += _DAY
    milliseconds = [int((each + timedelta(minutes=plus_minutes)).total_seconds() * 1000) for each in offsets]
    return [int(each.timestamp() * 1000) for each in starts], milliseconds
