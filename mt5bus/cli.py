"""The command group `mt5bus`: every command lives with its package and is loaded when it is named.

A package that is absent or broken breaks its own commands only.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

import click

from mt5bus.config import hide_password
from mt5bus.errors import Mt5busError


class Command(NamedTuple):
    """Where a command is found, and its line in the group's help (shown without importing it)."""

    module: str
    summary: str


COMMANDS: dict[str, Command] = {
    "up": Command("supervisor.cli", "Start terminal and nodes, and watch them; Ctrl-C stops all."),
    "down": Command("supervisor.cli", "Stop every process of a running system."),
    "status": Command("supervisor.cli", "Show the state of every process, the account and the store."),
    "restart": Command("supervisor.cli", "Restart one node, also one that has failed for good."),
    "logs": Command("mt5bus.commands.logs", "Show the nodes' logs, merged by time."),
    "config": Command("mt5bus.commands.config", "Show the effective configuration, each value with its source."),
    "keys": Command("mt5bus.commands.keys", "List, add and revoke the keys that open the bus."),
    "halt": Command("broker_adapter.cli", "Stop new orders; --flatten also closes our positions."),
    "resume": Command("broker_adapter.cli", "Allow orders again."),
    "risk": Command("broker_adapter.cli", "Show every limit, what is held against it, and what is left."),
    "arm": Command("broker_adapter.cli", "Allow orders on a real account."),
    "disarm": Command("broker_adapter.cli", "Forbid orders on a real account again."),
    "orders": Command("broker_adapter.cli", "List our orders without an outcome, with their evidence."),
    "settle": Command("broker_adapter.cli", "End an unknown or ambiguous order by your word."),
    "consumers": Command("broker_adapter.consumer_commands", "Show who reads the event log; forget one that is gone."),
    "record": Command("mt5bus.commands.record", "Record the bus into capture files."),
    "replay": Command("mt5bus.commands.replay", "Play a capture to live nodes."),
    "inspect": Command("mt5bus.commands.inspect", "Show what a capture holds."),
    "dataset": Command("ml_logger.cli", "Join signals, features and outcomes into a file for training."),
    "paper": Command("mt5bus.commands.paper", "Run the paper terminal alone."),
    "fault": Command("mt5bus.commands.fault", "Inject a fault into the paper terminal."),
    "chaos": Command("mt5bus.commands.chaos", "Break a paper system in every way, and audit what it kept."),
    "supervisor": Command("supervisor.cli", "Run the supervisor alone (`up` does it for you)."),
    "adapter": Command("broker_adapter.cli", "Run the broker adapter alone."),
    "strategy": Command("strategy.cli", "Run the strategy node alone."),
    "logger": Command("ml_logger.cli", "Run the ML logger alone."),
}


class LazyGroup(click.Group):
    """A group that knows its commands by table and imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click names it
        """Return the names in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import and return the command; None for a name that is in no table."""
        entry = COMMANDS.get(cmd_name)
        return None if entry is None else _load(cmd_name, entry)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the table without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])


def _load(name: str, entry: Command) -> click.Command:
    try:
        module = importlib.import_module(entry.module)
    except ModuleNotFoundError as error:
        missing = error.name or entry.module
        own = missing.partition(".")[0] == entry.module.partition(".")[0]
        cause = "is not part of this installation" if own else f"needs the package '{missing}', which is absent"
        raise click.ClickException(f"'mt5bus {name}' {cause}: install with run.sh or run.ps1") from error
    except ImportError as error:
        raise click.ClickException(f"'mt5bus {name}' cannot be loaded: {error}") from error
    found = [value for value in vars(module).values() if isinstance(value, click.Command)]
    for command in found:
        if command.name == name:
            return command
    raise click.ClickException(f"'mt5bus {name}' is not in {entry.module} of this version")


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mt5bus", message="mt5bus %(version)s")
def group() -> None:
    """A message-bus trading system for MetaTrader 5: start it, watch it, ask it."""


def main(args: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 an expected failure in one line, 2 wrong usage.

    `MT5_PASSWORD` is taken out of sight first: on Linux and macOS the program starts anew without it.
    """
    try:
        hide_password()
        group.main(args=list(args) if args is not None else None, prog_name="mt5bus")
    except Mt5busError as error:
        click.echo(f"Error: {' '.join(str(error).split())}", err=True)
        sys.exit(1)
