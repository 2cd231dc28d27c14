"""The least a strategy needs: buy after three rising bars, with SL and TP, one position a symbol.

In mt5bus.toml:

    [[strategy]]
    name = "rising"
    class = "examples/minimal_strategy.py:ThreeRisingBars"
    number = 2
    params = { volume = 0.01, stop_points = 200 }
"""

from market import Bar
from strategy import Context, Strategy


class ThreeRisingBars(Strategy):
    """Buys when three bars in a row closed above their open."""

    class Parameters(Strategy.Parameters):
        """What `params` may hold."""

        volume: float = 0.01
        stop_points: int = 200

    parameters: Parameters

    def __init__(self) -> None:
        self.rising: dict[str, int] = {}

    def warmup_bars(self) -> int:
        """Three past bars are enough to begin with."""
        return 3

    def on_bar(self, context: Context, symbol: str, bar: Bar) -> None:
        """Count rising bars; at the third, buy if nothing is open on the symbol."""
        self.rising[symbol] = self.rising.get(symbol, 0) + 1 if bar.close > bar.open else 0
        quote = context.quote(symbol)
        if self.rising[symbol] < 3 or quote is None or context.position(symbol) or context.busy(symbol):
            return
        distance = self.parameters.stop_points * context.instruments[symbol].point
        context.buy(symbol, self.parameters.volume, sl=quote.bid - distance, tp=quote.ask + distance)
