"""The lock by which a folder has one adapter: two would end each other's links and send each order twice.

The operating system takes the lock back when its process ends, however it ends.
"""

from __future__ import annotations

from pathlib import Path

import filelock

from protocol.errors import InitialisationFailed


def lock_folder(folder: Path, name: str) -> filelock.FileLock:
    """Return the lock `name` of `folder`, held.

    Raises:
        InitialisationFailed: Another adapter holds it, or the folder cannot be written to.
    """
    lock = filelock.FileLock(folder / name)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise InitialisationFailed(
            f"another adapter works with {folder}: two would send each order twice. Stop it, or use another home"
        ) from None
    except OSError as error:
        raise InitialisationFailed(f"the folder {folder} cannot be written to ({error.strerror or error})") from error
    return lock
