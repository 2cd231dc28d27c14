"""When a symbol trades: sessions by weekday and holidays, on the server's clock."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final

import numpy as np
from numpy.typing import NDArray

WEEKDAYS: Final = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
"""In the order of MetaTrader, Sunday first."""
_MINUTES_A_DAY: Final = 1440
_DAY_S: Final = 86_400
# The epoch was a Thursday; weekdays count from Sunday as 0.
_EPOCH_WEEKDAY: Final = 4
_EPOCH: Final = date(1970, 1, 1)
_SESSION: Final = re.compile(r"(\d{2}):(\d{2})-(\d{2}):(\d{2})")


class HoursError(ValueError):
    """Sessions or holidays that cannot be read; one line says which."""


class TradingHours:
    """The hours of one symbol, to the minute."""

    def __init__(self, sessions: Mapping[str, str] | None = None, holidays: Sequence[str] = ()) -> None:
        """Take the sessions of a week.

        Args:
            sessions: By weekday (`monday`), one or more of `HH:MM-HH:MM`, comma between; a day left out is closed.
                24:00 ends a day. None: always open.
            holidays: ISO dates without trading.

        Raises:
            HoursError: an unknown weekday, a session that is none or ends before it begins, a bad date, no session.
        """
        self._week = np.zeros(7 * _MINUTES_A_DAY, dtype=bool)
        for name, text in (dict.fromkeys(WEEKDAYS, "00:00-24:00") if sessions is None else sessions).items():
            if name not in WEEKDAYS:
                raise HoursError(f"sessions: {name!r} is not one of {', '.join(WEEKDAYS)}")
            first = WEEKDAYS.index(name) * _MINUTES_A_DAY
            for opens, closes in _parsed(name, text):
                self._week[first + opens : first + closes] = True
        if not self._week.any():
            raise HoursError("sessions: none on any day; set trade_mode to 0 for a symbol that does not trade")
        self._holidays = np.array(sorted(_day_number(each) for each in holidays), dtype=np.int64)
        self.always = bool(self._week.all()) and not len(self._holidays)
        """Whether there is no moment without trading."""

    def is_open(self, server_ms: int) -> bool:
        """Tell whether the symbol trades at a moment of the server's clock, milliseconds."""
        if self.always:
            return True
        day, second = divmod(server_ms // 1000, _DAY_S)
        if day in self._holidays:
            return False
        return bool(self._week[(day + _EPOCH_WEEKDAY) % 7 * _MINUTES_A_DAY + second // 60])

    def opened(self, server_s: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell of each server second whether the symbol trades."""
        days, seconds = np.divmod(server_s, _DAY_S)
        trading: NDArray[np.bool_] = self._week[(days + _EPOCH_WEEKDAY) % 7 * _MINUTES_A_DAY + seconds // 60]
        return trading & ~np.isin(days, self._holidays)


def _parsed(name: str, text: str) -> list[tuple[int, int]]:
    """Return the minutes of the day at which each session of a text opens and closes."""
    found = []
    for part in filter(None, (each.strip() for each in text.split(","))):
        match = _SESSION.fullmatch(part)
        if match is None:
            raise HoursError(f"sessions, {name}: {part!r} is not HH:MM-HH:MM")
        hours, minutes, until_hours, until_minutes = map(int, match.groups())
        opens, closes = hours * 60 + minutes, until_hours * 60 + until_minutes
        if minutes > 59 or until_minutes > 59 or not opens < closes <= _MINUTES_A_DAY:
            raise HoursError(f"sessions, {name}: {part!r} must end after it begins and by 24:00")
        found.append((opens, closes))
    return found


def _day_number(text: str) -> int:
    try:
        return (date.fromisoformat(text) - _EPOCH).days
    except ValueError as error:
        raise HoursError(f"holidays: {text!r} is not an ISO date") from error
