"""The terminal process: one loop that moves the market on and answers many clients.

Every client has one request outstanding at most. The loop waits for sockets until the next tick is due, moves the
market to the present and then answers, so that an answer never shows an older market than the one before it. A
client that dies is forgotten with its socket.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import secrets
import selectors
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from paper_terminal import constants as api
from paper_terminal.assembly import Assembly
from paper_terminal.connection import Answer, Client
from paper_terminal.control import CONTROLS, Control
from paper_terminal.fault_effects import Effects
from paper_terminal.programs import Programs
from paper_terminal.served import CallFailed
from paper_terminal.wire import (
    CONTROL_CLIENT,
    HEADER,
    HELLO_PROTOCOL,
    IPC_FILE,
    MAX_REQUEST_BYTES,
    Address,
    Reply,
    Request,
    frame,
    request_decoder,
    write_address,
)

_LONGEST_WAIT_S: Final = 0.25
_CHUNK_BYTES: Final = 1 << 16
_HELLO_LIMIT_S: Final = 30.0
_SEND_BYTES: Final = 1 << 20
"""Most bytes handed to the system at once: Windows refuses a whole million ticks."""
_MOST_CONNECTIONS: Final = 400
"""Further ones wait in the listener's queue; Windows cannot wait on more than 512 sockets."""

_log = logging.getLogger(__name__)


class Server:
    """Serves one assembled terminal until told to stop."""

    def __init__(
        self,
        folder: Path,
        assembly: Assembly,
        *,
        idle_exit_s: float = 0.0,
        max_clients: int = 0,
        programs: Programs | None = None,
    ) -> None:
        """Listen on a free loopback port and write the folder's `ipc.json`.

        Args:
            folder: The terminal's folder.
            assembly: What is served.
            idle_exit_s: Seconds without clients after which `run` returns; 0: never.
            max_clients: Most clients attached at once, further ones wait; 0: no limit.
            programs: What runs inside the terminal, looked after in the loop.

        Raises:
            OSError: no socket, or the folder cannot be written.
        """
        self._folder = folder
        self._terminal = assembly.terminal
        self._market = assembly.market
        self._clock = assembly.clock
        self._control = Control(
            assembly.terminal, assembly.market, after=self._after, end_for_update=self._end_for_update
        )
        self._effects = Effects(self, assembly.terminal, self._control, after=self._after)
        self.restart_after_ms: int | None = None
        """After `run`: the terminal has ended for an update and is to be started again so much later; None: not."""
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_number = itertools.count()
        self._stopping = False
        self._programs = programs
        self._idle_exit_s = idle_exit_s
        self._last_used = time.monotonic()
        self._clients: set[Client] = set()
        self._max_clients = max_clients
        self._listening = True
        self._token = secrets.token_hex(16)
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self.port = int(self._listener.getsockname()[1])
        self._wake, self._waker = socket.socketpair()
        for each in (self._wake, self._waker):
            each.setblocking(False)
        self._selector.register(self._wake, selectors.EVENT_READ, None)
        write_address(folder, Address(os.getpid(), self.port, self._token))

    # The loop ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until a signal or `stop`; blocks.

        Raises:
            StateError: the state cannot be written; nothing unwritten has been acknowledged.
        """
        self._catch_signals()
        try:
            while not self._stopping:
                events = self._selector.select(self._wait_s())
                self._terminal.advance()
                self._clock.keep()
                self._run_timers()
                for key, mask in events:
                    self._on_event(key, mask)
                self._check_idle()
                if self._programs is not None and self._programs.look_after():
                    self.stop()
            self._clock.stop()
        finally:
            self._close()

    def stop(self) -> None:
        """End the loop at its next turn."""
        self._stopping = True

    def _end_for_update(self, ms: int) -> None:
        self.restart_after_ms = ms
        self.stop()

    def _catch_signals(self) -> None:
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), lambda _number, _frame: self.stop())

    def _check_idle(self) -> None:
        if not self._idle_exit_s:
            return
        now = time.monotonic()
        if self._clients:
            self._last_used = now
        elif now - self._last_used >= self._idle_exit_s:
            _log.info("no client for %g s: the terminal ends", self._idle_exit_s)
            self.stop()

    def _wait_s(self) -> float:
        wait = self._market.wait_s()
        wait = _LONGEST_WAIT_S if wait is None else min(wait, _LONGEST_WAIT_S)
        if self._timers:
            wait = min(wait, max(0.0, self._timers[0][0] - time.monotonic()))
        return wait

    def _after(self, delay_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + delay_s, next(self._timer_number), action))

    def _run_timers(self) -> None:
        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2]()

    def _on_event(self, key: selectors.SelectorKey, mask: int) -> None:
        if key.fileobj is self._listener:
            self._accept()
        elif key.fileobj is self._wake:
            self._wake.recv(_CHUNK_BYTES)
        elif not key.data.closed:
            if mask & selectors.EVENT_WRITE:
                self._flush(key.data)
                self._take_requests(key.data)
            if mask & selectors.EVENT_READ and not key.data.closed:
                self._read(key.data)

    def _close(self) -> None:
        signal.set_wakeup_fd(-1)
        for key in list(self._selector.get_map().values()):
            if isinstance(key.data, Client):
                self.drop(key.data)
        self._selector.close()
        for each in (self._listener, self._wake, self._waker):
            each.close()
        (self._folder / IPC_FILE).unlink(missing_ok=True)

    # Clients -------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # the client gave up before its turn came
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = Client(connection)
        self._selector.register(connection, selectors.EVENT_READ, client)
        self._clients.add(client)
        if len(self._clients) >= _MOST_CONNECTIONS:
            self._listen(on=False)
        self._after(_HELLO_LIMIT_S, lambda: self._drop_stranger(client))

    def _listen(self, *, on: bool) -> None:
        if on == self._listening:
            return
        self._listening = on
        if on:
            self._selector.register(self._listener, selectors.EVENT_READ, None)
        else:
            self._selector.unregister(self._listener)

    def _drop_stranger(self, client: Client) -> None:
        if not (client.greeted or client.waits_for_place):
            self.drop(client)

    def drop(self, client: Client) -> None:
        """Cut a connection; who waits for its place gets it."""
        if client.closed:
            return
        client.closed = True
        self._clients.discard(client)
        self._selector.unregister(client.socket)
        client.socket.close()
        self._listen(on=True)
        waiting = next((each for each in self._clients if each.waits_for_place), None)
        if waiting is not None and self._has_place():
            self._welcome(waiting)

    def _has_place(self) -> bool:
        attached = sum(each.greeted and not each.is_control for each in self._clients)
        return not self._max_clients or attached < self._max_clients

    def _read(self, client: Client) -> None:
        try:
            data = client.socket.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or len(client.received) > MAX_REQUEST_BYTES:
            self.drop(client)
            return
        client.received += data
        self._take_requests(client)

    def _take_requests(self, client: Client) -> None:
        """Answer what has arrived whole, as long as the client takes its answers."""
        while not (client.busy or client.closed or client.to_send) and self._take_request(client):
            pass

    def _take_request(self, client: Client) -> bool:
        """Answer a request that has arrived whole; a frame that is none ends the connection."""
        if len(client.received) < HEADER.size:
            return False
        body_bytes, tail_bytes = HEADER.unpack_from(client.received)
        if body_bytes > MAX_REQUEST_BYTES or tail_bytes:
            self.drop(client)
            return False
        end = HEADER.size + body_bytes
        if len(client.received) < end:
            return False
        try:
            request = request_decoder.decode(client.received[HEADER.size : end])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.drop(client)
            return False
        del client.received[:end]
        self._on_request(client, request)
        return True

    def _on_request(self, client: Client, request: Request) -> None:
        if not client.greeted:
            self._greet(client, request)
        elif request.function in CONTROLS:
            self.send(client, (self._control.answer(request), None))
        else:
            fault = self._control.faults.strike(request.function)
            if fault is None:
                self.send(client, self.answer(request))
            else:
                self._effects.carry_out(client, request, fault)

    def _greet(self, client: Client, request: Request) -> None:
        token = request.arguments[0] if request.arguments else None
        if request.function != "hello" or not isinstance(token, str):
            self.drop(client)
        elif not secrets.compare_digest(token.encode(), self._token.encode()):
            _log.warning("a connection was refused: it does not know this terminal's token")
            self.drop(client)
        elif request.arguments[2:3] == [CONTROL_CLIENT]:
            client.is_control = True
            self._welcome(client)
        elif request.arguments[1:2] != [HELLO_PROTOCOL] or self._terminal.incompatible:
            text = f"Terminal: Incompatible versions, build {self._terminal.build}"
            self.send(client, (Reply(api.RES_E_INVALID_VERSION, text), None))
        elif self._has_place():
            self._welcome(client)
        else:
            client.waits_for_place = True

    def _welcome(self, client: Client) -> None:
        client.waits_for_place = False
        client.greeted = True
        self.send(client, (Reply(api.RES_S_OK, None), None))

    def answer(self, request: Request) -> Answer:
        """Carry out a call.

        Raises:
            StateError: what it changes cannot be made durable.
        """
        try:
            value = self._terminal.call(request.function, request.arguments)
        except CallFailed as failed:
            return Reply(failed.code, failed.text), None
        if isinstance(value, np.ndarray):
            records = np.ascontiguousarray(value)
            return Reply(api.RES_S_OK, None), records.view(np.uint8).data if len(records) else None
        return Reply(api.RES_S_OK, value), None

    def send(self, client: Client, answer: Answer) -> None:
        """Send a client its answer, as fast as it takes it."""
        if client.closed:
            return
        reply, tail = answer
        client.to_send.append(memoryview(frame(reply, 0 if tail is None else len(tail))))
        if tail is not None:
            client.to_send.append(tail)
        self._flush(client)

    def send_bytes(self, client: Client, data: bytes) -> None:
        """Send a client something that is no answer."""
        client.to_send.append(memoryview(data))
        self._flush(client)

    def go_on(self, client: Client) -> None:
        """Take further requests of a client that was busy."""
        self._take_requests(client)

    def _flush(self, client: Client) -> None:
        try:
            while client.to_send:
                sent = client.socket.send(client.to_send[0][:_SEND_BYTES])
                client.to_send[0] = client.to_send[0][sent:]
                if not client.to_send[0]:
                    client.to_send.pop(0)
        except BlockingIOError:
            self._watch_writing(client, on=True)
        except OSError:
            self.drop(client)
        else:
            self._watch_writing(client, on=False)

    def _watch_writing(self, client: Client, *, on: bool) -> None:
        if client.waits_to_send != on:
            client.waits_to_send = on
            mask = selectors.EVENT_READ | selectors.EVENT_WRITE if on else selectors.EVENT_READ
            self._selector.modify(client.socket, mask, client)
