"""Healing gaps in a tick stream: missing ticks are asked for and delivered before the later ones.

A stream is the terminal's history without holes, from the epoch's first tick on. So what the adapter no longer keeps by
number is found in the history behind the last tick that was delivered; and so is what nobody published, between two
lives of the adapter. While a gap is open, later batches of that symbol wait; their number is bounded, and a gap that
cannot be healed is given up and stays counted.
"""

from __future__ import annotations

import logging
import struct
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from protocol.errors import BusError, NotFound
from protocol.event_follower import Asks
from protocol.loop import Loop
from protocol.messages import MAX_PAGE, GetMissedTicks, GetTickRange, GetTicks, Reply, TickBatch, Ticks
from protocol.numbering import IN_ORDER, Gap, Sequence
from protocol.ticks import RECORD_BYTES

MAX_WAITING = 20_000  # batches and gaps
DEADLINE_S = 5.0
RETRY_S = 0.2
GIVE_UP_S = 60.0
"""How long a gap is asked for: an adapter that just started must find its terminal first, and networks come back."""
_LATEST_MS = 2_145_000_000_000  # dates of the terminal's API end in January 2038
_time_ms = struct.Struct("<40xq")

log = logging.getLogger(__name__)


class TickPlace(NamedTuple):
    """A place in a symbol's tick history: behind `taken` ticks of millisecond `time_ms` (UTC)."""

    time_ms: int
    taken: int


class LifeGap(NamedTuple):
    """What came before the first tick of `epoch` and after the last one that was delivered."""

    epoch: int


class TickStream:
    """One symbol's ticks: judged by their numbers, delivered in order.

    Ticks of between two lives are delivered in batches whose `first` is 0: they have no number.

    Args:
        heal: Fetch missing ticks. Without it a gap is only counted.
        place: Where to go on in the history, with `heal`: behind the last tick that an earlier reader had.
    """

    def __init__(
        self,
        loop: Loop,
        queries: Asks | None,
        symbol: str,
        deliver: Callable[[str, TickBatch], None],
        *,
        heal: bool,
        place: TickPlace | None = None,
    ) -> None:
        self._loop = loop
        self._queries = queries if heal else None
        self._symbol = symbol
        self._deliver_on = deliver
        self._sequence = Sequence(from_first=heal and place is not None)
        self._waiting: deque[TickBatch | Gap | LifeGap] = deque()
        self._failing_since_ns: int | None = None
        self._asking = False
        self._life = 0
        self._found_between = False
        self._by_time = False  # the gap at the head is asked for by time: by number it is no longer kept
        self._overlap: TickPlace | None = None  # up to here a new life publishes again what was delivered
        # Behind the last tick delivered or passed over, as far as it is known; in an overlap, where the new life is.
        self._place = place if heal else None
        self._first_ms = 0  # of the first tick: others of its millisecond may have come before
        self.gaps = 0
        self.healed = 0
        self.lost = 0
        self.unhealed = 0
        """Gaps that stay. How many ticks are missing between two lives is not known: `lost` does not hold them."""

    @property
    def received(self) -> int:
        """Ticks that arrived, healed ones not included."""
        return self._sequence.received

    @property
    def place(self) -> TickPlace | None:
        """Behind the last tick handled; None without healing, and until the millisecond of the first one is over."""
        if self._overlap is None or self._place is None:
            return self._place
        return max(self._overlap, self._place)

    @property
    def healing(self) -> bool:
        """Whether a gap is open."""
        return bool(self._waiting)

    def arrive(self, batch: TickBatch) -> None:
        """Take a batch from the stream."""
        count = len(batch)
        verdict = self._sequence.arrive(batch.epoch, batch.first, count)
        if verdict is IN_ORDER and batch.epoch == self._life and not self._waiting:
            self._deliver(batch)
            return
        if verdict.repeated == count:
            return
        self._note_life()
        if verdict.repeated:
            rest = batch.records[verdict.repeated * RECORD_BYTES :]
            batch = TickBatch(batch.epoch, batch.first + verdict.repeated, batch.sent_ns, rest)
        self._note(verdict.gap)
        if self._waiting:
            self._hold(batch)
        else:
            self._deliver(batch)

    def pass_over(self, batch: TickBatch) -> None:
        """Take note of a batch that its consumer chose to skip; a gap before it is not healed either."""
        verdict = self._sequence.arrive(batch.epoch, batch.first, len(batch))
        if self._queries is not None:
            self._go_on_behind(batch.records)
        if verdict.gap is not None:
            self.gaps += 1
            self.unhealed += 1
            self.lost += verdict.gap.missing

    def beacon(self, epoch: int, last: int) -> None:
        """Take note of the stream's last number."""
        gap = self._sequence.beacon(epoch, last)
        if last:  # a life without a tick so far has no first one
            self._note_life()
        self._note(gap)

    def _note_life(self) -> None:
        """Take note of which life of the adapter speaks; what came between it and the one before is a gap."""
        before, epoch = self._life, self._sequence.epoch
        self._life = epoch
        if epoch == before or not (before or self._place):
            return
        if self._queries is None or self._place is None:
            self.gaps += 1
            self.unhealed += 1
            return
        self._wait_for(LifeGap(epoch))

    def _note(self, gap: Gap | None) -> None:
        if gap is None:
            return
        self.gaps += 1
        if self._queries is None:
            self.unhealed += 1
            self.lost += gap.missing
            return
        self._wait_for(gap)

    def _wait_for(self, gap: Gap | LifeGap) -> None:
        # Beacons alone, without a tick, can tell of one gap after the other.
        self._make_room()
        self._waiting.append(gap)
        self._heal()

    def _make_room(self) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self._give_up("too much waits behind it")

    def _hold(self, batch: TickBatch) -> None:
        self._make_room()
        if self._waiting:
            self._waiting.append(batch)
        else:
            self._deliver(batch)

    def _deliver(self, batch: TickBatch) -> None:
        if self._queries is not None:
            if self._overlap is not None:
                cut = self._cut_overlap(batch)
                if cut is None:
                    return
                batch = cut
            self._go_on_behind(batch.records)
        self._deliver_on(self._symbol, batch)

    def _go_on_behind(self, records: bytes) -> None:
        if self._place is None:
            self._first_ms = self._first_ms or _time_at(records, 0)
            if _time_at(records, len(records) - RECORD_BYTES) == self._first_ms:
                return
        self._place = _behind(self._place, records)

    def _cut_overlap(self, batch: TickBatch) -> TickBatch | None:
        """Return what of a batch was not delivered in the life before; None if all of it was."""
        count = len(batch)
        for index in range(count):
            place = _behind(self._place, batch.records[index * RECORD_BYTES : (index + 1) * RECORD_BYTES])
            assert self._overlap is not None
            if place > self._overlap:
                self._overlap = None
                return TickBatch(batch.epoch, batch.first + index, batch.sent_ns, batch.records[index * RECORD_BYTES :])
            self._place = place
        return None

    # --- Asking ---------------------------------------------------------------------------------------------------

    def _heal(self) -> None:
        if self._asking or not self._waiting or self._queries is None:
            return
        gap = self._waiting[0]
        if isinstance(gap, TickBatch):
            self._release()
            return
        self._asking = True
        self._queries.ask(
            self._question(gap),
            on_reply=lambda reply: self._on_reply(gap, reply),
            on_error=lambda error: self._on_error(gap, error),
            deadline_s=DEADLINE_S,
        )

    def _question(self, gap: Gap | LifeGap) -> Callable[[int], GetTickRange | GetTicks | GetMissedTicks]:
        symbol, place = self._symbol, self._place
        if isinstance(gap, LifeGap):
            assert place is not None
            return lambda request_id: GetMissedTicks(request_id, symbol, gap.epoch, place.time_ms, place.taken)
        count = min(gap.missing, MAX_PAGE)
        if self._by_time and place is not None:
            return lambda request_id: GetTicks(request_id, symbol, place.time_ms, _LATEST_MS, place.taken, count)
        return lambda request_id: GetTickRange(request_id, symbol, gap.epoch, gap.first, count)

    def _on_reply(self, gap: Gap | LifeGap, reply: Reply) -> None:
        self._asking = False
        if self._given_up_meanwhile(gap):
            return
        self._failing_since_ns = None
        if not isinstance(reply, Ticks):
            self._give_up("the adapter's answer is no ticks")
        elif isinstance(gap, LifeGap):
            self._on_missed(gap, reply)
        else:
            self._on_ticks(gap, reply)

    def _on_ticks(self, gap: Gap, reply: Ticks) -> None:
        if not len(reply) or (not self._by_time and reply.first != gap.first):
            self._give_up("the adapter answered with other ticks or none")
            return
        self._waiting.popleft()
        records = reply.records[: gap.missing * RECORD_BYTES]
        count = len(records) // RECORD_BYTES
        self.healed += count
        if count < gap.missing:
            self._waiting.appendleft(Gap(gap.epoch, gap.first + count, gap.last))
        else:
            self._by_time = False
        self._deliver(TickBatch(gap.epoch, gap.first, 0, records))
        self._release()

    def _on_missed(self, gap: LifeGap, reply: Ticks) -> None:
        assert self._place is not None
        if len(reply):
            self.gaps += not self._found_between
            self._found_between = True
            self.healed += len(reply)
            self._deliver(TickBatch(gap.epoch, 0, 0, reply.records))
            if reply.more:
                self._heal()
                return
        self._found_between = False
        begin = TickPlace(reply.next_ms, reply.next_skip)
        if begin < self._place:
            # The new life begins before what the last one had published: that much of it is known.
            self._overlap, self._place = self.place, begin
        self._waiting.popleft()
        self._release()

    def _given_up_meanwhile(self, gap: Gap | LifeGap) -> bool:
        if self._waiting and self._waiting[0] is gap:
            return False
        self._heal()  # another gap may be at the head now, and nobody asked for it yet
        return True

    def _on_error(self, gap: Gap | LifeGap, error: BusError) -> None:
        self._asking = False
        if self._given_up_meanwhile(gap):
            return
        now_ns = self._loop.clock.monotonic_ns()
        self._failing_since_ns = self._failing_since_ns or now_ns
        if isinstance(gap, Gap) and isinstance(error, NotFound) and not self._by_time and self._place is not None:
            self._by_time = True
            self._heal()
        elif isinstance(error, NotFound) or now_ns - self._failing_since_ns >= GIVE_UP_S * 1e9:
            self._give_up(error.text)
        else:
            self._loop.after(RETRY_S, self._heal)

    def _give_up(self, reason: str) -> None:
        self._failing_since_ns = None
        self._by_time = self._found_between = False
        if self._waiting and not isinstance(self._waiting[0], TickBatch):
            gap = self._waiting.popleft()
            self.unhealed += 1
            if isinstance(gap, Gap):
                self.lost += gap.missing
            else:
                self.gaps += 1
            log.warning("a tick gap stays", extra={"symbol": self._symbol, "reason": reason[:200]})
        self._release()

    def _release(self) -> None:
        """Deliver what waits, up to the next gap."""
        while self._waiting:
            batch = self._waiting[0]
            if not isinstance(batch, TickBatch):
                self._heal()
                return
            self._waiting.popleft()
            self._deliver(batch)


def _behind(before: TickPlace | None, records: bytes) -> TickPlace:
    """Return the place behind `records`, which follow `before`."""
    time_ms = _time_at(records, len(records) - RECORD_BYTES)
    taken, at = 1, len(records) - 2 * RECORD_BYTES
    while at >= 0 and _time_at(records, at) == time_ms:
        taken += 1
        at -= RECORD_BYTES
    if at < 0 and before is not None and before.time_ms == time_ms:
        taken += before.taken
    return TickPlace(time_ms, taken)


def _time_at(records: bytes, at: int) -> int:
    return int(_time_ms.unpack_from(records, at)[0])
