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
        return next(self._at(self._log.by_ticket.get(ticket, ())), None)

    def of_order(self, ticket: int) -> list[R]:
        """Return the deals that an order made; of orders, the order itself."""
        return list(self._at(self._log.by_order.get(ticket, ())))

    def of_position(self, identifier: int) -> list[R]:
        """Return what belongs to a position."""
        return list(self._at(self._log.by_position.get(identifier, ())))

    def naming(self, *, orders: Iterable[int], magic: int, number: int) -> list[R]:
        """Return what has one of these order tickets, this magic number, or this intent's code in its comment."""
        log = self._log
        found = {*log.by_magic.get(magic, ()), *log.by_number.get(number, ())}
        for ticket in orders:
            found.update(log.by_order.get(ticket, ()))
        return list(self._at(sorted(found)))

    def _from(self, start: int) -> Iterator[R]:
        return self._at(range(start, self._end))

    def _at(self, places: Iterable[int]) -> Iterator[R]:
        records, replaced, end = self._log.records, self._log.replaced, self._end
        return (records[place] for place in places if place < end and replaced.get(place, end) >= end)


class _Log(Generic[R]):
    """Every version of every record, and at which places what stands. `replaced`: the place of the next version."""

    __slots__ = ("by_magic", "by_number", "by_order", "by_position", "by_ticket", "records", "replaced")

    def __init__(self) -> None:
        self.records: list[R] = []
        self.replaced: dict[int, int] = {}
        self.by_ticket: dict[int, list[int]] = {}
        self.by_order: dict[int, list[int]] = {}
        self.by_position: dict[int, list[int]] = {}
        self.by_magic: dict[int, list[int]] = {}
        self.by_number: dict[int, list[int]] = {}

    def extend(self, records: Iterable[R]) -> int:
        """Append; return how many of the tickets are new."""
        tickets = len(self.by_ticket)
        for record in records:
            place = len(self.records)
            self.records.append(record)
            versions = self.by_ticket.setdefault(record.ticket, [])
            if versions:
                self.replaced[versions[-1]] = place
            versions.append(place)
            _note(self.by_order, record.order if isinstance(record, Deal) else record.ticket, place)
            _note(self.by_position, record.position_id, place)
            _note(self.by_magic, record.magic, place)
            _note(self.by_number, parse_comment(record.comment) or 0, place)
        return len(self.by_ticket) - tickets


def _note(index: dict[int, list[int]], key: int, place: int) -> None:
    if key:  # 0 stands for none
        index.setdefault(key, []).append(place)
