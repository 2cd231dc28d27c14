"""Measure and print the table."""

from __future__ import annotations

import os
import platform
import signal
import sys
from collections.abc import Callable
from types import FrameType

import click

from benchmarks import backtest, rules, system, terminal, wire
from benchmarks.rows import Row, table

GROUPS: dict[str, Callable[..., list[Row]]] = {
    "wire": wire.rows,
    "terminal": terminal.rows,
    "backtest": backtest.rows,
    "rules": rules.rows,
    "system": system.rows,
}


@click.command()
@click.option("--quick", is_flag=True, help="A tenth of the work: to see that it runs, not for figures.")
@click.option("--only", type=click.Choice(tuple(GROUPS)), multiple=True, help="Only these rows; may be repeated.")
def main(*, quick: bool, only: tuple[str, ...]) -> None:
    """Print every figure beside its floor, both measured now on this machine."""
    signal.signal(signal.SIGTERM, _end)
    click.echo(f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}")
    rows: list[Row] = []
    for name in only or GROUPS:
        click.echo(f"measuring {name} ...", err=True)
        rows += GROUPS[name](quick=quick)
    click.echo(f"\n{table(rows)}")


def _end(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)  # as an exception, so that everything started is ended


if __name__ == "__main__":
    main()
