"""`mt5bus chaos`: a whole system under fire on the paper terminal, and whether every promise held."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import click

from mt5bus.options import one_line_errors


@click.command("chaos")
@click.option("--minutes", type=click.FloatRange(0.1, 24 * 60), default=2.0, show_default=True, help="How long.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=1, show_default=True, help="Chooses the schedule.")
@click.option("--netting", is_flag=True, help="On an account with one position per symbol (default: hedging).")
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    help="Folder of all state; must not exist (default: a temporary one, kept only if a promise is broken).",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Values that replace the harness's own, such as [adapter.risk]; strategies and ports are left out.",
)
def chaos(minutes: float, seed: int, netting: bool, home: Path | None, config: Path | None) -> None:
    """Trade on a fresh paper system while everything in it is killed, frozen or made to fail; then audit the records.

    Ends with a table of what was found; exit code 1 if any promise is broken.
    """
    # What points the environment at a real account has no place here.
    for name in [name for name in os.environ if name.startswith("MT5_")]:
        del os.environ[name]
    from ml_logger.errors import StoreError
    from protocol.errors import BusError

    with one_line_errors(BusError, StoreError, OSError):
        _run(minutes, seed, netting, home, config)


def _run(minutes: float, seed: int, netting: bool, home: Path | None, config: Path | None) -> None:
    try:
        from mt5bus.chaos.configuration import prepare
        from mt5bus.chaos.harness import ChaosRun
    except ModuleNotFoundError as error:
        raise click.ClickException(f"chaos needs the package '{error.name}': install with run.sh or run.ps1") from error

    folder = Path(tempfile.mkdtemp(prefix="mt5bus-chaos-"))
    place = home.absolute() if home is not None else folder / "home"
    kept = False
    try:
        loaded = prepare(folder, place, seed=seed, minutes=minutes, netting=netting, changes=config)
        kept = True
        result = ChaosRun(loaded, seed=seed, minutes=minutes, say=click.echo).run()
        kept = result.broken
        _show(result, f"{minutes:g} min, seed {seed}, {'netting' if netting else 'hedging'}")
    finally:
        if kept:
            click.echo(f"kept for you to look at: {place}, with the configuration in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if result.broken:
        raise click.exceptions.Exit(1)


def _show(result: object, title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from mt5bus.chaos.harness import Result

    assert isinstance(result, Result)
    console = Console(highlight=False)
    services = Table("disturbance", "times", "no trading, s", "not whole, s", title="Longest time without service")
    for service in result.services:
        services.add_row(service.label, str(service.times), f"{service.trading_s:.1f}", f"{service.whole_s:.1f}")
    console.print(services)
    for text in result.not_done:
        console.print(f"not done: {text}", markup=False)
    table = Table("record", "count", "promise", title=f"Chaos: {title}")
    for row in result.rows:
        table.add_row(row.name, str(row.value), ("BROKEN" if row.broken else "kept") if row.promised else "")
    console.print(table)
    for row in result.rows:
        if row.broken:
            console.print(f"{row.name}:", *row.examples, sep="\n    ", markup=False)
    console.print("A promise is broken." if result.broken else "Every promise was kept.")
