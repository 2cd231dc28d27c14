"""What a strategy is written against: subclass `Strategy`, and act through the `Context` that each callback is given.

docs/strategies.md is the guide, with an example that is run by the tests. In short:

- Orders return at once with a client order id. What became of them is told by `on_order`, never by a return value.
- Nothing may be sent before the strategy is warm (`Context.warm`): there, in `on_start` and in `on_stop`, orders and
  signals are not sent, the id is the empty string, and the number of them is logged.
- Decide from what you are told alone, not from a clock, a file or a random number: then the same inputs give the same
  decisions, live, in a replay and after a restart.
- A callback that raises ends the strategy (not the node); what it had decided in that callback is dropped.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal, Protocol

import msgspec

from market.bars import Bar
from market.instrument import Instrument
from protocol.errors import NotReady, ValidationFailed
from protocol.messages import (
    Account,
    CancelOrder,
    CloseBy,
    ClosePosition,
    Deal,
    IntentEvent,
    ModifyOrder,
    ModifyPosition,
    Order,
    OrderRequest,
    Position,
    Quote,
    SubmitOrder,
)
from protocol.ticks import Tick
from strategy.world import World

OrderType = Literal["market", "limit", "stop", "stop_limit"]
PositionChange = Literal["opened", "changed", "closed"]

DEFAULT_TTL_MS = 5_000
_COMMENT_CHARS = 29


class Desk(Protocol):
    """Where a context's decisions go. The dispatcher is one."""

    now_ms: int
    warm: bool

    def order(self, request: OrderRequest) -> str:
        """Take an order whose id is still empty; return the id it was given."""
        ...

    def signal(self, signal: Signal) -> str:
        """Take a signal; return the id it was given."""
        ...

    def set_timer(self, name: str, *, every_ms: int | None, at_ms: int | None) -> None:
        """Set or replace a timer."""
        ...

    def cancel_timer(self, name: str) -> None:
        """Remove a timer."""
        ...


class Signal(msgspec.Struct, frozen=True):
    """A signal as the strategy sees it; the dispatcher adds its id and what triggered it."""

    symbol: str
    direction: int
    strength: float
    features: Mapping[str, float]
    order: str
    reason: str


class Context:
    """The strategy's window on the account and its hand on the market. Valid for the strategy's whole life."""

    def __init__(self, name: str, *, symbols: tuple[str, ...], timeframe: str, world: World, desk: Desk) -> None:
        self.name = name
        self.symbols = symbols
        """Canonical symbols it was configured for."""
        self.timeframe = timeframe
        """Name of the bars' period, such as ``S5``."""
        self.log: logging.Logger = logging.getLogger(f"strategy.user.{name}")
        self._world = world
        self._desk = desk

    # -- what is known ----------------------------------------------------------------------------------------------

    @property
    def now_ms(self) -> int:
        """Market time, UTC milliseconds: the wall clock, or a file feed's own."""
        return self._desk.now_ms

    @property
    def warm(self) -> bool:
        """Whether the past bars have been delivered; orders and signals are sent only then."""
        return self._desk.warm

    @property
    def account(self) -> Account:
        """The account as last seen.

        Raises:
            NotReady: There is none yet; from `on_start` on there always is.
        """
        if self._world.account is None:
            raise NotReady("the account is not known yet: ask for it from on_start on")
        return self._world.account

    @property
    def instruments(self) -> Mapping[str, Instrument]:
        """The symbols' specifications."""
        return MappingProxyType(self._world.instruments)

    @property
    def positions(self) -> tuple[Position, ...]:
        """This strategy's own open positions, oldest first."""
        return tuple(self._world.positions.values())

    @property
    def pending_orders(self) -> tuple[Order, ...]:
        """This strategy's own active broker orders (limit, stop, stop-limit)."""
        return tuple(self._world.pending.values())

    def position(self, symbol: str) -> Position | None:
        """Return this strategy's oldest position on `symbol`, or None."""
        return next((p for p in self._world.positions.values() if p.symbol == symbol), None)

    def quote(self, symbol: str) -> Quote | None:
        """Return the newest quote of `symbol`, or None before the first."""
        return self._world.quotes.get(symbol)

    def order(self, client_order_id: str) -> IntentEvent | None:
        """Return how one of this strategy's orders stands; its state is ``requested`` until the adapter has spoken."""
        return self._world.orders.get(client_order_id)

    def busy(self, symbol: str) -> bool:
        """Return whether an order on `symbol` is on its way, unknown, or filled but not yet among `positions`.

        Ask before opening: a second order in that time would double the position.
        """
        return self._world.busy(symbol, now_ms=self.now_ms)

    # -- what can be done -------------------------------------------------------------------------------------------

    def buy(
        self,
        symbol: str,
        volume: float,
        *,
        sl: float = 0.0,
        tp: float = 0.0,
        type: OrderType = "market",  # noqa: A002  the broker's own word, and the wire's
        price: float = 0.0,
        stoplimit: float = 0.0,
        expiration_ms: int = 0,
        comment: str = "",
        ttl_ms: int = DEFAULT_TTL_MS,
    ) -> str:
        """Buy `volume` lots; return the client order id at once.

        On a netting account this adds to, reduces or reverses the symbol's one position (docs/orders.md).

        Args:
            symbol: One of `symbols`.
            volume: Lots, on the symbol's step.
            sl, tp: Prices; 0 for none, or for those of the netting position that it adds to.
            type: ``market``, or a pending order at `price`.
            price: Of a pending order; 0 for a market order.
            stoplimit: Price of the limit order that a stop-limit order places.
            expiration_ms: Of a pending order, UTC; 0 = good till cancelled.
            comment: At most 29 printable ASCII characters; brokers may change it.
            ttl_ms: Milliseconds after which the order is not sent to the terminal any more.

        Raises:
            ValidationFailed: An argument is wrong in itself; ``details["field"]`` names it.
        """
        return self._submit("buy", symbol, volume, sl, tp, type, price, stoplimit, expiration_ms, comment, ttl_ms)

    def sell(
        self,
        symbol: str,
        volume: float,
        *,
        sl: float = 0.0,
        tp: float = 0.0,
        type: OrderType = "market",  # noqa: A002  the broker's own word, and the wire's
        price: float = 0.0,
        stoplimit: float = 0.0,
        expiration_ms: int = 0,
        comment: str = "",
        ttl_ms: int = DEFAULT_TTL_MS,
    ) -> str:
        """Sell `volume` lots; return the client order id at once. Arguments and errors as for `buy`."""
        return self._submit("sell", symbol, volume, sl, tp, type, price, stoplimit, expiration_ms, comment, ttl_ms)

    def close(self, position: Position, *, volume: float = 0.0, ttl_ms: int = DEFAULT_TTL_MS) -> str:
        """Close `position`, wholly or `volume` lots of it; return the client order id at once.

        Raises:
            ValidationFailed: `volume` is negative or no number.
        """
        _require_number("volume", volume)
        return self._desk.order(ClosePosition(0, "", self.name, ttl_ms, position.ticket, volume))

    def close_by(self, position: Position, other: Position, *, ttl_ms: int = DEFAULT_TTL_MS) -> str:
        """Close two opposite positions of a symbol against each other; return the client order id at once.

        As far as the smaller one goes, without paying the spread; the result is booked on `position`. Hedging only.
        """
        return self._desk.order(CloseBy(0, "", self.name, ttl_ms, position.ticket, other.ticket))

    def modify(self, position: Position, *, sl: float, tp: float, ttl_ms: int = DEFAULT_TTL_MS) -> str:
        """Set SL and TP of `position` (prices; 0 removes); return the client order id at once.

        Raises:
            ValidationFailed: A price is negative or no number.
        """
        _require_number("sl", sl)
        _require_number("tp", tp)
        return self._desk.order(ModifyPosition(0, "", self.name, ttl_ms, position.ticket, sl, tp))

    def modify_order(
        self,
        order: Order,
        *,
        price: float,
        sl: float = 0.0,
        tp: float = 0.0,
        expiration_ms: int = 0,
        ttl_ms: int = DEFAULT_TTL_MS,
    ) -> str:
        """Change a pending order; return the client order id at once.

        Raises:
            ValidationFailed: A price is negative or no number.
        """
        for field, value in (("price", price), ("sl", sl), ("tp", tp)):
            _require_number(field, value)
        return self._desk.order(ModifyOrder(0, "", self.name, ttl_ms, order.ticket, price, sl, tp, expiration_ms))

    def cancel(self, order: Order, *, ttl_ms: int = DEFAULT_TTL_MS) -> str:
        """Remove a pending order; return the client order id at once."""
        return self._desk.order(CancelOrder(0, "", self.name, ttl_ms, order.ticket))

    def signal(
        self,
        symbol: str,
        *,
        direction: Literal[1, -1],
        strength: float,
        features: Mapping[str, float],
        order: str = "",
        reason: str = "",
    ) -> str:
        """Publish that a signal was seen, with exactly the features it was seen by; return its id.

        Args:
            symbol: One of `symbols`.
            direction: 1 long, -1 short.
            strength: 0 to 1.
            features: Finite numbers by name: what a model is trained on later.
            order: The client order id it led to; empty if it was not taken.
            reason: Why it was not taken.

        Raises:
            ValidationFailed: An argument is wrong in itself; ``details["field"]`` names it.
        """
        self._require_symbol(symbol)
        if not 0 <= strength <= 1:
            raise ValidationFailed(f"strength must be 0 to 1, got {strength!r}", {"field": "strength"})
        for name, value in features.items():
            if not math.isfinite(value):
                raise ValidationFailed(f"feature {name!r} is {value!r}: leave it out", {"field": "features"})
        return self._desk.signal(Signal(symbol, direction, float(strength), dict(features), order, reason))

    def set_timer(self, name: str, *, every_s: float | None = None, at_ms: int | None = None) -> None:
        """Call `on_timer` in market time: every `every_s` seconds, or once at `at_ms`. One of that name is replaced.

        A repeated timer is due at whole multiples of its interval: at the same times after a restart. Timers are not
        saved: set them in `on_start`.

        Raises:
            ValidationFailed: Neither or both given, or an interval below a millisecond.
        """
        if (every_s is None) == (at_ms is None):
            raise ValidationFailed("set_timer takes either every_s or at_ms", {"field": "every_s"})
        if every_s is not None and not 0.001 <= every_s < math.inf:
            raise ValidationFailed(f"every_s must be 0.001 s or more, got {every_s!r}", {"field": "every_s"})
        every_ms = round(every_s * 1000) if every_s is not None else None
        self._desk.set_timer(name, every_ms=every_ms, at_ms=at_ms)

    def cancel_timer(self, name: str) -> None:
        """Remove a timer; one that is not set is fine."""
        self._desk.cancel_timer(name)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _submit(
        self,
        side: str,
        symbol: str,
        volume: float,
        sl: float,
        tp: float,
        kind: OrderType,
        price: float,
        stoplimit: float,
        expiration_ms: int,
        comment: str,
        ttl_ms: int,
    ) -> str:
        self._require_symbol(symbol)
        if not (math.isfinite(volume) and volume > 0):
            raise ValidationFailed(f"volume must be a positive number of lots, got {volume!r}", {"field": "volume"})
        for field, value in (("sl", sl), ("tp", tp), ("price", price), ("stoplimit", stoplimit)):
            _require_number(field, value)
        if kind != "market" and price <= 0:
            raise ValidationFailed(f"a {kind} order needs a price", {"field": "price"})
        if len(comment) > _COMMENT_CHARS or not (comment.isascii() and (comment.isprintable() or not comment)):
            raise ValidationFailed("comment: at most 29 printable ASCII characters", {"field": "comment"})
        quote = self.quote(symbol)
        return self._desk.order(
            SubmitOrder(
                id=0,
                client_order_id="",
                strategy=self.name,
                ttl_ms=ttl_ms,
                symbol=symbol,
                side=side,
                volume=volume,
                type=kind,
                price=price,
                sl=sl,
                tp=tp,
                comment=comment,
                decided_ms=quote.time_ms if quote else 0,
                expiration_ms=expiration_ms,
                stoplimit=stoplimit,
            )
        )

    def _require_symbol(self, symbol: str) -> None:
        if symbol not in self.symbols:
            raise ValidationFailed(
                f"{symbol!r} is none of this strategy's symbols ({', '.join(self.symbols)}): add it to its table",
                {"field": "symbol"},
            )


def _require_number(field: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise ValidationFailed(f"{field} must be a number from 0 on, got {value!r}", {"field": field})


class Strategy:
    """Base of every strategy. Override what you need; every callback's default does nothing.

    Callbacks come one at a time, in the order in which things arrived. `on_start` is the first; the context shows
    account, positions and orders by then. Past bars follow (`context.warm` is False), then live ones.
    """

    class Parameters(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
        """What ``[[strategy]]``'s ``params`` may hold. A subclass derives its own and gives each field a default.

        Not to be changed once the strategy runs: the dispatch log holds them as they were at its start.
        """

    newest_tick_only: ClassVar[bool] = False
    """Whether, when behind, only the newest of the waiting ticks is wanted."""

    parameters: Parameters
    """Checked and complete, set before the first callback."""

    def warmup_bars(self) -> int:
        """Return how many past bars of each symbol are delivered before the first live one (at most 4096)."""
        return 0

    def on_start(self, context: Context) -> None:
        """Begin. The context shows the account, positions and orders; nothing can be sent yet."""

    def on_tick(self, context: Context, symbol: str, tick: Tick) -> None:
        """Take a tick. Ticks are dispatched only to a class that overrides this."""

    def on_bar(self, context: Context, symbol: str, bar: Bar) -> None:
        """Take a completed bar: a past one while `context.warm` is False, each bar once."""

    def on_bar_revised(self, context: Context, symbol: str, bar: Bar) -> None:
        """Take the terminal's own version of a bar that `on_bar` has seen otherwise."""

    def on_order(self, context: Context, order: IntentEvent) -> None:
        """Take news of one of this strategy's own orders (docs/orders.md has the states)."""

    def on_broker_order(self, context: Context, order: Order) -> None:
        """Take a change of one of this strategy's orders at the broker: placed, partly filled, cancelled, expired."""

    def on_deal(self, context: Context, deal: Deal) -> None:
        """Take a deal of this strategy's orders or positions, SL, TP and closing by hand included."""

    def on_position(self, context: Context, change: PositionChange, position: Position) -> None:
        """Take a change of one of this strategy's positions; for ``closed``, its last state."""

    def on_timer(self, context: Context, name: str, due_ms: int) -> None:
        """Take a timer that came due at `due_ms`, market time."""

    def on_stop(self, context: Context) -> None:
        """End. Nothing can be sent any more; `save_state` follows."""

    def save_state(self) -> bytes:
        """Return what `load_state` needs after a restart; empty for nothing. Called after bars and at the stop.

        With a state, only the past bars it has not seen are delivered again; without one, all `warmup_bars`.
        """
        return b""

    def load_state(self, state: bytes) -> None:
        """Take back what `save_state` returned, before `on_start`."""
