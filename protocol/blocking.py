"""Requests from a script: a REQ socket that waits for its answer, with a deadline, and is never stuck.

For people's scripts and notebooks. A node never waits: it has `protocol.requests`.
"""

from __future__ import annotations

import logging
import time

import zmq
from zmq.utils.monitor import recv_monitor_message

from protocol import codec
from protocol.errors import (
    AuthenticationFailed,
    BusError,
    DataInvalid,
    NoAnswer,
    NoConnection,
    UnknownOutcome,
    error_from_code,
)
from protocol.keys import Identity
from protocol.messages import ErrorReply, OrderRequest, Reply, Request
from protocol.sockets import MONITORED, Context, connect_requester

MAX_POLL_MS = 250  # Windows: Ctrl-C does not end a poll
_FAILURES = MONITORED & ~zmq.EVENT_HANDSHAKE_SUCCEEDED

log = logging.getLogger(__name__)


class BlockingRequester:
    """Asks one ROUTER and waits. One thread at a time.

    Args:
        name: What the peer is called in error texts.
    """

    def __init__(self, context: Context, address: str, *, identity: Identity, server_key: bytes, name: str) -> None:
        self._context = context
        self._address = address
        self._identity = identity
        self._server_key = server_key
        self._name = name
        self._serial = 0
        self._open()

    def _open(self) -> None:
        self._handshake = 0
        self._socket = connect_requester(
            self._context, self._address, identity=self._identity, server_key=self._server_key, monitored=True
        )
        self._monitor = self._socket.get_monitor_socket(MONITORED)

    def next_id(self) -> int:
        """Return the id of the next request."""
        self._serial += 1
        return self._serial

    def ask(self, request: Request, *, topic_adapter: str, timeout_s: float) -> Reply:
        """Send `request` and return its reply; blocks at most `timeout_s` seconds.

        Raises:
            AuthenticationFailed: The peer refused our key, at once; or it is not who its key says, at the deadline.
            NoConnection: No peer within `timeout_s`: nothing was sent.
            NoAnswer: The deadline of a query passed.
            UnknownOutcome: The deadline of an order passed, or its answer cannot be read.
            BusError: What the peer answered, as its own type.
        """
        deadline = time.monotonic() + timeout_s
        frame = codec.encode(request, topic_adapter)
        self._connect_until(deadline, timeout_s)
        try:
            self._socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            raise self._no_connection(timeout_s) from None
        return self._receive_until(deadline, request, timeout_s)

    def close(self) -> None:
        """Close the sockets. A request still on its way is not waited for."""
        self._socket.disable_monitor()
        self._monitor.close()
        self._socket.close()

    def _connect_until(self, deadline: float, timeout_s: float) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLOUT)
        poller.register(self._monitor, zmq.POLLIN)
        while True:
            ready = dict(poller.poll(_wait_ms(deadline)))
            if self._monitor in ready:
                self._note_handshake()
            if self._socket in ready:
                return
            if time.monotonic() >= deadline:
                raise self._no_connection(timeout_s)

    def _note_handshake(self, sent: Request | None = None) -> None:
        while self._monitor.poll(0):
            self._handshake = recv_monitor_message(self._monitor, zmq.NOBLOCK)["event"]
            if self._handshake == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                # libzmq never tries again after a refusal: only a new socket will.
                self.close()
                self._open()
                if isinstance(sent, OrderRequest):
                    raise self._no_answer(sent, "cut the connection and refuses this key now, before it answered")
                raise AuthenticationFailed(
                    f"{self._name} at {self._address} refuses the key of {self._identity.name!r}: it lacks the role,"
                    " or was revoked. Use the keys folder of the running system and a name with the role"
                )

    def _no_connection(self, timeout_s: float) -> BusError:
        if self._handshake & _FAILURES:
            return AuthenticationFailed(
                f"what listens at {self._address} is not the {self._name} whose key is in the keys folder:"
                " another system has this port, or the keys were made anew. Pass the home of the running system"
            )
        return NoConnection(
            f"no connection to {self._name} at {self._address} within {timeout_s:g} s: it is down or still starting."
            " Nothing was sent"
        )

    def _receive_until(self, deadline: float, request: Request, timeout_s: float) -> Reply:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._monitor, zmq.POLLIN)
        while True:
            ready = dict(poller.poll(_wait_ms(deadline)))
            if self._monitor in ready:
                self._note_handshake(request)
            if self._socket not in ready:
                if time.monotonic() >= deadline:
                    raise self._no_answer(request, f"did not answer within {timeout_s:g} s")
                continue
            reply = self._read(request)
            if isinstance(reply, ErrorReply):
                raise error_from_code(reply.code, reply.text, reply.details)
            if reply is not None:
                return reply

    def _read(self, request: Request) -> Reply | None:
        """Return the reply to `request`; None for one that answers something else."""
        try:
            frame = self._socket.recv_multipart(zmq.NOBLOCK)[-1]
        except zmq.Again:
            return None  # what made the socket readable was a late reply to an earlier request: libzmq dropped it
        try:
            message = codec.decode(frame).message
        except DataInvalid as error:
            if isinstance(request, OrderRequest):
                raise self._no_answer(request, f"sent an answer that cannot be read ({error.text})") from error
            raise
        if isinstance(message, ErrorReply) and message.id == 0:
            return message  # so damaged that the peer could not tell which request it was
        return message if isinstance(message, Reply) and message.id == request.id else None

    def _no_answer(self, request: Request, what: str) -> BusError:
        if not isinstance(request, OrderRequest):
            return NoAnswer(f"{self._name} {what} to {request.kind}. Nothing took effect: ask again")
        return unknown_outcome(request.client_order_id, f"{self._name} {what} to {request.kind}")


def unknown_outcome(client_order_id: str, what: str) -> UnknownOutcome:
    """Return the error that says how to find out what became of an order."""
    return UnknownOutcome(
        f"{what}: whether order {client_order_id} took effect is not known. Ask with intent({client_order_id!r}), or"
        " send the same order under the same client_order_id: it then gets the stored outcome and never a second"
        " effect. Do not send it under a new id",
        {"client_order_id": client_order_id},
    )


def _wait_ms(deadline: float) -> int:
    return min(MAX_POLL_MS, max(0, round((deadline - time.monotonic()) * 1000) + 1))
