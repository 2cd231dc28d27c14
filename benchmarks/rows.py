"""What a benchmark gives: one row, ours beside its floor."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        what: What was measured.
        unit: Of `floor` and `ours`.
        floor: The same work without us, measured in the same run.
        ours: What the ratio is made of.
        floor_is: What the floor was.
        target: Largest (for times) or smallest (for rates) ratio that is asked for; None: none is.
        higher_is_better: Whether it is a rate.
        note: What `ours` leaves out, or how it was come by; shown beside it.
    """

    what: str
    unit: str
    floor: float
    ours: float
    floor_is: str
    target: float | None = None
    higher_is_better: bool = False
    note: str = ""

    @property
    def ratio(self) -> float:
        """Ours over the floor."""
        return self.ours / self.floor if self.floor else float("nan")

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None without one."""
        if self.target is None:
            return None
        return self.ratio >= self.target if self.higher_is_better else self.ratio <= self.target


class Pair(NamedTuple):
    """A floor and ours, measured in turn."""

    floor: float
    ours: float


def in_turn(
    floor: Callable[[], float], ours: Callable[[], float], *, rounds: int, higher_is_better: bool = False
) -> Pair:
    """Measure both `rounds` times, one after the other, and return the best of each.

    What else the machine does only ever makes a figure worse, and rarely both at once: the best of several rounds is
    the steadiest figure, and taking turns keeps a slow minute from falling on one side alone.
    """
    best = max if higher_is_better else min
    pairs = [Pair(floor(), ours()) for _ in range(rounds)]
    return Pair(best(pair.floor for pair in pairs), best(pair.ours for pair in pairs))


def table(rows: list[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| what | floor | ours | ratio | target | reached |",
        "|---|---:|---:|---:|---:|:-:|",
    ]
    for row in rows:
        note = f"; {row.note}" if row.note else ""
        lines.append(
            f"| {row.what} | {_figure(row.floor, row.unit)} ({row.floor_is}) | {_figure(row.ours, row.unit)}{note} "
            f"| {row.ratio:.2f} | {_target(row)} | {_REACHED[row.reached]} |"
        )
    return "\n".join(lines)


_REACHED = {True: "yes", False: "no", None: ""}


def _target(row: Row) -> str:
    if row.target is None:
        return ""
    return f"{'>=' if row.higher_is_better else '<='} {row.target:g}"


def _figure(value: float, unit: str) -> str:
    if unit == "/s":
        return f"{value / 1e6:.2f} M/s" if value >= 1e6 else f"{value / 1e3:.0f} k/s"
    return f"{value:.1f} {unit}"
