"""A strategy for a netting account: it opens, adds, reduces, reverses and closes by plain orders, over and over."""

from __future__ import annotations

from market import round_price
from strategy import Context, Strategy

_WIDE = 0.02  # its stops stay so far from the price that the market does not reach them
_STEPS = (("buy", 2), ("buy", 1), ("sell", 1), ("sell", 4), ("sell", 1), ("close", 0))


class NettingTrader(Strategy):
    """Takes one step at every beat on each symbol that waits for nothing."""

    def __init__(self) -> None:
        self._step: dict[str, int] = {}

    def on_start(self, context: Context) -> None:
        context.set_timer("beat", every_s=0.2)

    def on_timer(self, context: Context, name: str, due_ms: int) -> None:
        for symbol in context.symbols:
            if not context.busy(symbol):
                self._next(context, symbol)

    def _next(self, context: Context, symbol: str) -> None:
        quote, instrument = context.quote(symbol), context.instruments.get(symbol)
        position = context.position(symbol)
        if quote is None or instrument is None:
            return
        step = self._step.get(symbol, 0) if position is not None else 0
        what, lots = _STEPS[step]
        self._step[symbol] = (step + 1) % len(_STEPS)
        if what == "close":
            assert position is not None
            context.close(position)
            return
        side = 1 if what == "buy" else -1
        # Only what opens or reverses brings a stop: an addition keeps the position's, a reduction has none.
        stop = round_price(instrument, quote.bid * (1 - side * _WIDE)) if step in {0, 3} else 0.0
        send = context.buy if side > 0 else context.sell
        send(symbol, round(instrument.volume_min * lots, 8), sl=stop)
