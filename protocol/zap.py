"""The gatekeeper: answers libzmq's question whether a Curve key may use a socket (ZAP, RFC 27).

A socket's ZAP domain names its role; a key is admitted if its holder has that role. One gatekeeper serves every
socket of a context, in the node's own loop. Without a handler libzmq would admit any key.

libzmq asks at the handshake only. What a key may do later is each socket's `Door` to say; the gatekeeper tells the
doors several times a second whose keys hold their roles now.
"""

from __future__ import annotations

import errno
import logging
from collections import Counter
from collections.abc import Callable, Mapping

import zmq
from zmq.utils import z85
from zmq.utils.monitor import recv_monitor_message

from protocol.door import Door, key_property
from protocol.keys import Standing
from protocol.loop import Loop
from protocol.sightings import Sightings
from protocol.sockets import Socket

ENDPOINT = "inproc://zeromq.zap.01"
RECHECK_S = 0.25
"""How soon a change of the admitted keys reaches connections that stand."""
_MAX_LOGGED = 1000
_LOGGED_HANDSHAKES = 20
_EVENTS_A_TURN = 500
_NO_KEY = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL

log = logging.getLogger(__name__)


class Gatekeeper:
    """Admits keys by role.

    Args:
        admitted: Gives the names of the keys that hold a role, by public key (Z85). Asked at every handshake and every
            `RECHECK_S`, so that a revoked key is refused at once, also on a connection that stands.
        standing: Says of a refused key whether it is unknown, revoked, or of another role.
        sightings: Where it is kept when and whence each key came.

    Attributes:
        refused: Keys refused, at handshakes and at requests on connections that stood when their key was revoked.
        refusals: The same by reason: ``unknown``, ``revoked``, ``wrong_role``, ``no_curve``.
        handshakes_failed: Connections that spoke ZMTP but showed no key: another mechanism, or a broken handshake.
            (libzmq drops what is no ZMTP at all without a word.)
    """

    def __init__(
        self,
        loop: Loop,
        admitted: Callable[[str], Mapping[bytes, str]],
        *,
        standing: Callable[[bytes], Standing] = lambda _: "unknown",
        sightings: Sightings | None = None,
    ) -> None:
        self._loop = loop
        self._admitted = admitted
        self._standing = standing
        self._sightings = sightings
        self._doors: list[Door] = []
        self._monitors: list[tuple[Socket, Socket]] = []
        self._seen: set[tuple[str, bytes, bytes]] = set()
        self.refused = 0
        self.refusals: Counter[str] = Counter()
        self.handshakes_failed = 0
        self._socket = loop.context.socket(zmq.REP)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(ENDPOINT)
        loop.watch(self._socket, self._answer)
        self._timer = loop.every(RECHECK_S, self._recheck)

    def door(self, socket: Socket, role: str) -> Door:
        """Return the door of a bound socket that needs `role`; from now on failed handshakes there are counted."""
        door = Door(role, on_refused=self._count_late)
        door.renew(self._admitted(role))
        self._doors.append(door)
        self._watch_handshakes(socket)
        return door

    def close(self) -> None:
        """Stop answering: from then on every handshake of this context is refused. Close the sockets first."""
        self._timer.cancel()
        for _, monitor in self._monitors:
            self._loop.unwatch(monitor)
            monitor.close()
        self._monitors.clear()
        if self._sightings is not None:
            self._sightings.save()
        self._loop.unwatch(self._socket)
        self._socket.close()

    def _recheck(self) -> None:
        for door in self._doors:
            door.renew(self._admitted(door.role))
            if self._sightings is not None:
                for public, name in door.heard():
                    self._sightings.heard(public, name, door.role)
        if self._sightings is not None:
            self._sightings.save_if_due()

    def _answer(self) -> None:
        request = self._socket.recv_multipart()
        version, sequence, status, name, metadata = self._judge(request)
        self._socket.send_multipart([version, sequence, status, b"", name, metadata])

    def _judge(self, request: list[bytes]) -> tuple[bytes, bytes, bytes, bytes, bytes]:
        if len(request) != 7 or request[5] != b"CURVE":
            self.refused += 1
            self.refusals["no_curve"] += 1
            return b"1.0", request[1] if len(request) > 1 else b"", b"400", b"", b""
        version, sequence, domain, address, _, _, key = request
        role, public = domain.decode("ascii", "replace"), z85.encode(key)
        holders = self._admitted(role)
        name = holders.get(public)
        if name is None:
            self._refuse(role, public, address)
            return version, sequence, b"400", b"", b""
        for door in self._doors:
            if door.role == role:
                door.renew(holders)  # a key that is new here sends its first request before the next look
        if self._sightings is not None:
            self._sightings.admitted(public, name, role, address.decode("ascii", "replace"))
        return version, sequence, b"200", name.encode("utf-8"), key_property(public)

    def _refuse(self, role: str, public: bytes, address: bytes) -> None:
        standing = self._standing(public)
        reason = "wrong_role" if standing == "known" else standing
        self.refused += 1
        self.refusals[reason] += 1
        where = address.decode("ascii", "replace")
        if self._sightings is not None:
            self._sightings.refused(public, reason, role, where)
        if (role, public, address) in self._seen or len(self._seen) >= _MAX_LOGGED:
            return
        self._seen.add((role, public, address))
        log.warning(
            "a key without the role was refused",
            extra={"role": role, "reason": reason, "public_key": public.decode("ascii"), "address": where},
        )

    def _count_late(self, role: str, public: bytes, address: str) -> None:
        self._refuse(role, public, address.encode("ascii", "replace"))

    def _watch_handshakes(self, socket: Socket) -> None:
        address = f"inproc://handshakes-{id(self):x}-{len(self._monitors)}"
        socket.monitor(address, _NO_KEY)
        monitor = self._loop.context.socket(zmq.PAIR)
        monitor.setsockopt(zmq.LINGER, 0)
        # At a mark libzmq's own thread would wait for us, and with it every connection.
        monitor.setsockopt(zmq.RCVHWM, 0)
        monitor.connect(address)
        self._monitors.append((socket, monitor))
        self._loop.watch(monitor, lambda: self._on_handshakes(monitor))

    def _on_handshakes(self, monitor: Socket) -> None:
        for _ in range(_EVENTS_A_TURN):
            try:
                event = recv_monitor_message(monitor, zmq.NOBLOCK)
            except zmq.Again:
                return
            except zmq.ZMQError as error:
                if error.errno != errno.ENOTSOCK:
                    raise
                return  # closed by an earlier callback of this turn
            if not event["event"] & _NO_KEY:
                continue  # the monitor's own end
            self.handshakes_failed += 1
            if self.handshakes_failed <= _LOGGED_HANDSHAKES:
                address = event["endpoint"].decode("ascii", "replace")
                log.warning("a connection showed no key", extra={"at": address, "code": event["value"]})
