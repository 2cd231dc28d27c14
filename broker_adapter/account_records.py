"""Deals or final orders of an account as one look found them, with what they are looked up by.

Looks come several times a second, and an account may have tens of thousands of records a day: none of the work after a
look may grow with all of them. So the looks share one log that only grows, and each sees the part of it that was there
at its time: to outward appearance every `Records` is immutable, and one with a few records more costs those few.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from broker_adapter.witnesses import parse_comment
from protocol.messages import Deal, Order

R = TypeVar("R", bound=Deal | Order)

_NOWHERE = -1


class Records(Generic[R]):
    """Each ticket's newest record, in the order in which the records became known."""

    __slots__ = ("_end", "_log", "_size")

    def __init__(self, records: Iterable[R] = ()) -> None:
        self._log: _Log[R] = _Log()
        self._size: int = self._log.extend(records)
        self._end = len(self._log.records)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[R]:
        return self._from(0)

    def __repr__(self) -> str:
        return f"Records({list(self)!r})"

    def with_more(self, records: Iterable[R]) -> Records[R]:
        """Return these records and `records`, which take the place of those with the same tickets.

        The same object if all of them are known just so.
        """
        newest = {each.ticket: each for each in records}
        new = [each for ticket, each in newest.items() if self.get(ticket) != each]
        if not new:
            return self
        if self._end != len(self._log.records):  # another one grew out of this one already
            return Records([*self, *new])
        more: Records[R] = Records.__new__(Records)
        more._log = self._log
        more._size = self._size + self._log.extend(new)
        more._end = len(self._log.records)
        return more

    def grew_from(self, earlier: Records[R]) -> bool:
        """Whether these are `earlier` and what came to it."""
        return self._log is earlier._log and self._end >= earlier._end

    def since(self, earlier: Records[R] | None) -> Iterator[R]:
        """Return what is new or changed against `earlier`; all of it if these did not grow from that."""
        return self._from(earlier._end if earlier is not None and self.grew_from(earlier) else 0)

    def get(self, ticket: int) -> R | None:
        """Return the record of a ticket."""
        return next(self._at(self._log.by_ticket.places(ticket)), None)

    def of_order(self, ticket: int) -> list[R]:
        """Return the deals that an order made; of orders, the order itself."""
        return list(self._at(self._log.by_order.places(ticket)))

    def of_position(self, identifier: int) -> list[R]:
        """Return what belongs to a position."""
        return list(self._at(self._log.by_position.places(identifier)))

    def naming(self, *, orders: Iterable[int], magic: int, number: int) -> list[R]:
        """Return what has one of these order tickets, this magic number, or this intent's code in its comment."""
        log = self._log
        found = {*log.by_magic.places(magic), *log.by_number.places(number)}
        for ticket in orders:
            found.update(log.by_order.places(ticket))
        return list(self._at(sorted(found)))

    def _from(self, start: int) -> Iterator[R]:
        return self._at(range(start, self._end))

    def _at(self, places: Iterable[int]) -> Iterator[R]:
        records, replaced, end = self._log.records, self._log.replaced, self._end
        return (records[place] for place in places if place < end and replaced.get(place, end) >= end)


class _Index:
    """At which places a key stands. Numbers only: a list for each key would cost the garbage collector as much."""

    __slots__ = ("_before", "_newest")

    def __init__(self) -> None:
        self._newest: dict[int, int] = {}
        self._before: list[int] = []  # by place: where the same key stood last, or _NOWHERE

    def __len__(self) -> int:
        return len(self._newest)

    def append(self, key: int) -> int:
        """Note `key` (0 stands for none) at the next place; return where it stood before, or `_NOWHERE`."""
        before = self._newest.get(key, _NOWHERE)
        if key:
            self._newest[key] = len(self._before)
        self._before.append(before)
        return before

    def places(self, key: int) -> list[int]:
        """Return where `key` stands, in order."""
        found: list[int] = []
        place = self._newest.get(key, _NOWHERE)
        while place != _NOWHERE:
            found.append(place)
            place = self._before[place]
        found.reverse()
        return found


class _Log(Generic[R]):
    """Every version of every record, and at which places what stands. `replaced`: the place of the next version."""

    __slots__ = ("by_magic", "by_number", "by_order", "by_position", "by_ticket", "records", "replaced")

    def __init__(self) -> None:
        self.records: list[R] = []
        self.replaced: dict[int, int] = {}
        self.by_ticket = _Index()
        self.by_order = _Index()
        self.by_position = _Index()
        self.by_magic = _Index()
        self.by_number = _Index()

    def extend(self, records: Iterable[R]) -> int:
        """Append; return how many of the tickets are new."""
        tickets = len(self.by_ticket)
        for record in records:
            last = self.by_ticket.append(record.ticket)
            if last != _NOWHERE:
                self.replaced[last] = len(self.records)
            self.by_order.append(record.order if isinstance(record, Deal) else record.ticket)
            self.by_position.append(record.position_id)
            self.by_magic.append(record.magic)
            self.by_number.append(parse_comment(record.comment) or 0)
            self.records.append(record)
        return len(self.by_ticket) - tickets
