"""A client process's one connection to its terminal, and the last error every call leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import numpy as np

from paper_terminal.arguments import ArgumentError
from paper_terminal.channel import Channel, ChannelBroken, OutOfStep
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

    def close(self) -> None:
        if self.channel is not None:
            self.channel.close()
            self.channel = None

    def ask(self, function: str, *arguments: Any, dtype: np.dtype[Any] | None = None) -> Any:
        """Return the terminal's answer.

        Raises:
            Failed: the terminal refuses, or is not there.
        """
        if self.channel is None:
            raise Failed(RES_E_INTERNAL_FAIL_CONNECT, "No IPC connection")
        try:
            if dtype is None:
                code, value = self.channel.call(function, list(arguments))
            else:
                code, value = self.channel.call(function, list(arguments), dtype=dtype)
        except ChannelBroken as error:
            if error.phase == "send":  # the handle stays open: every later call fails alike
                raise Failed(RES_E_INTERNAL_FAIL_SEND, "IPC send failed") from error
            self.close()
            raise Failed(RES_E_INTERNAL_FAIL_RECEIVE, "IPC recv failed") from error
        except OutOfStep as error:
            self.close()
            raise Failed(RES_E_INTERNAL_FAIL, "IPC call failed") from error
        except BaseException:
            # A signal handler raised in the middle of the exchange: the answer would meet the next request.
            self.close()
            raise
        if code != RES_S_OK:
            raise Failed(code, str(value))
        return value

    def run(self, body: Callable[[], T], failure: F, *, bad_argument: Any = ...) -> T | F:
        """Run a call: last_error starts as success; a failure sets it and gives `failure`."""
        self.last_error = SUCCESS
        try:
            return body()
        except ArgumentError as error:
            self.last_error = (RES_E_INVALID_PARAMS, str(error))
            return failure if bad_argument is ... else bad_argument
        except SystemError:
            self.last_error = (RES_E_INVALID_PARAMS, "Invalid arguments")
            raise
        except Failed as failed:
            self.last_error = failed.error
            return failure


SESSION: Final = Session()
"""The one of this process."""
