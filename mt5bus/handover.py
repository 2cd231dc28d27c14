"""How the password reaches the adapter: through the child's stdin, closed at once (docs/decisions/0003).

Not the environment, which stays readable in `/proc/PID/environ`, and not an argument, which every process list shows.
"""

from __future__ import annotations

import sys
from typing import BinaryIO

import msgspec

from mt5bus.errors import ConfigError
from mt5bus.secret import Secret

OPTION = "--password-on-stdin"
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
