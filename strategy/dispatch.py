"""The dispatcher: inputs in, callbacks in a defined order, decisions out. No socket, no clock, no file.

The order is the order of the inputs. Within one input: the world is brought up to date first, then the callback sees
it; each callback's decisions get ids from its trigger and their index within the callback. An id that is known
already is not decided again: it was, before a restart.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from functools import partial
from typing import cast

import msgspec

from market.bars import Bar
from protocol.messages import (
    DealEvent,
    Event,
    EventBody,
    IntentEvent,
    OrderEvent,
    OrderRequest,
    PositionEvent,
    Quote,
    ReportSignal,
    Request,
    SignalEvent,
)
from protocol.ticks import RECORD_BYTES, TickArray, first_tick, rates_array
from strategy.inputs import (
    BarArrived,
    Began,
    Decision,
    Ended,
    Fired,
    History,
    Input,
    Joined,
    Observed,
    Occurred,
    Record,
    Refused,
    TicksArrived,
)
from strategy.order_ids import (
    AccountKey,
    BarTrigger,
    EventTrigger,
    RefusalTrigger,
    ResyncTrigger,
    TickTrigger,
    TimerTrigger,
    Trigger,
    order_id,
    signal_id,
)
from strategy.sdk import Context, PositionChange, Signal, Strategy
from strategy.world import World

log = logging.getLogger(__name__)


class _Timer(msgspec.Struct, frozen=True):
    due_ms: int
    every_ms: int | None


class Dispatcher:
    """Runs one strategy on inputs.

    Attributes:
        context: What the strategy's callbacks are given.
        world: What it shows.
        failed: The traceback of the callback that ended the strategy; empty while it runs.
        callbacks: Called so far.
        last_bars: By symbol, the open time of the newest bar delivered, UTC milliseconds.
    """

    def __init__(self, strategy: Strategy, began: Began) -> None:
        self.strategy = strategy
        self.began = began
        self.now_ms = 0
        self.warm = False
        self.failed = ""
        self.callbacks = 0
        self.last_bars: dict[str, int] = dict(began.last_bars)
        self.world = World(began.strategy)
        self.context = Context(
            began.strategy, symbols=began.symbols, timeframe=began.timeframe, world=self.world, desk=self
        )
        self._account = AccountKey(began.server, began.login)
        self._timers: dict[str, _Timer] = {}
        self._joined = False
        self._tick_places: dict[str, tuple[int, int]] = {}
        self._trigger: Trigger | None = None
        self._order_count = 0
        self._signal_count = 0
        self._decided: list[Request] = []
        self._kept_back = 0
        self._bar_close = 0.0

    # -- in ---------------------------------------------------------------------------------------------------------

    def dispatch(self, now_ms: int, input: Input) -> Record:  # noqa: A002  it is the input
        """Bring `input` to the strategy at market time `now_ms`; return the record to log, with what was decided.

        A strategy that raised gets nothing any more: the record then is empty of decisions.
        """
        self.now_ms = max(self.now_ms, now_ms)
        decided: list[Request] = []
        self._decided = decided
        was_failed = bool(self.failed)
        if not was_failed:
            self._route(input)
        error = "" if was_failed else self.failed
        return Record(self.now_ms, input, tuple(Decision.of(request) for request in decided), error)

    def next_due_ms(self) -> int | None:
        """Return when the next timer is due, market time; None without timers."""
        return min((timer.due_ms for timer in self._timers.values()), default=None)

    def due(self, now_ms: int) -> list[Fired]:
        """Return the inputs of the timers that are due, in order; one for each timer, the newest of missed ones."""
        fired = []
        for name, timer in self._timers.items():
            if timer.due_ms <= now_ms:
                due_ms = timer.due_ms if timer.every_ms is None else now_ms - now_ms % timer.every_ms
                fired.append(Fired(name, max(due_ms, timer.due_ms)))
        return sorted(fired, key=lambda timer: (timer.due_ms, timer.name))

    # -- the desk: what the context calls -----------------------------------------------------------------------------

    def order(self, request: OrderRequest) -> str:
        """Give the order its id and take it, unless it was decided before; empty where nothing may be sent."""
        if not self._may_send():
            return ""
        assert self._trigger is not None
        identifier = order_id(self._account, self.began.strategy, self._trigger, self._order_count)
        self._order_count += 1
        if identifier in self.world.orders:
            return identifier
        request = msgspec.structs.replace(request, client_order_id=identifier)
        self.world.requested(request)
        self._decided.append(request)
        return identifier

    def signal(self, signal: Signal) -> str:
        """Give the signal its id and take it; empty where nothing may be sent."""
        if not self._may_send():
            return ""
        trigger = self._trigger
        assert trigger is not None
        identifier = signal_id(self._account, self.began.strategy, trigger, self._signal_count)
        self._signal_count += 1
        quote = self.world.quotes.get(signal.symbol)
        bar = trigger if isinstance(trigger, BarTrigger) else None
        event = SignalEvent(
            signal_id=identifier,
            strategy=self.began.strategy,
            symbol=signal.symbol,
            timeframe=bar.timeframe if bar else "",
            bar_open_time_ms=bar.open_time_ms if bar else 0,
            direction=signal.direction,
            strength=signal.strength,
            price=quote.bid if quote else self._bar_close,
            features=dict(signal.features),
            taken=bool(signal.order),
            client_order_id=signal.order,
            reason=signal.reason,
        )
        self._decided.append(ReportSignal(0, event))
        return identifier

    def set_timer(self, name: str, *, every_ms: int | None, at_ms: int | None) -> None:
        """Set or replace a timer; a repeated one is due at multiples of its interval."""
        due_ms = at_ms if every_ms is None else (self.now_ms // every_ms + 1) * every_ms
        assert due_ms is not None
        self._timers[name] = _Timer(due_ms, every_ms)

    def cancel_timer(self, name: str) -> None:
        """Remove a timer."""
        self._timers.pop(name, None)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _may_send(self) -> bool:
        if self.warm and self._trigger is not None:
            return True
        self._kept_back += 1
        return False

    def _route(self, input: Input) -> None:  # noqa: A002
        match input:
            case Began():
                self._begin(input)
            case Joined():
                self._join(input)
            case History():
                self._warm_up(input)
            case BarArrived():
                self._bar(input)
            case TicksArrived():
                self._ticks(input)
            case Observed():
                self.world.observe(input.account, input.positions, input.quotes, input.instruments)
            case Occurred():
                self._event(input.event, missed=input.missed)
            case Fired():
                self._timer(input)
            case Refused(outcome=outcome):
                if self.world.note_order(outcome, now_ms=self.now_ms):
                    trigger = RefusalTrigger(outcome.client_order_id)
                    self._call(trigger, lambda: self.strategy.on_order(self.context, outcome))
            case Ended():
                self._call(None, lambda: self.strategy.on_stop(self.context))

    def _call(self, trigger: Trigger | None, callback: Callable[[], None]) -> None:
        """Run a callback; if it raises, the strategy is ended and what this callback decided is dropped."""
        if self.failed:
            return
        self._trigger, self._order_count, self._signal_count = trigger, 0, 0
        kept = len(self._decided)
        self.callbacks += 1
        try:
            callback()
        except Exception:
            # A user's code may raise anything. From here on the strategy gets no callback; the node goes on.
            self.failed = traceback.format_exc()
            del self._decided[kept:]
            log.exception("a strategy raised and was stopped", extra={"strategy": self.began.strategy})
        finally:
            self._trigger = None

    def _begin(self, began: Began) -> None:
        for decision in began.unsettled:
            request = decision.request()
            if isinstance(request, OrderRequest):
                self.world.requested(request)
        if began.state is not None:
            state = began.state
            self._call(None, lambda: self.strategy.load_state(state))

    def _join(self, joined: Joined) -> None:
        snapshot = joined.snapshot
        intents, positions = self.world.join(snapshot)
        if not self._joined:
            self._joined = True
            self._call(None, lambda: self.strategy.on_start(self.context))
            return
        news: list[EventBody] = [*intents, *positions]
        for body in news:
            self._tell(ResyncTrigger(snapshot.log_id, snapshot.offset, body.key()), body)

    def _warm_up(self, history: History) -> None:
        self.warm = False
        bars = []
        for place, page in enumerate(history.bars):
            known_ms = self.last_bars.get(page.symbol, -1)
            rates = rates_array(page.records)
            bars += [(bar.open_time_ms, place, page.symbol, bar) for bar in _bars(rates) if bar.open_time_ms > known_ms]
        bars.sort(key=lambda entry: entry[:2])
        for open_time_ms, _, symbol, bar in bars:
            self.last_bars[symbol] = open_time_ms
            self._deliver_bar(None, symbol, bar)
        if self._kept_back:
            log.info(
                "orders and signals decided before the strategy was warm were not sent",
                extra={"strategy": self.began.strategy, "count": self._kept_back},
            )
            self._kept_back = 0
        self.warm = True

    def _bar(self, input: BarArrived) -> None:  # noqa: A002
        bar, symbol = input.bar, input.symbol
        known_ms = self.last_bars.get(symbol, -1)
        if bar.open_time_ms > known_ms:
            self.last_bars[symbol] = bar.open_time_ms
            # The trigger leaves the revision out: the same bar is the same decision, whichever version came first.
            self._deliver_bar(BarTrigger(symbol, input.timeframe, bar.open_time_ms), symbol, bar)
        elif input.revision > 0:
            trigger = BarTrigger(symbol, input.timeframe, bar.open_time_ms, input.revision)
            self._bar_close = bar.close
            self._call(trigger, lambda: self.strategy.on_bar_revised(self.context, symbol, bar))

    def _deliver_bar(self, trigger: Trigger | None, symbol: str, bar: Bar) -> None:
        self._bar_close = bar.close
        self._call(trigger, lambda: self.strategy.on_bar(self.context, symbol, bar))

    def _ticks(self, input: TicksArrived) -> None:  # noqa: A002
        symbol = input.symbol
        for index in range(len(input.records) // RECORD_BYTES):
            tick = first_tick(input.records, index)
            self.world.observe(None, (), (Quote(symbol, tick.time_ms, tick.bid, tick.ask),))
            time_ms, place = self._tick_places.get(symbol, (0, -1))
            # A time that goes back keeps counting: no two ticks of a life share a trigger.
            place = 0 if tick.time_ms > time_ms else place + 1
            self._tick_places[symbol] = (max(time_ms, tick.time_ms), place)
            trigger = TickTrigger(symbol, tick.time_ms, place)
            self._call(trigger, partial(self.strategy.on_tick, self.context, symbol, tick))

    def _event(self, event: Event, *, missed: bool) -> None:
        if (event.server, event.login) != self._account:
            return
        body = event.body
        news = self.world.concerns(body) if missed else self.world.apply(body, now_ms=self.now_ms)
        if news:
            self._tell(EventTrigger(event.log_id, event.offset), body)

    def _tell(self, trigger: Trigger, body: EventBody) -> None:
        strategy, context = self.strategy, self.context
        match body:
            case IntentEvent():
                self._call(trigger, lambda: strategy.on_order(context, body))
            case OrderEvent(order=order):
                self._call(trigger, lambda: strategy.on_broker_order(context, order))
            case DealEvent(deal=deal):
                self._call(trigger, lambda: strategy.on_deal(context, deal))
            case PositionEvent():
                change = cast(PositionChange, body.change)
                self._call(trigger, lambda: strategy.on_position(context, change, body.position))

    def _timer(self, fired: Fired) -> None:
        timer = self._timers.pop(fired.name, None)
        if timer is None:
            return
        if timer.every_ms is not None:
            self._timers[fired.name] = _Timer(fired.due_ms + timer.every_ms, timer.every_ms)
        trigger = TimerTrigger(fired.name, fired.due_ms)
        self._call(trigger, lambda: self.strategy.on_timer(self.context, fired.name, fired.due_ms))


def _bars(rates: TickArray) -> list[Bar]:
    """Return packed rates as bars; their ``time`` is in seconds."""
    return [
        Bar(
            open_time_ms=int(row["time"]) * 1000,
            open=float(row["open"]),
            high=float(row["high"]),
            low=float(row["low"]),
            close=float(row["close"]),
            tick_volume=int(row["tick_volume"]),
            spread_points=int(row["spread"]),
            real_volume=int(row["real_volume"]),
        )
        for row in rates
    ]
