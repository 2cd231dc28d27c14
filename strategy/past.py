"""Reading the past from the adapter: state, bars, missed events. Asked again, ever more slowly, until it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from protocol.errors import BusError, EventsGone
from protocol.event_follower import Asks
from protocol.loop import Loop
from protocol.messages import Event, Events, GetEvents, GetRates, GetSnapshot, Rates, Reply, Request, Snapshot
from protocol.numbering import EventPosition
from strategy.inputs import SymbolBars

DEADLINE_S = 10.0
BACKOFF_FIRST_S = 0.25
BACKOFF_MAX_S = 2.0


class PastReader:
    """Asks for one thing at a time: a new request makes the answers to the last one void.

    Args:
        on_trouble: Called with a text for people whenever the adapter cannot answer yet.
    """

    def __init__(self, loop: Loop, queries: Asks, *, on_trouble: Callable[[str], None]) -> None:
        self._loop = loop
        self._queries = queries
        self._on_trouble = on_trouble
        self._serial = 0
        self._snapshots = 0

    def cancel(self) -> None:
        """Forget what is being asked."""
        self._serial += 1

    def snapshot(self, done: Callable[[Snapshot], None]) -> None:
        """Read the state once more, after a pause that grows with every call."""
        self.cancel()
        self._snapshots += 1

        def answered(reply: Reply) -> None:
            if isinstance(reply, Snapshot):
                done(reply)

        self._after_pause(self._snapshots, lambda: self._ask(GetSnapshot, answered))

    def bars(
        self, symbols: Sequence[str], timeframe: str, count: int, done: Callable[[tuple[SymbolBars, ...]], None]
    ) -> None:
        """Read the newest `count` completed bars of each symbol."""
        self.cancel()
        pages: dict[str, bytes] = {}

        def answered(reply: Reply) -> None:
            if not isinstance(reply, Rates):
                return
            pages[reply.symbol] = reply.records
            if len(pages) == len(symbols):
                done(tuple(SymbolBars(each, pages[each]) for each in symbols))

        def ask(symbol: str) -> None:
            self._ask(lambda request_id: GetRates(request_id, symbol, timeframe, count=count), answered)

        for symbol in symbols:
            ask(symbol)

    def events(
        self,
        after: EventPosition,
        upto: int,
        *,
        on_event: Callable[[Event], None],
        on_hole: Callable[[int, int], None],
        done: Callable[[], None],
    ) -> None:
        """Read the events of the log after `after`, up to offset `upto`, in order.

        Args:
            on_hole: Called with the first and last offset that the log no longer has.
        """
        self.cancel()
        if after.offset >= upto:
            done()
            return

        def answered(reply: Reply) -> None:
            if not isinstance(reply, Events):
                return
            last = after.offset
            if reply.first_offset > last + 1:
                on_hole(last + 1, min(upto, reply.first_offset - 1))
            serial = self._serial
            for event in reply.events:
                if serial != self._serial:
                    return  # the strategy failed on one of them
                if event.log_id == after.log_id and last < event.offset <= upto:
                    last = event.offset
                    on_event(event)
            if last == after.offset:
                last = upto  # the log has nothing more to tell of that time
            if serial == self._serial:
                self.events(EventPosition(after.log_id, last), upto, on_event=on_event, on_hole=on_hole, done=done)

        def gone(error: EventsGone) -> None:
            first = int(error.details["first_offset"])
            on_hole(after.offset + 1, min(upto, first - 1))
            rest = EventPosition(after.log_id, first - 1)
            self.events(rest, upto, on_event=on_event, on_hole=on_hole, done=done)

        self._ask(lambda request_id: GetEvents(request_id, after.offset, after.log_id), answered, on_gone=gone)

    def _ask(
        self,
        make: Callable[[int], Request],
        on_reply: Callable[[Reply], None],
        *,
        on_gone: Callable[[EventsGone], None] | None = None,
        failures: int = 0,
    ) -> None:
        serial = self._serial

        def answered(reply: Reply) -> None:
            if serial == self._serial:
                on_reply(reply)

        def failed(error: BusError) -> None:
            if serial != self._serial:
                return
            if on_gone is not None and isinstance(error, EventsGone):
                on_gone(error)
                return
            self._on_trouble(error.text)
            self._after_pause(failures, lambda: self._ask(make, on_reply, on_gone=on_gone, failures=failures + 1))

        self._queries.ask(make, on_reply=answered, on_error=failed, deadline_s=DEADLINE_S)

    def _after_pause(self, failures: int, action: Callable[[], None]) -> None:
        serial = self._serial
        pause_s = min(BACKOFF_FIRST_S * 2 ** min(failures, 10), BACKOFF_MAX_S)

        def act() -> None:
            if serial == self._serial:
                action()

        self._loop.after(pause_s, act)
