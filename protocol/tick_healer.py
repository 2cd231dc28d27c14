"""Healing gaps in a tick stream: missing ticks are asked for and delivered before the later ones.

While a gap is open, later batches of that symbol wait; their number is bounded, and a gap that cannot be healed is
given up and stays counted.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from protocol.errors import BusError, NotFound
from protocol.event_follower import Asks
from protocol.loop import Loop
from protocol.messages import MAX_PAGE, GetTickRange, Reply, TickBatch, Ticks
from protocol.numbering import IN_ORDER, Gap, Sequence
from protocol.ticks import RECORD_BYTES

MAX_WAITING_BATCHES = 20_000
DEADLINE_S = 5.0
RETRY_S = 0.2
MAX_ATTEMPTS = 10

log = logging.getLogger(__name__)


class TickStream:
    """One symbol's ticks: judged by their numbers, delivered in order.

    Args:
        heal: Fetch missing ticks. Without it a gap is only counted.
    """

    def __init__(
        self, loop: Loop, queries: Asks | None, symbol: str, deliver: Callable[[str, TickBatch], None], *, heal: bool
    ) -> None:
        self._loop = loop
        self._queries = queries if heal else None
        self._symbol = symbol
        self._deliver = deliver
        self._sequence = Sequence()
        self._waiting: deque[TickBatch | Gap] = deque()
        self._attempts = 0
        self._asking = False
        self.gaps = 0
        self.healed = 0
        self.lost = 0

    @property
    def received(self) -> int:
        """Ticks that arrived, healed ones not included."""
        return self._sequence.received

    @property
    def healing(self) -> bool:
        """Whether a gap is open."""
        return bool(self._waiting)

    def arrive(self, batch: TickBatch) -> None:
        """Take a batch from the stream."""
        count = len(batch)
        verdict = self._sequence.arrive(batch.epoch, batch.first, count)
        if verdict is IN_ORDER and not self._waiting:
            self._deliver(self._symbol, batch)
            return
        if verdict.repeated == count:
            return
        if verdict.repeated:
            rest = batch.records[verdict.repeated * RECORD_BYTES :]
            batch = TickBatch(batch.epoch, batch.first + verdict.repeated, batch.sent_ns, rest)
        self._note(verdict.gap)
        if self._waiting:
            self._hold(batch)
        else:
            self._deliver(self._symbol, batch)

    def pass_over(self, batch: TickBatch) -> None:
        """Take note of a batch that its consumer chose to skip; a gap before it is not healed either."""
        verdict = self._sequence.arrive(batch.epoch, batch.first, len(batch))
        if verdict.gap is not None:
            self.gaps += 1
            self.lost += verdict.gap.missing

    def beacon(self, epoch: int, last: int) -> None:
        """Take note of the stream's last number."""
        self._note(self._sequence.beacon(epoch, last))

    def _note(self, gap: Gap | None) -> None:
        if gap is None:
            return
        self.gaps += 1
        if self._queries is None:
            self.lost += gap.missing
            return
        self._waiting.append(gap)
        self._heal()

    def _hold(self, batch: TickBatch) -> None:
        if len(self._waiting) >= MAX_WAITING_BATCHES:
            self._give_up("too many ticks wait behind it")
        if self._waiting:
            self._waiting.append(batch)
        else:
            self._deliver(self._symbol, batch)

    def _heal(self) -> None:
        if self._asking or not self._waiting or self._queries is None:
            return
        gap = self._waiting[0]
        if isinstance(gap, TickBatch):
            self._release()
            return
        self._asking = True
        count = min(gap.missing, MAX_PAGE)
        self._queries.ask(
            lambda request_id: GetTickRange(request_id, self._symbol, gap.epoch, gap.first, count),
            on_reply=lambda reply: self._on_ticks(gap, reply),
            on_error=lambda error: self._on_error(gap, error),
            deadline_s=DEADLINE_S,
        )

    def _on_ticks(self, gap: Gap, reply: Reply) -> None:
        self._asking = False
        if self._given_up_meanwhile(gap):
            return
        if not isinstance(reply, Ticks) or reply.first != gap.first or not len(reply):
            self._give_up("the adapter answered with other ticks or none")
            return
        self._attempts = 0
        self._waiting.popleft()
        records = reply.records[: gap.missing * RECORD_BYTES]
        count = len(records) // RECORD_BYTES
        self.healed += count
        if count < gap.missing:
            self._waiting.appendleft(Gap(gap.epoch, gap.first + count, gap.last))
        self._deliver(self._symbol, TickBatch(gap.epoch, gap.first, 0, records))
        self._release()

    def _given_up_meanwhile(self, gap: Gap) -> bool:
        if self._waiting and self._waiting[0] is gap:
            return False
        self._heal()  # another gap may be at the head now, and nobody asked for it yet
        return True

    def _on_error(self, gap: Gap, error: BusError) -> None:
        self._asking = False
        if self._given_up_meanwhile(gap):
            return
        self._attempts += 1
        if isinstance(error, NotFound) or self._attempts >= MAX_ATTEMPTS:
            self._give_up(error.text)
        else:
            self._loop.after(RETRY_S, self._heal)

    def _give_up(self, reason: str) -> None:
        self._attempts = 0
        if self._waiting and isinstance(self._waiting[0], Gap):
            gap = self._waiting.popleft()
            self.lost += gap.missing if isinstance(gap, Gap) else 0
            log.warning("a tick gap stays", extra={"symbol": self._symbol, "reason": reason[:200]})
        self._release()

    def _release(self) -> None:
        """Deliver what waits, up to the next gap."""
        while self._waiting:
            batch = self._waiting[0]
            if isinstance(batch, Gap):
                self._heal()
                return
            self._waiting.popleft()
            self._deliver(self._symbol, batch)
