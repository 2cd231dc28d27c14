"""Frames: ``topic NUL body``, the body MessagePack. Pure: no socket, no clock.

Whatever bytes are fed in, `decode` gives a message or raises `DataInvalid` (`UnknownKind` for a well-formed
frame of a kind this version does not know), never another exception.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple, get_type_hints

import msgspec

from protocol import messages
from protocol.errors import DataInvalid, UnknownKind
from protocol.messages import Message, Request
from protocol.topics import MAX_TOPIC_BYTES, SEPARATOR, Topic, parse_topic
from protocol.validation import check_keys_once, check_values, has_map

MAX_FRAME_BYTES = 4 * 1024 * 1024

_encoder = msgspec.msgpack.Encoder()


def _kinds() -> dict[str, type[Message]]:
    classes = [getattr(messages, name) for name in messages.__all__]
    return {c.kind: c for c in classes if isinstance(c, type) and issubclass(c, Message) and c.kind}


MESSAGE_TYPES: dict[str, type[Message]] = _kinds()
_decoders = {kind: msgspec.msgpack.Decoder(cls) for kind, cls in MESSAGE_TYPES.items()}
_id_decoder = msgspec.msgpack.Decoder(Request)
_DECODING_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_place = re.compile(r"`\$((?:\[\d+\])+)")
_number = re.compile(r"\d+")


class Received(NamedTuple):
    """A decoded frame."""

    topic: Topic
    message: Message


def encode_body(message: Message) -> bytes:
    """Return the MessagePack body of `message`."""
    return _encoder.encode(message)


def encode(message: Message, adapter: str = "", symbol: str = "") -> bytes:
    """Return the frame of `message`.

    Raises:
        ValidationFailed: `adapter` or `symbol` cannot stand in a topic.
    """
    return _prefix(message.kind, adapter, symbol) + _encoder.encode(message)


def encode_with(prefix: bytes, message: Message) -> bytes:
    """Return the frame of `message` under a topic already encoded with `Topic.subscription`: the hot path."""
    return prefix + _encoder.encode(message)


def decode(frame: bytes) -> Received:
    """Return the topic and message of `frame`.

    Raises:
        UnknownKind: The topic names a kind this version does not know, or an event body it does not know.
        DataInvalid: Anything else that is wrong with it.
    """
    end = frame.find(SEPARATOR, 0, MAX_TOPIC_BYTES + 1)
    if end < 0 or len(frame) > MAX_FRAME_BYTES:
        split(frame)  # says what is wrong
    topic, decoder = _route(frame[:end])
    try:
        return Received(topic, decoder.decode(frame[end + 1 :]))
    except _DECODING_ERRORS as error:
        raise _invalid(topic.kind, error) from None


def split(frame: bytes) -> tuple[Topic, bytes]:
    """Return the topic and the undecoded body.

    Raises:
        DataInvalid: No separator, a topic that is none, or a frame over 4 MiB.
    """
    if len(frame) > MAX_FRAME_BYTES:
        raise DataInvalid(f"a frame of {len(frame)} bytes; at most {MAX_FRAME_BYTES} are allowed")
    end = frame.find(SEPARATOR, 0, MAX_TOPIC_BYTES + 1)
    if end < 0:
        raise DataInvalid(f"no topic in {frame[:40]!r}")
    return parse_topic(frame[:end]), frame[end + 1 :]


def decode_body(kind: str, body: bytes) -> Message:
    """Return the message of `kind` that `body` spells.

    Raises:
        UnknownKind: No such kind, or an event whose body is of no known sort.
        DataInvalid: `body` is no such message.
    """
    decoder = _decoder_of(kind)
    try:
        return decoder.decode(body)
    except _DECODING_ERRORS as error:
        raise _invalid(kind, error) from None


def decode_request(frame: bytes) -> Request:
    """Return the request in `frame`.

    Raises:
        DataInvalid: It holds no request.
        ValidationFailed: It holds one with a value that cannot be meant.
    """
    message = decode(frame).message
    if not isinstance(message, Request):
        raise DataInvalid(f"{message.kind} is no request", {"kind": message.kind})
    if has_map(type(message)):
        check_keys_once(message.kind, split(frame)[1], type(message))
    check_values(message)
    return message


def request_id(frame: bytes) -> int:
    """Return the id of a request that does not decode as a whole, so that its sender can be answered; else 0.

    Whatever its topic says: a client of another protocol version hears so, too.
    """
    if len(frame) > MAX_FRAME_BYTES:
        return 0
    try:
        return _id_decoder.decode(frame.partition(SEPARATOR)[2]).id
    except _DECODING_ERRORS:
        return 0


# Topics are few and each comes many thousand times.
@lru_cache(maxsize=4096)
def _prefix(kind: str, adapter: str, symbol: str) -> bytes:
    return Topic(kind, adapter, symbol).subscription()


@lru_cache(maxsize=4096)
def _route(topic: bytes) -> tuple[Topic, msgspec.msgpack.Decoder[Message]]:
    parsed = parse_topic(topic)
    return parsed, _decoder_of(parsed.kind)


def _decoder_of(kind: str) -> msgspec.msgpack.Decoder[Message]:
    decoder = _decoders.get(kind)
    if decoder is None:
        raise UnknownKind(f"kind {kind!r} is not known here; a newer peer? It is skipped")
    return decoder


def _invalid(kind: str, error: Exception) -> DataInvalid:
    if not isinstance(error, msgspec.ValidationError):
        return DataInvalid(f"{kind}: {error}", {"kind": kind})
    if "Invalid value" in str(error) and kind == "event":
        return UnknownKind(f"an event of an unknown sort: {error}")
    # Messages travel as arrays: the error names a place, people need the field.
    details, text = {"kind": kind}, str(error)
    field = _field_at(text, MESSAGE_TYPES[kind])
    if field:
        details["field"] = field
        text = f"{field}: {text}"
    return DataInvalid(f"{kind}: {text}", details)


def _field_at(text: str, struct: type[msgspec.Struct]) -> str:
    """Return the innermost field that msgspec's path in `text` leads to; empty if it names none."""
    place, found = _place.search(text), ""
    for number in _number.findall(place[1]) if place else ():
        tagged = struct.__struct_config__.tag is not None
        fields, index = struct.__struct_fields__, int(number) - tagged
        if not 0 <= index < len(fields):
            break
        found = fields[index]
        inner = get_type_hints(struct).get(found)
        if not (isinstance(inner, type) and issubclass(inner, msgspec.Struct)):
            break
        struct = inner
    return found
