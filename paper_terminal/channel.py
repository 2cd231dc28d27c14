"""The blocking exchange between a client process and its terminal.

As in the real module, one call is one request and one reply, there is no read timeout, and **the GIL is held
while waiting**: the wait is a `recv` called through `ctypes.PyDLL`. A stalled terminal freezes the whole process.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import select
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from paper_terminal.constants import RES_S_OK
from paper_terminal.wire import HANG, HEADER, HELLO_PROTOCOL, Address, Request, frame, read_address, reply_decoder

_BUFFER_BYTES: Final = 1 << 16
_CONNECT_TIMEOUT_S = 5.0
_HELLO_PATIENCE_S = 5.0
_BYTES: Final = np.dtype(np.uint8)
_LARGE_BYTES: Final = 1 << 18
if sys.platform != "win32":
    _PEEK: Final = socket.MSG_PEEK | socket.MSG_DONTWAIT


def _load_recv() -> Any:
    # PyDLL, unlike CDLL, keeps the GIL during the call; use_errno lets EINTR be told from other failures.
    library = ctypes.PyDLL("ws2_32") if sys.platform == "win32" else ctypes.PyDLL(None, use_errno=True)
    function = library.recv
    handle = ctypes.c_size_t if sys.platform == "win32" else ctypes.c_int
    size = ctypes.c_int if sys.platform == "win32" else ctypes.c_size_t
    function.argtypes = [handle, ctypes.c_void_p, size, ctypes.c_int]
    function.restype = ctypes.c_int if sys.platform == "win32" else ctypes.c_ssize_t
    return function


_recv = _load_recv()


@contextmanager
def uncollected(size: int) -> Iterator[None]:
    """Keep the garbage collector from searching again and again through a large answer while it is made.

    `size` is that of the answer, bytes.
    """
    if size < _LARGE_BYTES or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class NoTerminal(Exception):
    """No terminal answers at this folder."""


class IncompatibleVersions(Exception):
    """The terminal's build and this module are too far apart; the text is the terminal's."""


class ChannelBroken(Exception):
    """The connection failed; `phase` says whether the request can have arrived (`receive`) or not (`send`)."""

    def __init__(self, phase: Literal["send", "receive"]) -> None:
        super().__init__(f"connection to the terminal lost in {phase}")
        self.phase = phase


class OutOfStep(Exception):
    """The answer cannot be read: the connection is of no more use."""


class Channel:
    """One connection to a terminal."""

    def __init__(self, folder: Path, *, name: str = "Python") -> None:
        """Connect to the terminal of `folder` and say hello as `name`.

        Blocks without limit while the terminal has as many clients as it takes, as a busy pipe does.

        Raises:
            NoTerminal: nobody listens there, or it is not the terminal that wrote the folder's `ipc.json`.
            IncompatibleVersions: the terminal wants another version of this module.
        """
        self.folder = folder
        address = read_address(folder)
        if address is None:
            raise NoTerminal(f"no terminal has written its address in {folder}")
        try:
            self._socket = socket.create_connection(("127.0.0.1", address.port), timeout=_CONNECT_TIMEOUT_S)
        except OSError as error:
            raise NoTerminal(f"the terminal of {folder} does not listen: {error}") from error
        self._buffer = ctypes.create_string_buffer(_BUFFER_BYTES)
        self._buffer_at = ctypes.addressof(self._buffer)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._say_hello(folder, address, name)

    def _say_hello(self, folder: Path, address: Address, name: str) -> None:
        try:
            self._socket.sendall(frame(Request("hello", [address.token, HELLO_PROTOCOL, name])))
            greeting = self._await_greeting(folder, address)
            reply = reply_decoder.decode(greeting[HEADER.size :])
        except (OSError, msgspec.DecodeError) as error:
            self._socket.close()
            raise NoTerminal(f"the terminal does not answer: {error}") from error
        except BaseException:
            self._socket.close()
            raise
        if reply.code != RES_S_OK:
            self._socket.close()
            raise IncompatibleVersions(str(reply.value))
        self._socket.settimeout(None)

    def _await_greeting(self, folder: Path, address: Address) -> bytes:
        self._socket.settimeout(_HELLO_PATIENCE_S)
        while True:
            try:
                return self._socket.recv(_BUFFER_BYTES)
            except TimeoutError:
                if read_address(folder) != address:  # what listens is not that terminal, or no longer
                    raise

    def close(self) -> None:
        """Close the connection; the terminal goes on."""
        self._socket.close()

    def call(self, function: str, arguments: list[Any], *, dtype: np.dtype[Any] = _BYTES) -> tuple[int, Any]:
        """Return the reply's code and its value, or where records follow it, a new array of `dtype`. Blocks.

        Raises:
            ChannelBroken: the terminal has gone.
            OutOfStep: the answer is not a reply.
        """
        if self._has_gone():
            raise ChannelBroken("send")
        try:
            self._socket.sendall(frame(Request(function, arguments)))
        except OSError as error:
            raise ChannelBroken("send") from error
        body, tail = self._receive(dtype)
        try:
            with uncollected(len(body)):
                reply = reply_decoder.decode(body)
        except msgspec.DecodeError as error:
            raise OutOfStep("the terminal's reply is not readable") from error
        if reply.code == HANG:
            self._receive_into(self._buffer_at, 1)
            raise OutOfStep("the terminal went on after a hang")
        return reply.code, reply.value if tail is None else tail

    def _has_gone(self) -> bool:
        """Tell whether the terminal has closed: TCP would take the request and lose it, a pipe refuses it.

        Between two calls there is nothing to read, so a readable connection is a closed one.
        """
        if sys.platform == "win32":
            return bool(select.select([self._socket], [], [], 0)[0])
        else:  # noqa: RET505  # the branch of a platform
            peeked = int(_recv(self._socket.fileno(), self._buffer_at, 1, _PEEK))
            return peeked >= 0 or ctypes.get_errno() not in {errno.EAGAIN, errno.EINTR}

    def _receive(self, dtype: np.dtype[Any]) -> tuple[bytes, NDArray[Any] | None]:
        count = self._receive_into(self._buffer_at, _BUFFER_BYTES)
        while count < HEADER.size:
            count += self._receive_into(self._buffer_at + count, _BUFFER_BYTES - count)
        body_bytes, tail_bytes = HEADER.unpack_from(self._buffer)
        received = ctypes.string_at(self._buffer_at + HEADER.size, count - HEADER.size)
        if len(received) < body_bytes:
            received = self._fill(_BYTES, body_bytes, received).tobytes()
        if not tail_bytes:
            return received, None
        return received[:body_bytes], self._fill(dtype, tail_bytes, received[body_bytes:])

    def _fill(self, dtype: np.dtype[Any], size: int, start: bytes) -> NDArray[Any]:
        """Receive `size` bytes, the first of which are `start`, straight into a new array."""
        filled = np.empty(size // dtype.itemsize, dtype=dtype)
        ctypes.memmove(filled.ctypes.data, start, len(start))
        count = len(start)
        while count < size:
            count += self._receive_into(filled.ctypes.data + count, size - count)
        return filled

    def _receive_into(self, address: int, size: int) -> int:
        while (count := _recv(self._socket.fileno(), address, min(size, 1 << 30), 0)) <= 0:
            # A signal interrupts the wait on POSIX only; Python runs its handler here, then we wait on. A handler
            # that uses another channel leaves EAGAIN behind, which a waiting socket never gives by itself.
            if count < 0 and ctypes.get_errno() in {errno.EINTR, errno.EAGAIN}:
                continue
            raise ChannelBroken("receive")
        return int(count)
