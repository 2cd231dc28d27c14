"""The epoch: one life of the adapter, a number that only ever grows.

Readers ignore what an older epoch still sends. So it is the wall clock's milliseconds, for people, but never less than
the last life's plus one: a clock that was set back must not make the new life look like the old one.
"""

from __future__ import annotations

from pathlib import Path

from mt5bus.files import replace_with_retry

FILE_NAME = "epoch"


def next_epoch(folder: Path, *, wall_ms: int) -> int:
    """Return this life's epoch, and remember it in `folder` for the next life.

    A missing or damaged file counts as no life before.

    Raises:
        OSError: The folder cannot be written.
    """
    path = folder / FILE_NAME
    epoch = max(wall_ms, _last(path) + 1)
    temporary = path.with_suffix(".new")
    temporary.write_text(f"{epoch}\n", encoding="ascii", newline="\n")
    replace_with_retry(temporary, path)
    return epoch


def _last(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
