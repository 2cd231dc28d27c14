"""Methods served as functions of the API.

They are marked with `@serves`; their arguments are checked against their annotations, so that no request can
carry what a method does not expect. What is missing from the table answers 'Unsupported function'.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar, get_type_hints

import msgspec

from paper_terminal import constants as api
from paper_terminal.history import BadRequest, TooMuch

_MARK: Final = "_serves"

F = TypeVar("F", bound=Callable[..., Any])


class CallFailed(Exception):
    """A call the terminal refuses: the client's last_error becomes this."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text


def invalid_params() -> CallFailed:
    """Return the refusal of a value that means nothing."""
    return CallFailed(api.RES_E_INVALID_PARAMS, "Terminal: Invalid params")


def not_found() -> CallFailed:
    """Return the refusal of a name or ticket that is not there."""
    return CallFailed(api.RES_E_NOT_FOUND, "Terminal: Not found")


def serves(function: F) -> F:
    """Mark a method as a function of the API."""
    setattr(function, _MARK, True)
    return function


class _Served(NamedTuple):
    method: Callable[..., Any]
    arguments: Any


class Functions:
    """An object whose marked methods can be called by name."""

    def __init__(self) -> None:
        self._served = self._table()

    def _table(self) -> dict[str, _Served]:
        table = {}
        for name, method in inspect.getmembers(self, inspect.ismethod):
            if not hasattr(method, _MARK):
                continue
            hints = get_type_hints(method)
            kinds = tuple(hints[each] for each in inspect.signature(method).parameters)
            table[name] = _Served(method, tuple[kinds] if kinds else tuple[()])  # type: ignore[valid-type]
        return table

    def call(self, function: str, arguments: list[Any]) -> Any:
        """Return what a function answers: plain values, or an array of records.

        Raises:
            CallFailed: refused, with the client's last_error.
            StateError: a change cannot be made durable.
        """
        served = self._served.get(function)
        if served is None:
            raise CallFailed(api.RES_E_UNSUPPORTED, "Terminal: Unsupported function")
        try:
            values = msgspec.convert(arguments, served.arguments)
        except msgspec.ValidationError as error:
            raise invalid_params() from error
        try:
            return served.method(*values)
        except (BadRequest, OverflowError) as error:
            raise invalid_params() from error
        except TooMuch as error:
            raise CallFailed(api.RES_E_FAIL, "Terminal: Call failed") from error
