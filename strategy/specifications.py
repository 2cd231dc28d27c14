"""Keeping the symbols' specifications fresh: a tick value in the account's currency moves with the exchange rate.

A terminal may also answer none at all (0) before a symbol's first quote; such a symbol is asked again soon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from market.instrument import Instrument
from protocol.errors import BusError
from protocol.event_follower import Asks
from protocol.loop import Loop
from protocol.messages import GetInstrument, InstrumentReply, Reply

REFRESH_INTERVAL_S = 30.0
INCOMPLETE_INTERVAL_S = 2.0
DEADLINE_S = 5.0


class Specifications:
    """Asks for each symbol's specification again and again, from the adapter's memory.

    Args:
        on_instrument: Called with every answer.
    """

    def __init__(
        self, loop: Loop, queries: Asks, symbols: Iterable[str], *, on_instrument: Callable[[Instrument], None]
    ) -> None:
        self._queries = queries
        self._symbols = tuple(symbols)
        self._on_instrument = on_instrument
        self._complete: set[str] = set()
        self._timers = (
            loop.every(REFRESH_INTERVAL_S, lambda: self._ask(self._symbols)),
            loop.every(INCOMPLETE_INTERVAL_S, lambda: self._ask(set(self._symbols) - self._complete)),
        )

    def close(self) -> None:
        """Ask no more."""
        for timer in self._timers:
            timer.cancel()

    def _ask(self, symbols: Iterable[str]) -> None:
        for symbol in symbols:
            self._queries.ask(
                lambda request_id, symbol=symbol: GetInstrument(request_id, symbol),  # type: ignore[misc]
                on_reply=self._on_reply,
                on_error=_asked_again_later,
                deadline_s=DEADLINE_S,
            )

    def _on_reply(self, reply: Reply) -> None:
        if not isinstance(reply, InstrumentReply):
            return
        if reply.instrument.tick_value > 0:
            self._complete.add(reply.instrument.symbol)
        self._on_instrument(reply.instrument)


def _asked_again_later(_error: BusError) -> None:
    """The adapter is away or still reading: the specification that is known stands until it answers."""
