"""A node's common life: it presents itself to the supervisor, answers pings from its own loop, and stops when told.

A node says hello whenever it has connected or its state has changed, and every second until it is pinged: so a
supervisor that died and came back finds it at once, and one that waits for a node to be ready asks it at once.
"""

from __future__ import annotations

import gc
import logging
import os
import secrets
import signal
from collections.abc import Callable
from types import FrameType

import psutil
import zmq

from protocol import codec
from protocol.errors import DataInvalid
from protocol.keys import Identity
from protocol.loop import Loop
from protocol.messages import Goodbye, Hello, Message, NodeReport, Ping, Pong, StopNode, StreamReport
from protocol.refusals import RefusalWatch
from protocol.sockets import Context, connect_dealer

HELLO_INTERVAL_S = 1.0
UNPINGED_S = 3.0  # after so long without a ping the supervisor may be a new one that does not know us

log = logging.getLogger(__name__)


class NodeLife:
    """What makes a process a node.

    Attributes:
        state: ``starting``, ``ready``, ``degraded`` or ``stopping``; set by the node's own code.
        progress: Grows with the work done; set by the node's own code.

    Args:
        pings_address: The supervisor's; None when the node runs alone.
        report: Called for every pong.
        streams: Called for every pong.
    """

    def __init__(
        self,
        loop: Loop,
        context: Context,
        *,
        name: str,
        version: str,
        identity: Identity,
        pings_address: str | None,
        server_key: bytes,
        report: Callable[[], NodeReport],
        streams: Callable[[], tuple[StreamReport, ...]] = tuple,
    ) -> None:
        self._state = "starting"
        self.progress = 0
        self.name = name
        self.instance = secrets.token_hex(8)
        self._loop = loop
        self._version = version
        self._report = report
        self._streams = streams
        self._busy_until_ns = 0
        self._pinged_ns = 0
        self._on_stop: list[Callable[[], None]] = []
        self._socket: zmq.Socket[bytes] | None = None
        self._watch: RefusalWatch | None = None
        if pings_address is not None:
            routing_id = f"{name}.{self.instance}".encode("ascii")
            self._socket = connect_dealer(
                context,
                pings_address,
                identity=identity,
                server_key=server_key,
                routing_id=routing_id,
                monitored=True,
            )
            self._watch = RefusalWatch(
                loop, self._socket, pings_address, peer="supervisor", on_connected=self._say_hello
            )
            loop.watch(self._socket, self._on_readable)
            loop.every(HELLO_INTERVAL_S, self._hello_if_unpinged)

    @property
    def state(self) -> str:
        """What the node says of itself."""
        return self._state

    @state.setter
    def state(self, state: str) -> None:
        if state != self._state:
            self._state = state
            self._say_hello()

    def busy_for(self, seconds: float) -> None:
        """Announce work that may delay pongs for up to `seconds`."""
        self._busy_until_ns = self._loop.clock.monotonic_ns() + round(seconds * 1e9)

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Call `callback` once before the loop ends on purpose. It must be quick: a kill may come first."""
        self._on_stop.append(callback)

    def install_signals(self) -> None:
        """Let SIGINT, SIGTERM and (Windows) SIGBREAK stop the node. Main thread only."""
        numbers = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGBREAK"):
            numbers.append(signal.SIGBREAK)
        for number in numbers:
            signal.signal(number, self._on_signal)
        self._loop.wake_on_signals()

    def run(self) -> None:
        """Turn the loop until the node is stopped.

        What was made before, modules above all, lives as long as the process. The garbage collector need not look
        through it again: that took over 10 ms each time, in which nothing was served.
        """
        gc.freeze()
        self._loop.run()

    def stop(self, reason: str) -> None:
        """Run the stop callbacks and leave the loop."""
        if self.state == "stopping":
            return
        self.state = "stopping"
        log.info("stopping", extra={"reason": reason})
        for callback in self._on_stop:
            callback()
        self._send(Goodbye(self.name, self.instance, reason))
        self._loop.stop()

    def close(self) -> None:
        """Close the socket to the supervisor; a goodbye still on its way gets a moment."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        if self._socket is not None:
            self._loop.unwatch(self._socket)
            self._socket.close(linger=200)
            self._socket = None

    def _hello_if_unpinged(self) -> None:
        quiet_ns = self._loop.clock.monotonic_ns() - self._pinged_ns
        if not self._pinged_ns or quiet_ns > UNPINGED_S * 1e9:
            self._say_hello()

    def _say_hello(self) -> None:
        if self.state != "stopping":
            pid = os.getpid()
            create_time = psutil.Process(pid).create_time()
            self._send(Hello(self.name, self.instance, pid, create_time, self._version, self.state))

    def _on_readable(self) -> None:
        while self._socket is not None:
            try:
                frame = self._socket.recv_multipart(zmq.NOBLOCK)[-1]
            except zmq.Again:
                return
            try:
                message = codec.decode(frame).message
            except DataInvalid as error:
                log.warning("a malformed message from the supervisor was skipped", extra={"reason": error.text[:200]})
                continue
            self._on_message(message)

    def _on_message(self, message: Message) -> None:
        if isinstance(message, Ping):
            self._pinged_ns = self._loop.clock.monotonic_ns()
            self._send(self._pong(message))
        elif isinstance(message, StopNode):
            self.stop(message.reason)

    def _pong(self, ping: Ping) -> Pong:
        return Pong(
            node=self.name,
            instance=self.instance,
            serial=ping.serial,
            sent_ns=ping.sent_ns,
            state=self.state,
            progress=self.progress,
            busy_until_ns=self._busy_until_ns,
            streams=self._streams(),
            report=self._report(),
            longest_turn_ms=round(self._loop.longest_turn_ms, 3),
        )

    def _send(self, message: Message) -> None:
        if self._socket is None:
            return
        try:
            self._socket.send_multipart([b"", codec.encode(message)], zmq.NOBLOCK)
        except zmq.Again:
            return  # no supervisor: the hello is repeated, a pong nobody asked for is worth nothing

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._loop.post(lambda: self.stop(f"signal {signal.Signals(number).name}"))
