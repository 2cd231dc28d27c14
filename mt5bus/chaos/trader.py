"""The strategy that trades while everything breaks: opens, changes, partly closes and closes, as fast as it may.

It decides from what it is told alone, so that a decision repeated after a restart comes under the same id.
"""

from __future__ import annotations

from market import round_price
from protocol.messages import Order, Position, Quote
from strategy import Context, Strategy

_WIDE = 0.02  # SL, TP and pending orders stay so far from the price that the market does not reach them
_STEP = 0.0005
_PENDING_EVERY = 5
_KINDS_OF_CHANGE = 4
_KINDS_WHERE_POSITIONS_NET = 6
_MOST_LOTS = 5  # times what a position begins with


class ChaosTrader(Strategy):
    """Works on each of its symbols at every beat, one order at a time."""

    class Parameters(Strategy.Parameters):
        """What it may be told.

        Attributes:
            every_s: Seconds between two beats.
            until_ms: Market time, UTC milliseconds, after which it sends nothing more; 0: never.
            lots: How many least volumes a position begins with; 2 at least, so that it can be closed in parts.
            netting: The account has one position per symbol: it is also added to, and reversed.
        """

        every_s: float = 0.1
        until_ms: int = 0
        lots: int = 3
        netting: bool = False

    parameters: Parameters

    def on_start(self, context: Context) -> None:
        """Set the beat."""
        context.set_timer("beat", every_s=self.parameters.every_s)

    def on_timer(self, context: Context, name: str, due_ms: int) -> None:  # noqa: ARG002  the callback's own
        """Take the next step on every symbol that waits for nothing."""
        if self.parameters.until_ms and due_ms >= self.parameters.until_ms:
            return
        beat = due_ms // round(self.parameters.every_s * 1000)
        for index, symbol in enumerate(context.symbols):
            quote = context.quote(symbol)
            if quote is not None and symbol in context.instruments and not context.busy(symbol):
                self._step(context, quote, beat + index)

    def _step(self, context: Context, quote: Quote, turn: int) -> None:
        position = context.position(quote.symbol)
        pending = next((order for order in context.pending_orders if order.symbol == quote.symbol), None)
        if pending is not None and turn % 2:
            self._change_pending(context, pending, quote, turn)
        elif position is not None:
            self._change_position(context, position, quote, turn)
        elif pending is None and turn % _PENDING_EVERY == 0:
            self._place(context, quote)
        else:
            self._open(context, quote, 1 if turn % 2 else -1)

    def _open(self, context: Context, quote: Quote, side: int) -> None:
        instrument = context.instruments[quote.symbol]
        volume = round(instrument.volume_min * self.parameters.lots, 8)
        send = context.buy if side > 0 else context.sell
        price = quote.ask if side > 0 else quote.bid
        stop = round_price(instrument, price * (1 - side * _WIDE))
        target = round_price(instrument, price * (1 + side * _WIDE))
        send(quote.symbol, volume, sl=stop, tp=target)

    def _place(self, context: Context, quote: Quote) -> None:
        instrument = context.instruments[quote.symbol]
        price = round_price(instrument, quote.bid * (1 - _WIDE))
        context.buy(quote.symbol, instrument.volume_min, type="limit", price=price)

    def _change_pending(self, context: Context, order: Order, quote: Quote, turn: int) -> None:
        if turn % _KINDS_OF_CHANGE == 1:
            instrument = context.instruments[order.symbol]
            wide = _WIDE + _STEP * (turn % 7)
            context.modify_order(order, price=round_price(instrument, quote.bid * (1 - wide)))
        else:
            context.cancel(order)

    def _change_position(self, context: Context, position: Position, quote: Quote, turn: int) -> None:
        instrument = context.instruments[position.symbol]
        kind = turn % (_KINDS_WHERE_POSITIONS_NET if self.parameters.netting else _KINDS_OF_CHANGE)
        side = 1 if position.type == 0 else -1
        if kind in {0, 1}:
            wide = _WIDE + _STEP * (turn % 11)
            stop = round_price(instrument, quote.bid * (1 - side * wide))
            context.modify(position, sl=stop, tp=position.tp)
        elif kind == 2 and position.volume > instrument.volume_min * 1.5:
            context.close(position, volume=instrument.volume_min)
        elif kind == _KINDS_OF_CHANGE and position.volume < instrument.volume_min * self.parameters.lots * _MOST_LOTS:
            self._send(context, position.symbol, side, instrument.volume_min)
        elif kind > _KINDS_OF_CHANGE:
            self._send(context, position.symbol, -side, position.volume + instrument.volume_min)
        else:
            context.close(position)

    def _send(self, context: Context, symbol: str, side: int, volume: float) -> None:
        send = context.buy if side > 0 else context.sell
        send(symbol, round(volume, 8))
