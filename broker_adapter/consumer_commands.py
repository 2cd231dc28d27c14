"""`mt5bus consumers`: who reads the event log and how far each has come; and forgetting one that is gone."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from mt5bus.connect import connect
from mt5bus.options import common_options, one_line_errors
from protocol.errors import BusError
from protocol.messages import Consumers

_MB = 1_000_000


@click.group("consumers", invoke_without_command=True)
@common_options
@click.pass_context
def consumers(context: click.Context, home: Path | None, config: Path | None) -> None:
    """Show who reads the event log; what one of them has not acknowledged is kept for it."""
    context.obj = (home, config)
    if context.invoked_subcommand is None:
        with one_line_errors(BusError), connect(home, config) as client:
            click.echo("\n".join(_lines(client.consumers())))


@consumers.command("forget")
@click.argument("name")
@click.pass_obj
def forget(where: tuple[Path | None, Path | None], name: str) -> None:
    """Keep no event for NAME any longer. It registers again when it comes back."""
    with one_line_errors(BusError), connect(*where) as client:
        click.echo(client.forget_consumer(name))


def _lines(found: Consumers) -> list[str]:
    size = found.journal_bytes / _MB
    lines = [f"event log {found.log_id}: offsets {found.first_offset} to {found.last_offset}, journal {size:.1f} MB"]
    if not found.consumers:
        return [*lines, "no consumer is registered"]
    width = max(len("consumer"), *(len(each.name) for each in found.consumers))
    lines.append(f"{'consumer':{width}}  {'offset':>10}  {'behind':>8}  {'missed':>8}  acknowledged (UTC)")
    lines += [
        f"{each.name:{width}}  {each.offset:>10}  {each.behind:>8}  {each.missed:>8}  {_moment(each.acknowledged_ms)}"
        for each in found.consumers
    ]
    return lines


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
