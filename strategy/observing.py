"""What things are worth now: collected as it comes, told to a strategy only when a callback follows.

Prices and equity change many times between two bars. Logging every change would swell the dispatch log for nothing: a
decision depends on the values at its callback alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from market.instrument import Instrument
from protocol.messages import Position, Quote, StateUpdate, TickBatch
from protocol.ticks import first_tick
from strategy.inputs import Observed, PositionMark
from strategy.world import World


class Observer:
    """Keeps the newest quotes and state of one strategy's symbols."""

    def __init__(self, symbols: Iterable[str]) -> None:
        self._symbols = frozenset(symbols)
        self._quotes: dict[str, Quote] = {}
        self._fresh: set[str] = set()
        self._state: StateUpdate | None = None
        self._instruments: dict[str, Instrument] = {}

    def on_instrument(self, instrument: Instrument) -> None:
        """Take a specification."""
        if instrument.symbol in self._symbols:
            self._instruments[instrument.symbol] = instrument

    def on_ticks(self, symbol: str, batch: TickBatch, *, told: bool = False) -> None:
        """Take the newest of some ticks. `told`: the strategy is told of the ticks themselves, so this is no news."""
        newest = first_tick(batch.records, len(batch) - 1)
        self._take(Quote(symbol, newest.time_ms, newest.bid, newest.ask))
        if told:
            self._fresh.discard(symbol)

    def on_state(self, update: StateUpdate) -> None:
        """Take account, positions and, where no newer tick is known, quotes."""
        self._state = update
        for quote in update.quotes:
            known = self._quotes.get(quote.symbol)
            if quote.symbol in self._symbols and (known is None or known.time_ms < quote.time_ms):
                self._take(quote)

    def news(self, world: World) -> Observed | None:
        """Return what changed since the last call, as far as `world` cares; None if nothing did."""
        state, self._state = self._state, None
        fresh, self._fresh = self._fresh, set()
        account = state.account if state is not None and state.account != world.account else None
        marks = [_mark(each) for each in state.positions] if state is not None else []
        positions = tuple(mark for mark in marks if mark.identifier in world.positions)
        quotes = tuple(self._quotes[symbol] for symbol in sorted(fresh))
        read, self._instruments = self._instruments, {}
        changed = tuple(each for symbol, each in sorted(read.items()) if world.instruments.get(symbol) != each)
        if not (account or positions or quotes or changed):
            return None
        return Observed(account, positions, quotes, changed)

    def _take(self, quote: Quote) -> None:
        self._quotes[quote.symbol] = quote
        self._fresh.add(quote.symbol)


def _mark(position: Position) -> PositionMark:
    return PositionMark(position.identifier, position.price_current, position.profit, position.swap)
