"""Measure and print the table."""

from __future__ import annotations

import platform

import click

from benchmarks import wire
from benchmarks.rows import table


@click.command()
@click.option("--quick", is_flag=True, help="A tenth of the work: to see that it runs, not for figures.")
def main(quick: bool) -> None:
    """Print every figure beside its floor, both measured now on this machine."""
    click.echo(f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}\n")
    click.echo(table(wire.rows(quick=quick)))


if __name__ == "__main__":
    main()
