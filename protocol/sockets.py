"""Every socket of the system is made here, with every option that matters set explicitly.

Marks are message counts. A publisher at its mark drops the newest messages of that subscriber silently: the numbering
shows the gap. Request sockets are IMMEDIATE: without a live connection nothing is queued, so that an old order is never
delivered late to an adapter that has just come up.
"""

from __future__ import annotations

import errno
import logging
import time
from threading import Event

import zmq

from protocol.errors import NoConnection
from protocol.keys import Identity

Context = zmq.Context[zmq.Socket[bytes]]
Socket = zmq.Socket[bytes]

STREAM_MARK = 100_000
REQUEST_MARK = 10_000
ROUTER_MARK = 1_000  # for each peer: what a peer may make us keep is bounded by this times the size of a message
MAX_SUBSCRIPTION_BYTES = 1024  # the handshake is held to it too, and needs over 256
MAX_REQUEST_BYTES = 256 * 1024
MAX_REPLY_BYTES = 4 * 1024 * 1024
HANDSHAKE_MS = 10_000
MONITORED = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
)
_KEEP_RETRYING_ERRNOS = frozenset({errno.EADDRINUSE, errno.EACCES})

log = logging.getLogger(__name__)


def bind_streams(
    context: Context,
    address: str,
    *,
    identity: Identity,
    domain: str = "subscribe",
    mark: int = STREAM_MARK,
    retry_s: float = 30.0,
) -> Socket:
    """Return an XPUB socket bound to `address`, holding at most `mark` messages for a subscriber (0: no bound).

    Raises:
        NoConnection: The address cannot be bound, also after `retry_s` seconds.
    """
    socket = _server(context, zmq.XPUB, identity, domain)
    socket.setsockopt(zmq.SNDHWM, mark)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_SUBSCRIPTION_BYTES)  # all it ever receives is subscriptions
    # Every subscription is told, also one that another peer has too: the door learns from it who is connected.
    socket.setsockopt(zmq.XPUB_VERBOSE, 1)
    return _bind(socket, address, retry_s)


def bind_router(context: Context, address: str, *, identity: Identity, domain: str, retry_s: float = 30.0) -> Socket:
    """Return a ROUTER socket bound to `address`; a port of 0 takes any free one (`Socket.last_endpoint`).

    Raises:
        NoConnection: The address cannot be bound, also after `retry_s` seconds.
    """
    socket = _server(context, zmq.ROUTER, identity, domain)
    mark = REQUEST_MARK if domain == "link" else ROUTER_MARK
    socket.setsockopt(zmq.SNDHWM, mark)
    socket.setsockopt(zmq.RCVHWM, mark)
    socket.setsockopt(zmq.ROUTER_HANDOVER, 1)  # a peer that comes back under its name replaces its dead self
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_REPLY_BYTES if domain == "link" else MAX_REQUEST_BYTES)
    return _bind(socket, address, retry_s)


def connect_subscriber(
    context: Context, address: str, *, identity: Identity, server_key: bytes, monitored: bool = False
) -> Socket:
    """Return a SUB socket connected to `address`, subscribed to nothing yet."""
    socket = _client(context, zmq.SUB, identity, server_key, monitored=monitored)
    socket.setsockopt(zmq.RCVHWM, STREAM_MARK)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_REPLY_BYTES)
    return _connect(socket, address)


def connect_dealer(
    context: Context,
    address: str,
    *,
    identity: Identity,
    server_key: bytes,
    routing_id: bytes = b"",
    monitored: bool = False,
) -> Socket:
    """Return a DEALER socket connected to `address`."""
    socket = _client(context, zmq.DEALER, identity, server_key, monitored=monitored)
    _request_options(socket)
    if routing_id:
        socket.setsockopt(zmq.ROUTING_ID, routing_id)
    return _connect(socket, address)


def connect_requester(
    context: Context, address: str, *, identity: Identity, server_key: bytes, monitored: bool = False
) -> Socket:
    """Return a REQ socket that is never stuck: a new request may follow an unanswered one."""
    socket = _client(context, zmq.REQ, identity, server_key, monitored=monitored)
    _request_options(socket)
    socket.setsockopt(zmq.REQ_RELAXED, 1)
    socket.setsockopt(zmq.REQ_CORRELATE, 1)
    return _connect(socket, address)


def readable(socket: Socket) -> bool:
    """Return whether a message waits. A third of the price of a receive that finds none and raises."""
    return bool(int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)


def _server(context: Context, kind: int, identity: Identity, domain: str) -> Socket:
    socket = context.socket(kind)
    _common_options(socket)
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, identity.secret)
    socket.setsockopt(zmq.ZAP_DOMAIN, domain.encode("ascii"))
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
    return socket


def _client(context: Context, kind: int, identity: Identity, server_key: bytes, *, monitored: bool) -> Socket:
    socket = context.socket(kind)
    if monitored:
        # Before connecting, so that no handshake is missed. Whoever asks for it reads it: `get_monitor_socket` again.
        socket.get_monitor_socket(MONITORED)
    _common_options(socket)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, identity.public)
    socket.setsockopt(zmq.CURVE_SECRETKEY, identity.secret)
    socket.setsockopt(zmq.CURVE_SERVERKEY, server_key)
    socket.setsockopt(zmq.RECONNECT_IVL, 50)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
    return socket


def _common_options(socket: Socket) -> None:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.IPV6, 0)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    # Transport heartbeats: a peer that vanished without closing (a frozen host, a cut cable) is noticed.
    socket.setsockopt(zmq.HEARTBEAT_IVL, 2_000)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 10_000)


def _request_options(socket: Socket) -> None:
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.SNDHWM, REQUEST_MARK)
    socket.setsockopt(zmq.RCVHWM, REQUEST_MARK)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_REPLY_BYTES)


def _bind(socket: Socket, address: str, retry_s: float) -> Socket:
    # On Windows a port stays taken for a while after its owner died, and Hyper-V reserves blocks of free ports.
    deadline = time.monotonic() + retry_s
    pause = Event()
    while True:
        try:
            socket.bind(address)
        except zmq.ZMQError as error:
            if error.errno in _KEEP_RETRYING_ERRNOS and time.monotonic() < deadline:
                pause.wait(0.1)
                continue
            socket.close()
            raise NoConnection(
                f"cannot bind {address}: {error.strerror}. Another program, or another system of ours, has this port:"
                " stop it or set another [bus] port. On Windows see"
                " `netsh interface ipv4 show excludedportrange protocol=tcp`",
                {"address": address},
            ) from None
        return socket


def _connect(socket: Socket, address: str) -> Socket:
    try:
        socket.connect(address)
    except zmq.ZMQError as error:
        socket.close()
        raise NoConnection(f"cannot connect to {address}: {error.strerror}", {"address": address}) from None
    return socket
