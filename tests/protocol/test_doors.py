"""Who gets in: keys and roles at the sockets, garbage at the ports, and that the others are not disturbed."""

from __future__ import annotations

import contextlib
import select
import socket as sockets
import threading
from collections.abc import Callable, Iterator
from threading import Event

import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import codec, service
from protocol import messages as m
from protocol.door import TOLD_BEFORE_CUT
from protocol.errors import (
    AuthenticationFailed,
    BusError,
    DataInvalid,
    NoAnswer,
    NoConnection,
    NotFound,
    NotReady,
    RiskRefused,
    UnknownKind,
)
from protocol.keys import Identity, new_identity
from protocol.loop import Loop
from protocol.requests import Requester
from protocol.service import Caller, Service
from protocol.sockets import bind_router, connect_dealer, connect_requester, connect_subscriber
from protocol.zap import Gatekeeper
from tests.held import held
from tests.protocol.rig import FRIEND, SERVER, STRANGER, Peer, quiet_address
from tests.protocol.samples import MESSAGES
from tests.waiting import eventually


class House:
    """A service on a real socket, and askers in the same loop."""

    def __init__(self) -> None:
        self.peer = Peer()
        self.loop = self.peer.loop
        self.service, self.address = self.peer.service("query")
        self.door = self.peer.door
        self.service.handle(m.GetHealth, lambda request, caller: m.Done(request.id, caller.name))
        self.askers: list[Requester] = []

    def asker(self, identity: Identity = FRIEND, address: str = "") -> Requester:
        """Return a requester."""
        made = Requester(
            self.loop,
            self.loop.context,
            address or self.address,
            identity=identity,
            server_key=SERVER.public,
            name="adapter",
        )
        self.askers.append(made)
        return made

    def until(self, check: Callable[[], object], what: str = "it") -> None:
        """Turn until `check`."""

        def turned() -> object:
            self.loop.turn(10)
            return check()

        eventually(turned, what=what)

    def ask(
        self, asker: Requester, make: Callable[[int], m.Request] = m.GetHealth, deadline_s: float = 5
    ) -> m.Reply | BusError:
        """Return what comes of a request."""
        answers: list[m.Reply | BusError] = []
        asker.ask(make, on_reply=answers.append, on_error=answers.append, deadline_s=deadline_s)
        self.until(lambda: answers, "an answer")
        assert len(answers) == 1
        return answers[0]

    def connected(self, asker: Requester) -> m.Reply | BusError:
        """Return the first answer that is not about the connection."""
        answers: list[m.Reply | BusError] = []

        def answered() -> bool:
            answers.append(self.ask(asker))
            return not isinstance(answers[-1], NoConnection)

        eventually(answered, what="a connection")
        return answers[-1]

    def close(self) -> None:
        """Close everything."""
        for asker in self.askers:
            asker.close()
        self.peer.close()


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.close()


def test_a_friend_is_named_to_the_handler(house: House) -> None:
    reply = house.connected(house.asker())
    assert isinstance(reply, m.Done)
    assert reply.text == FRIEND.name


@pytest.mark.parametrize("kind", ["stranger", "wrong role"])
def test_others_are_refused_told_and_counted(house: House, kind: str) -> None:
    if kind == "wrong role":
        house.peer.admit(STRANGER, "subscribe", "trade")
    friend = house.asker()
    house.connected(friend)
    stranger = house.asker(STRANGER)
    house.until(lambda: stranger.refused, "the refusal")
    assert isinstance(house.ask(stranger), AuthenticationFailed)
    assert house.peer.gatekeeper.refused == 1
    assert isinstance(house.ask(friend), m.Done)


def test_who_is_admitted_later_gets_in_by_itself(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.refusals.RETRY_S", 0.05)
    stranger = house.asker(STRANGER)
    house.until(lambda: stranger.refused, "the refusal")
    house.peer.admit(STRANGER, "query")
    house.until(lambda: not stranger.refused, "the admission")
    assert isinstance(house.connected(stranger), m.Done)


def test_no_key_at_all_changes_nothing(house: House) -> None:
    plain = house.loop.context.socket(zmq.REQ)
    plain.setsockopt(zmq.LINGER, 0)
    plain.connect(house.address)
    plain.send(codec.encode(m.GetHealth(1)))
    assert isinstance(house.connected(house.asker()), m.Done)
    assert not plain.poll(50)
    assert house.service.malformed == 0
    plain.close()


def test_garbage_on_the_port_changes_nothing(house: House) -> None:
    host, port = house.address.removeprefix("tcp://").split(":")
    friend = house.asker()
    house.connected(friend)
    attackers = [sockets.create_connection((host, int(port))) for _ in range(5)]
    for number, attacker in enumerate(attackers):
        attacker.sendall(bytes([255, number]) * 500)
    assert isinstance(house.ask(friend), m.Done)
    for attacker in attackers:
        attacker.close()


def test_each_refused_key_is_logged_once(house: House, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        stranger = house.asker(STRANGER)
        house.until(lambda one=stranger: one.refused)  # type: ignore[misc]
    assert sum("key without the role" in record.message for record in caplog.records) == 1
    assert house.peer.gatekeeper.refused == 3


@given(st.lists(st.binary(max_size=40), max_size=9))
def test_the_gatekeeper_judges_any_request(parts: list[bytes]) -> None:
    loop = Loop()
    keeper = Gatekeeper(loop, lambda role: {})
    for request in (parts, [b"1.0", b"1", b"query", b"127.0.0.1", b"", b"CURVE", (b"".join(parts) + bytes(32))[:32]]):
        assert keeper._judge(request)[2] == b"400"
    keeper.close()
    loop.close()


def test_a_name_beyond_ascii_is_admitted(house: House) -> None:
    umlaut = new_identity("Händler")
    house.peer.admit(umlaut, "query")
    assert house.connected(house.asker(umlaut)) is not None
    reply = house.ask(house.askers[-1])
    assert isinstance(reply, m.Done)
    assert reply.text == "Händler"


# The service


def test_an_error_in_a_handler_is_the_answer(house: House) -> None:
    def handler(request: m.GetAccount, caller: Caller) -> m.Reply:
        raise RiskRefused("no", {"limit": "x"})

    house.service.handle(m.GetAccount, handler)
    asker = house.asker()
    house.connected(asker)
    error = house.ask(asker, m.GetAccount)
    assert isinstance(error, RiskRefused)
    assert (error.text, error.details) == ("no", {"limit": "x"})
    assert isinstance(house.ask(asker, m.GetStatus), NotFound)


def test_a_handler_may_close_its_service(house: House) -> None:
    there, address = house.peer.service("query", quiet_address())

    def leave(request: m.GetHealth, caller: Caller) -> m.Reply:
        there.close()
        return m.Done(request.id)

    there.handle(m.GetHealth, leave)
    asker = house.asker(address=address)
    house.until(lambda: not isinstance(house.ask(asker, deadline_s=0.1), NoConnection) or there.undelivered, "the end")
    assert there.undelivered == 1


def test_a_handler_may_answer_later(house: House) -> None:
    def later(request: m.GetAccount, caller: Caller) -> None:
        house.loop.after(0.05, lambda: caller.reply(m.Done(request.id, "later")))

    house.service.handle(m.GetAccount, later)
    asker = house.asker()
    house.connected(asker)
    reply = house.ask(asker, m.GetAccount)
    assert isinstance(reply, m.Done)
    assert reply.text == "later"


def test_req_and_dealer_are_both_answered(house: House) -> None:
    req = connect_requester(house.loop.context, house.address, identity=FRIEND, server_key=SERVER.public)
    house.until(lambda: req.poll(0, zmq.POLLOUT), "a connection")
    req.send(codec.encode(m.GetHealth(5)))
    house.until(lambda: req.poll(0), "the reply")
    assert codec.decode(req.recv()).message == m.Done(5, "friend")
    req.close()


def raw(house: House, *parts: bytes) -> list[m.Message]:
    """Send raw parts from a friend's DEALER; return the answers, the last one to a good request."""
    dealer = connect_dealer(house.loop.context, house.address, identity=FRIEND, server_key=SERVER.public)
    house.until(lambda: dealer.poll(0, zmq.POLLOUT), "a connection")
    dealer.send_multipart(list(parts))
    dealer.send_multipart([b"", codec.encode(m.GetHealth(99))])
    answers: list[m.Message] = []

    def answered() -> bool:
        while dealer.poll(0):
            answers.append(codec.decode(dealer.recv_multipart()[-1]).message)
        return bool(answers) and isinstance(answers[-1], m.Done)

    house.until(answered, "the good request's answer")
    dealer.close()
    return answers


def test_malformed_requests_are_counted_answered_and_change_nothing(house: House) -> None:
    (error, _) = raw(house, b"", b"v1/get_health//\0\x91\xa1x")
    assert isinstance(error, m.ErrorReply)
    assert error.code == DataInvalid.code
    (error, _) = raw(house, b"", b"v1/get_weather//\0\x91\x07")
    assert isinstance(error, m.ErrorReply)
    assert (error.code, error.id) == (UnknownKind.code, 7)
    (error, _) = raw(house, b"", codec.encode(MESSAGES["tick"], "main", "EURUSD"))
    assert isinstance(error, m.ErrorReply)
    assert house.service.malformed == 3
    assert house.service.requests == 3


@pytest.mark.parametrize("version", ["v0", "v2"])
def test_a_client_of_another_version_is_told_so(house: House, version: str) -> None:
    (error, _) = raw(house, b"", version.encode() + codec.encode(m.GetAccount(7))[2:])
    assert isinstance(error, m.ErrorReply)
    assert (error.code, error.id) == (DataInvalid.code, 7)
    assert version in error.text
    assert "speaks v1" in error.text


def test_too_many_parts_are_dropped(house: House) -> None:
    assert len(raw(house, *[b"x"] * 9)) == 1
    assert house.service.malformed == 1


def test_a_flood_of_garbage_does_not_flood_the_log(house: House, caplog: pytest.LogCaptureFixture) -> None:
    dealer = connect_dealer(house.loop.context, house.address, identity=FRIEND, server_key=SERVER.public)
    house.until(lambda: dealer.poll(0, zmq.POLLOUT), "a connection")
    for number in range(500):
        dealer.send_multipart([b"", b"garbage %d" % number])
    house.until(lambda: house.service.malformed == 500, "the count")
    assert sum("malformed" in record.message for record in caplog.records) == service._LOGGED_MALFORMED
    dealer.close()


@settings(max_examples=25)
@given(parts=st.lists(st.binary(max_size=200), min_size=1, max_size=6))
def test_any_parts_change_nothing(parts: list[bytes]) -> None:
    house = House()
    try:
        answers = raw(house, *parts)
        assert isinstance(answers[-1], m.Done)
    finally:
        house.close()


def test_an_oversized_request_ends_its_connection_only(house: House) -> None:
    friend = house.asker()
    house.connected(friend)
    dealer = connect_dealer(house.loop.context, house.address, identity=FRIEND, server_key=SERVER.public)
    house.until(lambda: dealer.poll(0, zmq.POLLOUT), "a connection")
    dealer.send_multipart([b"", b"v1/get_health//\0" + bytes(1024 * 1024)])
    assert isinstance(house.ask(friend), m.Done)
    assert house.service.requests >= 1
    dealer.close()


# The requester


def test_no_peer_is_told_at_once(house: House) -> None:
    lonely = house.asker(address="tcp://127.0.0.1:9")
    error = house.ask(lonely, deadline_s=60)
    assert isinstance(error, NoConnection)
    assert lonely.outstanding == 0


def test_deadline_and_late_reply(house: House) -> None:
    callers: list[tuple[m.GetAccount, Caller]] = []
    house.service.handle(m.GetAccount, lambda request, caller: callers.append((request, caller)))
    asker = house.asker()
    house.connected(asker)
    error = house.ask(asker, m.GetAccount, deadline_s=0.05)
    assert isinstance(error, NoAnswer)
    assert "get_account" in error.text
    request, caller = callers[0]
    caller.reply(m.Done(request.id))
    assert isinstance(house.ask(asker), m.Done)
    assert asker.outstanding == 0


def test_requests_that_nobody_answers_leave_nothing_behind(house: House) -> None:
    """The callers are dropped, the deadlines pass: neither side holds more than before."""
    house.service.handle(m.GetAccount, lambda request, caller: None)
    asker = house.asker()
    house.connected(asker)
    before = held(asker, house.service, beside=(Loop,))
    errors: list[BusError] = []
    for _ in range(300):
        asker.ask(m.GetAccount, on_reply=lambda reply: None, on_error=errors.append, deadline_s=0.05)
    house.until(lambda: len(errors) == 300, "every deadline")
    assert asker.outstanding == 0
    assert isinstance(house.ask(asker), m.Done)
    # One set for each key that ever waited: it is empty, its callers are gone.
    assert held(asker, house.service, beside=(Loop,)) <= before + 1
    assert house.service.crowded == 0


def test_each_of_many_requests_gets_its_own_answer(house: House) -> None:
    house.service.handle(m.GetPositions, lambda request, caller: m.Done(request.id, request.symbol))
    asker = house.asker()
    house.connected(asker)
    answers: dict[str, m.Reply] = {}
    for number in range(500):
        asker.ask(
            lambda request_id, n=number: m.GetPositions(request_id, str(n)),  # type: ignore[misc]
            on_reply=lambda reply, n=number: answers.update({str(n): reply}),  # type: ignore[misc]
            on_error=lambda error: pytest.fail(error.text),
            deadline_s=10,
        )
    house.until(lambda: len(answers) == 500, "every answer")
    assert all(isinstance(reply, m.Done) and reply.text == name for name, reply in answers.items())


def test_a_peer_that_came_back_is_asked_again(house: House) -> None:
    there, address = house.peer.service("query", quiet_address())
    there.handle(m.GetHealth, lambda request, caller: m.Done(request.id))
    asker = house.asker(address=address)
    house.connected(asker)
    there.close()
    house.until(lambda: isinstance(house.ask(asker, deadline_s=0.1), NoConnection), "the loss")
    socket = bind_router(house.loop.context, address, identity=SERVER, domain="query")
    back = Service(house.loop, socket, adapter="main")
    back.handle(m.GetHealth, lambda request, caller: m.Done(request.id, "back"))
    reply = house.connected(asker)
    assert isinstance(reply, m.Done)
    assert reply.text == "back"
    back.close()


def test_an_old_order_is_never_delivered_late(house: House) -> None:
    """What was asked while nobody was there does not arrive when somebody is."""
    address = quiet_address()
    asker = house.asker(address=address)
    error = house.ask(asker, lambda i: m.CancelOrder(i, "old", "s", 0, 1))
    assert isinstance(error, NoConnection)
    seen: list[str] = []
    socket = bind_router(house.loop.context, address, identity=SERVER, domain="trade")
    orders = Service(house.loop, socket, adapter="main")
    orders.handle(m.CancelOrder, lambda r, c: seen.append(r.client_order_id) or m.Done(r.id))  # type: ignore[func-returns-value]
    orders.handle(m.GetHealth, lambda r, c: m.Done(r.id))
    assert isinstance(house.connected(asker), m.Done)
    assert isinstance(house.ask(asker, lambda i: m.CancelOrder(i, "new", "s", 0, 1)), m.Done)
    assert seen == ["new"]
    orders.close()


def test_a_callback_may_close_its_requester(house: House) -> None:
    asker = house.asker()
    house.connected(asker)
    closed: list[m.Reply] = []

    def close(reply: m.Reply) -> None:
        closed.append(reply)
        asker.close()
        house.askers.remove(asker)

    for _ in range(3):
        asker.ask(m.GetHealth, on_reply=close, on_error=lambda error: None, deadline_s=5)
    house.until(lambda: closed, "the answer")
    house.loop.turn(50)
    assert len(closed) == 1


def test_a_taken_port_is_told() -> None:
    peer = Peer()
    _, address = peer.service()
    with pytest.raises(NoConnection, match="stop it or set another"):
        bind_router(peer.loop.context, address, identity=SERVER, domain="query", retry_s=0.15)
    with pytest.raises(NoConnection, match="cannot bind"):
        bind_router(peer.loop.context, "tcp://nonsense:x", identity=SERVER, domain="query", retry_s=0)
    with pytest.raises(NoConnection, match="cannot connect"):
        connect_dealer(peer.loop.context, "nonsense", identity=FRIEND, server_key=SERVER.public)
    peer.close()


# Keys that are revoked while their holder is connected


class Register:
    """Keys that hold a role, as a folder of files would say."""

    def __init__(self, house: House, *identities: Identity) -> None:
        self._house = house
        for identity in identities:
            house.peer.admit(identity, "query", "subscribe")

    def revoke(self, identity: Identity) -> None:
        """Take every role."""
        for holders in self._house.peer.admitted.values():
            holders.pop(identity.public, None)


def test_a_revoked_key_is_told_at_its_next_request_and_then_cut_off(house: House) -> None:
    register = Register(house, STRANGER)
    asker, friend = house.asker(STRANGER), house.asker()
    assert isinstance(house.connected(asker), m.Done)
    house.connected(friend)
    register.revoke(STRANGER)
    house.until(lambda: not isinstance(house.ask(asker), m.Done), "the refusal")
    served = house.service.requests
    error = house.ask(asker)
    assert isinstance(error, AuthenticationFailed)
    assert "revoked" in error.text
    for _ in range(TOLD_BEFORE_CUT):
        house.ask(asker, deadline_s=0.2)
    house.until(lambda: asker.refused, "the refusal at the door")
    assert isinstance(house.ask(asker), AuthenticationFailed)
    assert house.service.requests == served
    assert house.door.cut == 1
    assert house.peer.gatekeeper.refused >= TOLD_BEFORE_CUT
    assert isinstance(house.ask(friend), m.Done)
    house.peer.admit(STRANGER, "query")
    house.until(lambda: isinstance(house.ask(asker, deadline_s=0.2), m.Done), "the way back")


def test_a_revoked_subscriber_is_cut_off_and_the_others_hear_on(house: House) -> None:
    register = Register(house, STRANGER)
    streams, address = house.peer.streams()
    door = house.peer.gatekeeper.door(streams, "subscribe")
    readers = {}
    for identity in (FRIEND, STRANGER):
        readers[identity.name] = connect_subscriber(
            house.loop.context, address, identity=identity, server_key=SERVER.public
        )
        readers[identity.name].setsockopt(zmq.SUBSCRIBE, b"")
    heard = dict.fromkeys(readers, 0)

    def on_subscription() -> None:
        door.on_subscription(streams.recv(copy=False))

    def publish() -> None:
        streams.send(b"tick")
        for name, reader in readers.items():
            while reader.poll(0):
                heard[name] += len(reader.recv()) > 0

    house.loop.watch(streams, on_subscription)
    house.loop.every(0.01, publish)
    house.until(lambda: all(heard.values()), "both hear")
    # The socket serves a subscription before it is read from it.
    house.until(lambda: {name for _, name in door.heard()} == {FRIEND.name, STRANGER.name}, "both are known")
    register.revoke(STRANGER)
    house.until(lambda: door.cut == 1, "the cut")
    house.until(lambda: house.peer.gatekeeper.refused, "the refusal of its return")
    before = dict(heard)
    house.until(lambda: heard[FRIEND.name] > before[FRIEND.name] + 20, "the friend hears on")
    assert heard[STRANGER.name] == before[STRANGER.name]
    house.loop.unwatch(streams)
    for reader in readers.values():
        reader.close()


def test_endless_subscriptions_end_the_connection(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.door.MAX_SUBSCRIPTIONS", 500)
    streams, address = house.peer.streams()
    door = house.peer.gatekeeper.door(streams, "subscribe")
    house.loop.watch(streams, lambda: door.on_subscription(streams.recv(copy=False)))
    greedy = connect_subscriber(house.loop.context, address, identity=FRIEND, server_key=SERVER.public)
    for number in range(501):
        greedy.setsockopt(zmq.SUBSCRIBE, b"v1/tick/%d" % number)
    house.until(lambda: door.cut, "the cut")
    greedy.close()
    house.loop.unwatch(streams)


def test_a_message_without_a_key_is_admitted_nowhere(house: House) -> None:
    assert house.door.admit(zmq.Frame(b"x")) is None
    house.door.turn_away(zmq.Frame(b"x"))
    assert house.peer.gatekeeper.refused == 1


def test_what_shows_no_key_is_counted_and_logged_within_bounds(house: House, caplog: pytest.LogCaptureFixture) -> None:
    host, port = house.address.removeprefix("tcp://").split(":")
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)  # ZMTP 3.0 without Curve
    attackers = [sockets.create_connection((host, int(port))) for _ in range(60)]
    for attacker in attackers:
        attacker.sendall(greeting)
    house.until(lambda: house.peer.gatekeeper.handshakes_failed == 60, "every failure")
    for attacker in attackers:
        attacker.close()
    assert sum("showed no key" in record.message for record in caplog.records) == 20
    assert house.peer.gatekeeper.refused == 0


def test_requests_that_wait_are_bounded_for_each_key(house: House) -> None:
    house.peer.admit(STRANGER, "query")
    kept: list[tuple[m.GetAccount, Caller]] = []
    house.service.handle(m.GetAccount, lambda request, caller: kept.append((request, caller)))
    greedy, other = house.asker(), house.asker(STRANGER)
    house.connected(greedy)
    house.connected(other)
    answers: list[m.Reply | BusError] = []
    for _ in range(service.MAX_OUTSTANDING + 10):
        greedy.ask(m.GetAccount, on_reply=answers.append, on_error=answers.append, deadline_s=30)
    house.until(lambda: len(answers) == 10, "the refusals")
    assert all(isinstance(answer, NotReady) for answer in answers)
    other.ask(m.GetAccount, on_reply=answers.append, on_error=answers.append, deadline_s=30)
    house.until(lambda: len(kept) == service.MAX_OUTSTANDING + 1, "another key's request")
    for request, caller in kept:
        caller.reply(m.Done(request.id))
    house.until(lambda: len(answers) == service.MAX_OUTSTANDING + 11, "every answer")
    greedy.ask(m.GetAccount, on_reply=answers.append, on_error=answers.append, deadline_s=30)
    house.until(lambda: len(kept) == service.MAX_OUTSTANDING + 2, "room again")
    assert house.service.crowded == 10


def test_one_turn_ends_after_its_time_however_many_wait(house: House) -> None:
    """A request that takes long to answer does not hold up what else the loop has to do for a hundred of its kind."""
    spent = Event()

    def slowly(request: m.GetAccount, caller: Caller) -> m.Reply:
        spent.wait(0.01)
        return m.Done(request.id)

    house.service.handle(m.GetAccount, slowly)
    asker = house.asker()
    house.connected(asker)
    answers: list[m.Reply | BusError] = []
    for _ in range(20):
        asker.ask(m.GetAccount, on_reply=answers.append, on_error=answers.append, deadline_s=30)
    turns = house.loop.turns
    house.until(lambda: len(answers) == 20, "every answer")
    assert house.loop.turns - turns >= 20


class Wiretap:
    """Stands between a client and a port: passes on, keeps what the client said, and can say it again.

    Args:
        port: Of the server.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = sockets.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.said: list[bytes] = []
        self._ends: list[sockets.socket] = []
        self._thread = threading.Thread(target=self._live, name="wiretap")
        self._thread.start()

    def _live(self) -> None:
        client, _ = self._listener.accept()
        server = sockets.create_connection(("127.0.0.1", self._port))
        self._ends = [client, server]
        while True:
            for end in select.select(self._ends, [], [])[0]:
                try:
                    data = end.recv(65_536)
                except OSError:
                    data = b""
                if not data:
                    return
                if end is client:
                    self.said.append(data)
                (server if end is client else client).sendall(data)

    def again(self, data: bytes) -> None:
        """Say something to the server once more, on the connection that stands."""
        self._ends[1].sendall(data)

    def close(self) -> None:
        """Cut the wire."""
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(sockets.SHUT_RDWR)
        self._thread.join(10)
        for end in (*self._ends, self._listener):
            end.close()


def test_what_was_heard_on_the_wire_is_worth_nothing(house: House) -> None:
    """An order's bytes sent again, on their own connection or on a new one, are not an order."""
    port = int(house.address.rpartition(":")[2])
    tap = Wiretap(port)
    seen: list[str] = []

    def cancel(request: m.CancelOrder, caller: Caller) -> m.Reply:
        seen.append(request.client_order_id)
        return m.Done(request.id)

    house.service.handle(m.CancelOrder, cancel)
    victim, friend = house.asker(address=tap.address), house.asker()
    house.connected(victim)
    house.connected(friend)
    before = len(tap.said)
    assert isinstance(house.ask(victim, lambda i: m.CancelOrder(i, "once", "s", 0, 1)), m.Done)
    recorded = tap.said[before:]
    assert recorded
    assert b"once" not in b"".join(tap.said)
    for data in recorded:
        tap.again(data)
    with sockets.create_connection(("127.0.0.1", port)) as other:
        other.sendall(b"".join(tap.said))
        house.until(lambda: select.select([other], [], [], 0)[0], "the server's answer to the new connection")
        for _ in range(20):
            assert isinstance(house.ask(friend), m.Done)
    tap.close()
    assert seen == ["once"]
    assert house.service.malformed == 0


def test_refused_keys_without_end_are_counted_and_the_first_are_logged(
    house: House, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.zap._MAX_LOGGED", 3)
    for number in range(6):
        stranger = house.asker(new_identity(f"stranger-{number}"))
        house.until(lambda one=stranger: one.refused)  # type: ignore[misc]
    assert sum("key without the role" in record.message for record in caplog.records) == 3
    assert house.peer.gatekeeper.refused == 6
