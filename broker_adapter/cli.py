"""`mt5bus adapter` and `python -m broker_adapter`: run the broker adapter. Also what an operator tells and asks it."""

from __future__ import annotations

from pathlib import Path

import click

from broker_adapter.commands import arm, disarm, halt, orders, resume, risk, settle
from mt5bus.options import common_options, load, one_line_errors, password_option, start_logs
from protocol.errors import BusError


@click.command("adapter")
@common_options
@password_option
@click.option("--alone", is_flag=True, help="Run without a supervisor, for debugging.")
@click.option("--start-terminal", is_flag=True, help="With --alone: start the terminal if it does not run.")
def adapter(
    home: Path | None, config: Path | None, *, password_on_stdin: bool, alone: bool, start_terminal: bool
) -> None:
    """Own the terminal: publish ticks, bars and trade events, answer queries, carry out orders."""
    from broker_adapter import node

    if start_terminal and not alone:
        raise click.UsageError("--start-terminal needs --alone: otherwise the supervisor starts the terminal")
    with one_line_errors(BusError):
        loaded = load(home, config, password=True, password_on_stdin=password_on_stdin)
        start_logs(node.NAME, loaded)
        node.run(loaded, alone=alone, start_terminal=start_terminal)


__all__ = ["adapter", "arm", "disarm", "halt", "orders", "resume", "risk", "settle"]
