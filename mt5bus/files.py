"""Replacing files on a platform where scanners and readers hold them open for moments."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event

_TRIES = 10
_PAUSE_S = 0.2


def replace_with_retry(
    source: Path,
    target: Path,
    *,
    replace: Callable[[Path, Path], None] = os.replace,
    tries: int = _TRIES if sys.platform == "win32" else 1,
    wait_s: Callable[[float], object] | None = None,
) -> None:
    """Move a file over another, atomically.

    On Windows somebody who has the target open (a virus scanner, an indexer) makes this fail for milliseconds:
    only that failure is tried again, about ten times over two seconds. Elsewhere once.

    Raises:
        OSError: It still fails, or fails for another reason.
    """
    for attempt in range(1, tries + 1):
        try:
            replace(source, target)
        except PermissionError:
            if attempt == tries:
                raise
            (wait_s or Event().wait)(random.uniform(0.5, 1.5) * _PAUSE_S)  # noqa: S311  jitter, not a secret
        else:
            return
