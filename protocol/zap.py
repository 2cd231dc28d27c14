"""The gatekeeper: answers libzmq's question whether a Curve key may use a socket (ZAP, RFC 27).

A socket's ZAP domain names its role; a key is admitted if its holder has that role. One gatekeeper serves every
socket of a context, in the node's own loop. Without a handler libzmq would admit any key.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import zmq
from zmq.utils import z85

from protocol.loop import Loop

ENDPOINT = "inproc://zeromq.zap.01"
_MAX_LOGGED_KEYS = 1000

log = logging.getLogger(__name__)


class Gatekeeper:
    """Admits keys by role.

    Args:
        admitted: Gives the names of the keys that hold a role, by public key (Z85). Asked at every handshake, so
            that a revoked key is refused at its next connection.
    """

    def __init__(self, loop: Loop, admitted: Callable[[str], Mapping[bytes, str]]) -> None:
        self._loop = loop
        self._admitted = admitted
        self._seen: set[tuple[str, bytes]] = set()
        self.refused = 0
        self._socket = loop.context.socket(zmq.REP)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(ENDPOINT)
        loop.watch(self._socket, self._answer)

    def close(self) -> None:
        """Stop answering: from then on every handshake of this context is refused."""
        self._loop.unwatch(self._socket)
        self._socket.close()

    def _answer(self) -> None:
        request = self._socket.recv_multipart()
        version, sequence, status, name = self._judge(request)
        self._socket.send_multipart([version, sequence, status, b"", name, b""])

    def _judge(self, request: list[bytes]) -> tuple[bytes, bytes, bytes, bytes]:
        if len(request) != 7 or request[5] != b"CURVE":
            self.refused += 1
            return b"1.0", request[1] if len(request) > 1 else b"", b"400", b""
        version, sequence, domain, address, _, _, key = request
        role, public = domain.decode("ascii", "replace"), z85.encode(key)
        name = self._admitted(role).get(public)
        if name is not None:
            return version, sequence, b"200", name.encode("utf-8")
        self.refused += 1
        self._log_once(role, public, address)
        return version, sequence, b"400", b""

    def _log_once(self, role: str, public: bytes, address: bytes) -> None:
        if (role, public) in self._seen or len(self._seen) >= _MAX_LOGGED_KEYS:
            return
        self._seen.add((role, public))
        log.warning(
            "a key without the role was refused",
            extra={"role": role, "public_key": public.decode("ascii"), "address": address.decode("ascii", "replace")},
        )
