"""`mt5bus fault`: inject faults into the paper terminal that runs on a home."""

from __future__ import annotations

from pathlib import Path

import click

from mt5bus.commands.paper import PASSED_ON
from mt5bus.config import paper_folder
from mt5bus.errors import ProcessError
from mt5bus.options import common_options, load, one_line_errors
from mt5bus.paper import paper_command, run_paper_command

_OTHERS = {"clear": "clear-faults", "list": "faults"}


class _Fault(click.Command):
    """Shows in its help the faults and options that are the paper terminal's own."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write our options, then those of the fault."""
        super().format_options(ctx, formatter)
        with one_line_errors():
            group = paper_command()
        own = group.commands["fault"] if isinstance(group, click.Group) else group
        names = [param.type.choices for param in own.params if isinstance(param.type, click.Choice)]
        with formatter.section("Faults"):
            formatter.write_text(", ".join(str(name) for choices in names for name in choices))
        records = [param.get_help_record(ctx) for param in own.params if isinstance(param, click.Option)]
        with formatter.section("Arguments of a fault"):
            formatter.write_dl([record for record in records if record is not None])


@click.command("fault", cls=_Fault, context_settings=PASSED_ON | {"help_option_names": ["-h", "--help"]})
@common_options
@click.argument("name")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def fault(home: Path | None, config: Path | None, name: str, arguments: tuple[str, ...]) -> None:
    """Give the paper terminal of a home the fault NAME; `fault clear [NAME]` takes it away, `fault list` shows them.

    ARGUMENTS are those of the fault, below; such as: mt5bus fault hang --function order_send
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
