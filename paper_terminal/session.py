"""A client process's one connection to its terminal, and the last error every call leaves.

In the real module a call is one piece: no other thread runs and no signal handler interrupts it. Here a lock keeps
threads apart. A handler that does run in the middle may call the API too: it gets a connection of its own. And when
it raises (Ctrl-C does), the answer on its way is given up with the connection, and the next call makes a new one.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

import numpy as np

from paper_terminal.arguments import ArgumentError, Pending
from paper_terminal.channel import Channel, ChannelBroken, NoTerminal, OutOfStep
from paper_terminal.constants import (
    RES_E_INTERNAL_FAIL,
    RES_E_INTERNAL_FAIL_CONNECT,
    RES_E_INTERNAL_FAIL_RECEIVE,
    RES_E_INTERNAL_FAIL_SEND,
    RES_E_INVALID_PARAMS,
    RES_S_OK,
)

SUCCESS: Final = (RES_S_OK, "Success")

T = TypeVar("T")
F = TypeVar("F")


class Failed(Exception):
    """A call that ends with this `last_error`."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.error = (code, text)


class Session:
    """The process's one connection and its last error."""

    def __init__(self) -> None:
        self.channel: Channel | None = None
        self.last_error: tuple[int, str] = SUCCESS
        self._lock = threading.RLock()
        self._asking = False
        self._given_up = False

    def close(self) -> None:
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        self._given_up = False

    def forget(self) -> None:
        """Begin anew in a forked child: its parent goes on with the connection, and perhaps held the lock."""
        self._lock = threading.RLock()
        self._asking = False
        self.last_error = SUCCESS
        self.close()

    def ask(self, function: str, *arguments: Any, dtype: np.dtype[Any] | None = None) -> Any:
        """Return the terminal's answer.

        Raises:
            Failed: the terminal refuses, or is not there.
        """
        if self.channel is None:
            raise Failed(RES_E_INTERNAL_FAIL_CONNECT, "No IPC connection")
        try:
            code, value = self._exchange(self.channel, function, list(arguments), dtype)
        except ChannelBroken as error:
            if error.phase == "send":  # the handle stays open: every later call fails alike
                raise Failed(RES_E_INTERNAL_FAIL_SEND, "IPC send failed") from error
            self.close()
            raise Failed(RES_E_INTERNAL_FAIL_RECEIVE, "IPC recv failed") from error
        except OutOfStep as error:
            self.close()
            raise Failed(RES_E_INTERNAL_FAIL, "IPC call failed") from error
        if code != RES_S_OK:
            raise Failed(code, str(value))
        return value

    def _exchange(
        self, channel: Channel, function: str, arguments: list[Any], dtype: np.dtype[Any] | None
    ) -> tuple[int, Any]:
        if self._asking:
            other = _another(channel)
            try:
                return _call(other, function, arguments, dtype)
            finally:
                other.close()
        if self._given_up:
            channel = _another(channel)
            self.close()
            self.channel = channel
        self._asking = True
        try:
            return _call(channel, function, arguments, dtype)
        except (ChannelBroken, OutOfStep):
            raise
        except BaseException:
            # Raised by a signal handler in the middle of the exchange: the answer would meet the next request.
            channel.close()
            self._given_up = True
            raise
        finally:
            self._asking = False

    def run(self, body: Callable[[], T], failure: F, *, bad_argument: Any = ...) -> T | F:
        """Run a call: last_error starts as success; a failure sets it and gives `failure`."""
        with self._lock:
            self.last_error = SUCCESS
            try:
                return body()
            except ArgumentError as error:
                self.last_error = (RES_E_INVALID_PARAMS, str(error))
                return failure if bad_argument is ... else bad_argument
            except Pending:
                self.last_error = (RES_E_INVALID_PARAMS, "Invalid arguments")
                raise
            except Failed as failed:
                self.last_error = failed.error
                return failure


def _another(channel: Channel) -> Channel:
    try:
        return Channel(channel.folder)
    except NoTerminal as error:
        raise ChannelBroken("receive") from error


def _call(channel: Channel, function: str, arguments: list[Any], dtype: np.dtype[Any] | None) -> tuple[int, Any]:
    return channel.call(function, arguments) if dtype is None else channel.call(function, arguments, dtype=dtype)


SESSION: Final = Session()
"""The one of this process."""

if sys.platform != "win32":
    os.register_at_fork(after_in_child=SESSION.forget)
