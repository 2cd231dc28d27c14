"""Asking a running supervisor: status, stop, restart. Synchronous, for commands and views."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

import msgspec
import zmq

from mt5bus.errors import ProcessError
from mt5bus.home import Home
from protocol.blocking import BlockingRequester
from protocol.errors import BusError, DataInvalid
from protocol.keys import KeyStore
from protocol.messages import GetStatus, Reply, Request, RestartNode, StatusReply, StopSystem
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
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._requester = BlockingRequester(
                self._context,
                running.control,
                identity=keys.identity("client"),
                server_key=keys.server_key("supervisor"),
                name=f"the supervisor (pid {running.identity.pid})",
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
            NoAnswer, NoConnection: Nothing came within `deadline_s` seconds.
            AuthenticationFailed: It refuses our key.
        """
        return msgspec.json.decode(self.status_json(deadline_s=deadline_s), type=SystemStatus)

    def status_json(self, *, deadline_s: float = 2.0) -> bytes:
        """Return the status document as the supervisor sent it.

        Raises:
            NoAnswer, NoConnection: Nothing came within `deadline_s` seconds.
            AuthenticationFailed: It refuses our key.
        """
        reply = self._ask(GetStatus, deadline_s)
        if not isinstance(reply, StatusReply):
            raise DataInvalid(f"the supervisor answered {reply.kind} instead of its status")
        return reply.document

    def stop_system(self, *, deadline_s: float = 2.0) -> None:
        """Ask it to stop everything; returns when it has agreed, not when it has done so.

        Raises:
            NoAnswer, NoConnection: Nothing came within `deadline_s` seconds.
            AuthenticationFailed: It refuses our key.
        """
        self._ask(StopSystem, deadline_s)

    def restart_node(self, node: str, *, deadline_s: float = 2.0) -> None:
        """Ask it to restart a node.

        Raises:
            NotFound: It has no such node.
            NoAnswer, NoConnection: Nothing came within `deadline_s` seconds.
            AuthenticationFailed: It refuses our key.
        """
        self._ask(lambda request_id: RestartNode(request_id, node), deadline_s)

    def close(self) -> None:
        """Close the connection."""
        self._requester.close()
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, make: Callable[[int], Request], deadline_s: float) -> Reply:
        return self._requester.ask(make(self._requester.next_id()), topic_adapter="", timeout_s=deadline_s)
