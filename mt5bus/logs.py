"""JSON logs: one line a record, one file per node and UTC day, never renamed.

Any module logs through the standard library; fields go in `extra`:

    log = logging.getLogger(__name__)
    log.info("order sent", extra={"symbol": "EURUSD", "intent": 17})

A line has `time` (ISO 8601, UTC, microseconds), `level`, `node`, `pid`, `logger`, `event` and the fields.
Renaming a file that somebody has open fails on Windows for ever, so the day is in the name.
"""

from __future__ import annotations

import faulthandler
import json
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TextIO

from mt5bus.home import Home, file_name
from mt5bus.secret import MASK, Secret

_STANDARD = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime", "taskName"}
_SUFFIX = ".jsonl"


def utc_now() -> datetime:
    """Return the wall clock in UTC."""
    return datetime.now(UTC)


class JsonFormatter(logging.Formatter):
    """One record as one JSON object, every hidden text replaced."""

    def __init__(self, node: str, *, secrets: Iterable[Secret] = ()) -> None:
        super().__init__()
        self._node = node
        self._hidden: list[str] = []
        for secret in secrets:
            self.hide(secret)

    def hide(self, secret: Secret) -> None:
        """Replace this text in every record from now on; an empty one is ignored."""
        # A link is handed the password at every login.
        if secret and secret.reveal() not in self._hidden:
            self._hidden.append(secret.reveal())

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line without its line end."""
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            "node": self._node,
            "pid": record.process,
            "logger": record.name,
            "event": record.getMessage(),
        }
        extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        fields |= {key if key not in fields else f"{key}_": value for key, value in extra.items()}
        if record.exc_info and record.exc_info[0] is not None:
            fields["error"] = self.formatException(record.exc_info)
        return json.dumps(self._clean(fields), ensure_ascii=False, default=self._text)

    def _text(self, value: object) -> str:
        return self._without_secrets(repr(value) if isinstance(value, bytes) else str(value))

    def _clean(self, value: object) -> object:
        if isinstance(value, str):
            return self._without_secrets(value)
        if isinstance(value, dict):
            return {str(key): self._clean(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self._clean(inner) for inner in value]
        return value

    def _without_secrets(self, text: str) -> str:
        for hidden in self._hidden:
            text = text.replace(hidden, MASK)
        # A lone surrogate (a file name, a foreign error text) has no UTF-8 form.
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


class DailyFile(logging.Handler):
    """Appends each record to the file of its UTC day and removes files that are too old.

    A record that cannot be written (disk full) is dropped and counted; the next one that can be is
    preceded by a line with that count. Logging never stops a node.
    """

    def __init__(self, folder: Path, node: str, *, keep_days: int = 14, now: Callable[[], datetime] = utc_now) -> None:
        super().__init__()
        self._folder = folder
        self._prefix = f"{file_name(node)}-"
        self._keep_days = keep_days
        self._now = now
        self._day: date | None = None
        self._stream: TextIO | None = None
        self.dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; its line is in the operating system's hands when this returns."""
        try:
            line = self.format(record)
            stream = self._today()
            if self.dropped:
                lost, self.dropped = self.dropped, 0
                stream.write(json.dumps({"level": "warning", "event": "log records were lost", "count": lost}) + "\n")
            stream.write(line + "\n")
            stream.flush()
        except (OSError, ValueError, TypeError):
            self.dropped += 1

    def close(self) -> None:
        """Close the file of the day."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        super().close()

    def _today(self) -> TextIO:
        day = self._now().date()
        if self._stream is None or day != self._day:
            if self._stream is not None:
                self._stream.close()
            path = self._folder / f"{self._prefix}{day.isoformat()}{_SUFFIX}"
            self._stream = path.open("a", encoding="utf-8", newline="\n")
            self._day = day
            self._remove_old(day)
        return self._stream

    def _remove_old(self, today: date) -> None:
        oldest = today - timedelta(days=self._keep_days)
        for path, day in log_files(self._folder, self._prefix):
            if day < oldest:
                # Somebody may have it open (Windows); the next day tries again.
                try:
                    path.unlink()
                except OSError:
                    continue


def log_files(folder: Path, prefix: str = "") -> list[tuple[Path, date]]:
    """Return the log files of the node with this prefix, or of all nodes, with their days, oldest first."""
    found = []
    for path in folder.glob(f"{prefix}*{_SUFFIX}"):
        name = path.name.removesuffix(_SUFFIX)
        try:
            day = date.fromisoformat(name[-10:])
        except ValueError:
            continue  # not one of ours
        if not prefix or name[:-10] == prefix:
            found.append((path, day))
    return sorted(found, key=lambda item: (item[1], item[0].name))


def setup(
    node: str,
    home: Home,
    *,
    level: str = "info",
    keep_days: int = 14,
    secrets: Iterable[Secret] = (),
    console: TextIO | None = None,
) -> JsonFormatter:
    """Send this process's log records to its file of the day, and crashes to `<node>-faults.txt`.

    Args:
        node: The name in records and file names.
        home: Its `logs` folder is made if absent.
        level: Least serious level kept: debug, info, warning, error.
        keep_days: Older files of this node are removed.
        secrets: Texts that no record may show.
        console: Also write the lines there; for a node started by hand.

    Returns:
        The formatter, to hide secrets learned later.

    Raises:
        HomeError: The folder cannot be made.
        OSError: The file for crashes cannot be opened.
    """
    home.create()
    formatter = JsonFormatter(node, secrets=secrets)
    handlers: list[logging.Handler] = [DailyFile(home.logs, node, keep_days=keep_days)]
    if console is not None:
        handlers.append(logging.StreamHandler(console))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        handler.setFormatter(formatter)
        root.addHandler(handler)
    root.setLevel(level.upper())
    _record_crashes(home.logs / f"{file_name(node)}-faults.txt")
    return formatter


_faults: list[TextIO] = []


def _record_crashes(path: Path) -> None:
    # faulthandler writes to the descriptor from a signal handler: the file stays open for the process's life.
    stream = path.open("a", encoding="utf-8")
    faulthandler.enable(stream)
    while _faults:
        _faults.pop().close()
    _faults.append(stream)


def shutdown() -> None:
    """Close what `setup` opened; for tests and for a process that goes on without logs."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, DailyFile):
            root.removeHandler(handler)
            handler.close()
    if _faults:
        faulthandler.disable()
        _faults.pop().close()
