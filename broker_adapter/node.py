"""The adapter node: wires links, feeds, queries and orders together on one loop.

Order of starting, fixed by what must be true before what: orphaned links end; the journal opens and takes its lock;
sockets bind; links start and attach; the first complete read of the account is reconciled; then orders are accepted.
"""

from __future__ import annotations

import logging
from pathlib import Path

from broker_adapter.alerts import ConditionWatch
from broker_adapter.bar_feed import BarFeed
from broker_adapter.catalogue import Catalogue
from broker_adapter.connection import Connection
from broker_adapter.disk_reserve import DiskReserve
from broker_adapter.epoch import next_epoch
from broker_adapter.history import History
from broker_adapter.link_messages import LinkRole
from broker_adapter.links import Links
from broker_adapter.queries import Queries
from broker_adapter.server_clock import ASSUMED_RULE, ServerClock
from broker_adapter.streams import BeaconFacts, Streams
from broker_adapter.tick_begins import TickBegins
from broker_adapter.tick_feed import TickFeed
from broker_adapter.trade_poll import TradePoll
from broker_adapter.trading import Trading
from market.server_time import ServerTimeRule
from mt5bus.config import Loaded
from mt5bus.settings import Settings
from protocol.keys import KeyStore
from protocol.loop import Loop
from protocol.messages import Account, AdapterReport, DoorCounts, Health, OrderCounts, Position
from protocol.node import NodeLife
from protocol.service import Service
from protocol.sightings import Sightings
from protocol.sockets import bind_router, bind_streams
from protocol.zap import Gatekeeper

NAME = "adapter"
VERSION = "1"
HOUSEKEEPING_INTERVAL_S = 0.05
_STARTING_S = 60.0  # a long history is taken in, and told, in turns that may be long
MAX_WAITING_ORDERS = 512
"""Of one key, at the orders socket: an exit must not be turned away because much is on its way."""

log = logging.getLogger(__name__)


class AdapterNode:
    """The one owner of the terminal.

    Args:
        alone: Run without a supervisor.
        start_terminal: Attaching may start a missing terminal (only when run alone).

    Raises:
        BusError: A port is taken, keys or journal cannot be used.
        Mt5busError: The configuration is wrong, or an orphaned link does not end.
    """

    def __init__(self, loaded: Loaded, loop: Loop, *, alone: bool, start_terminal: bool = False) -> None:
        settings, home = loaded.settings, loaded.home.create()
        adapter = settings.adapter
        self.loop = loop
        self.settings = settings
        keys = KeyStore(home.keys)
        keys.ensure()
        identity = keys.identity(NAME)
        context = loop.context
        reserve = DiskReserve(home.adapter, size=adapter.disk_reserve_mb * 1_000_000)
        reserve.make_way()
        self.epoch = next_epoch(home.adapter, wall_ms=loop.clock.wall_ms())
        self.gatekeeper = Gatekeeper(
            loop,
            lambda role: self.links.admitted_keys() if role == "link" else keys.admitted(role),
            standing=keys.standing,
            sightings=Sightings(home.run / f"seen-{NAME}.json", loop.clock),
        )
        # The first thing: links of a former life end before anything is read or sent.
        self.links = Links(loop, context, settings, home=home)
        self.connection = Connection(
            loop,
            self.links,
            settings,
            path=terminal_path(settings, home.terminal),
            may_start=start_terminal,
            on_change=self._on_connection,
            on_attached=self._on_attached,
        )
        feed_time = settings.terminal.clock == "feed"
        self.clock = ServerClock(
            loop.clock,
            setting=adapter.server_time,
            feed=feed_time,
            symbols=len(adapter.symbols),
            folder=home.adapter,
            feed_rule=feed_rule(settings),
            on_change=self._on_rule,
        )
        self.catalogue = Catalogue(loop, self.connection, adapter, on_symbols=self._on_symbols)
        self.trade_poll = TradePoll(
            loop,
            self.connection,
            self.clock,
            adapter,
            canonical=self.catalogue.canonical,
            names=self.catalogue.names,
        )
        streams_socket = bind_streams(context, settings.bus.bound.streams, identity=identity)
        self.streams = Streams(
            loop,
            streams_socket,
            door=self.gatekeeper.door(streams_socket, "subscribe"),
            adapter=adapter.name,
            epoch=self.epoch,
            facts=self._beacon_facts,
            state=self._state,
        )
        begins = TickBegins(home.adapter, epoch=self.epoch)
        self.ticks = TickFeed(
            loop,
            self.connection,
            self.clock,
            adapter,
            on_ticks=self._on_ticks,
            on_begin=lambda symbol, whole: self.bars.begin(symbol, whole=whole),
            begins=begins,
            from_first=feed_time,
            folder=home.adapter,
        )
        self.bars = BarFeed(
            loop,
            self.connection,
            self.clock,
            adapter,
            instrument=self.catalogue.instrument,
            publish=self.streams.publish_bar,
        )
        history = History(
            loop,
            self.connection,
            self.clock,
            adapter,
            broker_name=self.catalogue.broker_name,
            canonical=self.catalogue.canonical,
            instrument=self.catalogue.instrument,
            begins=begins,
        )
        orders_socket = bind_router(context, settings.bus.bound.orders, identity=identity, domain="trade")
        self.order_service = Service(
            loop,
            orders_socket,
            adapter=adapter.name,
            door=self.gatekeeper.door(orders_socket, "trade"),
            max_outstanding=MAX_WAITING_ORDERS,
        )
        queries_socket = bind_router(context, settings.bus.bound.queries, identity=identity, domain="query")
        self.query_service = Service(
            loop, queries_socket, adapter=adapter.name, door=self.gatekeeper.door(queries_socket, "query")
        )
        self.trading = Trading(
            loop,
            settings,
            home=home,
            epoch=self.epoch,
            connection=self.connection,
            clock=self.clock,
            catalogue=self.catalogue,
            streams=self.streams,
            ticks=self.ticks,
            poll=self.trade_poll,
            service=self.order_service,
            queries=self.query_service,
            reserve=reserve,
        )
        self.condition_watch = ConditionWatch(
            loop,
            self.trading.alerts,
            symbols=adapter.symbols,
            connection=self.connection,
            catalogue=self.catalogue,
            clock=self.clock,
            newest_tick_ms=lambda: self.ticks.newest_wall_ms,
        )
        self.queries = Queries(
            loop,
            self.query_service,
            adapter,
            view=self.trading,
            connection=self.connection,
            catalogue=self.catalogue,
            streams=self.streams,
            clock=self.clock,
            history=history,
            health=self.health,
        )
        self.life = NodeLife(
            loop,
            context,
            name=NAME,
            version=VERSION,
            identity=identity,
            pings_address=None if alone else settings.bus.pings,
            server_key=keys.server_key("supervisor"),
            report=self.report,
        )
        loop.every(HOUSEKEEPING_INTERVAL_S, self._keep_house)
        self.life.busy_for(_STARTING_S)
        self.links.start()

    def run(self) -> None:
        """Turn the loop until the node is stopped."""
        self.life.install_signals()
        self.life.run()

    def close(self) -> None:
        """End the links, close the journal and every socket."""
        self.links.close()
        self.trading.close()
        self.order_service.close()
        self.query_service.close()
        self.streams.close()
        self.life.close()
        self.gatekeeper.close()

    def report(self) -> AdapterReport:
        """Return what the pong adds about this node."""
        account = self.trading.account
        return AdapterReport(
            connection=self.connection.state,
            login=account.login if account else 0,
            server=account.server if account else "",
            currency=account.currency if account else "",
            balance=account.balance if account else 0.0,
            equity=account.equity if account else 0.0,
            orders=self.trading.counts,
            positions=self.trading.positions,
            quotes=self.streams.quotes(),
            last_deals=self.trading.last_deals,
            trading_mode=self.trading.trading_mode,
            detail=self._detail(),
            order_in_flight=self.trading.order_in_flight,
            doors=DoorCounts(
                keys_refused=self.gatekeeper.refused,
                handshakes_failed=self.gatekeeper.handshakes_failed,
                malformed=self.query_service.malformed + self.order_service.malformed,
                crowded=self.query_service.crowded + self.order_service.crowded,
            ),
            restrictions=self.trading.restrictions,
        )

    def health(self, request_id: int) -> Health:
        """Return how the adapter and its terminal are."""
        terminal = self.connection.terminal
        newest_ms = max((quote.time_ms for quote in self.streams.quotes()), default=0)
        return Health(
            id=request_id,
            connection=self.connection.state,
            breaker=self.connection.breaker,
            terminal_connected=terminal is not None and terminal.connected,
            trade_allowed=terminal is not None and terminal.trade_allowed,
            newest_tick_age_ms=max(0, self.clock.market_ms() - newest_ms) if newest_ms else -1,
            server_offset_minutes=self.clock.offset_minutes,
            server_time_status=self.clock.status,
            isolated_links=self.links.isolated,
            links=self.links.health(),
            counters=self._counters(),
            text=self._detail(),
        )

    def _counters(self) -> dict[str, int]:
        counts: OrderCounts = self.trading.counts
        return {
            "ticks": self.streams.ticks_published,
            "bars": self.streams.bars_published,
            "bar_revisions": self.bars.revisions,
            "bars_completed": self.bars.completed,
            "bars_missed": self.bars.missed,
            "events": self.streams.events_published,
            "events_dropped": self.trading.retention.dropped,
            "tick_polls": self.ticks.polls,
            "tick_poll_failures": self.ticks.failures,
            "account_polls": self.trade_poll.polls,
            "account_poll_failures": self.trade_poll.failures,
            "attachings": self.connection.attached_count,
            "keys_refused": self.gatekeeper.refused,
            "handshakes_failed": self.gatekeeper.handshakes_failed,
            "requests_crowded": self.query_service.crowded + self.order_service.crowded,
            "malformed_requests": self.query_service.malformed + self.order_service.malformed,
            "malformed_answers": self.links.malformed,
            "replies_undelivered": self.query_service.undelivered + self.order_service.undelivered,
            "requests": self.query_service.requests + self.order_service.requests,
            "orphaned_links_ended": self.links.orphans_ended,
            "orders_submitted": counts.submitted,
            "orders_unknown": counts.unknown,
        }

    def _detail(self) -> str:
        parts = [self.links.problem(role) for role in LinkRole]
        parts += [self.connection.detail if self.connection.state != "attached" else ""]
        parts += list(self.catalogue.problems.values())
        return "; ".join(dict.fromkeys(part for part in parts if part))

    def _on_connection(self) -> None:
        self.trading.on_connection()

    def _on_attached(self, roles: tuple[LinkRole, ...]) -> None:
        if LinkRole.BULK in roles:
            self.catalogue.load()
        if LinkRole.FEED in roles:
            self.trade_poll.poll_now()

    def _on_symbols(self, symbols: dict[str, str]) -> None:
        log.info("symbols followed", extra={"symbols": symbols})
        self.ticks.follow(symbols)

    def _on_ticks(self, symbol: str, records: bytes) -> None:
        self.streams.publish_ticks(symbol, records)
        self.bars.on_ticks(symbol, records)

    def _on_rule(self, _rule: ServerTimeRule) -> None:
        self.bars.rule_changed()

    def _state(self) -> tuple[Account, tuple[Position, ...]] | None:
        account = self.trading.account
        return None if account is None else (account, self.trading.positions)

    def _beacon_facts(self) -> BeaconFacts:
        return BeaconFacts(
            market_ms=self.clock.market_ms(),
            log_id=self.trading.log_id,
            event_offset=self.trading.last_offset,
            connection=self.connection.state,
            trading_mode=self.trading.trading_mode,
            server_offset_minutes=self.clock.offset_minutes,
            server_time_status=self.clock.status,
        )

    def _keep_house(self) -> None:
        self.life.progress = self.ticks.polls + self.trade_poll.polls + self.query_service.requests
        if self.life.state == "stopping":
            return
        state = self.connection.state
        if state == "attached" and self.catalogue.ready and self.trading.ready:
            if self.life.state == "starting":
                # What was read until here was waited for: without it nothing is traded.
                self.links.let_history_wait()
                self.life.busy_for(0)
            self.life.state = "degraded" if self.catalogue.problems else "ready"
        elif self.life.state != "starting":
            self.life.state = "degraded"


def terminal_path(settings: Settings, default: Path) -> str:
    """Return the path that `initialize` gets: as configured, else the paper terminal's folder in the home."""
    terminal = settings.terminal
    if terminal.path or terminal.kind == "mt5":
        return terminal.path
    return str(default)


def feed_rule(settings: Settings) -> str:
    """Return the server-time rule of the paper terminal as configured, in this adapter's spelling."""
    rule = settings.paper.get("server_time", ASSUMED_RULE)
    return f"fixed:{rule:+d}" if isinstance(rule, int) else str(rule)


def run(loaded: Loaded, *, alone: bool, start_terminal: bool = False) -> None:
    """Run the node until it is stopped.

    Raises:
        BusError: A port is taken, keys or journal cannot be used.
        Mt5busError: The configuration is wrong, or an orphaned link does not end.
    """
    loop = Loop()
    try:
        node = AdapterNode(loaded, loop, alone=alone, start_terminal=start_terminal)
    except BaseException:
        loop.context.destroy(linger=0)  # sockets that were made already would let the process wait for ever
        raise
    log.info("adapter started", extra={"epoch": node.epoch, "bus": loaded.settings.bus.ports})
    try:
        node.run()
    finally:
        node.close()
        loop.close()
