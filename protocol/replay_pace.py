"""Knowing that a node has handled what was played to it: a replay pings it as the supervisor does.

Nodes handle events before ticks that arrived with them. Played too fast, a deal would reach a strategy before the
bar that led to it. So a replay waits, wherever the sort changes, until the pongs say that everything was received.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import zmq

from protocol import codec
from protocol.errors import DataInvalid
from protocol.loop import Loop, Timer
from protocol.messages import Goodbye, Hello, Message, Ping, Pong, StrategyReport
from protocol.sockets import Socket

PING_INTERVAL_S = 0.05
PATIENCE_S = 0.5  # a count that stands still for so long will not be reached: the node follows other symbols
LOST_S = 5.0  # a node that answers no ping for so long is gone
_MAX_NODES = 64
_DRAIN = 200


class _Node:
    def __init__(self, envelope: list[bytes]) -> None:
        self.envelope = envelope
        self.pong: Pong | None = None
        self.base: dict[str, int] = {}
        self.fresh_pongs = 0  # answers to pings sent after what is waited for
        self.heard_s = time.monotonic()
        self.changed_s = time.monotonic()

    def received(self) -> dict[str, int]:
        return {report.stream: report.received for report in self.pong.streams} if self.pong else {}


class Pace:
    """The nodes that present themselves, and how far each has come.

    Attributes:
        unconfirmed: Waits that ended without every node's count.
    """

    def __init__(self, loop: Loop, socket: Socket | None) -> None:
        self._loop = loop
        self._socket = socket
        self._nodes: dict[str, _Node] = {}
        self._serial = 0
        self._since_serial = 0
        self._expected: Mapping[str, int] = {}
        self._on_confirmed: Callable[[], None] | None = None
        self._timer: Timer | None = None
        self.unconfirmed = 0
        if socket is not None:
            loop.watch(socket, self._on_readable)
            self._timer = loop.every(PING_INTERVAL_S, self._beat)

    @property
    def nodes(self) -> int:
        """How many nodes are there."""
        return len(self._nodes)

    @property
    def ready(self) -> bool:
        """Whether every node there is has joined and warmed up."""
        return bool(self._nodes) and all(_is_ready(node.pong) for node in self._nodes.values())

    def begin(self) -> None:
        """Count from here on."""
        for node in self._nodes.values():
            node.base = node.received()

    def wait_for(self, expected: Mapping[str, int], on_confirmed: Callable[[], None]) -> None:
        """Call `on_confirmed` when every node has received `expected` (by stream, since `begin`)."""
        self._expected = dict(expected)
        self._on_confirmed = on_confirmed
        self._since_serial = self._serial
        now_s = time.monotonic()
        for node in self._nodes.values():
            node.fresh_pongs = 0
            node.changed_s = node.heard_s = now_s
        self._ping()

    def close(self) -> None:
        """Stop pinging and close the socket."""
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            self._loop.unwatch(self._socket)
            self._socket.close()

    def _beat(self) -> None:
        now_s = time.monotonic()
        self._nodes = {name: node for name, node in self._nodes.items() if now_s - node.heard_s < LOST_S}
        self._ping()
        self._check()

    def _ping(self) -> None:
        self._serial += 1
        for node in self._nodes.values():
            self._send(node, Ping(self._serial, self._loop.clock.monotonic_ns()))

    def _send(self, node: _Node, message: Message) -> None:
        assert self._socket is not None
        try:
            self._socket.send_multipart([*node.envelope, codec.encode(message)], zmq.NOBLOCK)
        except zmq.ZMQError:
            return  # gone: LOST_S ends the waiting for it

    def _on_readable(self) -> None:
        assert self._socket is not None
        for _ in range(_DRAIN):
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            try:
                message = codec.decode(parts[-1]).message
            except DataInvalid:
                continue
            self._take(parts[:-1], message)
        self._check()

    def _take(self, envelope: list[bytes], message: Message) -> None:
        if isinstance(message, Hello) and (message.node in self._nodes or len(self._nodes) < _MAX_NODES):
            self._nodes[message.node] = _Node(envelope)
            self._ping()
        elif isinstance(message, Goodbye):
            self._nodes.pop(message.node, None)
        elif isinstance(message, Pong) and message.node in self._nodes:
            node = self._nodes[message.node]
            before, now_s = node.received(), time.monotonic()
            node.pong, node.heard_s = message, now_s
            node.fresh_pongs += message.serial > self._since_serial
            if node.received() != before:
                node.changed_s = now_s
            if self._on_confirmed is not None and node.fresh_pongs < 2:
                self._ping()

    def _check(self) -> None:
        callback = self._on_confirmed
        if callback is None:
            return
        now_s = time.monotonic()
        for node in self._nodes.values():
            if node.fresh_pongs < 2 or not (self._has_all(node) or now_s - node.changed_s > PATIENCE_S):
                return
        behind = [node for node in self._nodes.values() if not self._has_all(node)]
        self.unconfirmed += bool(behind)
        for node in behind:
            # It follows less than all: from here on its own count is what can be expected.
            node.base = {stream: n - self._expected.get(stream, 0) for stream, n in node.received().items()}
        self._on_confirmed = None
        callback()

    def _has_all(self, node: _Node) -> bool:
        received = node.received()
        return all(
            received[stream] - node.base.get(stream, 0) >= count
            for stream, count in self._expected.items()
            if stream in received
        )


def _is_ready(pong: Pong | None) -> bool:
    if pong is None or pong.state != "ready":
        return False
    return not isinstance(pong.report, StrategyReport) or pong.report.warm
