"""Pings and pongs of one node: whether its own loop still turns. Pure: times are handed in.

A pong comes from the node's main loop, so a node that hangs in a call, or whose loop is stuck, is silent. Three
numbers matter: the interval, how many pings in a row may stay unanswered (one comes late easily while the machine
is busy), and `busy until`, by which a node announces work that keeps it from answering.
"""

from __future__ import annotations

import msgspec

MAX_BUSY_S = 900.0
"""A node may announce this much silence; more is a node that hangs while it says it is busy."""


class HeartbeatPolicy(msgspec.Struct, frozen=True):
    """How often to ask, and what silence means."""

    interval_s: float
    missed_pongs: int


class Heartbeat:
    """The pings of one life of a node."""

    def __init__(self, policy: HeartbeatPolicy) -> None:
        self._policy = policy
        self._unanswered = 0
        self._serial = 0
        self._busy_until_ns = 0
        self.last_pong_ns: int | None = None

    @property
    def unanswered(self) -> int:
        """Pings sent since the last pong."""
        return self._unanswered

    def next_serial(self) -> int:
        """Count a ping that is about to be sent and return its serial number."""
        self._serial += 1
        self._unanswered += 1
        return self._serial

    def on_pong(self, *, now_ns: int, busy_until_ns: int) -> None:
        """Take note of a pong: any pong shows a turning loop, also one to an older ping."""
        self._unanswered = 0
        self.last_pong_ns = now_ns
        self._busy_until_ns = min(busy_until_ns, now_ns + round(MAX_BUSY_S * 1e9))

    def silent(self, *, now_ns: int) -> bool:
        """Return whether it hangs; to be asked one interval after the last ping, with every pong drained."""
        return self._unanswered >= self._policy.missed_pongs and now_ns >= self._busy_until_ns

    def forget_unanswered(self) -> None:
        """Let the count begin anew: it was we who did not look (sleep, freeze)."""
        self._unanswered = 0

    def pong_age_s(self, *, now_ns: int) -> float | None:
        """Return the age of the last pong in seconds; None before the first."""
        return None if self.last_pong_ns is None else (now_ns - self.last_pong_ns) / 1e9
