"""The trading half as the node and the queries see it: journal, mode, positions and orders, deals, our intents."""

from __future__ import annotations

from broker_adapter.broker_state import BrokerRead
from broker_adapter.catalogue import Catalogue
from broker_adapter.connection import Connection
from broker_adapter.journal import Journal
from broker_adapter.server_clock import ServerClock
from broker_adapter.streams import Streams
from broker_adapter.trade_poll import TradePoll
from mt5bus.home import Home
from mt5bus.settings import Settings
from protocol.loop import Loop
from protocol.messages import Account, Deal, Event, IntentEvent, Order, OrderCounts, Position
from protocol.service import Service

_DAY_MS = 86_400_000
LAST_DEALS = 10


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
        poll: TradePoll,
        service: Service,
    ) -> None:
        self._loop = loop
        self._poll = poll
        self._service = service
        self._connection = connection
        self._clock = clock
        self._catalogue = catalogue
        self._streams = streams
        self._journal = Journal(loop, home.adapter, epoch=epoch, keep_days=settings.adapter.ids_kept_days)
        poll.on_read = self._on_read

    def _on_read(self, read: BrokerRead) -> None:
        """Take a complete read of the account."""

    def on_connection(self) -> None:
        """Take note that the state of the connection changed."""

    def close(self) -> None:
        """Write what is on its way to the disk, and close the journal."""
        self._journal.close()

    @property
    def ready(self) -> bool:
        """Whether the first complete read was reconciled, so that orders are accepted."""
        return self._poll.last is not None

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
        return self._poll.account

    @property
    def positions(self) -> tuple[Position, ...]:
        """Open positions."""
        return self._poll.positions

    @property
    def orders(self) -> tuple[Order, ...]:
        """Active orders."""
        return self._poll.orders

    @property
    def last_deals(self) -> tuple[Deal, ...]:
        """The newest deals of the last read, oldest first."""
        deals = self._poll.last.deals if self._poll.last is not None else ()
        return tuple(sorted(deals, key=lambda deal: (deal.time_ms, deal.ticket))[-LAST_DEALS:])

    @property
    def trading_mode(self) -> str:
        """``active``, ``reducing`` or ``halted``."""
        return self._journal.meta("mode", "active")

    @property
    def counts(self) -> OrderCounts:
        """Our orders since the journal began."""
        return self._journal.counts()

    @property
    def order_in_flight(self) -> bool:
        """Whether an order is with the terminal right now."""
        return False

    def events_after(self, offset: int, limit: int) -> tuple[Event, ...]:
        """Return published events after `offset`, in order."""
        return self._journal.events_after(offset, limit)

    def intent(self, client_order_id: str) -> IntentEvent | None:
        """Return where one of our orders stands."""
        found = self._journal.intent(client_order_id)
        return found.event() if found is not None else None

    def open_intents(self, strategy: str) -> tuple[IntentEvent, ...]:
        """Return live intents and those of the last day, of one strategy or (empty) of all."""
        found = {each.number: each for each in self._journal.live_intents()}
        found |= {each.number: each for each in self._journal.recent_intents(self._loop.clock.wall_ms() - _DAY_MS)}
        return tuple(each.event() for _, each in sorted(found.items()) if not strategy or each.strategy == strategy)
