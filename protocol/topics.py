"""Topics: ``v1/<kind>/<adapter>/<symbol>``, the part of a frame that ZeroMQ filters on."""

from __future__ import annotations

import re
from typing import NamedTuple

from protocol.errors import DataInvalid, ValidationFailed

VERSION = "v1"
SEPARATOR = b"\x00"
MAX_TOPIC_BYTES = 128

_PART = re.compile(r"[A-Za-z0-9_.#&+\-]{0,48}")


class Topic(NamedTuple):
    """What a frame is about. `symbol` is empty where a kind has none."""

    kind: str
    adapter: str
    symbol: str = ""

    def encode(self) -> bytes:
        """Return the topic's bytes, without the separator.

        Raises:
            ValidationFailed: A part holds a character outside ``A-Z a-z 0-9 _ . # & + -`` or is over 48 long, or the
                whole is over 128.
        """
        for name, part in zip(("kind", "adapter", "symbol"), self, strict=True):
            if not _PART.fullmatch(part):
                raise ValidationFailed(f"{part!r} cannot stand in a topic as {name}", {"field": name})
        encoded = f"{VERSION}/{self.kind}/{self.adapter}/{self.symbol}".encode("ascii")
        if len(encoded) > MAX_TOPIC_BYTES:
            raise ValidationFailed(f"a topic of {len(encoded)} bytes; at most {MAX_TOPIC_BYTES} are allowed")
        return encoded

    def subscription(self) -> bytes:
        """Return the prefix that subscribes to this one topic and no longer one."""
        return self.encode() + SEPARATOR


def is_topic_part(text: str) -> bool:
    """Return whether a text can stand in a topic; an empty one can."""
    return _PART.fullmatch(text) is not None


def kind_subscription(kind: str, adapter: str | None = None) -> bytes:
    """Return the prefix that subscribes to every topic of a kind (and of one adapter, if named)."""
    return f"{VERSION}/{kind}/".encode("ascii") + (b"" if adapter is None else f"{adapter}/".encode("ascii"))


def parse_topic(data: bytes) -> Topic:
    """Return the topic that `data` spells.

    Raises:
        DataInvalid: Not a topic of this protocol version.
    """
    if len(data) > MAX_TOPIC_BYTES:
        raise DataInvalid(f"a topic of {len(data)} bytes; at most {MAX_TOPIC_BYTES} are allowed")
    try:
        version, kind, adapter, symbol = data.decode("ascii").split("/")
    except (UnicodeDecodeError, ValueError):
        raise DataInvalid(f"{data[:40]!r} is no topic: expected {VERSION}/<kind>/<adapter>/<symbol>") from None
    if version != VERSION:
        raise DataInvalid(f"protocol version {version!r}; this side speaks {VERSION}")
    if not kind or not all(_PART.fullmatch(part) for part in (kind, adapter, symbol)):
        raise DataInvalid(f"{data[:40]!r} is no topic: a part holds a character that is not allowed")
    return Topic(kind, adapter, symbol)
