"""The file of running links, and the end of those that a former adapter left behind.

Links die with their adapter; this is for the one that did not (a frozen process, a platform without that bond). An
orphan of the trade link could still execute an order, so no broker state is read before every one is gone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import msgspec

from mt5bus.errors import ProcessError
from mt5bus.processes import ProcessIdentity, end_process

FILE_NAME = "links.json"

log = logging.getLogger(__name__)


class LinkList:
    """`links.json` in the adapter's folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME

    def write(self, links: Iterable[ProcessIdentity]) -> None:
        """Replace the list. A reader sees the old list or the new one."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(list(links)))
        fresh.replace(self._path)

    def read(self) -> list[ProcessIdentity]:
        """Return the listed links; none if there is no list, or a damaged one."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=list[ProcessIdentity])
        except FileNotFoundError:
            return []
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("the list of links is damaged and was skipped", extra={"path": self._path, "reason": error})
            return []

    def end_orphans(self) -> int:
        """Kill every listed link that still runs and wait for its end; return how many there were.

        Blocks: before the adapter serves anybody.

        Raises:
            ProcessError: One does not end. Nothing may be read or sent while it lives.
        """
        ended = 0
        for identity in self.read():
            if not identity.runs():
                continue
            log.warning("a link of a former adapter is killed", extra={"link_pid": identity.pid})
            if not end_process(identity):
                raise ProcessError(
                    f"the link process {identity.pid} of a former adapter does not end: it could still send an"
                    " order. End it by hand (or restart the machine), then start the adapter again"
                )
            ended += 1
        self.write([])
        return ended
