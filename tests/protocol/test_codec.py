"""Frames: what is encoded is decoded, and any bytes whatever give a message or our typed error."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import codec
from protocol import messages as m
from protocol.errors import ERRORS_BY_CODE, BusError, DataInvalid, UnknownKind, ValidationFailed, error_from_code
from protocol.messages import Message
from protocol.ticks import first_tick, rates_array, ticks_array
from protocol.topics import MAX_TOPIC_BYTES, Topic, kind_subscription, parse_topic
from tests.protocol.samples import MESSAGES
from tests.protocol.struct_strategies import structs

PARTS = st.text("ABCabc019_.#&+-", max_size=48)
KINDS = st.sampled_from(sorted(codec.MESSAGE_TYPES))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=80)
    | st.binary(max_size=70)
)
DEEP_OR_LONG = [b"\x91" * 100_000, b"\x81" * 100_000, b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b""]
FRAMES = [codec.encode(message, "main", "EURUSD") for message in MESSAGES.values()]


@pytest.mark.parametrize("kind", sorted(codec.MESSAGE_TYPES))
def test_round_trip(kind: str) -> None:
    @settings(max_examples=15)
    @given(structs(codec.MESSAGE_TYPES[kind]), PARTS, PARTS)
    def check(message: Message, adapter: str, symbol: str) -> None:
        frame = codec.encode(message, adapter, symbol)
        assert codec.decode(frame) == (Topic(kind, adapter, symbol), message)
        assert isinstance(msgpack.unpackb(frame.split(b"\0", 1)[1], strict_map_key=False), list)

    check()


def feed_every_decoder(data: bytes) -> None:
    """Give `data` to all that decodes; only our errors may come."""
    for decoder in (codec.decode, codec.split, codec.decode_request, parse_topic, ticks_array, rates_array, first_tick):
        try:
            decoder(data)
        except (DataInvalid, ValidationFailed):
            continue
    assert isinstance(codec.request_id(data), int)


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    feed_every_decoder(data)


@settings(max_examples=400)
@given(KINDS, st.binary(max_size=200))
def test_any_body(kind: str, body: bytes) -> None:
    feed_every_decoder(f"v1/{kind}/main/EURUSD\0".encode() + body)


@settings(max_examples=400)
@given(st.sampled_from(FRAMES), st.data())
def test_damaged_frames(frame: bytes, data: st.DataObject) -> None:
    damaged = bytearray(frame)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    feed_every_decoder(bytes(damaged))
    feed_every_decoder(frame[: data.draw(st.integers(0, len(frame)))])


@settings(max_examples=200)
@given(
    KINDS,
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats()
        | st.text(max_size=80)
        | st.binary(max_size=70),
        lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
        max_leaves=20,
    ),
)
def test_any_plain_values(kind: str, value: object) -> None:
    feed_every_decoder(f"v1/{kind}/main/\0".encode() + msgpack.packb(value))


@pytest.mark.parametrize("kind", sorted(codec.MESSAGE_TYPES))
@pytest.mark.parametrize(
    "body", [b"\x91" * 100_000, b"\x81" * 100_000, b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b""]
)
def test_hostile_sizes(kind: str, body: bytes) -> None:
    with pytest.raises(DataInvalid):
        codec.decode(f"v1/{kind}/main/\0".encode() + body)


def test_invalid_text_inside_a_message() -> None:
    body = msgpack.packb(["node", "ab", "reason"]).replace(b"reason", b"\xff\xfe\xfd\xff\xff\xff")
    with pytest.raises(DataInvalid):
        codec.decode(b"v1/goodbye//\0" + body)


def test_a_frame_over_the_limit_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(DataInvalid, match="at most"):
        codec.decode(b"v1/tick/main/EURUSD\0" + bytes(codec.MAX_FRAME_BYTES))


def test_the_field_is_named() -> None:
    values = msgpack.unpackb(codec.encode_body(MESSAGES["submit_order"]))
    values[6] = "much"
    with pytest.raises(DataInvalid) as caught:
        codec.decode(b"v1/submit_order//\0" + msgpack.packb(values))
    assert caught.value.details == {"kind": "submit_order", "field": "volume"}
    assert codec.request_id(b"v1/submit_order//\0" + msgpack.packb(values)) == 1


def test_what_a_newer_version_sends_is_unknown_not_invalid() -> None:
    with pytest.raises(UnknownKind):
        codec.decode(b"v1/weather/main/\0\x90")
    values = msgpack.unpackb(codec.encode_body(MESSAGES["event.deal"]))
    values[7] = ["rollover", 1, 2]
    with pytest.raises(UnknownKind):
        codec.decode(b"v1/event/main/\0" + msgpack.packb(values))
    with pytest.raises(DataInvalid) as caught:
        codec.decode(b"v2/event/main/\0" + msgpack.packb(values))
    assert "v2" in caught.value.text


def test_no_request_is_no_request() -> None:
    with pytest.raises(DataInvalid, match="no request"):
        codec.decode_request(codec.encode(m.Ping(1, 2)))


@pytest.mark.parametrize("part", ["a/b", "a b", "a\0b", "ä", "x" * 49])
def test_what_cannot_stand_in_a_topic(part: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        codec.encode(m.Ping(1, 2), "main", part)
    assert caught.value.details == {"field": "symbol"}


@given(PARTS.filter(bool), PARTS, PARTS)
def test_topics(kind: str, adapter: str, symbol: str) -> None:
    topic = Topic(kind, adapter, symbol)
    if len("/".join(("v1", *topic))) > MAX_TOPIC_BYTES:
        with pytest.raises(ValidationFailed, match="at most 128"):
            topic.encode()
        return
    assert parse_topic(topic.encode()) == topic
    assert topic.subscription().startswith(kind_subscription(kind, adapter))
    assert topic.subscription().startswith(kind_subscription(kind))


@pytest.mark.parametrize("code", ERRORS_BY_CODE)
def test_errors_travel_as_their_own_type(code: str) -> None:
    kind = ERRORS_BY_CODE[code]
    error = error_from_code(code, "text", {"field": "x"})
    assert (type(error), error.text, error.details) == (kind, "text", {"field": "x"})


def test_an_unknown_error_code_is_the_root_and_kept() -> None:
    error = error_from_code("of_tomorrow", "text")
    assert type(error) is BusError
    assert error.details == {"code": "of_tomorrow"}
