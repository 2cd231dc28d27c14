"""Hypothesis strategies for every struct of the wire, derived from its own annotations."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
from hypothesis import strategies as st

from protocol.messages import Rates, TickBatch, Ticks
from protocol.ticks import RECORD_BYTES

_INTS = st.integers(-(2**63), 2**64 - 1)
_TEXT = st.text(max_size=20)
_RECORDS = st.integers(0, 3).flatmap(lambda n: st.binary(min_size=n * RECORD_BYTES, max_size=n * RECORD_BYTES))


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for the values of a type that may stand in a struct."""
    metas: list[Any] = []
    if get_origin(hint) is Annotated:
        hint, *metas = get_args(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=3)
    if origin in {Union, UnionType}:
        return st.one_of(*[values(argument) for argument in arguments])
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return structs(hint)
    return _plain(hint, metas)


def _plain(hint: Any, metas: list[Any]) -> st.SearchStrategy[Any]:
    if hint is NoneType:
        return st.none()
    if hint is bool:
        return st.booleans()
    if hint is float:
        return st.floats(allow_nan=False)
    if hint is bytes:
        return st.binary(max_size=30)
    if hint is int:
        lows = [meta.ge for meta in metas if meta.ge is not None]
        highs = [meta.le for meta in metas if meta.le is not None]
        return st.integers(max(lows), min(highs)) if lows and highs else _INTS
    assert hint is str
    if any(meta.pattern for meta in metas):
        return st.text("abcXYZ019_.-", min_size=1, max_size=64)
    return _TEXT


def structs(struct: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Return a strategy for a struct."""
    hints = get_type_hints(struct, include_extras=True)
    fields = {name: values(hints[name]) for name in struct.__struct_fields__}
    if issubclass(struct, TickBatch | Ticks | Rates):
        fields["records"] = _RECORDS
    return st.builds(struct, **fields)
