"""Asking a running supervisor: status, stop, restart. Synchronous, for commands and views."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import TracebackType
from typing import Self

import msgspec
import zmq

from mt5bus.errors import ProcessError
from mt5bus.home import Home
from protocol import codec
from protocol.errors import BusError, DataInvalid, NoAnswer, error_from_code
from protocol.keys import KeyStore
from protocol.messages import ErrorReply, GetStatus, Reply, Request, RestartNode, StatusReply, StopSystem
from protocol.sockets import connect_requester
from supervisor.instance import Running, read_running
from supervisor.status import SystemStatus


class Control:
    """A connection to the supervisor of a home. Use it as a context manager.

    Raises:
        AuthenticationFailed: The home has no keys of ours.
    """

    def __init__(self, home: Home, running: Running) -> None:
        keys = KeyStore(home.keys)
        self.running = running
        self._ids = itertools.count(1)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._socket = connect_requester(
                self._context,
                running.control,
                identity=keys.identity("client"),
                server_key=keys.server_key("supervisor"),
            )
        except BusError:
            self._context.term()
            raise

    @classmethod
    def of(cls, home: Home) -> Control:
        """Connect to the supervisor that runs on a home.

        Raises:
            ProcessError: None does.
            AuthenticationFailed: The home has no keys of ours.
        """
        running = read_running(home)
        if running is None:
            raise ProcessError(f"no system runs on the home {home.path}: start one with 'mt5bus up'")
        return cls(home, running)

    def status(self, *, deadline_s: float = 2.0) -> SystemStatus:
        """Return the status document.

        Raises:
            NoAnswer: Nothing came within `deadline_s` seconds.
        """
        return msgspec.json.decode(self.status_json(deadline_s=deadline_s), type=SystemStatus)

    def status_json(self, *, deadline_s: float = 2.0) -> bytes:
        """Return the status document as the supervisor sent it.

        Raises:
            NoAnswer: Nothing came within `deadline_s` seconds.
        """
        reply = self._ask(GetStatus, deadline_s)
        if not isinstance(reply, StatusReply):
            raise DataInvalid(f"the supervisor answered {reply.kind} instead of its status")
        return reply.document

    def stop_system(self, *, deadline_s: float = 2.0) -> None:
        """Ask it to stop everything; returns when it has agreed, not when it has done so.

        Raises:
            NoAnswer: Nothing came within `deadline_s` seconds.
        """
        self._ask(StopSystem, deadline_s)

    def restart_node(self, node: str, *, deadline_s: float = 2.0) -> None:
        """Ask it to restart a node.

        Raises:
            NotFound: It has no such node.
            NoAnswer: Nothing came within `deadline_s` seconds.
        """
        self._ask(lambda request_id: RestartNode(request_id, node), deadline_s)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, make: Callable[[int], Request], deadline_s: float) -> Reply:
        request = make(next(self._ids))
        # IMMEDIATE: without a connection a send waits, so it gets the same deadline as the answer.
        self._socket.setsockopt(zmq.SNDTIMEO, round(deadline_s * 1000))
        self._socket.setsockopt(zmq.RCVTIMEO, round(deadline_s * 1000))
        try:
            self._socket.send(codec.encode(request))
            reply = codec.decode(self._socket.recv()).message
        except zmq.Again:
            raise NoAnswer(
                f"the supervisor (pid {self.running.identity.pid}) did not answer within {deadline_s:g} s"
            ) from None
        if isinstance(reply, ErrorReply):
            raise error_from_code(reply.code, reply.text, reply.details)
        if not isinstance(reply, Reply):
            raise DataInvalid(f"the supervisor answered with {reply.kind}, which is no reply")
        return reply
