"""`mt5bus logs`: the nodes' JSON logs of the day, merged by time, one line a record."""

from __future__ import annotations

import heapq
import json
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import NamedTuple

import click

from mt5bus.errors import HomeError
from mt5bus.home import Home, file_name
from mt5bus.logs import log_files
from mt5bus.options import common_options, one_line_errors

POLL_S = 0.25
_SHOWN_APART = {"time", "level", "node", "event", "pid", "logger", "error"}


class Line(NamedTuple):
    """A record as it stands in a file, with what sorts it."""

    time: str
    text: str


@click.command("logs")
@common_options
@click.argument("node", required=False)
@click.option("--follow", "-f", is_flag=True, help="Go on showing records as they come, until Ctrl-C.")
@click.option("--lines", "-n", default=50, show_default=True, type=click.IntRange(min=0), help="Last records shown.")
@click.option("--json", "as_json", is_flag=True, help="The records as they are stored.")
def logs(
    home: Path | None,
    config: Path | None,  # noqa: ARG001
    node: str | None,
    *,
    follow: bool,
    lines: int,
    as_json: bool,
) -> None:
    """Show the last records of all nodes, or of NODE, merged by time."""
    with one_line_errors():
        reader = LogReader(Home.find(home), node)
        for line in reader.last(lines):
            click.echo(line.text if as_json else pretty(line.text))
        if follow:
            _follow(reader, as_json=as_json)


def _follow(reader: LogReader, *, as_json: bool) -> None:
    pause = Event()
    try:
        while True:
            for line in reader.new():
                click.echo(line.text if as_json else pretty(line.text))
            pause.wait(POLL_S)
    except KeyboardInterrupt:
        return


class LogReader:
    """Reads the log files of a home; it opens, reads and closes, so that nobody is hindered.

    Raises:
        HomeError: There are no logs, or none of that node.
    """

    def __init__(self, home: Home, node: str | None = None) -> None:
        self._folder = home.logs
        self._prefix = f"{file_name(node)}-" if node else ""
        self._read_up_to: dict[Path, int] = {}
        files = self._files()
        if not files:
            names = sorted({path.name[:-17] for path, _ in log_files(self._folder)})
            there = f"there are {', '.join(names)}" if names else "nothing has run on this home yet"
            raise HomeError(f"no logs{f' of {node}' if node else ''} in {self._folder}: {there}")

    def last(self, count: int) -> list[Line]:
        """Return the last records of the latest day of each node, oldest first, and remember where they end."""
        latest: dict[str, Path] = {}
        for path in self._files():
            latest[path.name[:-17]] = path
        for path in self._files():
            if path not in latest.values():
                self._read_up_to[path] = path.stat().st_size
        streams = [deque(self._lines(path), maxlen=count) for path in latest.values()]
        return list(heapq.merge(*streams))[-count:] if count else []

    def new(self) -> list[Line]:
        """Return the records written since, merged by time; files of a new day included."""
        return list(heapq.merge(*[list(self._lines(path)) for path in self._files()]))

    def _files(self) -> list[Path]:
        return [path for path, _ in log_files(self._folder, self._prefix)]

    def _lines(self, path: Path) -> Iterator[Line]:
        start = self._read_up_to.get(path, 0)
        try:
            with path.open("rb") as stream:
                stream.seek(start)
                content = stream.read()
        except FileNotFoundError:
            return
        # A line that is being written has no end yet: it is read whole the next time.
        whole = content[: content.rfind(b"\n") + 1]
        self._read_up_to[path] = start + len(whole)
        for line in whole.decode("utf-8", "replace").splitlines():
            yield Line(_time_of(line), line)


def pretty(line: str) -> str:
    """Return a record for people: local time, level, node, event, fields; a foreign line as it is."""
    try:
        record = json.loads(line)
        time = datetime.fromisoformat(record["time"]).astimezone().strftime("%H:%M:%S.%f")[:-3]
        head = f"{time} {record['level']:<7} {record['node']:<10} {record['event']}"
    except (ValueError, KeyError, TypeError):
        return line
    fields = " ".join(f"{key}={_shown(value)}" for key, value in record.items() if key not in _SHOWN_APART)
    return "\n".join(part for part in (f"{head}  {fields}".rstrip(), record.get("error")) if part)


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return json.dumps(text, ensure_ascii=False) if not text or " " in text else text


def _time_of(line: str) -> str:
    try:
        return str(json.loads(line)["time"])
    except (ValueError, KeyError, TypeError):
        return datetime.now(UTC).isoformat()
