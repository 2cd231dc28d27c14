"""What happens to the system and when: drawn from a seed, nothing else. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

Kind = Literal["kill", "freeze", "fault"]

PROCESSES: Final = (
    "terminal",
    "adapter",
    "strategy",
    "ml_logger",
    "supervisor",
    "link:trade",
    "link:feed",
    "link:bulk",
)
"""Everything that can be killed or frozen."""

FAULTS: Final[tuple[tuple[str, Mapping[str, Any]], ...]] = (
    ("hang", {}),
    ("hang", {"executed": True}),
    ("hang", {"functions": ["positions_get"]}),
    ("hang", {"functions": ["symbol_info_tick"]}),
    ("slow", {"count": 40, "ms": 150}),
    ("slow", {"functions": ["order_send"], "executed": True, "ms": 1500}),
    ("reply_lost", {}),
    ("reply_lost", {"count": 3}),
    ("crash", {}),
    ("crash", {"executed": True}),
    ("disconnect", {"count": 1, "ms": 3000}),
    ("reject", {"count": 3}),
    ("requote", {"count": 3}),
    ("trade_off", {"count": 1, "ms": 2500}),
    ("api_off", {"count": 1, "ms": 1500}),
    ("late_fill", {"ms": 1500}),
    ("late_fill", {"ms": 4000}),
    ("retcode", {}),
    ("retcode", {"executed": True}),
    ("retcode", {"retcode": 10031}),
    ("call_failed", {"functions": ["positions_get"], "count": 2}),
    ("call_failed", {"functions": ["history_deals_get"], "count": 2}),
    ("out_of_step", {}),
    ("out_of_step", {"executed": True}),
    ("late_history", {"count": 1, "ms": 3000}),
)
"""Faults of the paper terminal (docs: `paper_terminal.faults`), with their parameters."""

FIRST_AFTER_S: Final = 2.0
PAUSE_S: Final = (0.4, 4.5)
"""Between two actions: short enough that they overlap with the recovery from the one before."""
FREEZE_S: Final = (0.3, 6.0)
"""From a hiccup to well over three missed pings."""


class Action(msgspec.Struct, frozen=True):
    """One disturbance.

    Attributes:
        at_s: Seconds since the chaos began.
        target: A process of `PROCESSES`, or the name of a fault.
        duration_s: How long a process stays frozen.
        params: Parameters of a fault.
    """

    at_s: float
    kind: Kind
    target: str
    duration_s: float = 0.0
    params: dict[str, Any] = {}

    @property
    def label(self) -> str:
        """What it is called in the table: actions of one label are measured together."""
        executed = " executed" if self.params.get("executed") else ""
        functions = " " + ",".join(self.params["functions"]) if "functions" in self.params else ""
        return f"{self.kind} {self.target}{executed}{functions}"


def make_schedule(seed: int, length_s: float) -> tuple[Action, ...]:
    """Return the disturbances of `length_s` seconds, by time; the same seed and length give the same.

    They are dealt from a shuffled deck with every kill, freeze and fault once; an empty deck is shuffled anew.
    """
    draw = random.Random(seed)  # noqa: S311  not cryptography
    actions: list[Action] = []
    deck: list[Action] = []
    at_s = FIRST_AFTER_S
    while at_s < length_s:
        if not deck:
            deck = _deck(draw)
        actions.append(msgspec.structs.replace(deck.pop(), at_s=round(at_s, 3)))
        at_s += draw.uniform(*PAUSE_S)
    return tuple(actions)


def _deck(draw: random.Random) -> list[Action]:
    deck = [Action(0.0, "kill", name) for name in PROCESSES]
    deck += [Action(0.0, "freeze", name, round(draw.uniform(*FREEZE_S), 3)) for name in PROCESSES]
    deck += [Action(0.0, "fault", name, params={**params, "seed": draw.randrange(1 << 30)}) for name, params in FAULTS]
    draw.shuffle(deck)
    return deck
