"""Requests from a node's loop: a DEALER, correlation by id, a deadline for each."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from typing import NamedTuple

import zmq

from protocol import codec
from protocol.errors import AuthenticationFailed, BusError, DataInvalid, NoAnswer, NoConnection, error_from_code
from protocol.keys import Identity
from protocol.loop import Loop, Timer
from protocol.messages import ErrorReply, Reply, Request
from protocol.refusals import RefusalWatch
from protocol.sockets import Context, connect_dealer

_BATCH = 100

log = logging.getLogger(__name__)


class _Waiting(NamedTuple):
    on_reply: Callable[[Reply], None]
    on_error: Callable[[BusError], None]
    timer: Timer
    kind: str


class Requester:
    """Asks one ROUTER. Every request ends once: with its reply, the peer's error, or an error of the way."""

    def __init__(
        self, loop: Loop, context: Context, address: str, *, identity: Identity, server_key: bytes, name: str
    ) -> None:
        self._loop = loop
        self._address = address
        self._name = name
        self._ids = itertools.count(1)
        self._waiting: dict[int, _Waiting] = {}
        self._closed = False
        self._socket = connect_dealer(context, address, identity=identity, server_key=server_key, monitored=True)
        self._watch = RefusalWatch(loop, self._socket, address, peer=name)
        loop.watch(self._socket, self._on_readable)

    def ask(
        self,
        make: Callable[[int], Request],
        *,
        on_reply: Callable[[Reply], None],
        on_error: Callable[[BusError], None],
        deadline_s: float,
    ) -> int:
        """Send the request that `make` builds from its id; return the id.

        Exactly one of `on_reply` and `on_error` is called, from the loop. `on_error` gets `NoConnection` when no peer
        is connected (nothing was sent), `AuthenticationFailed` when the peer refused our key, `NoAnswer` after
        `deadline_s` seconds, or the error that the peer answered.
        """
        request = make(next(self._ids))
        try:
            self._socket.send_multipart([b"", codec.encode(request)], zmq.NOBLOCK)
        except zmq.Again:
            error = self._no_peer()
            self._loop.after(0, lambda: None if self._closed else on_error(error))
            return request.id
        timer = self._loop.after(deadline_s, lambda: self._expire(request.id, deadline_s))
        self._waiting[request.id] = _Waiting(on_reply, on_error, timer, request.kind)
        return request.id

    @property
    def refused(self) -> bool:
        """Whether the peer refused our key; it is tried again every 2 s."""
        return self._watch.refused

    @property
    def outstanding(self) -> int:
        """Requests that wait for an answer."""
        return len(self._waiting)

    def close(self, *, linger_ms: int = 0) -> None:
        """Close the socket; what still waits is never called back, what was just asked gets `linger_ms` to leave."""
        for waiting in self._waiting.values():
            waiting.timer.cancel()
        self._waiting.clear()
        self._closed = True
        self._watch.close()
        self._loop.unwatch(self._socket)
        self._socket.close(linger=linger_ms)

    def _no_peer(self) -> BusError:
        if self.refused:
            return AuthenticationFailed(
                f"{self._name} at {self._address} refuses this key: it lacks the role, or was revoked"
            )
        return NoConnection(f"no connection to {self._name} at {self._address}: it is down or still starting")

    def _expire(self, request_id: int, deadline_s: float) -> None:
        waiting = self._waiting.pop(request_id, None)
        if waiting is not None:
            waiting.on_error(NoAnswer(f"{self._name} did not answer {waiting.kind} within {deadline_s:g} s"))

    def _on_readable(self) -> None:
        for _ in range(_BATCH):
            if self._closed:  # by the callback of the reply before
                return
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._on_frame(parts[-1])

    def _on_frame(self, frame: bytes) -> None:
        try:
            message = codec.decode(frame).message
        except DataInvalid as error:
            log.warning("a malformed reply was skipped", extra={"peer": self._name, "reason": error.text[:200]})
            return
        if not isinstance(message, Reply):
            return
        waiting = self._waiting.pop(message.id, None)
        if waiting is None:
            return  # its deadline passed: the caller was told
        waiting.timer.cancel()
        if isinstance(message, ErrorReply):
            waiting.on_error(error_from_code(message.code, message.text, message.details))
        else:
            waiting.on_reply(message)
