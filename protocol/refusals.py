"""Noticing that a peer refused our key, and trying again: libzmq itself never does after a refusal.

Without this a node that was refused once (its key not yet, or no longer, among the admitted) would be deaf for ever.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable

import zmq
from zmq.utils.monitor import recv_monitor_message

from protocol.loop import Loop, Timer
from protocol.sockets import MONITORED, Socket

RETRY_S = 2.0

log = logging.getLogger(__name__)


class RefusalWatch:
    """Watches the handshakes of a connected socket, made with ``monitored=True``.

    Attributes:
        refused: Whether the last handshake ended in a refusal.

    Args:
        on_connected: Called whenever a handshake succeeded.
    """

    def __init__(
        self,
        loop: Loop,
        socket: Socket,
        address: str,
        *,
        peer: str,
        on_connected: Callable[[], None] | None = None,
    ) -> None:
        self._loop = loop
        self._socket = socket
        self._address = address
        self._peer = peer
        self._on_connected = on_connected
        self._timer: Timer | None = None
        self.refused = False
        self._monitor = socket.get_monitor_socket(MONITORED)
        loop.watch(self._monitor, self._on_monitor)

    def close(self) -> None:
        """Stop watching; before the socket is closed."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop.unwatch(self._monitor)
        self._socket.disable_monitor()
        self._monitor.close()

    def _on_monitor(self) -> None:
        event = recv_monitor_message(self._monitor, zmq.NOBLOCK)["event"]
        if event != zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self.refused = False
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED and self._on_connected is not None:
                self._on_connected()
            return
        if not self.refused:
            log.error("our key was refused", extra={"peer": self._peer, "address": self._address})
        self.refused = True
        self._timer = self._loop.after(RETRY_S, self._reconnect)

    def _reconnect(self) -> None:
        try:
            self._socket.disconnect(self._address)
        except zmq.ZMQError as error:
            if error.errno != errno.ENOENT:  # libzmq may have forgotten the endpoint with its refused session
                raise
        self._socket.connect(self._address)
