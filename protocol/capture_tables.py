"""Captures as tables: ticks, bars and each sort of event, to CSV or Parquet files, in bounded memory."""

from __future__ import annotations

import csv
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Protocol, get_args, get_origin, get_type_hints

import msgspec

from market.bars import Bar
from protocol.captures import Decoded
from protocol.errors import DataInvalid
from protocol.messages import BarUpdate, Event, EventBody, TickBatch
from protocol.ticks import ticks_array

_TICKS = ("ordinal", "time_ms", "bid", "ask", "last", "volume", "flags", "volume_real")
_TICK_TYPES = (int, int, float, float, float, int, int, float)
_ROWS_PER_GROUP = 65_536

Row = Sequence[object]


class Table:
    """A table's name, and its columns with their Python types."""

    def __init__(self, name: str, columns: dict[str, type]) -> None:
        self.name = name
        self.columns = columns


def _columns_of(struct: type[msgspec.Struct]) -> dict[str, type]:
    """Return the columns of a struct: inner structs are spread out, mappings become JSON text."""
    columns: dict[str, type] = {}
    hints = get_type_hints(struct)
    for name in struct.__struct_fields__:
        kind = hints[name]
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            columns |= _columns_of(kind)
        elif get_origin(kind) in {dict, tuple} or isinstance(kind, types.UnionType):
            columns[name] = str
        else:
            columns[name] = kind
    return columns


def _values_of(struct: msgspec.Struct) -> Iterator[object]:
    for name in struct.__struct_fields__:
        value = getattr(struct, name)
        if isinstance(value, msgspec.Struct):
            yield from _values_of(value)
        elif isinstance(value, dict | tuple):
            yield msgspec.json.encode(value).decode("utf-8")
        else:
            yield value


_EVENT_COLUMNS = {
    "recorded_ms": int,
    "log_id": str,
    "offset": int,
    "epoch": int,
    "market_ms": int,
    "server": str,
    "login": int,
}
_BODIES: tuple[type[msgspec.Struct], ...] = get_args(EventBody)
TICKS = Table("ticks", {"recorded_ms": int, "symbol": str, "epoch": int} | dict(zip(_TICKS, _TICK_TYPES, strict=True)))
BARS = Table(
    "bars",
    {"recorded_ms": int, "symbol": str, "epoch": int, "number": int, "timeframe": str, "revision": int}
    | _columns_of(Bar),
)
EVENTS: dict[type[msgspec.Struct], Table] = {
    body: Table(f"{body.__struct_config__.tag}s", _EVENT_COLUMNS | _columns_of(body)) for body in _BODIES
}


def rows(decoded: Decoded) -> Iterator[tuple[Table, Row]]:
    """Yield the rows of a message, each with its table; other kinds than ticks, bars and events have none."""
    message, recorded_ms, symbol = decoded.message, decoded.record.recorded_ms, decoded.topic.symbol
    if isinstance(message, TickBatch):
        array = ticks_array(message.records)
        names = ("time_msc", "bid", "ask", "last", "volume", "flags", "volume_real")
        for index, values in enumerate(zip(*(array[name].tolist() for name in names), strict=True)):
            yield TICKS, (recorded_ms, symbol, message.epoch, message.first + index, *values)
    elif isinstance(message, BarUpdate):
        head = (recorded_ms, symbol, message.epoch, message.number, message.timeframe, message.revision)
        yield BARS, (*head, *_values_of(message.bar))
    elif isinstance(message, Event):
        e = message
        common = (recorded_ms, e.log_id, e.offset, e.epoch, e.market_ms, e.server, e.login)
        yield EVENTS[type(e.body)], (*common, *_values_of(e.body))


class Sink(Protocol):
    """Where the rows of one table go."""

    def write(self, row: Row) -> None:
        """Take one row."""
        ...

    def close(self) -> None:
        """Finish the file."""
        ...


class CsvSink:
    """A CSV file with a header line."""

    def __init__(self, folder: Path, table: Table) -> None:
        self._file: IO[str] = (folder / f"{table.name}.csv").open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(table.columns)

    def write(self, row: Row) -> None:
        """Write one line."""
        self._writer.writerow(row)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class ParquetSink:
    """A Parquet file, written a group of rows at a time.

    Raises:
        ImportError: pyarrow is not installed.
    """

    def __init__(self, folder: Path, table: Table) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise ImportError("Parquet needs pyarrow: `pip install pyarrow`, or take --csv") from error
        kinds = {int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_()}
        self._pa = pa
        self._schema = pa.schema([(name, kinds[kind]) for name, kind in table.columns.items()])
        self._writer = pq.ParquetWriter(folder / f"{table.name}.parquet", self._schema, compression="zstd")
        self._rows: list[Row] = []

    def write(self, row: Row) -> None:
        """Take one row; it is in the file when its group is full."""
        self._rows.append(row)
        if len(self._rows) >= _ROWS_PER_GROUP:
            self._flush()

    def close(self) -> None:
        """Write what waits and close the file."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            try:
                arrays = [
                    self._pa.array(column, type=field.type)
                    for column, field in zip(zip(*self._rows, strict=True), self._schema, strict=True)
                ]
            except (self._pa.ArrowException, OverflowError) as error:
                raise DataInvalid(f"a value does not fit its Parquet column: {error}") from None
            self._writer.write_table(self._pa.Table.from_arrays(arrays, schema=self._schema))
            self._rows.clear()


def convert(messages: Iterator[Decoded], folder: Path, sink: Callable[[Path, Table], Sink]) -> dict[str, int]:
    """Write the messages' rows into one file a table, below `folder`; return the rows by table.

    Args:
        sink: `CsvSink` or `ParquetSink`.

    Raises:
        ImportError: The sink's package is not installed.
        OSError: A file cannot be written.
        DataInvalid: A number that no Parquet column holds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    counts: dict[str, int] = {}
    sinks: dict[str, Sink] = {}
    with ExitStack() as stack:
        for message in messages:
            for table, row in rows(message):
                if table.name not in sinks:
                    sinks[table.name] = sink(folder, table)
                    stack.callback(sinks[table.name].close)
                sinks[table.name].write(row)
                counts[table.name] = counts.get(table.name, 0) + 1
    return counts
