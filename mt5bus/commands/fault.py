"""`mt5bus fault`: inject faults into the paper terminal that runs on a home."""

from __future__ import annotations

from pathlib import Path

import click

from mt5bus.commands.paper import PASSED_ON
from mt5bus.config import paper_folder
from mt5bus.errors import ProcessError
from mt5bus.options import common_options, load, one_line_errors
from mt5bus.paper import run_paper_command

_OTHERS = {"clear": "clear-faults", "list": "faults"}


@click.command("fault", context_settings=PASSED_ON)
@common_options
@click.argument("name")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def fault(home: Path | None, config: Path | None, name: str, arguments: tuple[str, ...]) -> None:
    """Give the paper terminal of a home the fault NAME; `fault clear [NAME]` takes it away, `fault list` shows them.

    ARGUMENTS such as --count and --ms are the paper terminal's own: `mt5bus fault hang --help`.
    """
    with one_line_errors():
        loaded = load(home, config)
        if loaded.settings.terminal.kind != "paper":
            raise ProcessError("faults are for the paper terminal only: this configuration names a real one")
        folder = str(paper_folder(loaded))
        if not Path(folder).is_dir():
            raise ProcessError(f"no paper terminal has run in {folder}: start one with 'mt5bus up'")
        if name in _OTHERS:
            run_paper_command([_OTHERS[name], folder, *arguments])
        else:
            run_paper_command(["fault", folder, name, *arguments])
