"""The door of one bound socket: whose keys may use it now, and the end of connections whose key was revoked.

libzmq asks about a key once, when it connects. So the key travels with each message as a property that the gatekeeper
set at the handshake, and is looked up again here. A subscriber sends nothing after its subscriptions: its connection
is remembered by them, and cut at the TCP level when its key is revoked; coming back, it is refused.
"""

from __future__ import annotations

import logging
import socket as sockets
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import zmq

MAX_SUBSCRIPTIONS = 50_000
"""Of one connection. They are kept by libzmq for as long as the connection stands."""
TOLD_BEFORE_CUT = 10
"""Requests of a revoked key on one connection that get an error as their answer, before the connection is cut."""
_KEY_PROPERTY = "X-Mt5bus-Key"
_MAX_CONNECTIONS = 10_000

log = logging.getLogger(__name__)

OnRefused = Callable[[str, bytes, str], None]


class _Connection(NamedTuple):
    key: str
    peer: object


def key_property(public: bytes) -> bytes:
    """Return ZAP metadata that gives every message of a connection its key (Z85)."""
    name = _KEY_PROPERTY.encode("ascii")
    return bytes([len(name)]) + name + struct.pack(">I", len(public)) + public


class Door:
    """Who may use a socket, message by message. Made by `Gatekeeper.door`.

    Attributes:
        role: What a key needs.
        cut: Connections ended because their key was revoked or because they asked for too much.
    """

    def __init__(self, role: str, *, on_refused: OnRefused) -> None:
        self.role = role
        self.cut = 0
        self._on_refused = on_refused
        self._names: dict[str, str] = {}
        self._heard: set[str] = set()
        self._subscribers: dict[int, _Connection] = {}
        self._subscriptions: dict[int, int] = {}
        self._told: dict[int, tuple[_Connection, int]] = {}

    def renew(self, holders: Mapping[bytes, str]) -> None:
        """Take the names of the keys that hold the role now, by public key; cut subscribers that lost it."""
        names = {public.decode("ascii"): name for public, name in holders.items()}
        if names == self._names:
            return
        self._names = names
        for number, connection in list(self._subscribers.items()):
            if connection.key not in names:
                self._cut(number, connection)

    def heard(self) -> Iterator[tuple[bytes, str]]:
        """Yield key and name of everybody heard since the last call, and of every subscriber that is connected."""
        heard, self._heard = self._heard, set()
        for number, connection in list(self._subscribers.items()):
            if _peer(number) == connection.peer:
                heard.add(connection.key)
            else:
                self._forget(number)
        for key in heard:
            if key in self._names:
                yield key.encode("ascii"), self._names[key]

    def admit(self, frame: zmq.Frame) -> str | None:
        """Return the name of the key that a message came under; None if the key does not hold the role any more."""
        key = _key(frame)
        name = self._names.get(key)
        if name is not None:
            self._heard.add(key)
        return name

    def turn_away(self, frame: zmq.Frame) -> None:
        """Count a request that `admit` did not admit; after `TOLD_BEFORE_CUT` of them cut its connection."""
        key, number = _key(frame), _number(frame)
        peer = _peer(number)
        self._on_refused(self.role, key.encode("ascii"), peer[0] if isinstance(peer, tuple) else "")
        if peer is None:
            return
        connection, told = self._told.get(number, (_Connection(key, peer), 0))
        if connection != (key, peer):
            connection, told = _Connection(key, peer), 0
        if told + 1 < TOLD_BEFORE_CUT and len(self._told) < _MAX_CONNECTIONS:
            self._told[number] = (connection, told + 1)
            return
        self._told.pop(number, None)
        self._cut(number, connection)

    def on_subscription(self, frame: zmq.Frame) -> None:
        """Note who subscribed; cut whoever lost its role, or subscribes without end."""
        if not frame.bytes.startswith(b"\x01"):
            return  # the end of a subscription; libzmq says so too when a connection ends
        key, number = _key(frame), _number(frame)
        peer = _peer(number)
        if peer is None:
            return  # it has gone already
        connection = _Connection(key, peer)
        if self._subscribers.get(number) != connection:
            self._forget(number)
            self._subscribers[number] = connection
        self._subscriptions[number] = self._subscriptions.get(number, 0) + 1
        self._heard.add(key)
        if key not in self._names:
            self._on_refused(self.role, key.encode("ascii"), str(peer))
            self._cut(number, connection)
        elif self._subscriptions[number] > MAX_SUBSCRIPTIONS:
            log.warning(
                "a subscriber was cut off", extra={"peer": self._names[key], "subscriptions": MAX_SUBSCRIPTIONS}
            )
            self._cut(number, connection)

    def _forget(self, number: int) -> None:
        self._subscribers.pop(number, None)
        self._subscriptions.pop(number, None)

    def _cut(self, number: int, connection: _Connection) -> None:
        self._forget(number)
        # The number may be another connection's by now: only the one that was meant is ended.
        if _peer(number) == connection.peer and _shut(number):
            self.cut += 1


def _key(frame: zmq.Frame) -> str:
    try:
        return str(frame.get(_KEY_PROPERTY))
    except zmq.ZMQError:
        return ""


def _number(frame: zmq.Frame) -> int:
    """Return the number of the operating system's socket that a message came through; -1 if there is none."""
    try:
        return int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:
        return -1


def _borrowed(number: int) -> sockets.socket | None:
    try:
        return sockets.socket(fileno=number) if number >= 0 else None
    except OSError:
        return None


def _peer(number: int) -> object:
    """Return the address at the other end of a socket; None if it is no connected socket."""
    borrowed = _borrowed(number)
    if borrowed is None:
        return None
    try:
        return borrowed.getpeername()
    except OSError:
        return None
    finally:
        borrowed.detach()  # libzmq owns it


def _shut(number: int) -> bool:
    borrowed = _borrowed(number)
    if borrowed is None:
        return False
    try:
        borrowed.shutdown(sockets.SHUT_RDWR)
    except OSError:
        return False
    finally:
        borrowed.detach()
    return True
