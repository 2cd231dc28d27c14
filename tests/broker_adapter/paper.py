"""A real paper terminal and a real adapter process for tests, and a client that asks it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import zmq

from mt5bus.home import Home
from mt5bus.settings import Bus
from protocol import codec
from protocol.errors import BusError
from protocol.keys import KeyStore
from protocol.loop import Loop
from protocol.messages import Message, Reply, Request
from protocol.requests import Requester
from protocol.sockets import connect_subscriber
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
PORTS = 5
_DRAINED_A_TURN = 2000


def free_ports() -> int:
    """Return the first of five consecutive ports that are free now."""
    for first in range(21_000, 60_000, 7):
        try:
            for port in range(first, first + PORTS):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise AssertionError("no five free ports in a row")


class PaperSystem:
    """A paper terminal, an adapter on it, and a client with every key."""

    def __init__(
        self, folder: Path, *, paper: str = "", adapter: str = "", environment: dict[str, str] | None = None
    ) -> None:
        self.home = Home(folder / "home").create()
        self.port = free_ports()
        self.environment = environment or {}
        (self.home.path / "mt5bus.toml").write_text(f"[bus]\nport = {self.port}\n{adapter}", encoding="utf-8")
        self._paper_config = folder / "paper.toml"
        self._paper_config.write_text(paper, encoding="utf-8")
        self.terminal: subprocess.Popen[bytes] | None = None
        self.adapter: subprocess.Popen[bytes] | None = None
        self.output = folder / "output.txt"
        KeyStore(self.home.keys).ensure()
        self.loop = Loop()
        self._requesters: dict[str, Requester] = {}
        self._subscriber: Any = None
        self.received: list[codec.Received] = []

    def start_terminal(self) -> None:
        """Start the terminal and wait until it listens."""
        address = self.home.terminal / "ipc.json"
        address.unlink(missing_ok=True)
        self.terminal = self._start(
            "paper_terminal", "--path", str(self.home.terminal), "--config", str(self._paper_config)
        )
        eventually(address.exists, timeout_s=30, what="the paper terminal's address")

    def start_adapter(self, *arguments: str) -> None:
        """Start the adapter alone."""
        self.adapter = self._start("broker_adapter", "--home", str(self.home.path), "--alone", *arguments)

    def _start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **self.environment}
        with self.output.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", module, *arguments], stdout=output, stderr=output, env=environment
            )

    def subscribe(self, prefix: bytes = b"v1/") -> None:
        """Collect everything published under `prefix` into `received`."""
        store = KeyStore(self.home.keys)
        self._subscriber = connect_subscriber(
            self.loop.context,
            Bus(port=self.port).streams,
            identity=store.identity("client"),
            server_key=store.server_key("adapter"),
        )
        self._subscriber.subscribe(prefix)
        self.loop.watch(self._subscriber, self._drain)

    def _drain(self) -> None:
        for _ in range(_DRAINED_A_TURN):
            try:
                self.received.append(codec.decode(self._subscriber.recv(zmq.NOBLOCK)))
            except zmq.Again:
                return

    def of(self, kind: type[Message]) -> list[Any]:
        """Return what was received of one kind."""
        return [each.message for each in self.received if isinstance(each.message, kind)]

    def until(self, check: Callable[[], Any], *, timeout_s: float = 30.0, what: str = "the condition") -> Any:
        """Turn the loop until `check` gives a truthy value; return it."""

        def turned() -> Any:
            self.loop.turn(20)
            return check()

        return eventually(turned, timeout_s=timeout_s, what=what)

    def ask(
        self, make: Callable[[int], Request], *, orders: bool = False, deadline_s: float = 30.0
    ) -> Reply | BusError:
        """Ask once; return the reply or the error."""
        answers: list[Reply | BusError] = []
        self._requester(orders=orders).ask(
            make, on_reply=answers.append, on_error=answers.append, deadline_s=deadline_s
        )
        self.until(lambda: answers, timeout_s=deadline_s + 5, what="an answer")
        return answers[0]

    def eventually_ok(self, make: Callable[[int], Request], *, timeout_s: float = 30.0) -> Any:
        """Ask again and again until the answer is no error."""
        answer: list[Any] = []

        def good() -> bool:
            answer[:] = [self.ask(make)]
            return not isinstance(answer[0], BusError)

        eventually(good, timeout_s=timeout_s, what=f"an answer; last: {answer}")
        return answer[0]

    def _requester(self, *, orders: bool) -> Requester:
        name = "orders" if orders else "queries"
        if name not in self._requesters:
            store, bus = KeyStore(self.home.keys), Bus(port=self.port)
            self._requesters[name] = Requester(
                self.loop,
                self.loop.context,
                bus.orders if orders else bus.queries,
                identity=store.identity("client"),
                server_key=store.server_key("adapter"),
                name=name,
            )
        return self._requesters[name]

    def link_pids(self) -> list[int]:
        """Return the process ids of the adapter's links."""
        return [each["pid"] for each in json.loads((self.home.adapter / "links.json").read_text(encoding="utf-8"))]

    def __enter__(self) -> PaperSystem:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in (self.adapter, self.terminal):
            if process is not None:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(10)
        if self._subscriber is not None:
            self.loop.unwatch(self._subscriber)
            self._subscriber.close()
        for requester in self._requesters.values():
            requester.close()
        self.loop.close()
