"""Those who come to the ports: one with a plain TCP socket and no key, one with a key and nothing good to say."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from collections.abc import Iterator

import zmq

from protocol.keys import Identity
from protocol.sockets import Context, connect_dealer, connect_subscriber
from tests.fuzz.frames import Frames

_SIGNATURE = b"\xff" + bytes(8) + b"\x7f"
_TIMEOUT_S = 2.0


def greeting(mechanism: bytes, *, minor: int = 1, as_server: bool = False) -> bytes:
    """Return a ZMTP 3 greeting."""
    return _SIGNATURE + bytes([3, minor]) + mechanism.ljust(20, b"\0") + bytes([as_server]) + bytes(31)


def command(name: bytes, body: bytes) -> bytes:
    """Return a ZMTP command."""
    content = bytes([len(name)]) + name + body
    return (bytes([4, len(content)]) if len(content) < 256 else b"\x06" + struct.pack(">Q", len(content))) + content


class Stranger:
    """Plain TCP, no key: garbage, half handshakes, wrong mechanisms, giant lengths, connections held open."""

    def __init__(self, port: int, seed: int) -> None:
        self._port = port
        self._random = random.Random(seed)
        self._held: list[socket.socket] = []
        self.connections = 0

    def attack(self, times: int) -> None:
        """Connect and misbehave, each time in another way."""
        for number in range(times):
            ways = self._ways()
            self._once(ways[number % len(ways)])

    def hold(self, connections: int) -> None:
        """Open connections and keep them, some silent, some within a handshake, until `let_go`."""
        for number in range(connections):
            with contextlib.suppress(OSError):
                held = socket.create_connection(("127.0.0.1", self._port), timeout=_TIMEOUT_S)
                self._held.append(held)
                self.connections += 1
                held.sendall(greeting(b"CURVE")[: number % 65])

    def drip(self) -> None:
        """Send one more byte on every held connection: just enough not to be idle."""
        for held in self._held:
            with contextlib.suppress(OSError):
                held.sendall(b"\0")

    def let_go(self) -> None:
        """Close what is held."""
        for held in self._held:
            held.close()
        self._held.clear()

    def _ways(self) -> list[bytes]:
        noise = self._random.randbytes(self._random.choice((1, 64, 4000)))
        curve = greeting(b"CURVE")
        return [
            b"",
            noise,
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            _SIGNATURE,
            greeting(b"NULL") + command(b"READY", b"\x0bSocket-Type\0\0\0\x06DEALER"),
            greeting(b"PLAIN") + command(b"HELLO", b"\x05admin\x05admin"),
            greeting(b"GSSAPI"),
            greeting(b"CURVE", minor=0) + noise,
            greeting(b"CURVE", as_server=True) + command(b"WELCOME", self._random.randbytes(160)),
            curve + command(b"HELLO", self._random.randbytes(194)),
            curve + command(b"HELLO", b"\x01\0" + bytes(192)),
            curve + command(b"INITIATE", self._random.randbytes(300)),
            curve + command(b"MESSAGE", self._random.randbytes(100)),
            curve + b"\x06" + b"\xff" * 8 + noise,
            curve + b"\x06" + struct.pack(">Q", 2**40) + noise,
            curve + b"\x02" + struct.pack(">Q", 2**62) + noise,
            curve + command(b"HELLO", self._random.randbytes(194)) * 20,
            greeting(b"\xff" * 20) + noise,
            curve[: self._random.randrange(64)],
        ]

    def _once(self, data: bytes) -> None:
        self.connections += 1
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self._port), timeout=_TIMEOUT_S) as attacker,
        ):
            attacker.sendall(data)


class Insider:
    """A sound key, and frames that are none, to one ROUTER.

    Args:
        source: Where the frames come from.
        refused_only: Only what no server may carry out: the key may order, and a sound order would be one.
    """

    def __init__(
        self, context: Context, address: str, *, identity: Identity, server_key: bytes, source: Frames, name: str
    ) -> None:
        self.name = name
        self.sent = 0
        self.answers = 0
        self._source = source
        self._socket = connect_dealer(context, address, identity=identity, server_key=server_key)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN | zmq.POLLOUT)

    def attack(self, frames: int) -> None:
        """Send frames as fast as they are taken, reading what is answered."""
        for _ in range(frames):
            self._send([b"", self._source.next_refused()] if self.sent % 50 else self._source.parts())
            self.sent += 1

    def replay(self, frame: bytes, times: int) -> None:
        """Send one frame again and again."""
        for _ in range(times):
            self._send([b"", frame])
            self.sent += 1

    def settle(self, timeout_ms: int = 1000) -> None:
        """Read answers until none comes for so long."""
        while self._socket.poll(timeout_ms):
            self._read()

    def close(self) -> None:
        """Go."""
        self._socket.close()

    def _send(self, parts: list[bytes]) -> None:
        while True:
            ready = dict(self._poller.poll(20_000))
            assert ready, f"{self.name} takes nothing any more"
            if ready[self._socket] & zmq.POLLIN:
                self._read()
            if ready[self._socket] & zmq.POLLOUT:
                self._socket.send_multipart(parts, zmq.NOBLOCK)
                return

    def _read(self) -> None:
        for _ in range(100):
            try:
                self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self.answers += 1


def subscribe_noise(
    context: Context, address: str, *, identity: Identity, server_key: bytes, source: Frames, count: int
) -> Iterator[int]:
    """Subscribe to `count` topics that are none, in turn, and leave; yield how many so far."""
    reader = connect_subscriber(context, address, identity=identity, server_key=server_key)
    try:
        for number in range(count):
            reader.setsockopt(zmq.SUBSCRIBE, source.noise(number % 200))
            if number % 1000 == 0:
                yield number
        yield count
    finally:
        reader.close()
