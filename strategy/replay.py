"""Replaying a dispatch log: the same inputs to a fresh strategy, and what it decides compared byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from protocol.errors import DataInvalid
from strategy.dispatch import Dispatcher
from strategy.dispatch_log import read_log
from strategy.inputs import LOG_VERSION, Began, Decision, Record
from strategy.loading import load_class, restore
from strategy.sdk import Strategy

MakeStrategy = Callable[[Began], Strategy]


def logged(folder: Path) -> Iterator[Record]:
    """Yield the records of a strategy's log in order.

    Raises:
        OSError: A file cannot be read.
    """
    for _, record in read_log(folder):
        yield record


def replay(records: Iterable[Record], *, make: MakeStrategy | None = None) -> Iterator[Record]:
    """Dispatch the inputs of `records` again and yield what comes out, record by record.

    Every life (`Began`) gets a fresh strategy with the parameters and the state that it had then.

    Args:
        make: Gives the strategy of a life; by default the class that the log names, with its logged parameters.

    Raises:
        DataInvalid: The log begins in the middle of a life, or is of a newer version.
        ConfigError: The class cannot be loaded, or its parameters have changed.
    """
    dispatcher: Dispatcher | None = None
    for record in records:
        if isinstance(record.input, Began):
            if record.input.version > LOG_VERSION:
                raise DataInvalid(f"a dispatch log of version {record.input.version}; this one reads {LOG_VERSION}")
            dispatcher = Dispatcher((make or _as_logged)(record.input), record.input)
        if dispatcher is None:
            raise DataInvalid("the dispatch log does not begin with the start of a life: its first file is missing")
        yield dispatcher.dispatch(record.now_ms, record.input)


class Difference(NamedTuple):
    """Where a replay first decides otherwise. `place`: of the record, from 0."""

    place: int
    logged: tuple[Decision, ...]
    replayed: tuple[Decision, ...]


def first_difference(expected: Iterable[Record], found: Iterable[Record]) -> Difference | None:
    """Return where two runs first decide differently, byte by byte; None if they never do.

    A run that ends early differs by what it did not decide.
    """
    mine, theirs = iter(expected), iter(found)
    place = 0
    while True:
        a, b = next(mine, None), next(theirs, None)
        if a is None and b is None:
            return None
        left, right = (a.decisions if a else ()), (b.decisions if b else ())
        if left != right:
            return Difference(place, left, right)
        place += 1


def decisions(records: Iterable[Record]) -> list[Decision]:
    """Return what was decided, in order."""
    return [decision for record in records for decision in record.decisions]


def _as_logged(began: Began) -> Strategy:
    return restore(load_class(began.class_path), began.parameters)
