"""What a fault does to the call it strikes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Final, Protocol

from paper_terminal import constants as api
from paper_terminal.connection import Answer, Client
from paper_terminal.control import Control
from paper_terminal.faults import Fault
from paper_terminal.served import CallFailed
from paper_terminal.terminal import Terminal
from paper_terminal.wire import HANG, HEADER, Reply, Request

_CRASH_EXIT_CODE: Final = 70
_NO_REPLY: Final = HEADER.pack(1, 0) + b"\xc1"
"""A byte that MessagePack never uses: what is no reply at all."""
_RETCODES: Final = {
    "reject": api.TRADE_RETCODE_REJECT,
    "requote": api.TRADE_RETCODE_REQUOTE,
    "late_fill": api.TRADE_RETCODE_TIMEOUT,
    "retcode": api.TRADE_RETCODE_ERROR,
    "link_lost": api.TRADE_RETCODE_CONNECTION,
}
"""Faults that answer `order_send` with a return code, and which when none is given."""

_log = logging.getLogger(__name__)


class Connections(Protocol):
    """What effects need of the server."""

    def answer(self, request: Request) -> Answer:
        """Carry out a call."""
        ...

    def send(self, client: Client, answer: Answer) -> None:
        """Send a client its answer."""
        ...

    def send_bytes(self, client: Client, data: bytes) -> None:
        """Send a client something that is no answer."""
        ...

    def drop(self, client: Client) -> None:
        """Cut a connection."""
        ...

    def go_on(self, client: Client) -> None:
        """Take further requests of a client that was busy."""
        ...


class Effects:
    """Carries out the faults that strike calls."""

    def __init__(
        self,
        connections: Connections,
        terminal: Terminal,
        control: Control,
        *,
        after: Callable[[float, Callable[[], None]], None],
    ) -> None:
        """Act on these connections and this terminal; `after` runs something so many seconds later."""
        self._connections = connections
        self._terminal = terminal
        self._control = control
        self._after = after

    def carry_out(self, client: Client, request: Request, fault: Fault) -> None:
        """Let a call meet its fault.

        Raises:
            StateError: what the call changes cannot be made durable.
        """
        _log.info("fault %s strikes %s", fault.name, request.function)
        if fault.name in _RETCODES:
            self._answer_retcode(client, request, fault)
        elif fault.name == "call_failed":
            self._connections.send(client, (Reply(api.RES_E_FAIL, "Terminal: Call failed"), None))
        elif fault.name == "slow":
            self._delay(client, request, fault)
        else:
            self._break(client, request, fault)

    def _answer_retcode(self, client: Client, request: Request, fault: Fault) -> None:
        login = self._terminal.logged_in
        if fault.name == "late_fill":
            self._after(fault.ms / 1000, lambda: self._at_the_broker(login, request, fault.fraction))
        elif fault.name == "link_lost":  # what happens at the broker from now on is not seen before the link is back
            self._control.lose_link(fault.ms)
            if fault.executed:
                self._at_the_broker(login, request, 1.0)
        elif fault.executed:
            self._connections.answer(request)
        self._connections.send(client, self._refused(request, fault.retcode or _RETCODES[fault.name]))

    def _at_the_broker(self, login: int, request: Request, portion: float) -> None:
        try:
            self._terminal.carry_out(login, request.arguments, portion=portion)
        except CallFailed as failed:
            _log.warning("the late %s is no request: %s", request.function, failed.text)

    def _refused(self, request: Request, retcode: int) -> Answer:
        try:
            return Reply(api.RES_S_OK, self._terminal.refuse_order(request.arguments, retcode)), None
        except CallFailed as failed:
            return Reply(failed.code, failed.text), None

    def _delay(self, client: Client, request: Request, fault: Fault) -> None:
        client.busy = True
        answer = self._connections.answer(request) if fault.executed else None

        def finish() -> None:
            client.busy = False
            # Whether or not its client still lives: what the terminal has taken it carries out.
            self._connections.send(client, self._connections.answer(request) if answer is None else answer)
            self._connections.go_on(client)

        self._after(fault.ms / 1000, finish)

    def _break(self, client: Client, request: Request, fault: Fault) -> None:
        if fault.executed or fault.name == "reply_lost":
            self._connections.answer(request)
        if fault.name == "crash":
            os._exit(_CRASH_EXIT_CODE)
        elif fault.name == "reply_lost":
            self._connections.drop(client)
        elif fault.name == "out_of_step":
            self._connections.send_bytes(client, _NO_REPLY)
        else:
            client.busy = True
            self._connections.send(client, (Reply(HANG, None), None))
