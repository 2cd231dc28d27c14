"""A ROUTER that answers requests: decode, dispatch by type, reply now or later.

A REQ peer sends ``[correlation, empty, frame]`` and a DEALER peer ``[empty, frame]``; whatever stands before the frame
is echoed. Frames that are no request are counted, answered with an error where a peer can be named, and change nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakSet

import zmq

from protocol import codec
from protocol.door import Door
from protocol.errors import AuthenticationFailed, BusError, ChangeTheRequest, DataInvalid, NotFound, NotReady
from protocol.loop import Loop
from protocol.messages import ErrorReply, Message, Reply, Request
from protocol.sockets import Socket, readable

R = TypeVar("R", bound=Request)

_MAX_ENVELOPE_PARTS = 3
_BATCH = 100  # requests handled in one turn, so that timers and other sockets get theirs
TURN_BUDGET_S = 0.005
"""After so long in one turn the others get theirs, however many requests wait: a request may take long to answer."""
MAX_OUTSTANDING = 64
_LOGGED_MALFORMED = 20
_MORE_TO_COME = zmq.NOBLOCK | zmq.SNDMORE

log = logging.getLogger(__name__)


class Caller:
    """Who asked, and the way back. Kept by a handler that answers later.

    `waiting_since_ns`: the earliest moment (monotonic) at which the request can have come.
    """

    __slots__ = ("__weakref__", "_envelope", "_frame", "_service", "done", "request_id", "waiting_since_ns")

    def __init__(
        self, service: Service, envelope: list[bytes], frame: zmq.Frame, request_id: int, waiting_since_ns: int
    ) -> None:
        self._service = service
        self._envelope = envelope
        self._frame = frame
        self.request_id = request_id
        self.waiting_since_ns = waiting_since_ns
        self.done = False

    @property
    def name(self) -> str:
        """Name of the key that the request came under (set by the gatekeeper); empty if there is none."""
        return _peer_name(self._frame)

    def reply(self, message: Reply) -> None:
        """Send the answer. A peer that has gone is not an error: it asks again."""
        if not self.done:
            self.done = True
            self._service.answered(self)
        self._service.send(self._envelope, message)

    def fail(self, error: BusError) -> None:
        """Send `error` as the answer."""
        self.reply(ErrorReply(self.request_id, error.code, error.text, error.details))


Handler = Callable[[Any, Caller], Reply | None]


class Service:
    """Requests by type, each with its handler.

    Args:
        adapter: Name that replies carry in their topic.
        door: Says of each request whether its key still may; None asks only at the handshake.
        max_outstanding: Requests of one key that may wait for their answer; what is above is refused, not queued.

    Attributes:
        requests, malformed, invalid, undelivered: Counts since the start; `invalid`: a value that cannot be meant.
        crowded: Requests refused because too many of their key waited.
    """

    def __init__(
        self,
        loop: Loop,
        socket: Socket,
        *,
        adapter: str,
        door: Door | None = None,
        max_outstanding: int = MAX_OUTSTANDING,
    ) -> None:
        self._loop = loop
        self._socket = socket
        self._adapter = adapter
        self._door = door
        self._max_outstanding = max_outstanding
        self._outstanding: dict[str, WeakSet[Caller]] = {}
        self.crowded = 0
        self._handlers: dict[type[Request], Handler] = {}
        self.requests = 0
        self.malformed = 0
        self.invalid = 0
        self.undelivered = 0
        self._closed = False
        loop.watch(socket, self._on_readable)

    def handle(self, request: type[R], handler: Callable[[R, Caller], Reply | None]) -> None:
        """Let `handler` answer every `request`: it returns the reply, or None and uses the caller later.

        A `BusError` it raises becomes the answer.
        """
        self._handlers[request] = handler

    @property
    def address(self) -> str:
        """Where the socket is bound: with the port that was free, if it was bound to port 0."""
        return self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def close(self) -> None:
        """Stop answering and close the socket. A handler may do it; answers still to come are dropped."""
        self._closed = True
        self._loop.unwatch(self._socket)
        self._socket.close()

    def send(self, envelope: list[bytes], message: Message) -> None:
        """Send `message` back along `envelope`, never blocking."""
        if self._closed:
            self.undelivered += 1
            return
        frame = codec.encode(message, self._adapter)
        try:
            for part in envelope:
                self._socket.send(part, _MORE_TO_COME)
            self._socket.send(frame, zmq.NOBLOCK)
        except zmq.ZMQError:
            # Gone (EHOSTUNREACH is silent on a ROUTER) or at its mark: it does not read, so it cannot be told.
            self.undelivered += 1

    def answered(self, caller: Caller) -> None:
        """Note that a caller has its answer."""
        if not self._outstanding:
            return  # the usual case: requests that are answered at once are never entered
        waiting = self._outstanding.get(caller.name)
        if waiting is not None:
            waiting.discard(caller)
            if not waiting:
                del self._outstanding[caller.name]

    def _on_readable(self) -> None:
        until_ns = self._loop.clock.monotonic_ns() + round(TURN_BUDGET_S * 1e9)
        for _ in range(_BATCH):
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            self._on_parts(parts)
            if self._closed or not readable(self._socket) or self._loop.clock.monotonic_ns() > until_ns:
                return

    def _on_parts(self, parts: list[zmq.Frame]) -> None:
        envelope = [part.bytes for part in parts[:-1]]
        if not 1 <= len(envelope) <= _MAX_ENVELOPE_PARTS:
            self._count_malformed(parts[-1], "a message of the wrong number of parts")
            return
        frame = parts[-1].bytes
        if self._door is not None and self._door.admit(parts[-1]) is None:
            self._turn_away(envelope, parts[-1], frame)
            return
        try:
            request = codec.decode_request(frame)
        except ChangeTheRequest as error:
            if isinstance(error, DataInvalid):
                self._count_malformed(parts[-1], error.text)
            else:
                self.invalid += 1
            self.send(envelope, ErrorReply(codec.request_id(frame), error.code, error.text, error.details))
            return
        self._dispatch(request, Caller(self, envelope, parts[-1], request.id, self._loop.waiting_since_ns))

    def _turn_away(self, envelope: list[bytes], part: zmq.Frame, frame: bytes) -> None:
        """Tell a peer whose key was revoked while it was connected."""
        error = AuthenticationFailed(
            "this key may not use this socket any more: it was revoked, or lost the role. Nothing was done"
        )
        self.send(envelope, ErrorReply(codec.request_id(frame), error.code, error.text))
        if self._door is not None:
            self._door.turn_away(part)

    def _dispatch(self, message: Request, caller: Caller) -> None:
        self.requests += 1
        handler = self._handlers.get(type(message))
        try:
            if handler is None:
                raise NotFound(f"this socket does not answer {message.kind}: ask the one that does (docs/protocol.md)")
            self._check_crowd(caller)
            reply = handler(message, caller)
        except BusError as error:
            caller.fail(error)
            return
        if reply is not None:
            caller.reply(reply)
        elif not caller.done:
            self._outstanding.setdefault(caller.name, WeakSet()).add(caller)

    def _check_crowd(self, caller: Caller) -> None:
        if not self._outstanding:
            return
        waiting = self._outstanding.get(caller.name)
        if waiting is not None and len(waiting) >= self._max_outstanding:
            self.crowded += 1
            raise NotReady(
                f"{len(waiting)} requests under the key {caller.name!r} wait for their answers: nothing was done."
                " Ask again when some have come"
            )

    def _count_malformed(self, frame: zmq.Frame, text: str) -> None:
        self.malformed += 1
        if self.malformed <= _LOGGED_MALFORMED:
            log.warning("a malformed request was refused", extra={"peer": _peer_name(frame), "reason": text[:200]})


def _peer_name(frame: zmq.Frame) -> str:
    """Return the name of the key that the frame came under (set by the gatekeeper)."""
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return ""
