"""Callables that look and behave like the functions of a C extension module.

They have a name but no signature, refuse what C calling conventions refuse with the same exceptions, and stored as
a class attribute they do not turn into bound methods.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import BuiltinFunctionType
from typing import Any, ClassVar, Final, Generic, NoReturn, SupportsIndex, TypeVar

from paper_terminal.arguments import Pending
from paper_terminal.call_site import forwards_keywords

R = TypeVar("R")


class _Builtin(Generic[R]):
    """What the three calling conventions share."""

    __text_signature__: ClassVar[None] = None
    __self__: ClassVar[None] = None
    # What isinstance, inspect.isbuiltin and inspect.isroutine go by.
    __class__ = BuiltinFunctionType  # type: ignore[assignment]  # a pretence

    def __init__(self, run: Callable[..., R]) -> None:
        self.__module__ = "MetaTrader5"
        self.__name__ = run.__name__
        self.__qualname__ = run.__name__
        self.__doc__ = run.__doc__
        self._run = run

    @property
    def __signature__(self) -> NoReturn:
        raise ValueError(f"no signature found for builtin {self!r}")

    def __repr__(self) -> str:
        return f"<built-in function {self.__name__}>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> str:
        return self.__name__  # pickled by name, as functions are; copied as themselves

    def _called(self, *arguments: Any) -> R:
        try:
            return self._run(*arguments)
        except Pending as pending:
            # As Python words it when a C function returns a result with an exception set.
            raise SystemError(f"{self!r} returned a result with an exception set") from pending.__cause__

    def _refuse_keywords(self, keywords: dict[str, Any]) -> None:
        if keywords:
            raise TypeError(f"{self.__name__}() takes no keyword arguments")


class NoArguments(_Builtin[R]):
    """A function without arguments."""

    def __call__(self, /, *arguments: Any, **keywords: Any) -> R:
        self._refuse_keywords(keywords)
        if arguments:
            raise TypeError(f"{self.__name__}() takes no arguments ({len(arguments)} given)")
        return self._called()


class Positional(_Builtin[R]):
    """A function of positional arguments, which it counts itself."""

    def __call__(self, /, *arguments: Any, **keywords: Any) -> R:
        self._refuse_keywords(keywords)
        return self._called(arguments)


class Keywords(_Builtin[R]):
    """A function of positional and keyword arguments; `None` for the keywords means that none were passed."""

    def __call__(self, /, *arguments: Any, **keywords: Any) -> R:
        passed = keywords or ({} if forwards_keywords(sys._getframe(1), self) else None)
        return self._called(arguments, passed)


BUILTINS: Final = (NoArguments, Positional, Keywords)
"""The three kinds."""
