"""`mt5bus inspect`: what a capture holds; as text, CSV or Parquet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import click
import msgspec

from mt5bus.options import common_options, find_capture, load, one_line_errors
from protocol import codec
from protocol.capture_tables import CsvSink, ParquetSink, Sink, Table, convert
from protocol.captures import Capture
from protocol.errors import BusError, DataInvalid


def _moment(_ctx: click.Context, _param: click.Parameter, text: str | None) -> int | None:
    """Return UTC milliseconds."""
    if text is None or text.isdigit():
        return None if text is None else int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no time such as 2024-01-31T12:00:00 (UTC), and no milliseconds"
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _known_kinds(_ctx: click.Context, _param: click.Parameter, kinds: tuple[str, ...]) -> tuple[str, ...]:
    for kind in kinds:
        if kind not in codec.MESSAGE_TYPES:
            raise click.BadParameter(
                f"{kind!r} is no kind of message: there are {', '.join(sorted(codec.MESSAGE_TYPES))}"
            )
    return kinds


@click.command("inspect")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@common_options
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    callback=_known_kinds,
    help="Only messages of this kind (may be repeated): tick, bar, event, ...",
)
@click.option("--symbol", "symbols", multiple=True, help="Only of this symbol (may be repeated).")
@click.option(
    "--from", "from_ms", callback=_moment, metavar="TIME", help="Recorded at or after: ISO 8601 (UTC) or milliseconds."
)
@click.option("--to", "to_ms", callback=_moment, metavar="TIME", help="Recorded at or before.")
@click.option("--count", type=click.IntRange(min=0), help="Show at most so many messages.")
@click.option(
    "--csv", "csv_folder", type=click.Path(path_type=Path, file_okay=False), help="Write tables to this folder."
)
@click.option(
    "--parquet", "parquet_folder", type=click.Path(path_type=Path, file_okay=False), help="Write tables to this folder."
)
def inspect(
    file: Path,
    home: Path | None,
    config: Path | None,
    kinds: tuple[str, ...],
    symbols: tuple[str, ...],
    from_ms: int | None,
    to_ms: int | None,
    count: int | None,
    csv_folder: Path | None,
    parquet_folder: Path | None,
) -> None:
    """Show what a capture holds: a summary, messages (with a filter or --count), or tables as files.

    FILE is a path, or the name of a file in the home's captures.

    Tables: ticks, bars, deals, orders, positions, intents, signals, modes, alerts.
    """
    filters: dict[str, Any] = {"kinds": kinds, "symbols": symbols, "from_ms": from_ms, "to_ms": to_ms}
    with one_line_errors(BusError, OSError, ImportError):
        capture = Capture(file if file.is_file() else find_capture(load(home, config), file))
        if csv_folder or parquet_folder:
            for folder, sink in ((csv_folder, CsvSink), (parquet_folder, ParquetSink)):
                if folder is not None:
                    _convert(capture, folder, sink, filters)
        elif count is not None or any(value not in {(), None} for value in filters.values()):
            _show(capture, count, filters)
        else:
            _summarise(capture)


def _convert(capture: Capture, folder: Path, sink: Callable[[Path, Table], Sink], filters: dict[str, Any]) -> None:
    counts = convert(capture.decoded(**filters), folder, sink)
    for table, rows in counts.items():
        click.echo(f"{folder / table}: {rows} rows")
    click.echo(_ending(capture))


def _show(capture: Capture, count: int | None, filters: dict[str, Any]) -> None:
    for record in islice(capture.records(**filters), count):
        click.echo(f"{_time(record.recorded_ms)} {record.stream:<8} {_text(record.frame)}")


def _text(frame: bytes) -> str:
    try:
        topic, message = codec.decode(frame)
    except DataInvalid as error:
        return f"{len(frame)} bytes that are no message: {error.text}"
    fields = {
        name: f"<{len(value)} bytes>" if isinstance(value := getattr(message, name), bytes) else value
        for name in message.__struct_fields__
    }
    return f"{topic.kind} {topic.symbol or '-'} {msgspec.json.encode(fields).decode('utf-8')}"


def _summarise(capture: Capture) -> None:
    header = capture.header
    click.echo(f"{capture.path}: adapter {header.adapter}, format {header.format}, made {_time(header.made_ms)}")
    kinds: Counter[tuple[str, str]] = Counter()
    first_ms = last_ms = 0
    for record in capture.records():
        try:
            topic, _ = codec.split(record.frame)
            kinds[topic.kind, topic.symbol] += 1
        except DataInvalid:
            kinds["(no message)", ""] += 1
        first_ms, last_ms = first_ms or record.recorded_ms, record.recorded_ms
    if capture.count:
        click.echo(f"from {_time(first_ms)} to {_time(last_ms)}, {(last_ms - first_ms) / 1000:.1f} s")
    for (kind, symbol), number in sorted(kinds.items()):
        click.echo(f"  {kind:<16} {symbol:<12} {number}")
    click.echo(_ending(capture))


def _ending(capture: Capture) -> str:
    if capture.complete:
        return f"{capture.count} records, complete"
    damage = capture.damage or "the file was cut short, or is still being written"
    return f"{capture.count} whole records; then it ends: {damage}"


def _time(utc_ms: int) -> str:
    try:
        return datetime.fromtimestamp(utc_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    except (OverflowError, ValueError, OSError):
        return f"{utc_ms} ms"
