"""The bytes between a client process and the terminal process.

A frame is a header of two little-endian u32 (length of the body, length of the tail), the body in MessagePack, and
for arrays a tail of raw records. A request's body is `[function, [arguments]]`; a reply's is `[code, value]`, with
the code of the API's `last_error` (1 is success), or `HANG`.

The first request on a connection is `hello` with the token of `ipc.json`; only who can read that file gets in.
"""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path
from typing import Any, Final

import msgspec

HEADER: Final = struct.Struct("<II")
MAX_REQUEST_BYTES: Final = 1 << 16
HELLO_PROTOCOL: Final = 3
"""Protocol number of the hello, as the real client sends it."""
CONTROL_CLIENT: Final = "control"
"""What a client calls itself in its hello that gives controls only: it is let in whatever the terminal's build is."""
HANG: Final = 0
"""Reply code on which the client waits for an answer that never comes (a fault)."""
IPC_FILE: Final = "ipc.json"

_REPLACE_TRIES = 10


class Request(msgspec.Struct, array_like=True, frozen=True):
    """One call."""

    function: str
    arguments: list[Any]


class Reply(msgspec.Struct, array_like=True, frozen=True):
    """One answer: the value, or for a failure its text."""

    code: int
    value: Any


class Address(msgspec.Struct, frozen=True):
    """Where a terminal listens: the content of `ipc.json`."""

    pid: int
    port: int
    token: str


_encoder = msgspec.msgpack.Encoder()
request_decoder: Final = msgspec.msgpack.Decoder(Request)
reply_decoder: Final = msgspec.msgpack.Decoder(Reply)


def frame(body: Request | Reply, tail_bytes: int = 0) -> bytes:
    """Return header and body; `tail_bytes` raw bytes are to follow."""
    encoded = _encoder.encode(body)
    return HEADER.pack(len(encoded), tail_bytes) + encoded


def write_address(folder: Path, address: Address) -> None:
    """Write `ipc.json` atomically, readable by its owner only.

    Raises:
        OSError: the folder cannot be written.
    """
    temporary = folder / f"{IPC_FILE}.{address.pid}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(address))
    replace_with_retry(temporary, folder / IPC_FILE)


def read_address(folder: Path) -> Address | None:
    """Return where the terminal of `folder` says it listens, or None when it says nothing readable."""
    try:
        return msgspec.json.decode((folder / IPC_FILE).read_bytes(), type=Address)
    except (OSError, msgspec.DecodeError):
        return None


def replace_with_retry(source: Path, target: Path) -> None:
    """Rename over `target`. On Windows a reader or a scanner may hold it for a moment: up to 2 s of tries.

    Raises:
        PermissionError: it was held all that time.
    """
    for attempt in range(_REPLACE_TRIES):
        try:
            source.replace(target)
            return
        except PermissionError:
            if attempt == _REPLACE_TRIES - 1:
                raise
            time.sleep(0.2)
