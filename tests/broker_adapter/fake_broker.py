"""A broker, a link and a desk in one process, moved step by step, so that a test can stop between any two steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from broker_adapter.api_types import ApiSendResult, ApiTradeRequest
from broker_adapter.broker_state import BrokerRead
from broker_adapter.journal import Journal, OnDurable
from broker_adapter.journal_records import Record
from broker_adapter.link_messages import AnyCommand, LinkRole, Send, SendOutcome
from broker_adapter.link_results import LinkResult
from broker_adapter.order_desk import OrderDesk
from market.instrument import Instrument
from mt5bus.settings import Adapter, Risk, Settings
from protocol.clock import ManualClock
from protocol.errors import BusError, NotFound, NotReady
from protocol.messages import (
    Account,
    Deal,
    ErrorReply,
    Event,
    IntentEvent,
    Order,
    OrderReply,
    Position,
    Quote,
    Reply,
)
from tests.broker_adapter.journal_loop import PostBox

EURUSD = Instrument(
    "EURUSD", "EURUSD.m", 5, 1e-5, 1e-5, 1.0, 100_000.0, 0.01, 50.0, 0.01, 0.0, 0, 0, 2, 3, 127, 15, 4, 0,
    "EUR", "USD", "EUR", "", "",
)  # fmt: skip
SERVER, LOGIN = "Broker-Demo", 1001
BID, ASK = 1.10000, 1.10010


class FakeBroker:
    """The records behind a terminal on a hedging account: what was really executed.

    Attributes:
        changes_comment, changes_magic: The broker takes these witnesses away.
        drops_stops: SL and TP inside an opening request are ignored.
        fill_part: Part of the volume that is filled.
        fills: 0: an accepted order leaves no trace but may be filled by `fill_late`.
    """

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.positions: dict[int, Position] = {}
        self.deals: list[Deal] = []
        self.history: list[Order] = []
        self.next_ticket = 1000
        self.connected = True
        self.changes_comment = False
        self.changes_magic = False
        self.drops_stops = False
        self.fill_part = 1.0
        self.fills = True
        self.login = LOGIN
        self.balance = 10_000.0
        self.trade_mode = 0
        self.sent: list[ApiTradeRequest] = []
        self.late: list[ApiTradeRequest] = []
        self.history_hidden = False

    def ticket(self) -> int:
        self.next_ticket += 1
        return self.next_ticket

    def execute(self, request: ApiTradeRequest, reason: int = 3) -> ApiSendResult:
        """Do what `order_send` asks for, and answer."""
        self.sent.append(request)
        if request.action == 6:
            return self._set_stops(request)
        assert request.action == 1, request
        if not self.fills:
            self.late.append(request)
            return result(10008, request)
        return self.deal(request, reason)

    def fill_late(self) -> None:
        """Execute what was accepted without a fill."""
        for request in self.late:
            self.deal(request)
        self.late.clear()

    def deal(self, request: ApiTradeRequest, reason: int = 3) -> ApiSendResult:
        order, ticket = self.ticket(), self.ticket()
        volume = round(request.volume * self.fill_part, 2)
        price = ASK if request.type == 0 else BID
        magic = 0 if self.changes_magic else request.magic
        comment = "to the broker's taste" if self.changes_comment else request.comment
        symbol = "EURUSD"
        position_id = request.position or order
        now_ms = self.clock.wall_ms()
        if request.position:
            held = self.positions.get(request.position)
            if held is None:
                return result(10036, request)
            if volume > held.volume + 1e-9:
                return result(10038, request)
            left = round(held.volume - volume, 8)
            if left:
                self.positions[held.ticket] = msgspec.structs.replace(held, volume=left, time_update_ms=now_ms)
            else:
                del self.positions[held.ticket]
        else:
            stops = (0.0, 0.0) if self.drops_stops else (request.sl, request.tp)
            self.positions[order] = Position(
                order, order, symbol, request.type, volume, price, *stops, price, 0.0, 0.0, magic, comment, reason,
                now_ms, now_ms,
            )  # fmt: skip
        self.deals.append(
            Deal(
                ticket, order, position_id, symbol, request.type, 1 if request.position else 0, reason, volume, price,
                0.0, 0.0, 0.0, 0.0, magic, comment, now_ms,
            )
        )  # fmt: skip
        self.history.append(
            Order(
                order, symbol, request.type, 4, request.volume, 0.0, price, 0.0, 0.0, 0.0, 0, 0, position_id, 0,
                magic, comment, reason, now_ms, now_ms, 0,
            )
        )  # fmt: skip
        retcode = 10009 if self.fill_part == 1.0 else 10010
        return msgspec.structs.replace(result(retcode, request), deal=ticket, order=order, volume=volume, price=price)

    def _set_stops(self, request: ApiTradeRequest) -> ApiSendResult:
        held = self.positions.get(request.position)
        if held is None:
            return result(10036, request)
        if (held.sl, held.tp) == (request.sl, request.tp):
            return result(10025, request)
        self.positions[held.ticket] = msgspec.structs.replace(held, sl=request.sl, tp=request.tp)
        return result(10009, request)

    def read(self) -> BrokerRead:
        """Return a complete read of the account."""
        now_ns = self.clock.monotonic_ns()
        profit = sum(d.profit + d.commission for d in self.deals)
        balance = self.balance + profit
        account = Account(
            SERVER, self.login, "n", "USD", 100, self.trade_mode, 2, balance, 0, 0, balance, 0, balance, 0, True, True
        )
        return BrokerRead(
            account=account,
            positions=tuple(self.positions.values()),
            orders=(),
            history_orders=() if self.history_hidden else tuple(self.history),
            deals=() if self.history_hidden else tuple(self.deals),
            history_from_ms=self.clock.wall_ms() - 86_400_000,
            connected=self.connected,
            started_ns=now_ns,
            finished_ns=now_ns,
            market_ms=self.clock.wall_ms(),
        )

    @property
    def trades(self) -> int:
        """How many deals were made."""
        return len(self.deals)


def result(retcode: int, request: ApiTradeRequest | None = None) -> ApiSendResult:
    """Return a result with nothing but a retcode."""
    return ApiSendResult(retcode, 0, 0, 0.0, 0.0, BID, ASK, "", 1, 0, request or ApiTradeRequest())


class FakeLink:
    """The trade link: takes one command, executes it in one step, answers in another.

    Attributes:
        answers: How the next commands are answered, in order; empty: as the broker answers.
    """

    def __init__(self, broker: FakeBroker) -> None:
        self.broker = broker
        self.answers: deque[Callable[[Send], LinkResult]] = deque()
        self.taken: deque[tuple[Send, Callable[[LinkResult], None]]] = deque()
        self.answered: deque[tuple[LinkResult, Callable[[LinkResult], None]]] = deque()

    def call(
        self, role: LinkRole, command: AnyCommand, on_result: Callable[[LinkResult], None], *, deadline_s: float
    ) -> None:
        assert role is LinkRole.TRADE
        assert isinstance(command, Send)
        self.taken.append((command, on_result))

    def execute(self) -> bool:
        """Carry out what was taken; the answer is on its way."""
        if not self.taken:
            return False
        command, on_result = self.taken.popleft()
        answer = self.answers.popleft() if self.answers else self.normally
        self.answered.append((answer(command), on_result))
        return True

    def answer(self) -> bool:
        """Let an answer arrive."""
        if not self.answered:
            return False
        outcome, on_result = self.answered.popleft()
        on_result(outcome)
        return True

    def normally(self, command: Send) -> LinkResult:
        if self.broker.clock.monotonic_ns() >= command.deadline_ns:
            return answered(SendOutcome(not_sent="deadline"))
        if command.login != self.broker.login:
            return answered(SendOutcome(not_sent="wrong_account"))
        return answered(SendOutcome(result=self.broker.execute(command.request), volume=command.request.volume))

    def lost_after(self, command: Send) -> LinkResult:
        """Executed; the reply was lost with the link."""
        self.broker.execute(command.request)
        return LinkResult("lost", reason="died", was_sent=True)

    def lost_before(self, command: Send) -> LinkResult:
        """Never executed; nobody can tell."""
        return LinkResult("lost", reason="timeout", was_sent=True)


def answered(outcome: SendOutcome) -> LinkResult:
    """Return an answer that carries `outcome`."""
    return LinkResult("ok", value=msgspec.msgpack.encode(outcome))


class GatedJournal(Journal):
    """A journal on a real disk whose batches wait until the test lets them through: a crash loses those that wait."""

    gate: deque[tuple[tuple[Record, ...], OnDurable]]

    def write(self, records: object, on_durable: OnDurable, *, essential: bool = False) -> None:
        self.__dict__.setdefault("gate", deque()).append((tuple(records), on_durable))  # type: ignore[arg-type]

    def let_through(self) -> bool:
        """Write one waiting batch, and run its callback once it is on disk."""
        gate = self.__dict__.setdefault("gate", deque())
        if not gate:
            return False
        records, on_durable = gate.popleft()
        super().write(records, on_durable, essential=True)
        box = self._loop
        assert isinstance(box, PostBox)
        while self.outstanding:
            box.run_next()
        return True


class FakeCaller:
    """Who asked: keeps the answers."""

    def __init__(self, request_id: int = 1) -> None:
        self.request_id = request_id
        self.name = "test"
        self.replies: list[Reply] = []

    def reply(self, message: Reply) -> None:
        self.replies.append(message)

    def fail(self, error: BusError) -> None:
        self.replies.append(ErrorReply(self.request_id, error.code, error.text, error.details))

    @property
    def outcome(self) -> IntentEvent:
        """The outcome of the one order reply."""
        assert len(self.replies) == 1, self.replies
        reply = self.replies[0]
        assert isinstance(reply, OrderReply), reply
        return reply.outcome

    @property
    def error(self) -> ErrorReply:
        """The one error."""
        assert len(self.replies) == 1, self.replies
        reply = self.replies[0]
        assert isinstance(reply, ErrorReply), reply
        return reply


class World:
    """Broker, link, journal and desk; `crash` ends the adapter's half of it at once, `restart` starts it again."""

    data_path = "/terminal"

    def __init__(self, folder: Path, *, risk: Risk | None = None, fixed_magic: int = 0) -> None:
        self.folder = folder
        self.clock = ManualClock(wall_ms=1_760_000_000_000)
        self.broker = FakeBroker(self.clock)
        self.settings = Settings(
            adapter=Adapter(risk=risk or Risk(max_volume_per_symbol=50.0), fixed_magic=fixed_magic)
        )
        self.server_time_known = True
        self.attached = True
        self.gaps: set[str] = set()
        self.quote_ = Quote("EURUSD", self.clock.wall_ms(), BID, ASK)
        self.published: list[Event] = []
        self.polls_asked = 0
        self.start()

    def start(self) -> None:
        self.link = FakeLink(self.broker)
        self.journal = GatedJournal(PostBox(self.clock), self.folder, epoch=self.clock.wall_ms())
        self.desk = OrderDesk(
            self.clock,
            self.journal,
            self.link,
            self.settings,
            market=self,
            publish=self.published.append,
            poll_now=self._poll_now,
        )

    # What the desk asks of market and time.

    def instrument(self, symbol: str) -> Instrument:
        if symbol != "EURUSD":
            raise NotFound(f"no symbol {symbol}", {"field": "symbol"})
        return EURUSD

    def quote(self, symbol: str) -> Quote | None:
        return msgspec.structs.replace(self.quote_, time_ms=self.clock.wall_ms())

    def check_connection(self) -> None:
        if not self.attached:
            raise NotReady("the terminal is not attached")

    def has_gap(self, symbol: str) -> bool:
        return symbol in self.gaps

    def market_ms(self) -> int:
        return self.clock.wall_ms()

    def to_server_ms(self, utc_ms: int) -> int:
        return utc_ms + 7_200_000

    def to_utc_ms(self, server_ms: int) -> int:
        return server_ms - 7_200_000

    def _poll_now(self) -> None:
        self.polls_asked += 1

    # Moving.

    def read(self) -> None:
        """Let the desk see the account."""
        self.desk.on_read(self.broker.read())

    def step(self) -> bool:
        """Do the next thing that is due; say whether there was one."""
        if self.journal.let_through() or self.link.answer() or self.link.execute():
            return True
        if self.polls_asked:
            self.polls_asked = 0
            self.read()
            return True
        return False

    def settle(self) -> None:
        """Do everything that is due."""
        while self.step():
            pass

    def ready(self) -> World:
        """Read the account for the first time."""
        self.read()
        self.settle()
        return self

    def wait(self, seconds: float, *, every_s: float = 1.0) -> None:
        """Let time pass, with a read of the account every so often."""
        left = seconds
        while left > 0:
            self.clock.advance(min(every_s, left))
            left -= every_s
            self.read()
            self.settle()

    def crash(self) -> None:
        """End the adapter as kill -9 does: what waits for the disk is lost, and so are the links."""
        self.journal.close()

    def restart(self) -> None:
        """Start it again: links of the former life are dead, then the account is read."""
        self.clock.advance(3.0)
        self.polls_asked = 0
        self.start()

    def close(self) -> None:
        self.journal.close()

    def ask(self, request: object, request_id: int = 1) -> FakeCaller:
        """Hand a request to the desk as the service would."""
        caller = FakeCaller(request_id)
        try:
            self.desk.on_order(request, caller)  # type: ignore[arg-type]
        except BusError as error:
            caller.fail(error)
        return caller

    def states(self, client_order_id: str) -> list[str]:
        """Return the states that were published of an order, in order."""
        bodies = [e.body for e in self.published if isinstance(e.body, IntentEvent)]
        return [body.state for body in bodies if body.client_order_id == client_order_id]

    def state(self, client_order_id: str) -> str:
        """Return where an order stands."""
        found = self.desk.intent(client_order_id)
        return "" if found is None else found.state
