"""The formats of tick and bar files: which there are, and reading a file of one of them.

Every reader gives the file's rows in file order, times cut to whole milliseconds, and tells of each row it could
not use. A file as a whole is refused when it is not what it claims to be.

| format | layout | time |
|---|---|---|
| `lean` | zip of one headerless CSV, `YYYYMMDD_<symbol>_tick_quote.csv`: time,bid,ask | ms since midnight of that day |
| `lean_bars` | zip of one CSV of quote bars, second to day | the same, or date and time |
| `truefx` | CSV with the header `timestamp,bid,ask` | ISO 8601, with or without its zone |
| `truefx_raw` | the same as TrueFX gives it out: `EUR/USD,20090501 00:00:00.097,bid,ask` | UTC |
| `mt5_ticks` | MetaTrader's "Export Ticks", UTF-8 or UTF-16; what is empty did not change | the server's clock |
| `mt5_bars` | its "Export Bars", or bars an MQL5 script wrote without a header | the server's clock |
| `dukascopy` | CSV of ticks or bars with the header `Gmt time,...` | dd.mm.yyyy, UTC unless it says another |
| `dukascopy_bi5` | an hour of ticks, `SYMBOL/YYYY/MM/DD/HHh_ticks.bi5` | UTC |
| `histdata` | ASCII ticks or minute bars | New York's winter time all year |
| `csv` | a header naming time and bid, ask or open, high, low, close | as written |
| `parquet` | columns named as in `csv` | timestamps or epoch numbers |

Text may be gzip. A zone named for the file takes the place of the one in the table; times that say their own keep it.
Bars become ticks as `bar_ticks` says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from paper_terminal.feeds import lean, vendors
from paper_terminal.feeds.base import FeedError
from paper_terminal.feeds.contents import Bars, Found, Quotes
from paper_terminal.feeds.parquet import read_parquet
from paper_terminal.feeds.tables import Reading

_ZIP_MAGIC = b"PK\x03\x04"
_PARQUET_MAGIC = b"PAR1"
_EXAMPLES_KEPT = 10


@dataclass
class BadRows:
    """Rows that could not be used: counted, the first ones kept, and too many of them refused."""

    limit: int
    count: int = 0
    examples: list[FeedError] = field(default_factory=list)

    def report(self, path: str, line: int, text: str) -> None:
        """Note a bad row; line 1 is the first of the file.

        Raises:
            FeedError: that was one more than the limit.
        """
        self.count += 1
        error = FeedError(text, path=path, line=line)
        if len(self.examples) < _EXAMPLES_KEPT:
            self.examples.append(error)
        if self.count > self.limit:
            raise FeedError(
                f"{text}; with that {self.count} rows are bad and {self.limit} are allowed: this is not the file it "
                "claims to be, or it is damaged",
                path=path,
                line=line,
            )


Reader = Callable[[Path, Reading], Found]

READERS: dict[str, Reader] = {
    "lean": lean.read_ticks,
    "lean_bars": lean.read_bars,
    "truefx": vendors.read_truefx,
    "truefx_raw": vendors.read_truefx_raw,
    "mt5_ticks": vendors.read_exported,
    "mt5_bars": vendors.read_exported,
    "dukascopy": vendors.read_headed,
    "dukascopy_bi5": vendors.read_bi5,
    "histdata": vendors.read_histdata,
    "csv": vendors.read_headed,
    "parquet": read_parquet,
}
"""The readers by format name."""
_EMPTY_ALLOWED = frozenset({"dukascopy_bi5"})
_CONTENTS: dict[str, tuple[type[Quotes | Bars], str]] = {
    "mt5_ticks": (Quotes, "ticks"),
    "mt5_bars": (Bars, "bars"),
}
"""What the files of a format hold, where their header decides it."""


def read_file(path: Path, *, format_name: str, reading: Reading) -> Found:
    """Read a file of ticks or bars.

    Args:
        path: The file.
        format_name: A key of `READERS`, or `auto` to look at the file's first bytes.
        reading: Where to report rows that cannot be used, and what is known of the symbol.

    Raises:
        FeedError: the file is missing, unreadable, empty, not of this format, or holds too many bad rows.
    """
    try:
        name = detect_format(path) if format_name == "auto" else format_name
        reader = READERS.get(name)
        if reader is None:
            known = ", ".join(sorted(READERS))
            raise FeedError(f"unknown tick file format {name!r}: known are {known}, and auto", path=str(path))
        found = reader(path, reading)
    except OSError as error:
        raise FeedError(f"cannot be read: {error.strerror or error}", path=str(path)) from error
    kind, called = _CONTENTS.get(name, (Quotes | Bars, ""))
    if not isinstance(found.content, kind):
        raise FeedError(f"does not hold {called}, as the format {name} says", path=str(path))
    if not len(found.content) and name not in _EMPTY_ALLOWED:
        raise FeedError("holds no ticks", path=str(path))
    return found


def detect_format(path: Path) -> str:
    """Return the format a file's first bytes speak of.

    Raises:
        FeedError: none that is known.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(4)
    if start == _ZIP_MAGIC:
        return "lean_bars" if lean.holds_bars(path) else "lean"
    if start == _PARQUET_MAGIC:
        return "parquet"
    if path.suffix.lower() == ".bi5":
        return "dukascopy_bi5"
    found = vendors.text_format(path)
    if found is not None:
        return found
    raise FeedError(
        "is neither a zip (Lean) nor a text whose first line is known, such as 'timestamp,bid,ask': name its format if "
        f"it is one of {', '.join(sorted(READERS))}",
        path=str(path),
    )
