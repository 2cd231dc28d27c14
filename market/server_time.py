"""The broker's server time: a rule, not a number.

A terminal writes its server's wall clock as if it were UTC. The usual convention for foreign exchange is New York
plus seven hours, so that the trading week fills five whole days; others follow the dates of the EU, or keep a
fixed offset. The offset changes twice a year while the system runs, and history before the change has the other one:
therefore conversions take the moment into account.

In the hour that occurs twice when clocks go back, a server time means the first pass unless told otherwise; a
server time that clocks jump over means the same distance after the jump. (Foreign exchange is closed then.)
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

_MINUTE_MS = 60_000
_HOUR_MS = 60 * _MINUTE_MS
_ZONES = {"ny": "America/New_York", "eu": "Europe/Brussels"}
# Brussels is UTC+1 in winter: subtracted, so that the hours of an eu rule count from UTC.
_EU_WINTER_MS = _HOUR_MS
_FIRST_YEAR, _LAST_YEAR = 1970, 2100

OFFSET_GRID_MS = 15 * _MINUTE_MS
"""Offsets of real time zones are multiples of this."""
_LEAST_OFFSET_MS = -12 * _HOUR_MS
_LARGEST_OFFSET_MS = 14 * _HOUR_MS


class ServerTimeRule(msgspec.Struct, frozen=True):
    """How the server's clock follows from UTC. Get one with `ServerTimeRule.parse`."""

    name: str

    @staticmethod
    def parse(name: str) -> ServerTimeRule:
        """Return the rule called `name`.

        `ny+7`: New York's clock plus 7 hours. `eu+2`: UTC plus 2 hours, 3 in summer by EU dates. `utc`.
        `fixed:+120`: UTC plus 120 minutes, always.

        Raises:
            ValueError: there is no such rule, or its offset is none a time zone could have.
        """
        _offsets(name)
        return ServerTimeRule(name)

    def offset_ms(self, utc_ms: int) -> int:
        """Return server time minus UTC at the moment `utc_ms`, milliseconds."""
        table = _offsets(self.name)
        return table.offsets_ms[bisect_right(table.changes_utc_ms, utc_ms)]

    def to_server_ms(self, utc_ms: int) -> int:
        """Return the server's clock at the moment `utc_ms`."""
        return utc_ms + self.offset_ms(utc_ms)

    def to_utc_ms(self, server_ms: int, *, second_pass: bool = False) -> int:
        """Return the moment at which the server's clock shows `server_ms`.

        Where it shows it twice: the first time, or the second if `second_pass`. See `is_ambiguous`.
        """
        table = _offsets(self.name)
        changes = table.changes_second_ms if second_pass else table.changes_first_ms
        return server_ms - table.offsets_ms[bisect_right(changes, server_ms)]

    def is_ambiguous(self, server_ms: int) -> bool:
        """Say whether the server's clock shows `server_ms` twice (clocks going back)."""
        first, second = self.to_utc_ms(server_ms), self.to_utc_ms(server_ms, second_pass=True)
        return first < second and self.to_server_ms(first) == server_ms == self.to_server_ms(second)

    def offsets_ms(self, utc_ms: Ints) -> Ints:
        """Return server time minus UTC for each moment of an array."""
        return _lookup(utc_ms, _offsets(self.name).changes_utc_ms, self.name)

    def to_server_ms_array(self, utc_ms: Ints) -> Ints:
        """Return `to_server_ms` of each element."""
        return utc_ms + self.offsets_ms(utc_ms)

    def to_utc_ms_array(self, server_ms: Ints) -> Ints:
        """Return `to_utc_ms` of each element; times that occur twice mean the first pass."""
        return server_ms - _lookup(server_ms, _offsets(self.name).changes_first_ms, self.name)


class _Offsets(msgspec.Struct, frozen=True):
    """The changes of a rule's offset, in UTC and as the server's clock shows them; offsets_ms has one more."""

    changes_utc_ms: tuple[int, ...]
    changes_first_ms: tuple[int, ...]
    changes_second_ms: tuple[int, ...]
    offsets_ms: tuple[int, ...]


def _lookup(times_ms: Ints, changes_ms: tuple[int, ...], name: str) -> Ints:
    import numpy as np  # here: scalar users of this module start without numpy

    if not changes_ms:
        return np.full(len(times_ms), _offsets(name).offsets_ms[0], dtype=np.int64)
    changes, offsets = _as_arrays(changes_ms, _offsets(name).offsets_ms)
    found: Ints = offsets[np.searchsorted(changes, times_ms, side="right")]
    return found


@lru_cache(maxsize=32)
def _as_arrays(changes_ms: tuple[int, ...], offsets_ms: tuple[int, ...]) -> tuple[Ints, Ints]:
    import numpy as np

    return np.array(changes_ms, dtype=np.int64), np.array(offsets_ms, dtype=np.int64)


@lru_cache(maxsize=32)
def _offsets(name: str) -> _Offsets:
    if name == "utc":
        return _Offsets((), (), (), (0,))
    fixed = re.fullmatch(r"fixed:([+-]\d{1,4})", name)
    if fixed is not None:
        return _Offsets((), (), (), (_checked(name, int(fixed[1]) * _MINUTE_MS),))
    moving = re.fullmatch(r"(ny|eu)([+-]\d{1,2})", name)
    if moving is None:
        raise ValueError(
            f"unknown server-time rule {name!r}: use ny+7 (New York plus 7 h), eu+2 (UTC plus 2 h, EU dates), "
            "utc, or fixed:+120 (minutes)"
        )
    shift_ms = int(moving[2]) * _HOUR_MS - (_EU_WINTER_MS if moving[1] == "eu" else 0)
    changes, zone_offsets = _zone_changes(_ZONES[moving[1]])
    offsets = tuple(_checked(name, offset + shift_ms) for offset in zone_offsets)
    sides = [
        (change + max(before, after), change + min(before, after))
        for change, before, after in zip(changes, offsets, offsets[1:], strict=False)
    ]
    return _Offsets(changes, tuple(first for first, _ in sides), tuple(second for _, second in sides), offsets)


def _checked(name: str, offset_ms: int) -> int:
    if not _LEAST_OFFSET_MS <= offset_ms <= _LARGEST_OFFSET_MS:
        raise ValueError(
            f"server-time rule {name!r} is {offset_ms / _HOUR_MS:g} h from UTC: no time zone is further than "
            "-12 h or +14 h"
        )
    return offset_ms


@lru_cache(maxsize=4)
def _zone_changes(zone_name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return when the zone's offset changes (UTC ms) and the offsets (ms) before, between and after."""
    from zoneinfo import ZoneInfo  # here: fixed rules need no zone data

    zone = ZoneInfo(zone_name)

    def offset_ms(utc_s: int) -> int:
        delta = datetime.fromtimestamp(utc_s, zone).utcoffset()
        return 0 if delta is None else round(delta.total_seconds() * 1000)

    months = [
        int(datetime(year, month, 1, tzinfo=UTC).timestamp())
        for year in range(_FIRST_YEAR, _LAST_YEAR + 1)
        for month in range(1, 13)
    ]
    changes, offsets = [], [offset_ms(months[0])]
    for start_s, end_s in pairwise(months):
        after = offset_ms(end_s)
        if after == offsets[-1]:
            continue
        low, high = start_s, end_s
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset_ms(middle) == offsets[-1] else (low, middle)
        changes.append(high * 1000)
        offsets.append(after)
    return tuple(changes), tuple(offsets)


UTC_RULE = ServerTimeRule("utc")

DEFAULT_RULES = ("ny+7", "eu+2", "utc")
"""Rules to try against a measured offset, the commonest first."""


def matching_rules(
    offset_ms: int, at_utc_ms: int, *, candidates: Sequence[str] = DEFAULT_RULES
) -> list[ServerTimeRule]:
    """Return the candidates whose offset at `at_utc_ms` is `offset_ms`, in the order given."""
    rules = (ServerTimeRule.parse(name) for name in candidates)
    return [rule for rule in rules if rule.offset_ms(at_utc_ms) == offset_ms]


def choose_rule(
    offset_ms: int,
    at_utc_ms: int,
    *,
    current: ServerTimeRule | None = None,
    candidates: Sequence[str] = DEFAULT_RULES,
) -> ServerTimeRule:
    """Return the rule that explains an offset measured at `at_utc_ms`.

    The current rule stays while it fits. Else the first candidate that fits; else a fixed offset. One measurement
    cannot tell ny+7 from eu+2 but in the weeks between their dates: a user who knows says so in the
    configuration.

    Raises:
        ValueError: `offset_ms` is not on whole minutes, or none a time zone could have.
    """
    if current is not None and current.offset_ms(at_utc_ms) == offset_ms:
        return current
    for rule in matching_rules(offset_ms, at_utc_ms, candidates=candidates):
        return rule
    minutes, rest = divmod(offset_ms, _MINUTE_MS)
    if rest:
        raise ValueError(f"a server-time offset is whole minutes, got {offset_ms} ms")
    return ServerTimeRule.parse(f"fixed:{minutes:+d}")


# A symbol that fell silent says nothing of the present offset: clocks may have changed since.
_EVIDENCE_LIFE_MS = 5 * _MINUTE_MS


class _Evidence(msgspec.Struct):
    last_tick_ms: int
    offset_ms: int | None = None
    rises: int = 0
    rose_utc_ms: int = 0


class OffsetEstimator:
    """Measures the server's offset from live ticks. No clock of its own: feed it samples.

    The newest tick's time minus UTC is the offset less the tick's age. A sample counts only when the symbol's tick
    time rose since its last sample (a tick that stands still is old, by how much nobody knows) and the difference is
    near the 15-minute grid. An offset is accepted when enough symbols support it with enough rises each, and no
    symbol supports a larger one as well: delayed quotes are behind, never ahead.
    """

    def __init__(self, *, symbols_needed: int = 2, rises_needed: int = 3, near_grid_ms: int = 30_000) -> None:
        """Start without a measurement.

        Args:
            symbols_needed: Symbols that must agree; give the number watched when that is less than 2.
            rises_needed: Rising ticks of each in a row.
            near_grid_ms: How far from the grid a sample may lie: tick age plus the error of our own clock.
        """
        self._symbols_needed = symbols_needed
        self._rises_needed = rises_needed
        self._near_grid_ms = near_grid_ms
        self._evidence: dict[str, _Evidence] = {}
        self._offset_ms: int | None = None

    @property
    def offset_ms(self) -> int | None:
        """The offset last measured, server time minus UTC; None before the first. Kept while markets rest."""
        return self._offset_ms

    @property
    def status(self) -> Literal["assumed", "measured"]:
        """`measured` once an offset was accepted; `assumed` until then."""
        return "assumed" if self._offset_ms is None else "measured"

    def observe(self, symbol: str, tick_time_ms: int, utc_now_ms: int) -> bool:
        """Take a sample: the newest tick of `symbol` (server time) and the moment it was read (UTC).

        Returns:
            True when this sample changed the accepted offset.
        """
        evidence = self._evidence.get(symbol)
        if evidence is None:
            self._evidence[symbol] = _Evidence(tick_time_ms)
            return False
        rose = tick_time_ms > evidence.last_tick_ms
        evidence.last_tick_ms = tick_time_ms
        if not rose:
            return False
        evidence.rose_utc_ms = utc_now_ms
        offset_ms = self._near_grid(tick_time_ms - utc_now_ms)
        if offset_ms is None or offset_ms != evidence.offset_ms:
            evidence.offset_ms, evidence.rises = offset_ms, int(offset_ms is not None)
        else:
            evidence.rises += 1
        return self._accept(utc_now_ms)

    def _near_grid(self, difference_ms: int) -> int | None:
        offset_ms = round(difference_ms / OFFSET_GRID_MS) * OFFSET_GRID_MS
        possible = _LEAST_OFFSET_MS <= offset_ms <= _LARGEST_OFFSET_MS
        return offset_ms if possible and abs(difference_ms - offset_ms) <= self._near_grid_ms else None

    def _accept(self, utc_now_ms: int) -> bool:
        proven = [
            each.offset_ms
            for each in self._evidence.values()
            if each.offset_ms is not None
            and each.rises >= self._rises_needed
            and abs(utc_now_ms - each.rose_utc_ms) <= _EVIDENCE_LIFE_MS
        ]
        if not proven:
            return False
        largest = max(proven)
        if proven.count(largest) < self._symbols_needed or largest == self._offset_ms:
            return False
        self._offset_ms = largest
        return True
