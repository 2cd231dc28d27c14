"""Written times: the forms that files of ticks and bars use, as milliseconds since the epoch."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_DATE_TIME = re.compile(
    r"(?P<y>\d{4})[.\-/]?(?P<m>\d{2})[.\-/]?(?P<d>\d{2})"
    r"(?:[ T](?P<h>\d{2}):?(?P<n>\d{2})(?::?(?P<s>\d{2})[.,]?(?P<f>\d{0,9}))?(?P<z>Z|[+-]\d{2}:?\d{2})?)?"
)
_DAY_FIRST = re.compile(r"(\d{2})\.(\d{2})\.(\d{4}) (.*?)(?: GMT([+-]\d{4}))?")
_EPOCH = re.compile(r"(\d{9,19})(?:\.(\d*))?")
_EPOCH_SECONDS_DIGITS = 11
_EPOCH_MS_DIGITS = 14
_DATE_CHARACTERS = 10
_DATE = re.compile(r"\d{4}[.\-/]\d{2}[.\-/]\d{2}")


class Times:
    """A reader of the times of one file: the days it has met it does not take apart again."""

    def __init__(self) -> None:
        self._days: dict[str, int] = {}

    def parsed(self, text: str) -> tuple[int, bool]:
        """Return a written time in milliseconds (cut off), and whether it does not say its zone.

        Raises:
            ValueError: it is no date and time after 1970.
        """
        of_day_ms = _of_day_ms(text)
        if of_day_ms is None:
            return parsed_ms(text)
        date = text[:_DATE_CHARACTERS]
        day_ms = self._days.get(date)
        if day_ms is None:
            if _DATE.fullmatch(date) is None:
                return parsed_ms(text)
            self._days[date] = day_ms = parsed_ms(date)[0]
        return day_ms + of_day_ms, True


def _of_day_ms(text: str) -> int | None:
    """Return the milliseconds of `HH:MM:SS` or `HH:MM:SS.fff` after a date, or None when it is written otherwise."""
    hour, minute, second = text[11:13], text[14:16], text[17:19]
    if text[13:14] != ":" or text[16:17] != ":" or text[10:11] not in {" ", "T"}:
        return None
    digits = hour + minute + second
    if len(digits) != 6 or not digits.isdecimal() or hour > "23" or minute > "59" or second > "59":
        return None
    of_day_ms = (int(hour) * 3600 + int(minute) * 60 + int(second)) * 1000
    if len(text) == 19:
        return of_day_ms
    fraction = text[20:]
    if text[19] != "." or not fraction.isdecimal() or len(fraction) > 9:
        return None
    return of_day_ms + int(fraction.ljust(3, "0")[:3])


def parsed_ms(text: str) -> tuple[int, bool]:
    """Return a written time in milliseconds (cut off), and whether it does not say its zone.

    A plain number of nine digits or more counts seconds, milliseconds, micro- or nanoseconds since the epoch; those are
    on whatever clock the file is on, as the epochs that MetaTrader's module gives are on its broker's.

    Raises:
        ValueError: it is no date and time after 1970.
    """
    if epoch := _EPOCH.fullmatch(text):
        return _epoch_ms(epoch[1], epoch[2] or ""), True
    if day_first := _DAY_FIRST.fullmatch(text):
        day, month, year, rest, zone = day_first.groups()
        text = f"{year}-{month}-{day} {rest}{zone or ''}"
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no date and time")
    year, month, day, hour, minute, second = (int(match[each] or 0) for each in "ymdhns")
    moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    fraction_ms = int((match["f"] or "0").ljust(3, "0")[:3])
    time_ms = int(moment.timestamp()) * 1000 + fraction_ms - _ahead_ms(match["z"])
    if time_ms < 0:
        raise ValueError(f"{text!r} is before 1970")
    return time_ms, match["z"] is None


def _epoch_ms(whole: str, fraction: str) -> int:
    if len(whole) <= _EPOCH_SECONDS_DIGITS:
        return int(whole) * 1000 + int(fraction.ljust(3, "0")[:3])
    if len(whole) <= _EPOCH_MS_DIGITS:
        return int(whole)
    return int(whole) // (1000 if len(whole) <= _EPOCH_MS_DIGITS + 3 else 1_000_000)


def _ahead_ms(zone: str | None) -> int:
    if zone is None or zone == "Z":
        return 0
    minutes = int(zone[1:3]) * 60 + int(zone[-2:])
    return (-minutes if zone[0] == "-" else minutes) * 60_000
