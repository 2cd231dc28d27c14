"""How the password travels between our processes: through pipes that are read once (docs/decisions/0003).

Not the environment, which stays readable in `/proc/PID/environ`, and not an argument, which every process list
shows. From the supervisor to the adapter the pipe is the child's stdin. A command that was itself given
`MT5_PASSWORD` starts itself anew without it and reads it from a pipe, before it does anything else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from typing import BinaryIO

import msgspec

from mt5bus.errors import ConfigError
from mt5bus.secret import Secret

OPTION = "--password-on-stdin"
PASSWORD_VARIABLE = "MT5_PASSWORD"  # noqa: S105  the name of the variable
PIPE_VARIABLE = "MT5BUS_PASSWORD_PIPE"
_LONGEST = 4096


class _Parcel(msgspec.Struct, frozen=True):
    password: str


def pack(password: Secret) -> bytes:
    """Return what `start_node(stdin=...)` hands to a child that was given `--password-on-stdin`."""
    return msgspec.json.encode(_Parcel(password.reveal())) + b"\n"


def receive(stream: BinaryIO | None = None) -> Secret:
    """Read the password that the starter of this process handed over; call it once, before any other work.

    Raises:
        ConfigError: Nothing, or something else, came: the option is for the supervisor's use.
    """
    line = (stream if stream is not None else sys.stdin.buffer).readline(_LONGEST)
    try:
        return Secret(msgspec.json.decode(line, type=_Parcel).password)
    except msgspec.DecodeError:
        raise ConfigError(f"no password came on stdin: {OPTION} is for the supervisor; leave it out") from None


def hide_password_variable(environ: MutableMapping[str, str] | None = None) -> Secret:
    """Take the password out of this process's environment, and out of what the system shows of it.

    Does not return where that takes a new start of this program: Linux and macOS go on showing the environment a
    process began with. Call it first thing, once.

    Returns:
        The password that was in the environment; empty if there was none.
    """
    environ = os.environ if environ is None else environ
    number = environ.pop(PIPE_VARIABLE, "")
    if number:
        with os.fdopen(int(number), "rb") as pipe:
            return receive(pipe)
    password = Secret(environ.pop(PASSWORD_VARIABLE, ""))
    if password and sys.platform != "win32":
        reading, writing = os.pipe()
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(pack(password))
        os.set_inheritable(reading, True)
        again = {**environ, PIPE_VARIABLE: str(reading)}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], again)  # noqa: S606  the same program again
    return password
