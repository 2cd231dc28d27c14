"""Values that no request may carry, whatever it asks for: derived from the message types, so that none is forgotten.

The decoder holds types and lengths. This holds the rest that is true of every request: numbers are numbers and fit
64 bits, times fit the terminal's 32-bit seconds, texts can be shown, symbols can stand in a topic, and a map has each
key once. What depends on symbol and market is `market.orders`'. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgpack
import msgspec

from market.orders import EXPIRATION_MAX_MS
from protocol.errors import DataInvalid, ValidationFailed
from protocol.messages import Request
from protocol.topics import is_topic_part

LARGEST_INT = 2**63 - 1
LATEST_MS = EXPIRATION_MAX_MS
LARGEST_AMOUNT = 1e15
LARGEST_NUMBER = 1e100
LONGEST_TEXT = 1024
MOST_ITEMS = 1024
_SYMBOL_FIELDS = frozenset({"symbol", "symbols"})
_CLEANED_FIELDS = frozenset({"reason"})
"""Texts for people that are stripped where they are used: stopping all trading never fails for its reason's sake."""

Check = Callable[[Any], str]
"""Returns what is wrong with a value; empty if nothing is."""


def check_values(request: Request) -> None:
    """Return if every field of a decoded request holds a value that can be meant.

    Raises:
        ValidationFailed: One does not; the details name it.
    """
    for name, check in _checks(type(request)):
        wrong = check(getattr(request, name))
        if wrong:
            field, _, text = wrong.rpartition("\0")
            field = field or name
            raise ValidationFailed(f"{field}: {text}", {"field": field, "kind": request.kind})


def check_keys_once(kind: str, body: bytes, request: type[Request]) -> None:
    """Return if no map in `body` has a key twice: two readers could take different ones.

    Raises:
        DataInvalid: One has.
    """
    if not has_map(request):
        return
    try:
        msgpack.unpackb(body, object_pairs_hook=_once, strict_map_key=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise DataInvalid(f"{kind}: {error}", {"kind": kind, "field": _map_field(request)}) from None


@lru_cache(maxsize=256)
def has_map(struct: type[msgspec.Struct]) -> bool:
    """Return whether a struct, or one within it, has a map."""
    return bool(_map_field(struct))


@lru_cache(maxsize=256)
def _map_field(struct: type[msgspec.Struct]) -> str:
    for name, hint in get_type_hints(struct, include_extras=True).items():
        if name not in struct.__struct_fields__:
            continue
        hint, _ = _bare(hint)
        if get_origin(hint) is dict:
            return name
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct) and has_map(hint):
            return _map_field(hint)
    return ""


def _once(pairs: list[tuple[object, object]]) -> dict[object, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a map has a key twice")
    return found


@lru_cache(maxsize=256)
def _checks(struct: type[msgspec.Struct], inner: bool = False) -> tuple[tuple[str, Check], ...]:
    hints = get_type_hints(struct, include_extras=True)
    made = [(name, _check_of(name, hints[name], inner=inner)) for name in struct.__struct_fields__]
    return tuple((name, check) for name, check in made if check is not None)


def _check_of(name: str, hint: Any, *, inner: bool) -> Check | None:
    hint, bounded = _bare(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in {Union, UnionType}:
        raise TypeError(f"{name}: a request's field of several types needs a check of its own")
    if hint is bool:
        return None
    if hint is int:
        return None if bounded else _time if name.endswith("_ms") else _whole
    if hint is float:
        return _number if inner else _amount
    if hint is str:
        return _length if name in _CLEANED_FIELDS and not inner else _symbol if name in _SYMBOL_FIELDS else _text
    if origin is tuple:
        return _items(_check_of(name, arguments[0], inner=inner))
    if origin is dict:
        return _map(_check_of(name, arguments[1], inner=True))
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return _nested(hint)
    raise TypeError(f"{name}: no check for {hint}")


def _bare(hint: Any) -> tuple[Any, bool]:
    """Return a type without its annotations, and whether they bound it on both sides."""
    if get_origin(hint) is not Annotated:
        return hint, False
    bare, *metas = get_args(hint)
    lows = any(getattr(meta, "ge", None) is not None for meta in metas)
    return bare, lows and any(getattr(meta, "le", None) is not None for meta in metas)


def _whole(value: int) -> str:
    return "" if 0 <= value <= LARGEST_INT else f"{_shown(value)} is not within 0 to 2^63 - 1"


def _time(value: int) -> str:
    return "" if 0 <= value <= LATEST_MS else f"{_shown(value)} is no time the terminal can keep (0 to 2038-01-19, ms)"


def _number(value: float) -> str:
    if not math.isfinite(value):
        return f"{value!r} is not a number"
    return "" if abs(value) <= LARGEST_NUMBER else f"{value!r} is beyond anything measured"


def _amount(value: float) -> str:
    if not math.isfinite(value):
        return f"{value!r} is not a number"
    if math.copysign(1, value) < 0:
        return f"{value!r} is negative"  # -0.0 too: 0 stands for none
    return "" if abs(value) <= LARGEST_AMOUNT else f"{value!r} is beyond anything traded"


def _length(value: str) -> str:
    return "" if len(value) <= LONGEST_TEXT else f"{len(value)} characters; at most {LONGEST_TEXT} are taken"


def _text(value: str) -> str:
    # Control characters, surrogates, and the invisible ones that turn or hide what stands beside them.
    return _length(value) or ("" if value.isprintable() else f"{value[:40]!a} has characters that do not show")


def _symbol(value: str) -> str:
    return "" if is_topic_part(value) else f"{value[:60]!a} is no symbol: letters, digits and _ . # & + - only"


def _items(check: Check | None) -> Check:
    def each(values: tuple[Any, ...]) -> str:
        if len(values) > MOST_ITEMS:
            return f"{len(values)} of them; at most {MOST_ITEMS} are taken"
        return next((wrong for value in values if check is not None and (wrong := check(value))), "")

    return each


def _map(check: Check | None) -> Check:
    def each(values: dict[str, Any]) -> str:
        if len(values) > MOST_ITEMS:
            return f"{len(values)} of them; at most {MOST_ITEMS} are taken"
        for key, value in values.items():
            wrong = _text(key) or (check(value) if check is not None else "")
            if wrong:
                return f"{key[:40]!a}: {wrong}"
        return ""

    return each


def _nested(struct: type[msgspec.Struct]) -> Check:
    def each(value: msgspec.Struct) -> str:
        for name, check in _checks(struct, True):
            wrong = check(getattr(value, name))
            if wrong:
                return wrong if "\0" in wrong else f"{name}\0{wrong}"
        return ""

    return each


def _shown(value: int) -> str:
    return str(value) if abs(value) < 10**20 else "a number of over 20 digits"
