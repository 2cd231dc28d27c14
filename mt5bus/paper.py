"""The way to the paper terminal's own command line, imported only when it is called."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import click

from mt5bus.errors import ProcessError


def run_paper_command(arguments: Sequence[str]) -> None:
    """Run `python -m paper_terminal` with these arguments in this process; it exits as the paper terminal does.

    Raises:
        ProcessError: The paper terminal is not part of this installation.
    """
    try:
        command = importlib.import_module("paper_terminal.cli").main
    except ImportError as error:
        raise ProcessError(f"the paper terminal cannot be loaded ({error}): install with run.sh or run.ps1") from error
    if not isinstance(command, click.Command):
        raise ProcessError("the paper terminal of this version has no command line")
    command.main(list(arguments), prog_name="mt5bus paper")
