"""Spans in which symbols were not quoted (`no_quotes`): what was never shown is not in the history later either."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np

from paper_terminal.records import Records

_FACT: Final = "unquoted:"
_OPEN: Final = 0


class Silences:
    """The spans of one terminal, by symbol: first millisecond to last, UTC. They are facts of its durable state.

    A feed that is a function of time would make their ticks again when the terminal starts anew.
    """

    def __init__(self, facts: Mapping[str, int], *, now_ms: int) -> None:
        """Take the spans from the facts; one that was open when the terminal ended has ended now."""
        self._spans: dict[str, list[tuple[int, int]]] = {}
        self._open: dict[str, int] = {}
        self.ended: dict[str, int] = {}
        """The facts that say so."""
        for key, to_ms in facts.items():
            if key.startswith(_FACT):
                name, _, from_ms = key.removeprefix(_FACT).rpartition(":")
                self._spans.setdefault(name, []).append((int(from_ms), to_ms or now_ms))
                if to_ms == _OPEN:
                    self.ended[key] = now_ms

    @property
    def names(self) -> frozenset[str]:
        """The symbols that are not quoted now."""
        return frozenset(self._open)

    def begin(self, names: Iterable[str], now_ms: int) -> dict[str, int]:
        """Quote these no more, and all others again, after `now_ms`; return the facts that say so."""
        facts = self.end(now_ms)
        self._open = dict.fromkeys(names, now_ms + 1)
        return facts | {f"{_FACT}{name}:{from_ms}": _OPEN for name, from_ms in self._open.items()}

    def end(self, now_ms: int) -> dict[str, int]:
        """Quote all again after `now_ms`; return the facts that say so."""
        for name, from_ms in self._open.items():
            self._spans.setdefault(name, []).append((from_ms, now_ms))
        facts = {f"{_FACT}{name}:{from_ms}": now_ms for name, from_ms in self._open.items()}
        self._open = {}
        return facts

    def without(self, name: str, ticks: Records) -> Records:
        """Return a symbol's ticks, times in UTC, less those of its spans."""
        times = ticks["time_msc"]
        for from_ms, to_ms in self._spans.get(name, ()):
            silent = (times >= from_ms) & (times <= to_ms)
            if np.any(silent):
                ticks = ticks[~silent]
                times = ticks["time_msc"]
        return ticks
