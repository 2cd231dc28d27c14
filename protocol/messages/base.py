"""What every message is: a frozen struct that travels as a MessagePack array.

Fields are only ever appended, with a default: a reader skips trailing fields it does not know and takes the
default for missing ones. The kind in the topic, not the body, says which struct it is.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec


class Message(msgspec.Struct, frozen=True, array_like=True):
    """Root of everything that travels in a frame of its own."""

    kind: ClassVar[str] = ""


class Request(Message, frozen=True, array_like=True):
    """Asks a ROUTER for something. `id` is the caller's, echoed in the reply."""

    id: int


class Reply(Message, frozen=True, array_like=True):
    """Answers the request with the same `id`."""

    id: int


class ErrorReply(Reply, frozen=True, array_like=True):
    """A refusal or failure: `code` is one of `protocol.errors`, `details` its machine-readable fields."""

    kind: ClassVar[str] = "error"
    code: str
    text: str
    details: dict[str, str] = {}


class Done(Reply, frozen=True, array_like=True):
    """A request without a result was carried out; `text` says how, for people."""

    kind: ClassVar[str] = "done"
    text: str = ""
