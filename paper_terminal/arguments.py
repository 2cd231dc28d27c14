"""The argument rules of the API's functions, as the real client applies them before anything is sent."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

INT32_MIN: Final = -(2**31)
INT32_MAX: Final = 2**31 - 1
UINT64_MAX: Final = 2**64 - 1

MAX_SYMBOL_UNITS = 29
MAX_COMMENT_UNITS = 29
MAX_GROUP_UNITS = 1997
MAX_PATH_UNITS = 257
MAX_PASSWORD_UNITS = 253
MAX_SERVER_UNITS = 253

_REQUEST_FIELDS: Final[tuple[tuple[str, type], ...]] = (
    ("action", int),
    ("magic", int),
    ("order", int),
    ("symbol", str),
    ("volume", float),
    ("price", float),
    ("stoplimit", float),
    ("sl", float),
    ("tp", float),
    ("deviation", int),
    ("type", int),
    ("type_filling", int),
    ("type_time", int),
    ("expiration", int),
    ("comment", str),
    ("position", int),
    ("position_by", int),
)
_UNSIGNED_FIELDS = frozenset({"magic", "order", "deviation", "position", "position_by"})
_EMPTY: Final[dict[type, Any]] = {int: 0, float: 0.0, str: ""}


class ArgumentError(Exception):
    """An argument the client refuses: the call fails with -2 and this text."""


class Pending(Exception):
    """An exception that the real module leaves set while it returns a result; its cause is that exception.

    Python raises a SystemError then, which `builtin` does here.
    """


def invalid(name: str) -> ArgumentError:
    """Return the refusal of a named argument."""
    return ArgumentError(f'Invalid "{name}" argument')


def utf16_units(text: str) -> int:
    """Return the length as the terminal counts it: a character beyond the basic plane counts 2."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def text(value: object, name: str, max_units: int) -> str:
    """Return a text argument.

    Raises:
        ArgumentError: not a str, or too long.
    """
    if not isinstance(value, str) or utf16_units(value) > max_units:
        raise invalid(name)
    return str(value)


def symbol(value: object) -> str:
    """Return a positional symbol.

    Raises:
        ArgumentError: not a str of at most 29 UTF-16 units.
    """
    if not isinstance(value, str) or utf16_units(value) > MAX_SYMBOL_UNITS:
        raise ArgumentError("Invalid arguments")
    return str(value)


def date_s(value: object) -> int:
    """Return a date as whole seconds: int, float or datetime (a naive one in the machine's zone), cut off.

    Raises:
        ArgumentError: another type.
        Pending: an int outside 32 bits, or a datetime that its own `timestamp` cannot express.
    """
    if isinstance(value, datetime):
        try:
            return _seconds(value.timestamp())
        except (OverflowError, ValueError, OSError) as error:
            raise Pending from error
    if isinstance(value, float):
        return _seconds(float(value))
    if isinstance(value, int):
        return _in_range(int(value), INT32_MIN, INT32_MAX)
    raise ArgumentError("Invalid arguments")


def _seconds(value: float) -> int:
    # What the processor's conversion gives outside 32 bits; a NaN fails both comparisons.
    return int(value) if INT32_MIN <= value < INT32_MAX + 1 else INT32_MIN


def _in_range(value: int, low: int, high: int) -> int:
    if low <= value <= high:
        return value
    raise Pending from OverflowError("Python int too large to convert to C long")


def c_int(value: object) -> int:
    """Return a C int: anything with `__index__`, numpy integers too.

    Raises:
        Pending: another type, or outside 32 bits.
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # the TypeError is the point
    except TypeError as error:
        raise Pending from error
    return _in_range(number, INT32_MIN, INT32_MAX)


def c_double(value: object) -> float:
    """Return a C double: int or float, and what has `__float__`.

    Raises:
        Pending: another type, or an int beyond the largest double.
    """
    try:
        return math.ldexp(value, 0)  # type: ignore[arg-type]  # converts as C code does: no text is a number
    except (TypeError, OverflowError) as error:
        raise Pending from error


def unsigned(value: object, name: str) -> int:
    """Return an unsigned 64-bit argument such as a ticket.

    Raises:
        ArgumentError: not an int (a numpy integer is none).
        Pending: negative or larger.
    """
    if not isinstance(value, int):
        raise invalid(name)
    return _in_range(int(value), 0, UINT64_MAX)


def trade_request(fields: Mapping[str, object]) -> list[Any]:
    """Return the 17 fields of a trade request in order; missing ones are 0, 0.0 or ''. Unknown keys are ignored.

    Raises:
        ArgumentError: a field of the wrong type (an int for a price, a None, a numpy integer) or too long.
        Pending: an integer outside its range.
    """
    return [_field(fields[name], name, kind) if name in fields else _EMPTY[kind] for name, kind in _REQUEST_FIELDS]


def _field(value: object, name: str, kind: type) -> int | float | str:
    if kind is str:
        return text(value, name, MAX_SYMBOL_UNITS if name == "symbol" else MAX_COMMENT_UNITS)
    if not isinstance(value, kind):
        raise invalid(name)
    if kind is float:
        return float(value)  # type: ignore[arg-type]  # isinstance above; numpy.float64 becomes a plain float
    number = int(value)  # type: ignore[call-overload]  # likewise
    if name in _UNSIGNED_FIELDS:
        return _in_range(number, 0, UINT64_MAX)
    return _in_range(number, -(2**63), 2**63 - 1) if name == "expiration" else _in_range(number, INT32_MIN, INT32_MAX)


def matches_group(mask: str, name: str) -> bool:
    """Tell whether a group mask selects a name.

    Comma-separated conditions, blanks trimmed, `*` for any run of characters, compared case-sensitively. A condition
    with a leading `!` excludes and wins as soon as it is reached and matches; otherwise at least one
    including condition must match.
    """
    selected = False
    for condition in mask.split(","):
        condition = condition.strip(" \t")[:255]
        if condition.startswith("!"):
            if _matches(condition[1:], name):
                return False
        elif condition and _matches(condition, name):
            selected = True
    return selected


def _matches(pattern: str, name: str) -> bool:
    if "*" not in pattern:
        return pattern == name
    head, *middle, tail = pattern.split("*")
    if len(name) < len(head) + len(tail) or not name.startswith(head) or not name.endswith(tail):
        return False
    at, end = len(head), len(name) - len(tail)
    for part in middle:
        found = name.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
