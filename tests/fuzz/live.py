"""A real system under attack: adapter, supervisor, links and paper terminal as processes, measured before and after."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import zmq

from protocol import codec
from protocol import messages as m
from protocol.client import BusClient
from protocol.keys import KeyStore
from protocol.sockets import Context
from tests.fuzz.attackers import Insider, Stranger, subscribe_noise
from tests.fuzz.frames import REQUESTS, Frames
from tests.integration.conftest import System
from tests.waiting import eventually

CONFIG = """
strategy = []

[bus]
port = PORT
"""
SOCKETS = ("streams", "queries", "orders", "pings", "control")
ROUTERS = {"queries": "client", "orders": "client", "control": "client", "pings": "strategy"}
MAX_GROWTH_MB = 64.0
MAX_MORE_FILES = 8
MAX_LOG_LINES = 600
MAX_ANSWER_S = 5.0
_BATCH = 500


class Footprint(NamedTuple):
    """What processes hold: by name, megabytes and open files; and lines in all logs."""

    memory_mb: dict[str, float]
    files: dict[str, int]
    log_lines: int


class Trading(NamedTuple):
    """What must be as it was."""

    pids: tuple[int, ...]
    positions: int
    orders: int
    intents: int
    mode: str
    submitted: int


class Outcome(NamedTuple):
    """What an attack did."""

    sent: int
    answers: int
    connections: int
    seconds: float
    slowest_answer_s: float
    before: Footprint
    after: Footprint
    doors: dict[str, int]


class Target:
    """A running system that is attacked."""

    def __init__(self, system: System) -> None:
        self.system = system
        document = system.status()
        self._named = {"supervisor": document["supervisor"]["pid"]} | {n["name"]: n["pid"] for n in document["nodes"]}
        self.slowest_s = 0.0

    def footprint(self) -> Footprint:
        """Measure memory, files and logs."""
        processes = {name: psutil.Process(pid) for name, pid in self._named.items()}
        return Footprint(
            {name: process.memory_info().rss / 1e6 for name, process in processes.items()},
            {name: _open_files(process) for name, process in processes.items()},
            sum(path.read_bytes().count(b"\n") for path in (self.system.home / "logs").glob("*.jsonl")),
        )

    def trading(self) -> Trading:
        """Ask for what must not change."""
        document = self.system.status()
        with self.system.client() as client:
            snapshot = client.snapshot()
        return Trading(
            (document["supervisor"]["pid"], document["terminal"]["pid"], *(n["pid"] for n in document["nodes"])),
            len(snapshot.positions),
            len(snapshot.orders),
            len(snapshot.intents),
            snapshot.trading_mode,
            document["orders"]["submitted"],
        )

    def check_served(self, client: BusClient) -> None:
        """Ask a sound question; note how long the answer took."""
        began = time.monotonic()
        client.health()
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    def port(self, socket: str) -> int:
        """Return the port of a socket."""
        return self.system.port + SOCKETS.index(socket)


@contextmanager
def running(folder: Path) -> Iterator[Target]:
    """Start a system without strategies in a folder; stop it at the end."""
    system = System(folder, CONFIG)
    try:
        system.up()
        system.wait_until_healthy()
        yield Target(system)
        system.down()
    finally:
        for process in system.processes():
            process.kill()


def attack(target: Target, *, frames: int, connections: int, held: int, seed: int) -> Outcome:
    """Attack every port from outside and from inside, asking sound questions meanwhile.

    Raises:
        AssertionError: Something died, grew, changed or stopped answering.
    """
    before, was, began = target.footprint(), target.trading(), time.monotonic()
    context: Context = zmq.Context()
    with target.system.client() as friend:
        strangers = [Stranger(target.port(socket), seed + index) for index, socket in enumerate(SOCKETS)]
        for stranger in strangers:
            stranger.hold(held)
        for _ in range(0, connections, _BATCH):
            for stranger in strangers:
                stranger.attack(min(connections, _BATCH) // len(strangers))
                stranger.drip()
            target.check_served(friend)
        for stranger in strangers:
            stranger.let_go()
        insiders = _insiders(target, context, seed)
        while sum(insider.sent for insider in insiders) < frames:
            for insider in insiders:
                insider.attack(min(frames, _BATCH))
            target.check_served(friend)
        for insider in insiders:
            insider.settle()
        _subscribe(target, context, min(frames, 20_000), seed)
        target.check_served(friend)
    sent, answers = sum(i.sent for i in insiders), sum(i.answers for i in insiders)
    for insider in insiders:
        insider.close()
    context.term()
    eventually(lambda: target.trading() == was, timeout_s=30, what=f"the state {was}")
    eventually(lambda: _is_small(target.footprint(), before), timeout_s=40, what=f"the footprint {before}")
    after = target.footprint()
    doors = target.system.status()["doors"]
    made = sum(stranger.connections for stranger in strangers)
    outcome = Outcome(sent, answers, made, time.monotonic() - began, target.slowest_s, before, after, doors)
    check(outcome)
    return outcome


def check(outcome: Outcome) -> None:
    """Hold an outcome to the bounds.

    Raises:
        AssertionError: It is beyond one.
    """
    lines = outcome.after.log_lines - outcome.before.log_lines
    assert lines <= MAX_LOG_LINES, f"{lines} lines were logged"
    assert outcome.slowest_answer_s <= MAX_ANSWER_S, f"an answer took {outcome.slowest_answer_s:.1f} s"
    assert outcome.doors["malformed"] >= outcome.sent * 0.5, outcome.doors
    assert outcome.doors["handshakes_failed"] > 0, outcome.doors


def replay_order(target: Target, *, times: int) -> None:
    """Send one order's frame again and again under the owner's key: it takes effect once.

    Raises:
        AssertionError: It did more than once, or not at all.
    """
    was, context = target.trading(), zmq.Context[zmq.Socket[bytes]]()
    keys = KeyStore(target.system.home / "keys")
    insider = Insider(
        context,
        f"tcp://127.0.0.1:{target.port('orders')}",
        identity=keys.identity("client"),
        server_key=keys.server_key("adapter"),
        source=Frames(0),
        name="orders",
    )
    frame = codec.encode(m.SubmitOrder(1, "replayed-1", "", 5000, "EURUSD", "buy", 0.01))
    insider.replay(frame, times)
    insider.settle()
    insider.close()
    context.term()
    eventually(lambda: target.trading().positions == was.positions + 1, timeout_s=20, what="the position")
    now = target.trading()
    assert (now.positions, now.submitted, now.intents) == (was.positions + 1, was.submitted + 1, was.intents + 1)
    assert insider.answers == times


def _insiders(target: Target, context: Context, seed: int) -> list[Insider]:
    keys = KeyStore(target.system.home / "keys")
    servers = {"queries": "adapter", "orders": "adapter", "control": "supervisor", "pings": "supervisor"}
    return [
        Insider(
            context,
            f"tcp://127.0.0.1:{target.port(socket)}",
            identity=keys.identity(name),
            server_key=keys.server_key(servers[socket]),
            source=Frames(seed + index, REQUESTS),
            name=socket,
        )
        for index, (socket, name) in enumerate(ROUTERS.items())
    ]


def _subscribe(target: Target, context: Context, count: int, seed: int) -> None:
    keys = KeyStore(target.system.home / "keys")
    address = f"tcp://127.0.0.1:{target.port('streams')}"
    identity, server_key = keys.identity("recorder"), keys.server_key("adapter")
    noise = subscribe_noise(
        context, address, identity=identity, server_key=server_key, source=Frames(seed), count=count
    )
    for _ in noise:
        target.system.status()


def _is_small(now: Footprint, before: Footprint) -> bool:
    files = all(now.files[name] <= before.files[name] + MAX_MORE_FILES for name in now.files)
    return files and all(now.memory_mb[name] <= before.memory_mb[name] + MAX_GROWTH_MB for name in now.memory_mb)


def _open_files(process: psutil.Process) -> int:
    counted: Any = getattr(process, "num_handles" if sys.platform == "win32" else "num_fds")
    return int(counted())
