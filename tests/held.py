"""How much something holds in memory: what a bound shows by, where nothing that is told would show it."""

from __future__ import annotations

from collections import deque
from enum import Enum

OWN = {"broker_adapter", "market", "ml_logger", "mt5bus", "protocol", "strategy", "supervisor"}


def held(*roots: object, beside: tuple[type, ...] = ()) -> int:
    """Return how many entries the dicts, lists, sets and deques have that `roots` lead to.

    Objects of our packages are looked into, all others and those of a type in `beside` are not.
    """
    seen: set[int] = set()
    waiting = list(roots)
    count = 0
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, (type, Enum, *beside)):
            continue
        seen.add(id(thing))
        if isinstance(thing, dict):
            count += len(thing)
            waiting += [*thing.keys(), *thing.values()]
        elif isinstance(thing, (list, set, deque)):
            count += len(thing)
            waiting += thing
        elif isinstance(thing, (tuple, frozenset)):
            waiting += thing
        elif type(thing).__module__.partition(".")[0] in OWN:
            waiting += [getattr(thing, name) for name in _fields(thing) if hasattr(thing, name)]
    return count


def _fields(thing: object) -> set[str]:
    slots = {name for each in type(thing).__mro__ for name in getattr(each, "__slots__", ())}
    return (set(getattr(thing, "__dict__", ())) | slots) - {"__dict__", "__weakref__"}
