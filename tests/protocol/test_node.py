"""A node's life towards its supervisor: hello, pong, stop, and again after the supervisor came back."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator

import pytest

from protocol import codec
from protocol import messages as m
from protocol.clock import ManualClock
from protocol.loop import Loop
from protocol.node import HELLO_INTERVAL_S, UNPINGED_S, NodeLife
from protocol.sockets import Socket, bind_router
from tests.protocol.rig import FRIEND, SERVER, STRANGER, Peer, quiet_address
from tests.waiting import eventually


class Supervisor:
    """A ROUTER that keeps what nodes send."""

    def __init__(self, peer: Peer, address: str) -> None:
        self.loop = peer.loop
        self.socket: Socket = bind_router(peer.loop.context, address, identity=SERVER, domain="node")
        self.heard: list[tuple[bytes, m.Message]] = []

    def listen(self) -> None:
        """Take what has come."""
        self.loop.turn(5)
        while self.socket.poll(0):
            parts = self.socket.recv_multipart()
            self.heard.append((parts[0], codec.decode(parts[-1]).message))

    def say(self, frame: bytes) -> None:
        """Send `frame` to whoever spoke last."""
        self.socket.send_multipart([self.heard[-1][0], b"", frame])

    def of(self, kind: type[m.Message]) -> list[m.Message]:
        """Return what was heard of a kind."""
        return [message for _, message in self.heard if isinstance(message, kind)]


class Scene:
    """A supervisor and a node, each in a loop of its own."""

    def __init__(self) -> None:
        self.address = quiet_address()
        self.peer = Peer()
        self.supervisor = Supervisor(self.peer, self.address)
        self.clock = ManualClock(monotonic_ns=1)
        self.loop = Loop(self.clock)
        self.stopped: list[str] = []
        self.life = self.node(self.address)

    def node(self, address: str | None) -> NodeLife:
        """Return a node."""
        return NodeLife(
            self.loop,
            self.loop.context,
            name="strategy",
            version="7",
            identity=FRIEND,
            pings_address=address,
            server_key=SERVER.public,
            report=lambda: m.StrategyReport(("s",), 1, 2, warm=True),
            streams=lambda: (m.StreamReport("ticks", 5, 0, 0, 0),),
        )

    def until(self, check: Callable[[], object], what: str, *, step_s: float = 0.0) -> None:
        """Turn both loops until `check`, the node's clock by `step_s` each time."""

        def turned() -> object:
            self.clock.advance(step_s)
            self.loop.turn(5)
            self.supervisor.listen()
            return check()

        eventually(turned, what=what)

    def close(self) -> None:
        """Close everything."""
        self.life.close()
        self.loop.close()
        self.supervisor.socket.close()
        self.peer.close()


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    yield made
    made.close()


def test_hello_until_pinged(scene: Scene) -> None:
    scene.until(lambda: scene.supervisor.of(m.Hello), "the first hello")
    (hello,) = scene.supervisor.of(m.Hello)
    assert isinstance(hello, m.Hello)
    assert (hello.node, hello.pid, hello.version, hello.state) == ("strategy", os.getpid(), "7", "starting")
    assert scene.supervisor.heard[0][0] == f"strategy.{hello.instance}".encode()
    for count in (2, 3):
        scene.clock.advance(HELLO_INTERVAL_S)
        scene.until(lambda count=count: len(scene.supervisor.of(m.Hello)) == count, "another")  # type: ignore[misc]
    scene.supervisor.say(codec.encode(m.Ping(1, 55)))
    scene.until(lambda: scene.supervisor.of(m.Pong), "the pong")
    for _ in range(int(UNPINGED_S)):
        scene.clock.advance(HELLO_INTERVAL_S)
        scene.loop.turn(5)
        scene.supervisor.listen()
    assert len(scene.supervisor.of(m.Hello)) == 3
    scene.clock.advance(HELLO_INTERVAL_S)
    scene.until(lambda: len(scene.supervisor.of(m.Hello)) == 4, "a hello after a silence")


def test_the_pong_tells_how_the_node_is(scene: Scene) -> None:
    scene.until(lambda: scene.supervisor.heard, "the hello")
    scene.life.state = "ready"
    scene.life.progress = 42
    scene.life.busy_for(2)
    scene.supervisor.say(codec.encode(m.Ping(9, 55)))
    scene.until(lambda: scene.supervisor.of(m.Pong), "the pong")
    (pong,) = scene.supervisor.of(m.Pong)
    assert isinstance(pong, m.Pong)
    assert (pong.serial, pong.sent_ns, pong.state, pong.progress) == (9, 55, "ready", 42)
    assert pong.busy_until_ns == scene.clock.monotonic_ns() + 2_000_000_000
    assert pong.streams == (m.StreamReport("ticks", 5, 0, 0, 0),)
    assert pong.report == m.StrategyReport(("s",), 1, 2, warm=True)


def test_a_supervisor_that_came_back_hears_hello_at_once(scene: Scene) -> None:
    scene.until(lambda: scene.supervisor.heard, "the hello")
    scene.supervisor.say(codec.encode(m.Ping(1, 2)))
    scene.until(lambda: scene.supervisor.of(m.Pong), "the pong")
    scene.supervisor.socket.close()
    scene.supervisor = Supervisor(scene.peer, scene.address)
    scene.until(lambda: scene.supervisor.of(m.Hello), "the hello to the new one")
    scene.supervisor.say(codec.encode(m.Ping(2, 2)))
    scene.until(lambda: scene.supervisor.of(m.Pong), "the pong to the new one")


def test_stop_runs_the_callbacks_once_and_says_goodbye(scene: Scene) -> None:
    scene.life.on_stop(lambda: scene.stopped.append(scene.life.state))
    scene.until(lambda: scene.supervisor.heard, "the hello")
    scene.supervisor.say(codec.encode(m.StopNode("down")))
    scene.supervisor.say(codec.encode(m.StopNode("down again")))
    scene.until(lambda: scene.loop.stopping, "the stop")
    scene.until(lambda: scene.supervisor.of(m.Goodbye), "the goodbye")
    assert scene.stopped == ["stopping"]
    assert scene.supervisor.of(m.Goodbye) == [m.Goodbye("strategy", scene.life.instance, "down")]


def test_garbage_from_the_supervisors_port_is_skipped(scene: Scene) -> None:
    scene.until(lambda: scene.supervisor.heard, "the hello")
    for frame in (b"", b"garbage", b"v1/ping//\0\xc1", codec.encode(m.GetHealth(1)), b"v1/weather//\0\x90"):
        scene.supervisor.say(frame)
    scene.supervisor.say(codec.encode(m.Ping(3, 4)))
    scene.until(lambda: scene.supervisor.of(m.Pong), "the pong")


def test_a_node_alone_lives_without_a_supervisor() -> None:
    loop = Loop()
    life = NodeLife(
        loop,
        loop.context,
        name="strategy",
        version="1",
        identity=STRANGER,
        pings_address=None,
        server_key=b"",
        report=lambda: None,
    )
    stopped: list[int] = []
    life.on_stop(lambda: stopped.append(1))
    loop.after(0.01, lambda: life.stop("enough"))
    loop.run()
    life.stop("again")
    assert stopped == [1]
    life.close()
    life.close()
    loop.close()


def test_a_running_node_does_not_look_through_what_it_started_with(scene: Scene) -> None:
    """A full collection costs what is new, not every module that was imported."""
    seen: list[bool] = []
    old = [scene]

    def look() -> None:
        seen.append(any(each is old for each in gc.get_objects()))
        scene.loop.stop()

    scene.loop.after(0, look)
    try:
        scene.life.run()
    finally:
        gc.unfreeze()
    assert seen == [False]
    assert any(each is old for each in gc.get_objects())


@pytest.mark.skipif(sys.platform == "win32", reason="os.kill ends the process there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_stop_the_node(scene: Scene, number: int) -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    scene.life.on_stop(lambda: scene.stopped.append("stopped"))
    try:
        scene.life.install_signals()
        os.kill(os.getpid(), number)
        scene.loop.run()
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert scene.stopped == ["stopped"]
