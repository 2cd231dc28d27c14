"""Whether a terminal runs at a path, asked without touching it: `initialize` would start a missing one.

Each API module has a way of its own: `MetaTrader5` a named pipe whose name follows from the path, the paper terminal a
file with its port in its folder. A module that is neither is taken to be there: only it can tell.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
from pathlib import Path
from typing import Any

import msgspec
import psutil

from mt5bus.settings import PAPER_API, REAL_API

_PAPER_FILE = "ipc.json"
_PIPE_PREFIX = "MT5.Terminal."
_CONNECT_TIMEOUT_S = 0.5


class _PaperAddress(msgspec.Struct, frozen=True):
    port: int


def terminal_runs(module: str, api: Any, path: str) -> bool:
    """Return whether a terminal of the API module called `module` runs at `path`.

    An API module may answer itself, with a function `terminal_runs(path)`.
    """
    own = getattr(api, "terminal_runs", None)
    if own is not None:
        return bool(own(path))
    if module == PAPER_API:
        return _paper_runs(Path(path).expanduser())
    if module == REAL_API:
        return _pipe_exists(path) if path else _any_terminal()
    return True


def _paper_runs(folder: Path) -> bool:
    folder = folder.parent if folder.suffix.lower() == ".exe" else folder
    try:
        address = msgspec.json.decode((folder / _PAPER_FILE).read_bytes(), type=_PaperAddress)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return False
    # The file outlives a killed terminal; the port does not.
    try:
        with socket.create_connection(("127.0.0.1", address.port), timeout=_CONNECT_TIMEOUT_S):
            return True
    except OSError:
        return False


def pipe_name(path: str) -> str:
    r"""Return the name of the terminal's pipe: SHA-256 of its full path in lower case, with the ``\\?\`` prefix."""
    full = path if path.startswith("\\\\?\\") else "\\\\?\\" + path
    return _PIPE_PREFIX + hashlib.sha256(full.lower().encode("utf-16-le")).hexdigest().upper()


def _pipe_exists(path: str) -> bool:
    if sys.platform != "win32":
        return True  # the real module runs on Windows only; whatever answers here is asked itself
    try:
        return pipe_name(str(Path(path).resolve())) in os.listdir(r"\\.\pipe" + "\\")  # noqa: PTH208
    except OSError:
        return True  # pipes cannot be listed: initialize finds out


def _any_terminal() -> bool:
    return any((process.info["name"] or "").lower() == "terminal64.exe" for process in psutil.process_iter(["name"]))
