"""Values that no request may carry are refused with the field's name: for every request and field there is or will be.

The cases are made from the message types: a new request or field is tested without a word here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgpack
import msgspec
import pytest

from protocol import codec, validation
from protocol.errors import ChangeTheRequest, DataInvalid, ValidationFailed
from protocol.messages import Request
from tests.protocol.samples import MESSAGES

REQUESTS = {kind: message for kind, message in MESSAGES.items() if isinstance(message, Request)}
MARK = "\ue000"  # stands in a packed body for bytes that no packer would write
WHOLE = [-1, -(2**63), 2**63, 2**64 - 1, 1.5, "7", None, b"7", [], {}]
TIMES = [2**31 * 1000, 4_102_444_800_000]
NUMBERS = [math.nan, math.inf, -math.inf, 1e308, "1", None, [], b"1"]
AMOUNTS = [*NUMBERS, -0.0, -1.0, -1e-300]
TEXTS = ["a\0b", "a\nb", "\x1b[2J", "a\u202eb", "a\u200bb", "\u2066", "\ufeff", "x" * 100_000, 7, None, b"x", []]
SYMBOLS = [*TEXTS, "../EURUSD", "EUR/USD", "EUR\\USD", "EUR*", "EUR?", "EUR USD", "ΕURUSD", "x" * 60]
SWITCHES = [1, 0, "true", None, 1.0]
DEEP: Any = [[[[[[[[1]]]]]]]]

Place = tuple[int, ...]


def cases(struct: type[msgspec.Struct], place: Place = ()) -> Iterator[tuple[Place, str, Any]]:
    """Yield place, field and hostile value for every field of a struct and of those within."""
    hints = get_type_hints(struct, include_extras=True)
    for index, name in enumerate(struct.__struct_fields__):
        yield from cases_of(name, hints[name], (*place, index + (struct.__struct_config__.tag is not None)))


def cases_of(name: str, hint: Any, place: Place) -> Iterator[tuple[Place, str, Any]]:
    """Yield the hostile values of one field."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    origin, inner = get_origin(hint), len(place) > 1
    if origin is tuple:
        values: list[Any] = [["x"] * 100_000, {"a": 1}, "x", None, [[1]]]
        item = get_args(hint)[0]
        assert (get_args(item)[0] if get_origin(item) is Annotated else item) is str, (
            f"{name}: say here which items are hostile"
        )
        values += [[value] for value in (SYMBOLS if name == "symbols" else TEXTS)]
    elif origin is dict:
        values = [{"a\0b": 1.0}, {"a": math.nan}, {"a": math.inf}, {"a": "x"}, {7: 1.0}, {"x" * 5000: 1.0}, [], None]
        values += [{str(number): 1.0 for number in range(5000)}]
    elif isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        yield from cases(hint, place)
        values = [None, 7, {}]
    elif hint is bool:
        values = SWITCHES
    elif hint is float:
        values = NUMBERS if inner else AMOUNTS
    elif hint is int:
        values = [-2 if name == "direction" else value for value in WHOLE] + (TIMES if name.endswith("_ms") else [])
    else:
        assert hint is str, f"{name}: say here which values are hostile to {hint}"
        values = SYMBOLS if name == "symbol" else TEXTS
        if name == "reason" and not inner:
            values = [value for value in values if not (isinstance(value, str) and len(value) < 1000)]
    yield from ((place, name, value) for value in [*values, DEEP])


def changed(body: Any, place: Place, value: Any) -> Any:
    """Return plain values with one of them replaced."""
    copy = list(body)
    copy[place[0]] = changed(body[place[0]], place[1:], value) if len(place) > 1 else value
    return copy


def refusal(kind: str, body: bytes) -> ChangeTheRequest | None:
    """Return the error that a frame is refused with; None if it is not."""
    try:
        codec.decode_request(f"v1/{kind}/main/\0".encode() + body)
    except (DataInvalid, ValidationFailed) as error:
        return error
    return None


def plain(message: Request) -> Any:
    """Return a message as what MessagePack knows."""
    return msgpack.unpackb(codec.encode_body(message))


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_sound_request_is_taken(kind: str) -> None:
    assert refusal(REQUESTS[kind].kind, codec.encode_body(REQUESTS[kind])) is None


@pytest.mark.parametrize("kind", REQUESTS)
def test_hostile_values_are_refused_by_the_fields_name(kind: str) -> None:
    request = REQUESTS[kind]
    accepted, unnamed = [], []
    for place, field, value in cases(type(request)):
        error = refusal(request.kind, msgpack.packb(changed(plain(request), place, value)))
        if error is None:
            accepted.append((field, repr(value)[:40]))
        elif error.details.get("field") != field and not unnamed_by_nature(value):
            unnamed.append((field, repr(value)[:40], error.text[:100]))
        else:
            assert len(error.text) < 400
    assert accepted == []
    assert unnamed == []


def unnamed_by_nature(value: object) -> bool:
    """Return whether the decoder fails before it knows a field: what it found is no text, or no key of a map."""
    return value in ({7: 1.0},) if isinstance(value, dict) else False


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_lone_surrogate_is_refused(kind: str) -> None:
    request = REQUESTS[kind]
    for place, _, value in cases(type(request)):
        if value != TEXTS[0]:
            continue
        body = msgpack.packb(changed(plain(request), place, MARK)).replace(MARK.encode(), b"\xed\xa0\x80")
        assert isinstance(refusal(request.kind, body), DataInvalid)


@pytest.mark.parametrize("kind", REQUESTS)
def test_depth_without_end_is_refused_wherever_it_stands(kind: str) -> None:
    whole = codec.encode_body(REQUESTS[kind])
    short = whole[0] >> 4 == 9
    size, rest = (whole[0] & 0x0F, whole[1:]) if short else (int.from_bytes(whole[1:3], "big"), whole[3:])
    head = b"\xdc" + (size + 1).to_bytes(2, "big")
    for deep in (b"\x91" * 100_000 + b"\x01", b"\x81\x01" * 50_000 + b"\x01"):
        error = refusal(REQUESTS[kind].kind, head + rest + deep)
        assert error is None or isinstance(error, DataInvalid)


@pytest.mark.parametrize("kind", [kind for kind, request in REQUESTS.items() if validation.has_map(type(request))])
def test_a_map_with_a_key_twice_is_refused(kind: str) -> None:
    body = plain(REQUESTS[kind])
    body[1][9] = {"aa": 1.0, "ab": 2.0}
    packed = msgpack.packb(body)
    assert refusal(REQUESTS[kind].kind, packed) is None
    error = refusal(REQUESTS[kind].kind, packed.replace(b"\xa2ab", b"\xa2aa"))
    assert isinstance(error, DataInvalid)
    assert error.details["field"] == "features"


def test_the_reason_of_a_halt_is_never_the_reason_to_refuse_it() -> None:
    halt = plain(REQUESTS["set_trading_mode"])
    halt[2] = "family \U0001f468\u200d\U0001f469 \x1b[2J"
    assert refusal("set_trading_mode", msgpack.packb(halt)) is None


@pytest.mark.parametrize("hint", [dict[str, bytes], set[int], int | str])
def test_a_field_of_a_new_sort_needs_a_check(hint: Any) -> None:
    struct = msgspec.defstruct("Strange", [("id", int), ("new", hint)], bases=(Request,), array_like=True, frozen=True)
    with pytest.raises(TypeError, match="new"):
        validation._checks(struct)
