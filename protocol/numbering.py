"""Gaps, lost tails and repeats in numbered streams. Pure: no socket, no clock."""

from __future__ import annotations

from typing import NamedTuple


class EventPosition(NamedTuple):
    """How far a consumer has come in an event log; offset 0 is before the first event."""

    log_id: str
    offset: int


class Gap(NamedTuple):
    """Numbers `first` to `last` (both inclusive) of `epoch` did not arrive."""

    epoch: int
    first: int
    last: int

    @property
    def missing(self) -> int:
        """How many numbers that is."""
        return self.last - self.first + 1


class Verdict(NamedTuple):
    """What to do with an arrival: drop its first `repeated` records; `gap` came before it."""

    repeated: int
    gap: Gap | None


IN_ORDER = Verdict(0, None)


class Sequence:
    """Follows one stream whose records are numbered from 1 within an epoch.

    The first arrival of the first epoch sets the start: what came before it was never asked for. A new epoch starts
    at 1, so that its lost beginning is a gap.

    Args:
        from_first: Follow the first epoch from its first number on too.
    """

    def __init__(self, *, from_first: bool = False) -> None:
        self.epoch = 0
        self.last = 0
        self.received = 0
        self.missed = 0
        self._joined = from_first

    def arrive(self, epoch: int, first: int, count: int) -> Verdict:
        """Take note of records `first` to ``first + count - 1`` and judge them."""
        if first == self.last + 1 and epoch == self.epoch and self._joined:  # nearly always
            self.last += count
            self.received += count
            return IN_ORDER
        if epoch < self.epoch:
            return Verdict(count, None)
        if not self._joined:
            self._joined, self.epoch, self.last = True, epoch, first - 1
        elif epoch > self.epoch:
            self.epoch, self.last = epoch, 0
        end = first + count - 1
        if end <= self.last:
            return Verdict(count, None)
        repeated = max(0, self.last + 1 - first)
        gap = Gap(epoch, self.last + 1, first - 1) if first > self.last + 1 else None
        self.last = end
        self.received += count - repeated
        self.missed += gap.missing if gap else 0
        return Verdict(repeated, gap)

    def beacon(self, epoch: int, last: int) -> Gap | None:
        """Take note that the stream has come to `last`; return what a lost tail hides, or None.

        The stream counts on from `last`: the missing records are the caller's to heal.
        """
        if not self._joined:
            self._joined, self.epoch, self.last = True, epoch, last
            return None
        if epoch < self.epoch or (epoch == self.epoch and last <= self.last):
            return None
        if epoch > self.epoch:
            self.epoch, self.last = epoch, 0
            if last == 0:
                return None
        gap = Gap(epoch, self.last + 1, last)
        self.last = last
        self.missed += gap.missing
        return gap
