"""What a benchmark gives: one row, ours beside its floor."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        what: What was measured.
        unit: Of `floor` and `ours`.
        floor: The same work without us, measured in the same run.
        floor_is: What the floor was.
        target: Largest (for times) or smallest (for rates) ratio that the design asks for.
        higher_is_better: Whether it is a rate.
    """

    what: str
    unit: str
    floor: float
    ours: float
    floor_is: str
    target: float
    higher_is_better: bool = False

    @property
    def ratio(self) -> float:
        """Ours over the floor."""
        return self.ours / self.floor if self.floor else float("nan")

    @property
    def reached(self) -> bool:
        """Whether the target is reached."""
        return self.ratio >= self.target if self.higher_is_better else self.ratio <= self.target


def table(rows: list[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| what | floor | ours | ratio | target | reached |",
        "|---|---:|---:|---:|---:|:-:|",
    ]
    for row in rows:
        sign = ">=" if row.higher_is_better else "<="
        lines.append(
            f"| {row.what} | {_figure(row.floor, row.unit)} ({row.floor_is}) | {_figure(row.ours, row.unit)} "
            f"| {row.ratio:.2f} | {sign} {row.target:g} | {'yes' if row.reached else 'no'} |"
        )
    return "\n".join(lines)


def _figure(value: float, unit: str) -> str:
    if unit == "/s":
        return f"{value / 1e6:.2f} M/s" if value >= 1e6 else f"{value / 1e3:.0f} k/s"
    return f"{value:.1f} {unit}"
