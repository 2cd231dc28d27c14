"""One supervisor per home: its lock, and where it can be reached."""

from __future__ import annotations

import msgspec
from filelock import FileLock, Timeout

from mt5bus.errors import ProcessError
from mt5bus.files import replace_with_retry
from mt5bus.home import Home
from mt5bus.processes import ProcessIdentity


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """What a supervisor writes about itself in `run/supervisor.json`."""

    identity: ProcessIdentity
    control: str
    port: int
    config: str | None


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """What a supervisor that ended on purpose leaves in `run/stopped.json`."""

    pid: int
    failed: bool
    reason: str


def lock(home: Home) -> FileLock:
    """Take the lock of a home; keep what is returned for the process's life.

    Raises:
        ProcessError: A supervisor holds it.
    """
    held = FileLock(home.run / "supervisor.lock")
    try:
        held.acquire(timeout=0)
    except Timeout:
        running = read_running(home)
        pid = f" (supervisor pid {running.identity.pid})" if running is not None else ""
        raise ProcessError(
            f"a system already runs on this home {home.path}{pid}: see it with 'mt5bus status', stop it with"
            " 'mt5bus down', or choose another --home and port"
        ) from None
    return held


def write_running(home: Home, running: Running) -> None:
    """Say where this supervisor is reached, and forget how the last one ended.

    Raises:
        OSError: The disk refuses.
    """
    (home.run / "stopped.json").unlink(missing_ok=True)
    _write(home, "supervisor.json", running)


def read_running(home: Home) -> Running | None:
    """Return the supervisor that runs on a home; None if none does."""
    try:
        running = msgspec.json.decode((home.run / "supervisor.json").read_bytes(), type=Running)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return running if running.identity.runs() else None


def write_stopped(home: Home, stopped: Stopped) -> None:
    """Say that this supervisor ended on purpose, and why.

    Raises:
        OSError: The disk refuses.
    """
    (home.run / "supervisor.json").unlink(missing_ok=True)
    _write(home, "stopped.json", stopped)


def read_stopped(home: Home, pid: int) -> Stopped | None:
    """Return how the supervisor of this pid ended; None if it was killed or still runs."""
    try:
        stopped = msgspec.json.decode((home.run / "stopped.json").read_bytes(), type=Stopped)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return stopped if stopped.pid == pid else None


def _write(home: Home, name: str, content: msgspec.Struct) -> None:
    temporary = home.run / f"{name}.tmp"
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(content)))
    replace_with_retry(temporary, home.run / name)
