"""The bytes of every message, pinned: what was written by an older version is what this version writes and reads.

`golden/messages.json` holds for each sample its frame in hex and, for people, the plain MessagePack values in it.
A difference means that the wire changed: that is a new version, or a mistake.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgpack
import pytest

from protocol import codec
from protocol.errors import DataInvalid
from protocol.messages import Event, Message
from protocol.topics import Topic
from tests.protocol.samples import MESSAGES

GOLDEN: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "golden" / "messages.json").read_text(encoding="utf-8")
)
MARKET = {"tick", "bar"}


def topic_of(message: Message) -> Topic:
    """Return the topic that the fixture has."""
    return Topic(message.kind, "main", "EURUSD" if message.kind in MARKET else "")


def plain(value: Any) -> Any:
    """Return what JSON can hold: bytes as hex."""
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return {name: plain(item) for name, item in value.items()} if isinstance(value, dict) else value


def test_every_kind_and_tag_has_a_fixture() -> None:
    assert {message.kind for message in MESSAGES.values()} == set(codec.MESSAGE_TYPES)
    assert set(GOLDEN) == set(MESSAGES)


@pytest.mark.parametrize("name", MESSAGES)
def test_bytes(name: str) -> None:
    message, frame = MESSAGES[name], bytes.fromhex(GOLDEN[name]["frame"])
    assert codec.encode(message, *topic_of(message)[1:]) == frame
    assert codec.encode_with(topic_of(message).subscription(), message) == frame
    assert codec.decode(frame) == (topic_of(message), message)


@pytest.mark.parametrize("name", MESSAGES)
def test_any_language_reads_it(name: str) -> None:
    topic, body = bytes.fromhex(GOLDEN[name]["frame"]).split(b"\0", 1)
    assert topic.decode("ascii").split("/") == ["v1", *topic_of(MESSAGES[name])]
    values = msgpack.unpackb(body)
    assert plain(values) == GOLDEN[name]["values"]
    if isinstance(MESSAGES[name], Event):
        assert values[7][0] == name.split(".")[1]


@pytest.mark.parametrize("name", MESSAGES)
def test_what_another_packer_writes_is_read(name: str) -> None:
    message = MESSAGES[name]
    values = msgpack.unpackb(codec.encode_body(message))
    assert codec.decode_body(message.kind, msgpack.packb(values)) == message


@pytest.mark.parametrize("name", MESSAGES)
def test_a_newer_peers_trailing_fields_are_ignored(name: str) -> None:
    message = MESSAGES[name]
    values = msgpack.unpackb(codec.encode_body(message))
    longer = msgpack.packb([*values, {"new": [1, 2]}, "and more"])
    assert codec.decode_body(message.kind, longer) == message


@pytest.mark.parametrize("name", MESSAGES)
def test_an_older_peers_missing_fields_take_their_defaults(name: str) -> None:
    message = MESSAGES[name]
    values = msgpack.unpackb(codec.encode_body(message))
    optional = len(type(message).__struct_defaults__)
    required = len(values) - optional
    decoded = codec.decode_body(message.kind, msgpack.packb(values[:required]))
    assert decoded == type(message)(*(getattr(message, field) for field in message.__struct_fields__[:required]))
    if required:
        with pytest.raises(DataInvalid):
            codec.decode_body(message.kind, msgpack.packb(values[: required - 1]))
