"""The strategy node: one process that runs the configured strategies on one adapter's streams.

Sockets: SUB to the streams, DEALER to the queries ROUTER (snapshot, past bars, missed events, fates), DEALER to the
orders ROUTER (orders, signals), and one to the supervisor.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from market.instrument import Instrument
from mt5bus.config import Loaded
from mt5bus.home import file_name
from mt5bus.settings import Settings
from protocol.keys import KeyStore
from protocol.loop import Loop
from protocol.messages import BarUpdate, Beacon, Event, Snapshot, StateUpdate, StrategyReport, TickBatch
from protocol.node import NodeLife
from protocol.requests import Requester
from protocol.subscriber import StreamSubscriber
from strategy.loading import load_strategy
from strategy.market_clock import MarketClock
from strategy.runner import Runner
from strategy.sdk import Strategy
from strategy.specifications import Specifications

NAME = "strategy"
CLOCK_INTERVAL_S = 0.05
HOUSEKEEPING_INTERVAL_S = 1.0
LAG_LIMIT_MS = 500
LINGER_MS = 200
VERSION = "1"

log = logging.getLogger(__name__)


class StrategyNode:
    """Wires sockets, timers and runners together.

    Args:
        alone: Run without a supervisor.

    Raises:
        ConfigError: A strategy cannot be loaded, or its parameters are wrong.
        AuthenticationFailed: The keys in the home cannot be used.
    """

    def __init__(self, loaded: Loaded, loop: Loop, *, alone: bool) -> None:
        settings = loaded.settings
        strategies = [load_strategy(each) for each in settings.strategy]
        keys = KeyStore(loaded.home.keys)
        keys.ensure()
        identity, adapter_key = keys.identity(NAME), keys.server_key("adapter")
        self.loop = loop
        self.market = MarketClock(loop.clock)
        self._handled = 0
        bus, context = settings.bus, loop.context
        self.queries = Requester(
            loop, context, bus.queries, identity=identity, server_key=adapter_key, name="adapter's queries"
        )
        self.orders = Requester(
            loop, context, bus.orders, identity=identity, server_key=adapter_key, name="adapter's orders"
        )
        self.runners = tuple(
            Runner(
                each,
                strategy,
                symbols=each.symbols or settings.adapter.symbols,
                folder=loaded.home.strategy / file_name(each.name),
                wires=self,
                wall_ms=loop.clock.wall_ms,
                keep_days=settings.logging.keep_days,
            )
            for each, strategy in zip(settings.strategy, strategies, strict=True)
        )
        self.subscriber = StreamSubscriber(
            loop,
            context,
            bus.streams,
            identity=identity,
            server_key=adapter_key,
            adapter=settings.adapter.name,
            queries=self.queries,
            on_tick=self._on_tick,
            on_bar=self._on_bar,
            on_event=self._on_event,
            on_state=self._on_state,
            on_beacon=self._on_beacon,
            on_snapshot=self._on_snapshot,
            symbols=_symbols(settings),
            lag_limit_ms=_lag_limit_ms(strategies),
            heal_ticks=any(map(_takes_every_tick, strategies)),
        )
        self.specifications = Specifications(loop, self.queries, _symbols(settings), on_instrument=self._on_instrument)
        self.life = NodeLife(
            loop,
            context,
            name=NAME,
            version=VERSION,
            identity=identity,
            pings_address=None if alone else bus.pings,
            server_key=keys.server_key("supervisor"),
            report=self.report,
            streams=self.subscriber.reports,
        )
        self.life.on_stop(self._stop_in_order)
        self._timers = (
            loop.every(CLOCK_INTERVAL_S, self._on_clock),
            loop.every(HOUSEKEEPING_INTERVAL_S, self._keep_house),
        )
        self.subscriber.start()

    def run(self) -> None:
        """Turn the loop until the node is stopped."""
        self.life.install_signals()
        self.life.run()

    def close(self) -> None:
        """Stop the strategies and close every socket."""
        self._stop("the node ends")
        for timer in self._timers:
            timer.cancel()
        self.specifications.close()
        self.subscriber.close()
        self.orders.close(linger_ms=LINGER_MS)
        self.queries.close()
        self.life.close()

    def report(self) -> StrategyReport:
        """Return what the pong adds about this node."""
        runners = self.runners
        waiting = [f"{runner.name}: {runner.detail}" for runner in runners if runner.detail and not runner.trouble]
        return StrategyReport(
            strategies=tuple(runner.name for runner in runners),
            signals=sum(runner.signals for runner in runners),
            orders=sum(runner.orders for runner in runners),
            warm=all(runner.live for runner in runners),
            detail="; ".join([runner.trouble for runner in runners if runner.trouble] + waiting),
        )

    def _on_tick(self, symbol: str, batch: TickBatch) -> None:
        self._handled += 1
        for runner in self.runners:
            runner.on_ticks(symbol, batch)

    def _on_bar(self, symbol: str, update: BarUpdate) -> None:
        self._handled += 1
        # The bar's end is the least that market time can be.
        self.market.on_time(update.bar.open_time_ms)
        for runner in self.runners:
            runner.on_bar(symbol, update)

    def _on_event(self, event: Event) -> None:
        self._handled += 1
        self.market.on_time(event.market_ms)
        for runner in self.runners:
            runner.on_event(event)

    def _on_state(self, update: StateUpdate) -> None:
        self.market.on_time(update.market_ms)
        for runner in self.runners:
            runner.on_state(update)

    def _on_instrument(self, instrument: Instrument) -> None:
        for runner in self.runners:
            runner.on_instrument(instrument)

    def _on_beacon(self, beacon: Beacon) -> None:
        self._handled += 1
        self.market.on_beacon(beacon)
        for runner in self.runners:
            runner.on_beacon(beacon)

    def _on_snapshot(self, snapshot: Snapshot) -> None:
        self.market.on_time(snapshot.market_ms)
        for runner in self.runners:
            runner.on_snapshot(snapshot)

    def _on_clock(self) -> None:
        for runner in self.runners:
            runner.on_clock()
        self._judge()

    def _keep_house(self) -> None:
        for runner in self.runners:
            runner.keep_house()
        self.life.progress = self._handled + sum(runner.callbacks for runner in self.runners)

    def _judge(self) -> None:
        if self.life.state == "stopping":
            return
        if any(runner.trouble for runner in self.runners):
            self.life.state = "degraded"
        else:
            self.life.state = "ready" if all(runner.live for runner in self.runners) else "starting"

    def _stop_in_order(self) -> None:
        self._stop("the node stops")
        for runner in self.runners:
            runner.presence.leave()

    def _stop(self, reason: str) -> None:
        for runner in self.runners:
            runner.stop(reason)


def run(loaded: Loaded, *, alone: bool) -> None:
    """Run the node until it is stopped.

    Raises:
        ConfigError: A strategy cannot be loaded, or its parameters are wrong.
        AuthenticationFailed: The keys in the home cannot be used.
    """
    loop = Loop()
    try:
        node = StrategyNode(loaded, loop, alone=alone)
    except BaseException:
        loop.context.destroy(linger=0)  # sockets that were made already would let the process wait for ever
        raise
    try:
        log.info("strategy node started", extra={"strategies": [runner.name for runner in node.runners]})
        node.run()
    finally:
        node.close()
        loop.close()


def _symbols(settings: Settings) -> tuple[str, ...]:
    """Return the symbols that any strategy sees, in the adapter's order."""
    wanted = {symbol for each in settings.strategy for symbol in (each.symbols or settings.adapter.symbols)}
    return tuple(symbol for symbol in settings.adapter.symbols if symbol in wanted)


def _lag_limit_ms(strategies: Sequence[Strategy]) -> int | None:
    """Return the age from which ticks may be skipped: only where every strategy that takes ticks is willing."""
    return None if any(map(_takes_every_tick, strategies)) else LAG_LIMIT_MS


def _takes_every_tick(strategy: Strategy) -> bool:
    return type(strategy).on_tick is not Strategy.on_tick and not strategy.newest_tick_only
