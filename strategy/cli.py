"""`mt5bus strategy` and `python -m strategy`: run the strategy node."""

from __future__ import annotations

from pathlib import Path

import click

from mt5bus.options import common_options, load, one_line_errors, start_logs
from protocol.errors import BusError


@click.command("strategy")
@common_options
@click.option("--alone", is_flag=True, help="Run without a supervisor, for debugging.")
@click.option("--check", is_flag=True, help="Only load the strategies, to see whether they can be used.")
def strategy(home: Path | None, config: Path | None, *, alone: bool, check: bool) -> None:
    """Run the configured strategies on a running adapter, until Ctrl-C or the supervisor stops them."""
    from strategy import node
    from strategy.loading import load_strategy

    with one_line_errors(BusError):
        loaded = load(home, config)
        if check:
            for each in loaded.settings.strategy:
                load_strategy(each)
            return
        start_logs(node.NAME, loaded)
        node.run(loaded, alone=alone)
