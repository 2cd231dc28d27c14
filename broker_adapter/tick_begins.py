"""Where in the terminal's history each life of the adapter began, by symbol: kept for the lives that come.

A reader of two lives knows what it had last, and asks for what lies between; where the next life began only the adapter
knows, for several ticks may share a millisecond.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from mt5bus.files import replace_with_retry

FILE_NAME = "tick_begins.json"
LIVES_KEPT = 16

log = logging.getLogger(__name__)


class Begin(msgspec.Struct, frozen=True):
    """The place before the first tick that a life published: behind `taken` ticks of `time_msc` (server time)."""

    epoch: int
    symbol: str
    time_msc: int
    taken: int


class TickBegins:
    """The begins of this life and of the newest before it, in `folder`."""

    def __init__(self, folder: Path, *, epoch: int) -> None:
        self._file = folder / FILE_NAME
        self._epoch = epoch
        self._begins = {(each.epoch, each.symbol): each for each in self._read() if each.epoch < epoch}

    def note(self, symbol: str, *, time_msc: int, taken: int) -> None:
        """Note before which tick this life begins, the first time that it is said of a symbol."""
        key = (self._epoch, symbol)
        if key in self._begins:
            return
        self._begins[key] = Begin(self._epoch, symbol, time_msc, taken)
        kept = sorted({epoch for epoch, _ in self._begins})[-LIVES_KEPT:]
        self._begins = {key: begin for key, begin in self._begins.items() if begin.epoch in kept}
        fresh = self._file.with_suffix(".new")
        try:
            fresh.write_bytes(msgspec.json.encode(list(self._begins.values())))
            replace_with_retry(fresh, self._file, tries=1)
        except OSError as error:
            log.warning("the begin of a tick stream was not kept", extra={"symbol": symbol, "reason": str(error)})

    def of(self, symbol: str, epoch: int) -> Begin | None:
        """Return where a life began for a symbol; None if that is not known, or no longer."""
        return self._begins.get((epoch, symbol))

    def _read(self) -> list[Begin]:
        # A damaged file costs the healing between lives that are over, nothing else.
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=list[Begin])
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return []
