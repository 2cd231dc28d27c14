"""What a caller wrote, where it makes a difference to a C function.

Up to Python 3.13 a C function that takes keywords is handed a dict by `f(*args, **kwargs)` even when `kwargs` is empty,
and none by `f(*args)`. A Python function cannot tell the two apart; the caller's bytecode can. What stands between
counts too: a partial passes the empty dict on, the context that `asyncio.to_thread` runs in does not.
"""

from __future__ import annotations

import dis
import functools
import inspect
import sys
from types import FrameType
from typing import Any, Final

_CALL_FUNCTION_EX: Final = dis.opmap["CALL_FUNCTION_EX"]
_HAS_KEYWORDS: Final = 1
_ARGUMENTS: Final = 2
"""What CALL_FUNCTION_EX finds above the function: the positional arguments and the keywords."""
_UNKNOWN: Final = object()


def forwards_keywords(caller: FrameType, function: object) -> bool:
    """Tell whether a call without keywords reached `function` with an empty dict of them, as `f(*a, **k)` gives.

    Where the caller's code does not show what it calls, it is taken to be `function`.

    Args:
        caller: The frame that runs the call.
        function: What was called in the end, perhaps by something else that the caller called.
    """
    if sys.version_info >= (3, 14):
        return False
    code, at = caller.f_code.co_code, caller.f_lasti
    if at < 0 or code[at] != _CALL_FUNCTION_EX or not code[at + 1] & _HAS_KEYWORDS:
        return False
    called = _called(caller, at)
    while isinstance(called, functools.partial):
        called = called.func
    return called is function or called is _UNKNOWN


def _called(caller: FrameType, at: int) -> Any:
    """Return what the CALL_FUNCTION_EX at an offset calls, or `_UNKNOWN`."""
    before = [each for each in dis.get_instructions(caller.f_code) if each.offset < at]
    pushed = 0
    while pushed < _ARGUMENTS:
        if not before:
            return _UNKNOWN
        instruction = before.pop()
        pushed += dis.stack_effect(instruction.opcode, instruction.arg, jump=False)
    return _value(caller, before) if pushed == _ARGUMENTS else _UNKNOWN


def _value(caller: FrameType, code: list[dis.Instruction]) -> Any:
    """Return the value that the last of these instructions pushes: that of a name, or of a name's attributes."""
    attributes: list[str] = []
    while code:
        instruction = code.pop()
        if instruction.opname == "LOAD_ATTR":
            attributes.insert(0, instruction.argval)
        elif instruction.opname in {"PUSH_NULL", "NOP"}:
            continue
        elif instruction.opname.startswith(("LOAD_FAST", "LOAD_DEREF", "LOAD_GLOBAL", "LOAD_NAME")):
            value = _named(caller, instruction.argval)
            for name in attributes:  # without running the code of a property
                value = inspect.getattr_static(value, name, _UNKNOWN)
            return _UNKNOWN if isinstance(value, property) else value
        else:
            break
    return _UNKNOWN


def _named(caller: FrameType, name: object) -> Any:
    for names in (caller.f_locals, caller.f_globals, caller.f_builtins):
        if name in names:
            return names[name]
    return _UNKNOWN
