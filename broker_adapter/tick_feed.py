"""Every tick of the configured symbols, from the terminal to the streams.

One command of the feed link looks at all symbols; what is new behind each symbol's cursor comes back in one answer. A
full answer is followed by the next command at once, and of a feed with a clock of its own (which goes on as it is read)
every answer with ticks; else the next look is one poll interval away.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from broker_adapter.connection import Connection
from broker_adapter.link_messages import LinkRole, PollTicks, SymbolTicks, TickCursor, TicksPolled
from broker_adapter.link_results import LinkResult
from broker_adapter.server_clock import ServerClock
from broker_adapter.tick_begins import TickBegins
from mt5bus.settings import Adapter
from protocol.errors import BusError
from protocol.loop import Loop

FILE_NAME = "tick_cursors.json"
_WENT_BACK_MS = 60_000
_WENT_BACK_SWEEPS = 3
_FIRST_TICK = 1

log = logging.getLogger(__name__)


class _Followed(msgspec.Struct):
    symbol: str
    cursor: TickCursor
    behind_sweeps: int = 0
    last_problem: str = ""
    more: bool = False


class TickFeed:
    """Polls ticks and hands them on in UTC.

    Args:
        on_ticks: Called with a symbol and its new records in UTC.
        on_begin: Called with a symbol when its next tick does not follow the last one handed on, and whether it is the
            feed's very first.
        begins: Where it is noted before which tick this life begins.
        from_first: Begin at the feed's first tick, or after a restart where the last life stopped; else at the newest.
        folder: Where the cursors are kept for that.
    """

    def __init__(
        self,
        loop: Loop,
        connection: Connection,
        clock: ServerClock,
        settings: Adapter,
        *,
        on_ticks: Callable[[str, bytes], None],
        on_begin: Callable[[str, bool], None] = lambda _symbol, _whole: None,
        begins: TickBegins,
        from_first: bool,
        folder: Path,
    ) -> None:
        self.polls = 0
        self.failures = 0
        self.newest_wall_ms = 0
        self._loop = loop
        self._connection = connection
        self._clock = clock
        self._on_ticks = on_ticks
        self._on_begin = on_begin
        self._begins = begins
        self._from_first = from_first
        self._deadline_s = settings.deadlines.query_s
        self._interval_ns = settings.tick_poll_interval_ms * 1_000_000
        self._sweep_ns = round(settings.sweep_interval_s * 1e9)
        self._file = folder / FILE_NAME
        self._kept = self._read_cursors() if from_first else {}
        self._followed: dict[str, _Followed] = {}
        self._pending = False
        self._next_sweep_ns = 0
        self._turn = 0
        loop.every(settings.tick_poll_interval_ms / 1000, self._poll)

    def follow(self, symbols: dict[str, str]) -> None:
        """Follow these symbols (canonical to broker's name).

        Those followed already, or before, go on behind the last tick that was taken of them.
        """
        self._kept.update((broker, each.cursor) for broker, each in self._followed.items())
        self._followed = {
            broker: self._followed.get(broker) or _Followed(symbol, self._start_of(symbol, broker))
            for symbol, broker in symbols.items()
        }
        self._next_sweep_ns = 0

    @property
    def symbols(self) -> tuple[str, ...]:
        """Canonical names of the symbols followed."""
        return tuple(each.symbol for each in self._followed.values())

    def has_gap(self, symbol: str) -> bool:
        """Return whether ticks of the symbol are known to be missing: more than one answer holds wait, or none is read.

        True for a symbol that is not followed. A feed with a clock of its own waits for us: nothing of it is missing.
        """
        followed = next((each for each in self._followed.values() if each.symbol == symbol), None)
        return followed is None or followed.more or bool(followed.last_problem)

    def _start_of(self, symbol: str, broker: str) -> TickCursor:
        kept = self._kept.get(broker)
        if kept is not None and kept.time_msc:
            return kept
        return self._begin(symbol, broker)

    def _begin(self, symbol: str, broker: str) -> TickCursor:
        self._on_begin(symbol, self._from_first)
        return TickCursor(broker, _FIRST_TICK if self._from_first else 0, 0, 0)

    def _poll(self) -> None:
        if self._pending or not self._followed or not self._connection.attached(LinkRole.FEED):
            return
        now_ns = self._loop.clock.monotonic_ns()
        sweep = now_ns >= self._next_sweep_ns
        if sweep:
            self._next_sweep_ns = now_ns + self._sweep_ns
            self._keep_cursors()
        cursors = [each.cursor for each in self._followed.values()]
        # In turn: after a full answer the others are asked first.
        turn = self._turn % len(cursors)
        self._pending = True
        self._connection.call(
            LinkRole.FEED,
            PollTicks((*cursors[turn:], *cursors[:turn]), sweep=sweep),
            self._on_result,
            deadline_s=self._deadline_s,
        )

    def _on_result(self, result: LinkResult) -> None:
        self._pending = False
        try:
            polled = result.decode(TicksPolled)
        except BusError as error:
            self.failures += 1
            if self.failures in {1, 10, 100} or self.failures % 1000 == 0:
                log.warning("ticks could not be read", extra={"reason": error.text, "failures": self.failures})
            return
        self.polls += 1
        again = polled.deferred
        for found in polled.symbols:
            followed = self._followed.get(found.cursor.symbol)
            if followed is not None:
                self._take(followed, found)
                again = again or found.more or (self._from_first and bool(found.records))
        if again:
            self._turn += 1
            self._poll()

    def _take(self, followed: _Followed, found: SymbolTicks) -> None:
        if found.code != 1:
            problem = f"{found.code}: {found.text}"
            if problem != followed.last_problem:
                log.warning("no ticks of a symbol", extra={"symbol": followed.symbol, "reason": problem})
            followed.last_problem = problem
            return
        followed.last_problem = ""
        followed.more = found.more and not self._from_first
        if not found.records:
            self._watch_for_going_back(followed, found)
            return
        followed.behind_sweeps = 0
        before, followed.cursor = followed.cursor, found.cursor
        if before.time_msc:
            self._begins.note(followed.symbol, time_msc=before.time_msc, taken=before.taken)
        else:  # the newest tick, with the cursor behind it
            self._begins.note(followed.symbol, time_msc=found.cursor.time_msc, taken=found.cursor.taken - 1)
        self.newest_wall_ms = self._loop.clock.wall_ms()
        self._clock.observe(followed.symbol, found.cursor.time_msc)
        self._on_ticks(followed.symbol, self._clock.ticks_to_utc(found.records))

    def _watch_for_going_back(self, followed: _Followed, found: SymbolTicks) -> None:
        """Notice a server clock that was set back (end of summer time on a market that never closes)."""
        behind = found.newest_msc < followed.cursor.time_msc - _WENT_BACK_MS
        followed.behind_sweeps = followed.behind_sweeps + 1 if behind else 0
        if followed.behind_sweeps >= _WENT_BACK_SWEEPS:
            log.error(
                "the server's clock went back, or its feed began anew: starting over",
                extra={"symbol": followed.symbol, "was_msc": followed.cursor.time_msc, "now_msc": found.newest_msc},
            )
            followed.behind_sweeps = 0
            followed.cursor = self._begin(followed.symbol, followed.cursor.symbol)

    def _keep_cursors(self) -> None:
        if not self._from_first or not self._followed:
            return
        fresh = self._file.with_suffix(".new")
        try:
            fresh.write_bytes(msgspec.json.encode([each.cursor for each in self._followed.values()]))
            fresh.replace(self._file)
        except OSError as error:
            log.warning("tick cursors were not kept", extra={"reason": str(error)})

    def _read_cursors(self) -> dict[str, TickCursor]:
        try:
            kept = msgspec.json.decode(self._file.read_bytes(), type=list[TickCursor])
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return {}
        return {cursor.symbol: cursor for cursor in kept}
