"""Recording a live adapter and playing it to a node, all over real sockets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from protocol import codec
from protocol import messages as m
from protocol.captures import QUERIES, STREAMS, Capture, CaptureWriter
from protocol.errors import BusError, DataInvalid, NotFound, StateConflict
from protocol.loop import Loop
from protocol.messages import NodeReport
from protocol.node import NodeLife
from protocol.recorder import Recorder
from protocol.replay import ReplayAddresses, Replayer
from protocol.replay_archive import Archive, PlayHead
from protocol.requests import Requester
from protocol.subscriber import StreamSubscriber
from protocol.zap import Gatekeeper
from tests.protocol.fake_adapter import EPOCH, FakeAdapter, bids
from tests.protocol.rig import ANY_PORT, FRIEND, SERVER, Peer, running
from tests.protocol.samples import ACCOUNT, INTENT, QUOTE
from tests.waiting import eventually


def turned(loop: Loop, check: Callable[[], object]) -> Callable[[], object]:
    """Return a check that turns `loop` first."""

    def turning() -> object:
        loop.turn(10)
        return check()

    return turning


def scene(adapter: FakeAdapter) -> None:
    """Publish some minutes of a small life: ticks, a bar, an order's events, state."""
    for number in range(30):
        adapter.tick()
        if number % 5 == 4:
            adapter.bar()
            adapter.event(msgspec.structs.replace(INTENT, client_order_id=f"order-{number}", state="sent"))
            adapter.event(msgspec.structs.replace(INTENT, client_order_id=f"order-{number}"))
    adapter.state()
    adapter.beacon()


@pytest.fixture(scope="module")
def capture_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record the scene."""
    peer, loop = Peer(), Loop()
    adapter = FakeAdapter(peer)
    adapter.event()
    adapter.tick(3)
    writer = CaptureWriter(tmp_path_factory.mktemp("captures"), "main", software="1")
    with running(peer):
        recorder = Recorder(
            loop,
            loop.context,
            writer,
            streams_address=adapter.streams,
            queries_address=adapter.queries_at,
            identity=FRIEND,
            server_key=SERVER.public,
            adapter="main",
            timeframes=("S5",),
            flush_interval_s=0.01,
        )
        beats = loop.every(0.02, lambda: peer.loop.post(adapter.beacon))
        eventually(turned(loop, lambda: recorder.warm), what="the warm-up")
        beats.cancel()
        peer.loop.post(lambda: scene(adapter))
        eventually(turned(loop, lambda: recorder.frames["state"]), what="the scene")
        eventually(turned(loop, lambda: Capture(writer.paths[0]).header), what="a flushed file")
        recorder.close()
        writer.close()
        loop.close()
    return writer.paths[0]


def test_a_capture_holds_frames_unchanged_and_its_own_warm_up(capture_path: Path) -> None:
    capture = Capture(capture_path)
    kinds = [codec.split(record.frame)[0].kind for record in capture if record.stream == QUERIES]
    assert kinds == ["get_snapshot", "snapshot", "get_rates", "rates"]
    ticks = [d.message for d in capture.decoded(kinds={"tick"})]
    assert [bids(batch) for batch in ticks if isinstance(batch, m.TickBatch)] == [[n] for n in range(4, 34)]
    archive = Archive(capture)
    assert archive.first_ticks == {"EURUSD": 4}
    assert list(archive.events) == list(range(2, 14))


def test_answers_are_as_of_the_play_head(capture_path: Path) -> None:
    capture = Capture(capture_path)
    archive = Archive(capture)
    head = PlayHead(archive)
    rates = m.GetRates(1, "EURUSD", "S5", count=10)

    def answer(request: m.Request) -> m.Reply:
        return head.answer(request)

    first = answer(rates)
    assert isinstance(first, m.Rates)
    assert len(first.records) == 3 * 60
    assert answer(m.GetEvents(1, 1)) == m.Events(1, "log-1", 2, 1, ())
    assert answer(m.GetAccount(1)) == m.AccountReply(1, ACCOUNT)
    for unknown in (m.GetIntent(1, "order-4"), m.GetTickRange(1, "EURUSD", EPOCH, 4, 5), m.GetHealth(1)):
        with pytest.raises(NotFound):
            answer(unknown)
    with pytest.raises(NotFound):
        answer(m.GetRates(1, "EURUSD", "M1", count=1))
    for decoded in capture.decoded():
        if decoded.record.stream == STREAMS:
            head.pass_over(decoded.topic.symbol, decoded.message)
    after = answer(rates)
    assert isinstance(after, m.Rates)
    assert len(after.records) == 9 * 60
    events = answer(m.GetEvents(1, 10))
    assert isinstance(events, m.Events)
    assert [event.offset for event in events.events] == [11, 12, 13]
    ticks = answer(m.GetTickRange(1, "EURUSD", EPOCH, 4, 5))
    assert isinstance(ticks, m.Ticks)
    assert bids(m.TickBatch(1, 4, 0, ticks.records)) == [4, 5, 6, 7, 8]
    assert answer(m.GetPrices(1)) == m.Prices(1, (QUOTE,))
    intent = answer(m.GetIntent(1, "order-4"))
    assert isinstance(intent, m.OrderReply)
    assert intent.outcome.state == "done"


class Node:
    """A small node: it logs what it handles, and orders at every bar."""

    def __init__(self, replayer: Replayer, pings: str | None) -> None:
        self.loop = Loop()
        streams, queries, orders = replayer.addresses
        context = self.loop.context
        self.log: list[str] = []
        self.errors: list[BusError] = []
        self.queries = Requester(self.loop, context, queries, identity=FRIEND, server_key=SERVER.public, name="adapter")
        self.orders = Requester(self.loop, context, orders, identity=FRIEND, server_key=SERVER.public, name="adapter")
        self.subscriber = StreamSubscriber(
            self.loop,
            context,
            streams,
            identity=FRIEND,
            server_key=SERVER.public,
            adapter="main",
            queries=self.queries,
            on_tick=lambda symbol, batch: self.log.append(f"tick {bids(batch)}"),
            on_bar=self._on_bar,
            on_event=lambda event: self.log.append(f"event {event.offset}"),
            on_snapshot=lambda snapshot: self._ready(),
        )
        self.life = NodeLife(
            self.loop,
            context,
            name="strategy",
            version="1",
            identity=FRIEND,
            pings_address=pings,
            server_key=SERVER.public,
            report=_report,
            streams=self.subscriber.reports,
        )
        self.subscriber.start()

    def _ready(self) -> None:
        self.log.append("snapshot")
        self.life.state = "ready"

    def _on_bar(self, symbol: str, update: m.BarUpdate) -> None:
        self.log.append(f"bar {update.number}")
        number = update.number * 5 - 1
        self.orders.ask(
            lambda request_id: m.SubmitOrder(request_id, f"order-{number}", "s", 0, symbol, "buy", 0.1),
            on_reply=lambda reply: None,
            on_error=self.errors.append,
            deadline_s=5,
        )

    def close(self) -> None:
        """Close every socket."""
        self.subscriber.close()
        self.queries.close()
        self.orders.close()
        self.life.close()
        self.loop.close()


def _report() -> NodeReport:
    return m.StrategyReport(("s",), 0, 0, warm=True)


def play(path: Path, *, speed: float | None, with_pings: bool) -> tuple[list[str], Replayer]:
    """Play the capture to a node; return what the node handled."""
    loop = Loop()
    gatekeeper = Gatekeeper(loop, lambda role: {FRIEND.public: FRIEND.name})
    pings = "tcp://127.0.0.1:0" if with_pings else None
    replayer = Replayer(
        loop,
        loop.context,
        Archive(Capture(path)),
        ReplayAddresses(ANY_PORT, ANY_PORT, ANY_PORT, pings),
        identity=SERVER,
        supervisor=SERVER,
        speed=speed,
        settle_s=2.0 if with_pings else 0.2,
    )
    node = Node(replayer, replayer.pings)

    def done() -> bool:
        loop.turn(1)
        node.loop.turn(1)
        return replayer.state == "done" and len(replayer.orders) == 6 and not node.orders.outstanding

    eventually(done, timeout_s=20, what="the end of the replay")
    assert node.errors == []
    node.close()
    replayer.close()
    gatekeeper.close()
    loop.close()
    return node.log, replayer


def expected(order: list[str]) -> list[str]:
    """Return the handled scene in its recorded order."""
    log = ["snapshot"]
    offset = 1
    for number in range(30):
        log.append(f"tick [{number + 4}]")
        if number % 5 == 4:
            log += [f"bar {number // 5 + 1}", f"event {offset + 1}", f"event {offset + 2}"]
            offset += 2
    return log + order


def test_a_replay_at_full_speed_keeps_the_recorded_order(capture_path: Path) -> None:
    first, replayer = play(capture_path, speed=None, with_pings=True)
    again, _ = play(capture_path, speed=None, with_pings=True)
    assert first == again == expected([])
    assert replayer.unconfirmed == 0
    assert [order.client_order_id for order in replayer.orders] == [f"order-{n}" for n in (4, 9, 14, 19, 24, 29)]
    assert replayer.played["tick"] == 30


def test_a_replay_to_a_node_alone_loses_nothing(capture_path: Path) -> None:
    log, _ = play(capture_path, speed=1000, with_pings=False)
    assert sorted(log) == sorted(expected([]))


def test_orders_get_their_recorded_outcome_and_commands_are_refused(capture_path: Path) -> None:
    loop = Loop()
    gatekeeper = Gatekeeper(loop, lambda role: {FRIEND.public: FRIEND.name})
    replayer = Replayer(
        loop,
        loop.context,
        Archive(Capture(capture_path)),
        ReplayAddresses(ANY_PORT, ANY_PORT, ANY_PORT, None),
        identity=SERVER,
        supervisor=SERVER,
    )
    asker = Requester(
        loop, loop.context, replayer.addresses[2], identity=FRIEND, server_key=SERVER.public, name="adapter"
    )
    answers: list[m.Reply | BusError] = []

    def ask(make: Callable[[int], m.Request]) -> m.Reply | BusError:
        answers.clear()
        asker.ask(make, on_reply=answers.append, on_error=answers.append, deadline_s=5)
        eventually(turned(loop, lambda: answers), what="the answer")
        return answers[0]

    def connected() -> bool:
        return not isinstance(ask(lambda i: m.CancelOrder(i, "c-1", "s", 0, 7)), BusError)

    eventually(connected, what="the connection")
    known = ask(lambda i: m.SubmitOrder(i, "order-4", "s", 0, "EURUSD", "buy", 0.1))
    assert isinstance(known, m.OrderReply)
    assert known.outcome.state == "done"
    unknown = ask(lambda i: m.SubmitOrder(i, "other", "s", 0, "EURUSD", "buy", 0.1, "limit", 1.0))
    assert isinstance(unknown, m.OrderReply)
    assert (unknown.outcome.state, unknown.outcome.action) == ("sent", "pending")
    repeated = ask(lambda i: m.SubmitOrder(i, "other", "s", 0, "EURUSD", "buy", 0.1, "limit", 1.0))
    assert isinstance(repeated, m.OrderReply)
    assert repeated.repeated
    assert isinstance(ask(m.Reconnect), StateConflict)
    assert [order.client_order_id for order in replayer.orders] == ["c-1", "order-4", "other"]
    asker.close()
    replayer.close()
    gatekeeper.close()
    loop.close()


def test_a_capture_without_a_snapshot_is_refused(tmp_path: Path) -> None:
    writer = CaptureWriter(tmp_path, "main", software="1")
    writer.write(STREAMS, b"x")
    writer.close()
    with pytest.raises(DataInvalid, match="no snapshot"):
        Archive(Capture(writer.paths[0]))


def test_no_message_has_a_field_for_a_secret() -> None:
    names = {
        name
        for value in vars(m).values()
        if isinstance(value, type) and issubclass(value, msgspec.Struct)
        for name in value.__struct_fields__
    }
    assert not {name for name in names if any(word in name for word in ("password", "secret", "token", "private"))}
