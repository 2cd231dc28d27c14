"""What happens to the system and when: drawn from a seed, nothing else. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

Kind = Literal["kill", "freeze", "fault", "cut", "hold", "slow", "refuse"]

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
    ("late_fill", {"ms": 2500, "fraction": 0.5}),
    ("link_lost", {"ms": 1500}),
    ("link_lost", {"ms": 1500, "executed": True}),
    ("no_quotes", {"count": 1, "ms": 2500}),
    ("account_swapped", {"count": 1, "ms": 2500}),
    ("update", {"ms": 500}),
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

LINES: Final = ("streams", "queries", "orders", "pings", "control")
"""The bus's connections by the socket that they lead to."""

WIRE_TARGETS: Final = ("streams", "queries", "orders", "pings", "bus")
WIRE_KINDS: Final[tuple[Kind, ...]] = ("cut", "hold", "slow", "refuse")
SLOW_MS: Final = (20.0, 400.0)
"""How long each piece of what passes waits on a slow line."""

FIRST_AFTER_S: Final = 2.0
PAUSE_S: Final = (0.4, 4.5)
"""Between two actions: short enough that they overlap with the recovery from the one before."""
FREEZE_S: Final = (0.3, 6.0)
"""From a hiccup to well over three missed pings."""


class Action(msgspec.Struct, frozen=True):
    """One disturbance.

    Attributes:
        at_s: Seconds since the chaos began.
        target: A process of `PROCESSES`, the name of a fault, or connections: one of `LINES`, or `bus` for all.
        duration_s: How long a process stays frozen, or connections are held, slow or refused; 0 where it takes no time.
        params: Parameters of a fault; `pause_ms` of slow connections.
    """

    at_s: float
    kind: Kind
    target: str
    duration_s: float = 0.0
    params: dict[str, Any] = {}

    @property
    def lines(self) -> tuple[str, ...]:
        """Return the connections that are disturbed; none for a process or a fault."""
        if self.kind not in WIRE_KINDS:
            return ()
        return LINES if self.target == "bus" else (self.target,)

    @property
    def label(self) -> str:
        """What it is called in the table: actions of one label are measured together."""
        executed = " executed" if self.params.get("executed") else ""
        functions = " " + ",".join(self.params["functions"]) if "functions" in self.params else ""
        return f"{self.kind} {self.target}{executed}{functions}"


def make_schedule(seed: int, length_s: float) -> tuple[Action, ...]:
    """Return the disturbances of `length_s` seconds, by time; the same seed and length give the same.

    They are dealt from a shuffled deck that holds every kill, freeze, fault and disturbed connection once; an empty
    deck is shuffled anew.
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
    deck += [_wire(draw, kind, target) for kind in WIRE_KINDS for target in WIRE_TARGETS]
    draw.shuffle(deck)
    return deck


def _wire(draw: random.Random, kind: Kind, target: str) -> Action:
    duration_s = 0.0 if kind == "cut" else round(draw.uniform(*FREEZE_S), 3)
    params = {"pause_ms": round(draw.uniform(*SLOW_MS))} if kind == "slow" else {}
    return Action(0.0, kind, target, duration_s, params)
