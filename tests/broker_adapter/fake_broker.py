"""A link and a desk on a fake broker in one process, moved step by step: a test can stop between any two steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from broker_adapter.journal import Journal, OnDurable
from broker_adapter.journal_records import Record
from broker_adapter.link_messages import AnyCommand, LinkRole, Send, SendOutcome
from broker_adapter.link_orders import OrderSender
from broker_adapter.link_results import LinkResult
from broker_adapter.order_desk import OrderDesk
from market.instrument import Instrument
from mt5bus.settings import Adapter, Risk, Settings
from protocol.clock import ManualClock
from protocol.errors import BusError, NotFound, NotReady
from protocol.messages import ErrorReply, Event, IntentEvent, OrderReply, Quote, Reply
from tests.broker_adapter.fake_account import ASK, BID, DATA_PATH, HEDGING, LOGIN, SERVER, FakeApi, FakeBroker, result
from tests.broker_adapter.journal_loop import PostBox

EURUSD = Instrument(
    "EURUSD", "EURUSD.m", 5, 1e-5, 1e-5, 1.0, 100_000.0, 0.01, 50.0, 0.01, 0.0, 0, 0, 2, 3, 127, 15, 4, 0,
    "EUR", "USD", "EUR", "", "",
)  # fmt: skip


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
        """What a link does with it."""
        clock = self.broker.clock
        sender = OrderSender(FakeApi(self.broker), monotonic_ns=clock.monotonic_ns, adapter_lives=lambda: True)
        return answered(sender.send(command))

    def lost_after(self, command: Send) -> LinkResult:
        """Executed; the reply was lost with the link."""
        self.normally(command)
        return LinkResult("lost", reason="died", was_sent=True)

    def lost_before(self, command: Send) -> LinkResult:
        """Never executed; nobody can tell."""
        return LinkResult("lost", reason="timeout", was_sent=True)


def answered(outcome: SendOutcome) -> LinkResult:
    """Return an answer that carries `outcome`."""
    return LinkResult("ok", value=msgspec.msgpack.encode(outcome))


class GatedJournal(Journal):
    """A journal on a real disk whose batches wait until the test lets them through: a crash loses those that wait."""

    def __init__(self, loop: PostBox, folder: Path, *, epoch: int) -> None:
        super().__init__(loop, folder, epoch=epoch)
        self.gate: deque[tuple[tuple[Record, ...], OnDurable]] = deque()
        # What is lost here is lost with a process, not with the power: nothing has to wait for the disk itself.
        self._writer.execute("PRAGMA synchronous = OFF")

    def write(self, records: Iterable[Record], on_durable: OnDurable, *, essential: bool = False) -> None:
        self.gate.append((tuple(records), on_durable))

    def let_through(self) -> bool:
        """Write one waiting batch, and run its callback once it is on disk."""
        if not self.gate:
            return False
        records, on_durable = self.gate.popleft()
        super().write(records, on_durable, essential=True)
        box = self._loop
        assert isinstance(box, PostBox)
        while self.outstanding:
            box.run_next()
        return True


class FakeCaller:
    """Who asked: keeps the answers."""

    def __init__(self, request_id: int = 1, waiting_since_ns: int = 0) -> None:
        self.request_id = request_id
        self.waiting_since_ns = waiting_since_ns
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

    data_path = DATA_PATH

    def __init__(
        self, folder: Path, *, risk: Risk | None = None, fixed_magic: int = 0, margin_mode: int = HEDGING
    ) -> None:
        self.folder = folder
        self.clock = ManualClock(wall_ms=1_760_000_000_000)
        self.broker = FakeBroker(self.clock, margin_mode)
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

    def ask(self, request: object, request_id: int = 1, *, waited_s: float = 0.0) -> FakeCaller:
        """Hand a request to the desk as the service would, `waited_s` after it came."""
        caller = FakeCaller(request_id, self.clock.monotonic_ns() - round(waited_s * 1e9))
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


__all__ = [
    "ASK",
    "BID",
    "EURUSD",
    "LOGIN",
    "SERVER",
    "FakeBroker",
    "FakeCaller",
    "FakeLink",
    "World",
    "answered",
    "result",
]
