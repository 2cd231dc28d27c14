"""docs/protocol.md against the code: every struct, its fields in order with type and default, errors, roles."""

from __future__ import annotations

import re
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest

from market.bars import Bar
from market.instrument import Instrument
from market.risk import LimitUse
from protocol import messages
from protocol.captures import FORMAT
from protocol.codec import MAX_FRAME_BYTES, MESSAGE_TYPES
from protocol.errors import ERRORS_BY_CODE
from protocol.keys import ROLES, STANDARD_ROLES
from protocol.messages import AdapterReport, EventBody, LoggerReport, Message, StrategyReport
from protocol.sockets import MAX_REPLY_BYTES, MAX_REQUEST_BYTES
from protocol.ticks import RATE_DTYPE, TICK_DTYPE
from protocol.topics import MAX_TOPIC_BYTES, VERSION

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
Table = list[list[str]]

VALUES: tuple[type[msgspec.Struct], ...] = (
    messages.Account,
    messages.Position,
    messages.Order,
    messages.Deal,
    messages.Quote,
    messages.SymbolMatch,
    messages.LinkHealth,
    messages.UnsettledOrder,
    messages.Consumer,
    messages.SymbolRisk,
    messages.StrategyPresence,
    LimitUse,
    messages.StreamReport,
    messages.OrderCounts,
    messages.DoorCounts,
    Instrument,
    Bar,
)
TAGGED: tuple[type[msgspec.Struct], ...] = (*get_args(EventBody), AdapterReport, StrategyReport, LoggerReport)


def sections() -> dict[str, tuple[str, str]]:
    """Return by struct name what its heading says beside it, and the text below."""
    found = {}
    for match in re.finditer(r"^#### `(\w+)`(.*)\n((?:(?!^#).*\n?)*)", TEXT, re.MULTILINE):
        found[match[1]] = (match[2].strip(), match[3])
    return found


def tables(text: str) -> list[Table]:
    """Return the rows of every table in `text`, without heads."""
    made: list[Table] = []
    for block in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in block.splitlines()]
        made.append([[cell.strip("` ") for cell in row] for row in rows[2:]])
    return made


def table_under(heading: str) -> Table:
    """Return the first table after the line `heading`."""
    return tables(TEXT[TEXT.index(f"\n{heading}\n") :])[0]


def type_text(hint: Any) -> str:
    """Return how the document writes a type."""
    limits = ""
    if get_origin(hint) is Annotated:
        hint, *metas = get_args(hint)
        limits = _limits(metas)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple:
        return f"array of {type_text(arguments[0])}{limits}"
    if origin is dict:
        return f"map of {type_text(arguments[0])} to {type_text(arguments[1])}{limits}"
    if origin in {Union, UnionType}:
        return " or ".join("nil" if part is NoneType else type_text(part) for part in arguments)
    return ("bin" if hint is bytes else str(hint.__name__)) + limits


def _limits(metas: list[Any]) -> str:
    texts = []
    for meta in metas:
        low, high = meta.ge, meta.le
        if low is not None or high is not None:
            texts.append(f"{'' if low is None else low}..{'' if high is None else high}")
        if meta.max_length is not None:
            texts.append(f"{meta.min_length or 0}..{meta.max_length} characters")
        if meta.pattern is not None:
            texts.append("of `A-Z a-z 0-9 _ . -`")
    return f" ({', '.join(texts)})" if texts else ""


def default_text(field: Any) -> str:
    """Return how the document writes a default; a dash stands for none."""
    if field.default_factory is not msgspec.NODEFAULT:
        return "{}" if field.default_factory is dict else "zeros"
    if field.default is msgspec.NODEFAULT:
        return "-"
    if isinstance(field.default, msgspec.Struct):
        return "zeros"
    if isinstance(field.default, str):
        return f'"{field.default}"'
    if field.default is None:
        return "nil"
    return "[]" if field.default == () else str(field.default).lower()


def code_rows(struct: type[msgspec.Struct]) -> Table:
    """Return name, type and default of every field."""
    hints = get_type_hints(struct, include_extras=True)
    return [[f.name, type_text(hints[f.name]), default_text(f)] for f in msgspec.structs.fields(struct)]


def documented() -> dict[str, type[msgspec.Struct]]:
    """Return every struct that the document must have, by name."""
    return {struct.__name__: struct for struct in (*MESSAGE_TYPES.values(), *VALUES, *TAGGED)}


def test_every_struct_is_specified_and_no_other() -> None:
    assert set(sections()) == set(documented())


@pytest.mark.parametrize("name", sorted(documented()))
def test_struct(name: str) -> None:
    struct = documented()[name]
    beside, text = sections()[name]
    if issubclass(struct, Message):
        assert beside == f"kind `{struct.kind}`"
    elif struct in TAGGED:
        assert beside == f"tag `{struct.__struct_config__.tag}`"
    if not struct.__struct_fields__:
        assert "No fields." in text
        return
    (rows,) = tables(text)
    assert [row[:3] for row in rows] == code_rows(struct)
    assert all(len(row) == 4 and row[3] for row in rows), "every field has a meaning"


def test_errors() -> None:
    rows = {row[0]: row[1:3] for row in table_under("## Error codes")}
    assert rows == {
        code: [kind.__name__, "-" if code == "error" else kind.__bases__[0].__name__]
        for code, kind in ERRORS_BY_CODE.items()
    }


def test_roles_and_names() -> None:
    assert [row[0] for row in table_under("### Roles")] == list(ROLES)
    assert {row[0]: _parts(row[1]) for row in table_under("### Standard names")} == STANDARD_ROLES


def _parts(cell: str) -> tuple[str, ...]:
    return () if cell == "-" else tuple(cell.replace("`", "").split(", "))


def test_records() -> None:
    for heading, dtype in (("### Tick record", TICK_DTYPE), ("### Rate record", RATE_DTYPE)):
        rows = [(row[0], int(row[1]), row[2]) for row in table_under(heading)]
        fields: Any = dtype.fields
        assert rows == [(name, fields[name][1], str(fields[name][0])) for name in dtype.names or ()]


def test_numbers() -> None:
    for number in (MAX_FRAME_BYTES, MAX_REQUEST_BYTES, MAX_REPLY_BYTES, MAX_TOPIC_BYTES, messages.MAX_PAGE):
        assert f"{number:,}" in TEXT
    assert f"`{VERSION}/<kind>/<adapter>/<symbol>`" in TEXT
    assert f'"mt5bus capture", {FORMAT}' in TEXT
