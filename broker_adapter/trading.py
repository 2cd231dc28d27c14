"""The trading half as the node and the queries see it: journal, mode, positions and orders, deals, our intents."""

from __future__ import annotations

from broker_adapter.alerts import StandingAlerts
from broker_adapter.catalogue import Catalogue
from broker_adapter.connection import Connection
from broker_adapter.disk_reserve import DiskReserve
from broker_adapter.disk_watch import DiskWatch
from broker_adapter.event_retention import EventRetention
from broker_adapter.flattening import Flattening
from broker_adapter.journal import Journal
from broker_adapter.order_desk import OrderDesk
from broker_adapter.order_service import OrderService
from broker_adapter.risk_report import RiskReporter
from broker_adapter.server_clock import ServerClock
from broker_adapter.strategy_watch import LOOK_INTERVAL_S as STRATEGY_LOOK_S
from broker_adapter.strategy_watch import StrategyWatch
from broker_adapter.streams import Streams
from broker_adapter.tick_feed import TickFeed
from broker_adapter.trade_events import attributed_deal, attributed_order
from broker_adapter.trade_poll import TradePoll
from market.instrument import Instrument
from mt5bus.home import Home
from mt5bus.settings import Settings
from protocol.errors import NotFound, NotReady
from protocol.loop import Loop
from protocol.messages import (
    Account,
    Deal,
    Done,
    Event,
    IntentEvent,
    Order,
    OrderCounts,
    Position,
    Quote,
    Reconnect,
    RiskReport,
    UnsettledOrder,
)
from protocol.service import Caller, Service

_LOOK_INTERVAL_S = 1.0


class MarketView:
    """What the order desk needs to know of symbols, prices and time."""

    def __init__(
        self,
        connection: Connection,
        clock: ServerClock,
        catalogue: Catalogue,
        streams: Streams,
        ticks: TickFeed,
    ) -> None:
        self._connection = connection
        self.has_gap = ticks.has_gap
        self._catalogue = catalogue
        self._streams = streams
        self.market_ms = clock.market_ms
        self.to_server_ms = clock.to_server_ms
        self.to_utc_ms = clock.to_utc_ms
        self._clock = clock

    def instrument(self, symbol: str) -> Instrument:
        """Return the specification. Raises NotFound or NotReady."""
        found = self._catalogue.instrument(symbol)
        if found is not None:
            return found
        if not self._catalogue.ready:
            raise NotReady(f"the specification of {symbol[:40]!r} has not been read yet: try again in a moment")
        raise NotFound(
            f"{symbol[:40]!r} is no symbol that this adapter follows: name one of adapter.symbols, or add it there",
            {"field": "symbol"},
        )

    def quote(self, symbol: str) -> Quote | None:
        """Return the newest quote."""
        return self._streams.quote(symbol)

    def check_connection(self) -> None:
        """Return if the trade link is attached. Raises NotReady or CircuitOpen."""
        if not self._connection.ready_to_trade:
            raise self._connection.not_ready()

    @property
    def server_time_known(self) -> bool:
        """Whether the server's offset from UTC is more than assumed."""
        return self._clock.known

    @property
    def data_path(self) -> str:
        """Data folder of the terminal that is attached; empty before."""
        terminal = self._connection.terminal
        return "" if terminal is None else terminal.data_path


class Trading:
    """Owns the journal, and what decides about orders."""

    def __init__(
        self,
        loop: Loop,
        settings: Settings,
        *,
        home: Home,
        epoch: int,
        connection: Connection,
        clock: ServerClock,
        catalogue: Catalogue,
        streams: Streams,
        ticks: TickFeed,
        poll: TradePoll,
        service: Service,
        queries: Service,
        reserve: DiskReserve,
    ) -> None:
        self._connection = connection
        self._journal = Journal(
            loop, home.adapter, epoch=epoch, keep_days=settings.adapter.ids_kept_days, reserve=reserve
        )
        market = MarketView(connection, clock, catalogue, streams, ticks)
        self.desk = OrderDesk(
            loop.clock,
            self._journal,
            connection,
            settings,
            market=market,
            publish=streams.publish_event,
            poll_now=poll.poll_now,
        )
        self.alerts = StandingAlerts(
            self._journal, commit=self.desk.commit_new, market_ms=clock.market_ms, account=self._account_of_alerts
        )
        self.disk = DiskWatch(loop, self.alerts, home.adapter, reserve, settings.adapter)
        self.desk.disk = self.disk
        self.retention = EventRetention(
            loop, self._journal, self.alerts, settings.adapter, queries=queries, orders=service
        )
        self.flattening = Flattening(self.desk, self._journal, loop.clock)
        self.desk.after_read = self.flattening.step
        loop.every(_LOOK_INTERVAL_S, self.flattening.look)
        self.watch = StrategyWatch(
            self.desk,
            self._journal,
            loop.clock,
            epoch=epoch,
            risk=settings.adapter.risk,
            strategies=settings.strategy,
            alerts=self.alerts,
            flattening=self.flattening,
        )
        loop.every(STRATEGY_LOOK_S, self.watch.look)
        self._risk = RiskReporter(
            self.desk,
            market,
            loop.clock,
            symbols=settings.adapter.symbols,
            watch=self.watch,
            flattening=self.flattening,
        )
        OrderService(service, self.desk, self.flattening, self.watch)
        service.handle(Reconnect, self._on_reconnect)
        poll.recorded_ms = self._journal.last_recorded_ms
        poll.undecided_ms = lambda: self.desk.oldest_undecided_ms
        poll.on_read = self.desk.on_read

    def _account_of_alerts(self) -> tuple[str, int]:
        expected = self._connection.expected
        return ("", 0) if expected is None else (expected[1], expected[0])

    def _on_reconnect(self, request: Reconnect, _caller: Caller) -> Done:
        self._connection.reconnect()
        return Done(request.id, "the adapter is attaching to the terminal anew")

    def on_connection(self) -> None:
        """Take note that the state of the connection changed. (The reads themselves tell the desk.)"""

    def close(self) -> None:
        """Write what is on its way to the disk, and close the journal."""
        self._journal.close()

    @property
    def ready(self) -> bool:
        """Whether the first complete read was reconciled, so that orders are accepted."""
        return self.desk.ready

    @property
    def log_id(self) -> str:
        """Identity of the event log."""
        return self._journal.log_id

    @property
    def first_offset(self) -> int:
        """Offset of the oldest event that is kept."""
        return self._journal.first_offset

    @property
    def last_offset(self) -> int:
        """Offset of the newest published event."""
        return self._journal.last_offset

    @property
    def account(self) -> Account | None:
        """The account as last read."""
        return self.desk.account

    @property
    def positions(self) -> tuple[Position, ...]:
        """Open positions."""
        return self.desk.positions

    @property
    def orders(self) -> tuple[Order, ...]:
        """Active orders."""
        return self.desk.orders

    @property
    def last_deals(self) -> tuple[Deal, ...]:
        """The newest deals of the last read, oldest first."""
        return tuple(map(self.attributed_deal, self.desk.last_deals))

    def attributed_deal(self, deal: Deal) -> Deal:
        """Return the deal with its strategy and order id, if it is ours."""
        return attributed_deal(deal, self.desk.book)

    def attributed_order(self, order: Order) -> Order:
        """Return the order with its strategy and order id, if it is ours."""
        return attributed_order(order, self.desk.book)

    @property
    def trading_mode(self) -> str:
        """``active``, ``reducing`` or ``halted``."""
        return self.desk.mode.value

    @property
    def restrictions(self) -> tuple[str, ...]:
        """For people: what stands against new exposure beside the mode, and what is being flattened."""
        return self._risk.restrictions()

    def risk_report(self, request_id: int) -> RiskReport:
        """Return the risk gate as it is now."""
        return self._risk.report(request_id)

    @property
    def counts(self) -> OrderCounts:
        """Our orders since the journal began."""
        return self.desk.counts()

    @property
    def order_in_flight(self) -> bool:
        """Whether an order is with the terminal right now."""
        return self.desk.in_flight

    def events_after(self, offset: int, limit: int) -> tuple[Event, ...]:
        """Return published events after `offset`, in order."""
        return self._journal.events_after(offset, limit)

    def intent(self, client_order_id: str) -> IntentEvent | None:
        """Return where one of our orders stands."""
        return self.desk.intent(client_order_id)

    def unsettled(self) -> tuple[UnsettledOrder, ...]:
        """Return our orders without an outcome, each with its evidence."""
        return self.desk.unsettled()

    def open_intents(self, strategy: str) -> tuple[IntentEvent, ...]:
        """Return live intents and those of the last day, of one strategy or (empty) of all."""
        return self.desk.intents(strategy)
