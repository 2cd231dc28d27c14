"""The forwarder between the nodes, over real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from threading import Thread

import pytest

from mt5bus.chaos.wire import Wire
from tests.waiting import eventually

_PATIENCE_S = 20.0


class Echo:
    """A server that sends back what it gets, one thread a connection."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            Thread(target=_send_back, args=(connection,), daemon=True).start()


def _send_back(connection: socket.socket) -> None:
    with connection:
        try:
            while data := connection.recv(4096):
                connection.sendall(data)
        except OSError:
            return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def line() -> Iterator[tuple[Wire, int]]:
    """A forwarder before an echo, and the port to reach it at."""
    port = _free_port()
    with closing(Echo()) as echo, Wire({"orders": (port, echo.port)}) as wire:
        yield wire, port


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_S)
    connection.settimeout(_PATIENCE_S)
    return connection


def _asked(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    return _read(connection, len(data))


def _read(connection: socket.socket, size: int) -> bytes:
    read = b""
    while len(read) < size and (piece := connection.recv(size - len(read))):
        read += piece
    return read


def _is_broken(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_everything_passes_both_ways_in_order(line: tuple[Wire, int]) -> None:
    _, port = line
    data = bytes(range(256)) * 2000
    with _connect(port) as connection:
        sender = Thread(target=connection.sendall, args=(data,))
        sender.start()
        assert _read(connection, len(data)) == data
        sender.join()


def test_a_cut_breaks_what_is_connected_and_lets_new_connections_through(line: tuple[Wire, int]) -> None:
    wire, port = line
    with _connect(port) as before:
        assert _asked(before, b"one") == b"one"
        wire.cut(["orders"])
        assert _is_broken(before)
    with _connect(port) as after:
        assert _asked(after, b"two") == b"two"


def test_what_is_held_passes_once_healed(line: tuple[Wire, int]) -> None:
    wire, port = line
    with _connect(port) as connection:
        assert _asked(connection, b"one") == b"one"
        wire.hold(["orders"])
        connection.sendall(b"two")
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(_PATIENCE_S)
        wire.heal(["orders"])
        assert _read(connection, 3) == b"two"


def test_a_refusing_line_closes_every_connection_until_healed(line: tuple[Wire, int]) -> None:
    wire, port = line
    with _connect(port) as before:
        assert _asked(before, b"one") == b"one"
        wire.refuse(["orders"])
        assert _is_broken(before)
    with _connect(port) as refused:
        assert _is_broken(refused)
    wire.heal(["orders"])
    with _connect(port) as after:
        assert _asked(after, b"two") == b"two"


def test_a_slow_line_still_passes(line: tuple[Wire, int]) -> None:
    wire, port = line
    with _connect(port) as connection:
        wire.slow(["orders"], 0.01)
        assert _asked(connection, b"one") == b"one"


def test_a_line_to_nobody_closes_the_connection() -> None:
    port, nobody = _free_port(), _free_port()
    with Wire({"orders": (port, nobody)}), _connect(port) as connection:
        assert _is_broken(connection)


def test_closing_gives_the_ports_back() -> None:
    port, nobody = _free_port(), _free_port()
    Wire({"orders": (port, nobody)}).close()
    eventually(lambda: _can_listen(port), timeout_s=_PATIENCE_S)


def _can_listen(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
