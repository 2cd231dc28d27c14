"""The terminal's folder as other programs know it, and the logs in it: YYYYMMDD.log, UTF-16LE."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from paper_terminal.ledger_records import TradeRequest

JOURNAL_FOLDER: Final = "logs"
PROGRAM_LOG_FOLDER: Final = "MQL5/Logs"
FOLDERS: Final = (
    "config",
    JOURNAL_FOLDER,
    "bases",
    "MQL5/Files",
    PROGRAM_LOG_FOLDER,
    "MQL5/Experts",
    "MQL5/Scripts",
    "MQL5/Presets",
    "Common/Files",
)
"""What is made below a terminal's folder, as far as anything here uses it."""

_MARK: Final = "\ufeff"

_log = logging.getLogger(__name__)


def make_layout(folder: Path) -> None:
    """Make the folders below a terminal's folder.

    Raises:
        OSError: they cannot be made.
    """
    for each in FOLDERS:
        (folder / each).mkdir(parents=True, exist_ok=True)


class Journal:
    """Appends lines to the log of the day; a disk that refuses is told once a day and stops nothing."""

    def __init__(
        self, folder: Path, *, log_folder: str = JOURNAL_FOLDER, now: Callable[[], datetime] = datetime.now
    ) -> None:
        """Write in `log_folder` below `folder`; `now` gives the machine's local time, which the log shows."""
        self._folder = folder / log_folder
        self._now = now
        self._refused_on = ""

    def write(self, source: str, text: str) -> None:
        """Append a line: mark, level, time, source, text."""
        moment = self._now()
        day = f"{moment:%Y%m%d}"
        path = self._folder / f"{day}.log"
        line = f"PT\t0\t{moment:%H:%M:%S}.{moment.microsecond // 1000:03}\t{source}\t{text}\r\n"
        try:
            with path.open("ab") as file:
                file.write(((_MARK if file.tell() == 0 else "") + line).encode("utf-16-le", "replace"))
        except OSError as error:
            if self._refused_on != day:
                _log.warning("the journal %s cannot be written: %s", path, error)
            self._refused_on = day


def told(request: TradeRequest) -> str:
    """Return a request in one line."""
    named = [f"action {request.action}", request.symbol]
    for field in ("type", "volume", "price", "sl", "tp", "order", "position", "position_by", "magic"):
        value = getattr(request, field)
        if value or field == "type":
            named.append(f"{field} {value}")
    return " ".join(each for each in named if each)
