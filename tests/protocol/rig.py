"""A peer in a thread: gatekeeper, services and publisher on real sockets, for what blocks or runs beside the test."""

from __future__ import annotations

import random
import socket as sockets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import zmq

from protocol.door import Door
from protocol.keys import Identity, new_identity
from protocol.loop import Loop
from protocol.service import Service
from protocol.sockets import Socket, bind_router, bind_streams
from protocol.zap import Gatekeeper

ANY_PORT = "tcp://127.0.0.1:0"
SERVER = new_identity("adapter")
FRIEND = new_identity("friend")
STRANGER = new_identity("stranger")


def quiet_address() -> str:
    """Return an address to come back to: below the system's own ports, of which one may be taken meanwhile.

    (A socket that keeps connecting to a free port of the system's own range may even meet itself there.)
    """
    for port in random.sample(range(20_000, 30_000), 50):
        with sockets.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return f"tcp://127.0.0.1:{port}"
    raise AssertionError("no free port between 20000 and 30000")


def endpoint(socket: Socket) -> str:
    """Return the address that a socket is bound to."""
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)


class Peer:
    """One loop with a gatekeeper that admits `FRIEND` everywhere, and whoever `admit` names.

    Args:
        admitted: Gives other names by role.
        server: Whose key the sockets have.
    """

    def __init__(
        self, *, admitted: Callable[[str], Mapping[bytes, str]] = lambda role: {}, server: Identity = SERVER
    ) -> None:
        self.loop = Loop()
        self._more = admitted
        self._server = server
        self.admitted: dict[str, dict[bytes, str]] = {}
        self.gatekeeper = Gatekeeper(self.loop, self._names)
        self.door: Door
        self._closers: list[Callable[[], None]] = [self.gatekeeper.close]

    def _names(self, role: str) -> dict[bytes, str]:
        return {FRIEND.public: FRIEND.name, **self.admitted.get(role, {}), **self._more(role)}

    def admit(self, identity: Identity, *roles: str) -> None:
        """Admit `identity` to the sockets of `roles`."""
        for role in roles:
            self.admitted.setdefault(role, {})[identity.public] = identity.name

    def service(self, role: str = "query", address: str = ANY_PORT) -> tuple[Service, str]:
        """Return a service on a ROUTER, and its address."""
        socket = bind_router(self.loop.context, address, identity=self._server, domain=role)
        self.door = self.gatekeeper.door(socket, role)
        service = Service(self.loop, socket, adapter="main", door=self.door)
        self._closers.append(service.close)
        return service, endpoint(socket)

    def streams(self, address: str = ANY_PORT) -> tuple[Socket, str]:
        """Return a publisher's socket and its address."""
        socket = bind_streams(self.loop.context, address, identity=self._server)
        self._closers.append(socket.close)
        return socket, endpoint(socket)

    def on_close(self, closer: Callable[[], None]) -> None:
        """Call `closer` before everything that was made earlier is closed."""
        self._closers.append(closer)

    def close(self) -> None:
        """Close everything."""
        for closer in reversed(self._closers):
            closer()
        self.loop.context.destroy(linger=0)  # what a failed test left open would hold the context for ever
        self.loop.close()


@contextmanager
def running(peer: Peer) -> Iterator[Peer]:
    """Turn the peer's loop in a thread of its own; close it at the end, in that thread."""

    def life() -> None:
        peer.loop.run()
        peer.close()

    thread = threading.Thread(target=life, name="peer")
    thread.start()
    try:
        yield peer
    finally:
        peer.loop.stop()
        thread.join(10)
        assert not thread.is_alive()
