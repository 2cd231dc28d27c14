"""`mt5bus logger` runs the ML logger alone; `mt5bus dataset` makes training data of what it recorded."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

import click

from ml_logger.errors import DatasetError, StoreError
from mt5bus.options import common_options, load, one_line_errors, start_logs
from protocol.errors import BusError

log = logging.getLogger(__name__)

_MOMENT = click.DateTime(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"])


@click.command("logger")
@common_options
@click.option("--alone", is_flag=True, help="Run without a supervisor.")
def logger(home: Path | None, config: Path | None, *, alone: bool) -> None:
    """Run the ML logger: record signals, orders, deals and bars into the store."""
    from ml_logger import node

    with one_line_errors(BusError):
        loaded = load(home, config)
        loaded.home.create()
        start_logs(node.NAME, loaded)
        try:
            node.run(loaded, alone=alone)
        except (BusError, StoreError) as error:
            log.critical("the ML logger ends", extra={"text": str(error)})
            raise


@click.command("dataset")
@common_options
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write: the ending .parquet or .csv says which kind.",
)
@click.option("--from", "from_", type=_MOMENT, help="First signal, UTC, inclusive: 2026-01-31 or 2026-01-31T13:00.")
@click.option("--to", type=_MOMENT, help="Last signal, UTC, exclusive.")
@click.option("--strategy", multiple=True, help="Only of this strategy; may be repeated.")
def dataset(
    home: Path | None,
    config: Path | None,
    *,
    out: Path,
    from_: datetime | None,
    to: datetime | None,
    strategy: tuple[str, ...],
) -> None:
    """Join signals, features and outcomes into a file for training: one row for each signal."""
    from ml_logger.store import open_store, store_url

    with one_line_errors():
        loaded = load(home, config)
        url = store_url(loaded.settings.logger.url, loaded.home.store)
        try:
            from ml_logger import dataset as datasets
        except ModuleNotFoundError as error:
            raise DatasetError(f"{error.name} is not installed: pip install 'mt5bus[logger]'") from error
        datasets.check_file(out)
        with open_store(url, writing=False) as store:
            frame = datasets.frame(store, from_ms=_utc_ms(from_), to_ms=_utc_ms(to), strategies=strategy)
        datasets.write(frame, out)
    taken, closed = int(frame["taken"].sum()), int((frame["outcome"] == "closed").sum())
    click.echo(f"{out}: {len(frame)} signals, {taken} taken, {closed} with a realised outcome")


def _utc_ms(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.replace(tzinfo=UTC).timestamp() * 1000)
