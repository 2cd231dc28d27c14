"""Small strategies for the tests, as a user would write them."""

from __future__ import annotations

from market.bars import Bar
from protocol.messages import Deal, IntentEvent, Position
from protocol.ticks import Tick
from strategy.sdk import Context, PositionChange, Strategy


class Recorder(Strategy):
    """Writes down every callback; orders nothing."""

    class Parameters(Strategy.Parameters):
        warmup: int = 3
        keep_state: bool = False

    parameters: Parameters

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.loaded = b""

    def warmup_bars(self) -> int:
        return self.parameters.warmup

    def on_start(self, context: Context) -> None:
        self.seen.append(f"start {len(context.positions)}")

    def on_tick(self, context: Context, symbol: str, tick: Tick) -> None:
        self.seen.append(f"tick {symbol} {tick.bid}")

    def on_bar(self, context: Context, symbol: str, bar: Bar) -> None:
        self.seen.append(f"{'bar' if context.warm else 'past'} {symbol} {bar.open_time_ms}")

    def on_bar_revised(self, context: Context, symbol: str, bar: Bar) -> None:
        self.seen.append(f"revised {symbol} {bar.open_time_ms}")

    def on_order(self, context: Context, order: IntentEvent) -> None:
        self.seen.append(f"order {order.client_order_id} {order.state} {order.code}".strip())

    def on_deal(self, context: Context, deal: Deal) -> None:
        self.seen.append(f"deal {deal.ticket}")

    def on_position(self, context: Context, change: PositionChange, position: Position) -> None:
        self.seen.append(f"position {change} {position.identifier} of {len(context.positions)}")

    def on_timer(self, context: Context, name: str, due_ms: int) -> None:
        self.seen.append(f"timer {name} {due_ms}")

    def on_stop(self, context: Context) -> None:
        self.seen.append("stop")

    def save_state(self) -> bytes:
        return f"{len(self.seen)}".encode() if self.parameters.keep_state else b""

    def load_state(self, state: bytes) -> None:
        self.loaded = state


class Eager(Recorder):
    """Orders and signals at every turn: two orders at each bar, one at each tick, timer, order event and position."""

    def on_start(self, context: Context) -> None:
        super().on_start(context)
        context.set_timer("beat", every_s=10.0)
        self._order(context)

    def on_bar(self, context: Context, symbol: str, bar: Bar) -> None:
        super().on_bar(context, symbol, bar)
        first = context.buy(symbol, 0.1, sl=1.0)
        context.sell(symbol, 0.2)
        context.signal(symbol, direction=1, strength=0.5, features={"close": bar.close}, order=first)

    def on_tick(self, context: Context, symbol: str, tick: Tick) -> None:
        super().on_tick(context, symbol, tick)
        self._order(context)

    def on_timer(self, context: Context, name: str, due_ms: int) -> None:
        super().on_timer(context, name, due_ms)
        self._order(context)

    def on_order(self, context: Context, order: IntentEvent) -> None:
        super().on_order(context, order)
        if order.state == "rejected":
            self._order(context)

    def on_position(self, context: Context, change: PositionChange, position: Position) -> None:
        super().on_position(context, change, position)
        if change == "opened":
            context.close(position)

    def on_stop(self, context: Context) -> None:
        super().on_stop(context)
        self._order(context)

    @staticmethod
    def _order(context: Context) -> None:
        context.buy(context.symbols[0], 0.3)


class OnEveryBar(Recorder):
    """Buys once a bar and publishes a signal."""

    def on_bar(self, context: Context, symbol: str, bar: Bar) -> None:
        super().on_bar(context, symbol, bar)
        order = context.buy(symbol, 0.1, sl=1.0, tp=2.0)
        context.signal(symbol, direction=1, strength=1.0, features={"close": bar.close}, order=order)


class Raises(Recorder):
    """Fails on its second live bar, after an order."""

    def on_bar(self, context: Context, symbol: str, bar: Bar) -> None:
        super().on_bar(context, symbol, bar)
        context.buy(symbol, 0.1)
        if sum(line.startswith("bar") for line in self.seen) == 2:
            raise ZeroDivisionError("my mistake")
