"""`mt5bus paper`: the paper terminal of a home, run alone in the foreground."""

from __future__ import annotations

from pathlib import Path

import click

from mt5bus.config import paper_folder
from mt5bus.options import common_options, load, one_line_errors
from mt5bus.paper import check_settings, run_paper_command, settings_file, write_settings

PASSED_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


@click.command("paper", context_settings=PASSED_ON)
@common_options
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def paper(home: Path | None, config: Path | None, arguments: tuple[str, ...]) -> None:
    """Run the paper terminal of a home; further ARGUMENTS are its own (`mt5bus paper --help`)."""
    with one_line_errors(OSError):
        loaded = load(home, config)
        check_settings(loaded)
        loaded.home.create()
        write_settings(loaded)
        own = ["--config", str(settings_file(loaded))] if loaded.settings.paper else []
        run_paper_command(["--path", str(paper_folder(loaded)), *own, *arguments])
