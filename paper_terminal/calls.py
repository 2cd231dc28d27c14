"""Makers of the client's functions: each family of them differs in name, arguments and result type only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from paper_terminal import arguments as rules
from paper_terminal.arguments import ArgumentError
from paper_terminal.channel import uncollected
from paper_terminal.constants import RES_E_NOT_FOUND
from paper_terminal.session import SESSION, Failed
from paper_terminal.structs import StructSequence, TradeRequest

_VALUE_BYTES: Final = 5
"""About what a value takes in an answer."""


def structs_of(kind: type[StructSequence], records: Sequence[Iterable[Any]]) -> tuple[StructSequence, ...]:
    """Return records, each of as many values as the type has fields, as struct sequences."""
    with uncollected(len(records) * kind.n_fields * _VALUE_BYTES):
        return tuple(map(partial(tuple.__new__, kind), records))


def check_count(arguments: tuple[Any, ...], low: int, high: int | None = None) -> None:
    """Refuse a wrong number of arguments.

    Raises:
        ArgumentError: fewer than `low`, or more than `high` (default: `low`).
    """
    if not low <= len(arguments) <= (low if high is None else high):
        raise ArgumentError("Invalid arguments")


def info(function: str, kind: type[StructSequence]) -> Callable[[], StructSequence | None]:
    """Return a function without arguments that answers one struct."""

    def call() -> StructSequence | None:
        return SESSION.run(lambda: kind(SESSION.ask(function)), None)

    call.__name__ = function
    return call


def total(function: str) -> Callable[[], int | None]:
    """Return a function without arguments that answers a number."""

    def call() -> int | None:
        return SESSION.run(lambda: int(SESSION.ask(function)), None)

    call.__name__ = function
    return call


def of_symbol(function: str, kind: type[StructSequence]) -> Callable[[tuple[Any, ...]], StructSequence | None]:
    """Return a function of a symbol that answers one struct."""

    def call(positional: tuple[Any, ...]) -> StructSequence | None:
        def body() -> StructSequence:
            check_count(positional, 1)
            return kind(SESSION.ask(function, rules.symbol(positional[0])))

        return SESSION.run(body, None)

    call.__name__ = function
    return call


def book_change(function: str) -> Callable[[tuple[Any, ...]], bool | None]:
    """Return a function that subscribes to market depth or ends it."""

    def call(positional: tuple[Any, ...]) -> bool | None:
        def body() -> bool:
            check_count(positional, 1)
            name = rules.symbol(positional[0])
            try:
                return bool(SESSION.ask(function, name))
            except Failed:
                return False  # the real module leaves last_error at success here

        return SESSION.run(body, False, bad_argument=None)

    call.__name__ = function
    return call


def copy(
    function: str, dtype: np.dtype[Any], *kinds: Callable[[Any], Any]
) -> Callable[[tuple[Any, ...]], np.ndarray[Any, Any] | None]:
    """Return a function that answers records; `kinds` convert its arguments, one each."""

    def call(positional: tuple[Any, ...]) -> np.ndarray[Any, Any] | None:
        def body() -> np.ndarray[Any, Any]:
            check_count(positional, len(kinds))
            values = [kind(value) for kind, value in zip(kinds, positional, strict=True)]
            records = SESSION.ask(function, *values, dtype=dtype)
            return np.empty(0, dtype=dtype) if records is None else records

        return SESSION.run(body, None)

    call.__name__ = function
    return call


def filtered(records: tuple[StructSequence, ...], given: dict[str, Any]) -> tuple[StructSequence, ...]:
    """Apply the first filter present; the rest are not even looked at."""
    if "ticket" in given:
        ticket = rules.unsigned(given["ticket"], "ticket")
        return tuple(each for each in records if each.ticket == ticket)  # type: ignore[attr-defined]
    if "symbol" in given:
        name = rules.text(given["symbol"], "symbol", rules.MAX_SYMBOL_UNITS)
        return tuple(each for each in records if each.symbol == name)  # type: ignore[attr-defined]
    if "group" in given:
        mask = rules.text(given["group"], "group", rules.MAX_GROUP_UNITS)
        return tuple(each for each in records if rules.matches_group(mask, each.symbol))  # type: ignore[attr-defined]
    return records


def active(
    function: str, kind: type[StructSequence]
) -> Callable[[tuple[Any, ...], dict[str, Any] | None], tuple[StructSequence, ...] | None]:
    """Return a function that answers what is open now, filtered by ticket, symbol or group."""

    def call(positional: tuple[Any, ...], keywords: dict[str, Any] | None) -> tuple[StructSequence, ...] | None:
        def body() -> tuple[StructSequence, ...]:
            if positional:
                raise ArgumentError("Unnamed arguments not allowed")
            given = keywords or {}
            filtered((), given)  # arguments are checked before anything is sent
            return filtered(structs_of(kind, SESSION.ask(function)), given)

        return SESSION.run(body, None)

    call.__name__ = function
    return call


def history_total(function: str) -> Callable[[tuple[Any, ...]], int | None]:
    """Return a function that counts what happened between two dates."""

    def call(positional: tuple[Any, ...]) -> int | None:
        def body() -> int:
            check_count(positional, 2)
            return int(SESSION.ask(function, rules.date_s(positional[0]), rules.date_s(positional[1])))

        return SESSION.run(body, None)

    call.__name__ = function
    return call


def history(
    function: str, kind: type[StructSequence]
) -> Callable[[tuple[Any, ...], dict[str, Any] | None], tuple[StructSequence, ...] | None]:
    """Return a function that answers what happened between two dates, or to a ticket or position."""

    def ask(positional: tuple[Any, ...], given: dict[str, Any]) -> list[Any]:
        if positional:
            check_count(positional, 2)
            between = [rules.date_s(each) for each in positional]
            rules.text(given.get("group", "*"), "group", rules.MAX_GROUP_UNITS)
            return list(SESSION.ask(function, *between))
        for name in ("ticket", "position"):
            if name in given:
                number = rules.unsigned(given[name], name)
                try:
                    return list(SESSION.ask(f"{function}_by", name, number))
                except Failed as failed:
                    if failed.error[0] != RES_E_NOT_FOUND:
                        raise
                    return []
        raise ArgumentError("Invalid arguments")

    def call(positional: tuple[Any, ...], keywords: dict[str, Any] | None) -> tuple[StructSequence, ...] | None:
        def body() -> tuple[StructSequence, ...]:
            given = keywords or {}
            records = structs_of(kind, ask(positional, given))
            return filtered(records, {"group": given["group"]} if positional and "group" in given else {})

        return SESSION.run(body, None)

    call.__name__ = function
    return call


def trade(
    function: str, kind: type[StructSequence]
) -> Callable[[tuple[Any, ...], dict[str, Any] | None], StructSequence | None]:
    """Return a function that takes a trade request: one dict, or its fields as keywords."""

    def call(positional: tuple[Any, ...], keywords: dict[str, Any] | None) -> StructSequence | None:
        def body() -> StructSequence:
            if keywords is not None and positional:
                raise ArgumentError("Unnamed arguments not allowed")
            if keywords is None and len(positional) != 1:
                raise ArgumentError("Invalid number of arguments")
            fields = positional[0] if keywords is None else keywords
            if not isinstance(fields, dict):
                raise ArgumentError("Invalid 1st unnamed argument")
            *result, request = SESSION.ask(function, rules.trade_request(fields))
            return kind([*result, TradeRequest(request)])

        return SESSION.run(body, None)

    call.__name__ = function
    return call


def calculation(function: str, prices: int) -> Callable[[tuple[Any, ...]], float | None]:
    """Return a function of action, symbol, volume and so many prices."""

    def call(positional: tuple[Any, ...]) -> float | None:
        def body() -> float:
            check_count(positional, 3 + prices)
            action, name, *numbers = positional
            number = rules.c_int(action)
            return float(SESSION.ask(function, number, rules.symbol(name), *map(rules.c_double, numbers)))

        return SESSION.run(body, None)

    call.__name__ = function
    return call
