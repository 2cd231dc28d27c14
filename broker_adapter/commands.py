"""`mt5bus halt`, `resume` and `arm`: what an operator tells the order desk."""

from __future__ import annotations

from pathlib import Path

import click

from mt5bus.connect import connect
from mt5bus.options import common_options, one_line_errors
from protocol.client import BusClient
from protocol.errors import BusError


@click.command("halt")
@common_options
@click.option("--flatten", is_flag=True, help="Also close every position and remove every pending order of ours.")
@click.option("--reducing", is_flag=True, help="Let strategies go on closing: only new exposure is stopped.")
@click.option("--reason", default="", help="Goes into the event log.")
def halt(home: Path | None, config: Path | None, *, flatten: bool, reducing: bool, reason: str) -> None:
    """Stop new orders until `mt5bus resume`, also over restarts."""
    mode = "reducing" if reducing else "halted"
    with one_line_errors(BusError), _client(home, config) as client:
        click.echo(client.set_mode(mode, reason=reason, flatten=flatten))


@click.command("resume")
@common_options
@click.option("--reason", default="", help="Goes into the event log.")
def resume(home: Path | None, config: Path | None, *, reason: str) -> None:
    """Allow orders again."""
    with one_line_errors(BusError), _client(home, config) as client:
        click.echo(client.resume(reason))


@click.command("arm")
@common_options
@click.option("--login", type=click.IntRange(min=1), required=True, help="Number of the real account.")
@click.option("--off", is_flag=True, help="Forbid orders again.")
def arm(home: Path | None, config: Path | None, *, login: int, off: bool) -> None:
    """Allow orders on a real account: without this it is only observed."""
    with one_line_errors(BusError), _client(home, config) as client:
        click.echo(client.arm(login, armed=not off))


def _client(home: Path | None, config: Path | None) -> BusClient:
    return connect(home, config)
