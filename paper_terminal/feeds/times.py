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
_MINUTE_CHARACTERS = 16
_CACHED_MINUTES = 1 << 16


class Times:
    """A reader of the times of one file: the minutes it has met it does not take apart again."""

    def __init__(self) -> None:
        self._minutes: dict[str, int] = {}

    def parsed(self, text: str) -> tuple[int, bool]:
        """Return a written time in milliseconds (cut off), and whether it does not say its zone.

        Raises:
            ValueError: it is no date and time after 1970.
        """
        start = self._minutes.get(text[:_MINUTE_CHARACTERS])
        if start is not None:
            seconds_ms = _seconds_ms(text[_MINUTE_CHARACTERS:])
            if seconds_ms is not None:
                return start + seconds_ms, True
        time_ms, naive = parsed_ms(text)
        if naive and text[13:14] == ":" and _seconds_ms(text[_MINUTE_CHARACTERS:]) is not None:
            if len(self._minutes) >= _CACHED_MINUTES:
                self._minutes.clear()
            self._minutes[text[:_MINUTE_CHARACTERS]] = time_ms // 60_000 * 60_000
        return time_ms, naive


def _seconds_ms(text: str) -> int | None:
    """Return the milliseconds of `:SS` or `:SS.fff`, or None when it is written otherwise."""
    seconds, point, fraction = text[1:3], text[3:4], text[4:]
    if text[:1] != ":" or not (seconds.isdecimal() and len(seconds) == 2 and seconds < "60"):
        return None
    if not point:
        return int(seconds) * 1000
    if point != "." or not fraction.isdecimal():
        return None
    return int(seconds) * 1000 + int(fraction.ljust(3, "0")[:3])


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
