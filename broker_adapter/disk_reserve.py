"""Room held back on the disk: given up when it is full, so that what became of orders, and exits, can still be written.

`reserve.bin` only takes room. The journal's writer deletes it when the disk is full, and writes on.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from pathlib import Path

FILE_NAME = "reserve.bin"
_PART_BYTES = 1 << 20
_START_BYTES = 1 << 20

log = logging.getLogger(__name__)


class DiskReserve:
    """A file of `size` bytes in `folder`. Given up by the journal's writer thread, taken by the loop's."""

    def __init__(self, folder: Path, *, size: int) -> None:
        self._path = folder / FILE_NAME
        self._size = size

    @property
    def held(self) -> bool:
        """Whether the whole of it is there."""
        try:
            return self._path.stat().st_size >= self._size
        except OSError:
            return False

    def take(self) -> bool:
        """Take the room, if there is so much; return whether it is held. Blocks for the disk."""
        if self.held:
            return True
        try:
            with self._path.open("wb") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, self._size)
                else:  # written out: a file that was only made long may hold no room
                    for _ in range(0, self._size, _PART_BYTES):
                        file.write(bytes(min(_PART_BYTES, self._size - file.tell())))
        except OSError as error:
            log.warning("there is no room for the disk reserve", extra={"reason": str(error)})
            self.give_up()
            return False
        return True

    def make_way(self) -> None:
        """Free the room if there is hardly any other: before a start, which has files to write."""
        if shutil.disk_usage(self._path.parent).free < _START_BYTES:
            self.give_up()

    def give_up(self) -> bool:
        """Free the room; return whether there was any."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True


def is_full(error: sqlite3.Error) -> bool:
    """Say whether a write failed because there is no room, or may have."""
    # Some file systems and quotas answer with an error of their own, which SQLite shows as one of the disk.
    return error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
