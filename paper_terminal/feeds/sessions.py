"""The hours of a market: when it is open and how busy it is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_HOURS_A_WEEK = 168
_MINUTES_AN_HOUR = 60
# The epoch was a Thursday at midnight: 72 hours into a week that starts on Monday.
_EPOCH_HOUR_OF_WEEK = 72
_FRIDAY_CLOSE_HOUR = 4 * 24 + 22
_SUNDAY_OPEN_HOUR = 6 * 24 + 22

# How busy each hour of the day (UTC) is: Asia, London, its overlap with New York, and the quiet around the
# rollover at 22. Only the shape counts; it is scaled to a mean of 1.
_ACTIVITY_BY_HOUR = (
    0.55, 0.65, 0.70, 0.65, 0.60, 0.65, 0.85, 1.25, 1.50, 1.40, 1.25, 1.20,
    1.45, 1.80, 1.90, 1.75, 1.40, 1.05, 0.90, 0.80, 0.70, 0.50, 0.40, 0.45,
)  # fmt: skip


class Sessions:
    """When the market is open and how busy it is, by hour of the week (UTC, Monday first)."""

    def __init__(self, *, weekends: bool) -> None:
        """Quote at weekends too, or close from Friday to Sunday, 22:00 UTC both."""
        shape = np.array(_ACTIVITY_BY_HOUR)
        start = np.tile(shape, 7)
        end = np.roll(start, -1)
        hour = np.arange(_HOURS_A_WEEK)
        opened = np.ones(_HOURS_A_WEEK, dtype=bool)
        if not weekends:
            opened = (hour < _FRIDAY_CLOSE_HOUR) | (hour >= _SUNDAY_OPEN_HOUR)
        scale = 1.0 / float(((start + end) / 2.0)[opened].mean())
        self._start, self._end, self._open = start * scale, end * scale, opened
        hours = (self._start + self._end) / 2.0 * opened
        self._hours_before = np.concatenate(([0.0], np.cumsum(hours)))

    def activity(self, index: int) -> Floats | None:
        """Return the activity at each minute of hour `index` (61 values), or None when the market is closed."""
        hour = (index + _EPOCH_HOUR_OF_WEEK) % _HOURS_A_WEEK
        if not self._open[hour]:
            return None
        return np.linspace(self._start[hour], self._end[hour], _MINUTES_AN_HOUR + 1)

    def opened(self, index: Ints) -> NDArray[np.bool_]:
        """Tell of each hour whether the market is open."""
        return self._open[(index + _EPOCH_HOUR_OF_WEEK) % _HOURS_A_WEEK]

    def market_hours(self, index: Ints) -> Floats:
        """Return the market's own time at the start of each hour: it stands still when closed."""
        week, hour = np.divmod(index + _EPOCH_HOUR_OF_WEEK, _HOURS_A_WEEK)
        times: Floats = week * self._hours_before[-1] + self._hours_before[hour]
        return times
