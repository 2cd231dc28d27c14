"""Finding the folder a path means, attaching to its terminal, and starting one that is not running."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import time
from pathlib import Path, PureWindowsPath
from typing import Final

from paper_terminal.channel import Channel, NoTerminal

PATH_VARIABLE: Final = "MT5BUS_PAPER_PATH"
"""Environment variable naming the folder when `initialize` gets no path."""

_START_LIMIT_S = 60.0
_RETRY_S = 0.02
_START_LOG: Final = "start.log"
"""What the terminal prints, in its folder."""
# A child that is dropped while it runs makes Python warn; these outlive us on purpose.
_started: list[subprocess.Popen[bytes]] = []


@atexit.register
def _let_go() -> None:
    for child in _started:
        child.returncode = child.poll() or 0


class LaunchError(Exception):
    """The terminal could not be started; the text is the detail of the failure -10003, `reason` its own last words."""

    def __init__(self, text: str, *, reason: str = "") -> None:
        super().__init__(text)
        self.reason = reason


def folder_of(path: str) -> Path:
    """Return the terminal's folder: `path` itself, or for a file (terminal64.exe) the folder it is in.

    Where `MT5BUS_PAPER_PATH` names a folder, a terminal64.exe that is not on this machine means that one: programs
    written for the real terminal carry such paths.
    """
    stand_in = os.environ.get(PATH_VARIABLE)
    if stand_in and _is_absent_terminal(path):
        path = stand_in
    named = Path(path).expanduser().resolve()
    return named.parent if named.is_file() or named.suffix.lower() == ".exe" else named


def _is_absent_terminal(path: str) -> bool:
    named = PureWindowsPath(path)
    if named.name.lower() not in {"terminal64.exe", "terminal.exe"}:
        return False
    foreign = bool(named.drive) and sys.platform != "win32"
    return foreign or not Path(path).expanduser().parent.is_dir()


def attach_or_start(folder: Path) -> Channel:
    """Connect to the terminal of `folder`; where none runs, start it and wait up to 60 s.

    Raises:
        LaunchError: it does not start or does not answer.
        IncompatibleVersions: it wants another version of this module.
    """
    try:
        return Channel(folder)
    except NoTerminal:
        child = start(folder)
    deadline = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < deadline:
        ended = child.poll() is not None
        try:
            return Channel(folder)
        except NoTerminal as error:
            # Another client may have started it in the same moment: then ours ends and theirs answers.
            if ended and child.returncode != ALREADY_RUNNING:
                raise LaunchError(f"Process create failed {folder}", reason=_last_words(folder)) from error
        time.sleep(_RETRY_S)
    raise LaunchError(f"Pipe server didn't answer in {_START_LIMIT_S:.0f} sec")


ALREADY_RUNNING: Final = 3
"""Exit code of a terminal whose folder another one is running from."""


def _last_words(folder: Path) -> str:
    try:
        lines = (folder / _START_LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return lines[-1].removeprefix("paper terminal: ") if lines else ""


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start the terminal of `folder` on its own, with further arguments: it outlives this process.

    Raises:
        LaunchError: the process cannot be created.
    """
    _started[:] = [child for child in _started if child.poll() is None]
    environment = dict(os.environ)
    package_parent = str(Path(__file__).resolve().parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package_parent, environment.get("PYTHONPATH")]))
    command = [sys.executable, "-P", "-m", "paper_terminal", "--path", str(folder), *arguments]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _START_LOG).open("ab") as log:
            child = _spawn(command, environment, log.fileno())
    except OSError as error:
        raise LaunchError(f"Process create failed {folder}: {error}") from error
    _started.append(child)
    return child


if sys.platform == "win32":

    def _spawn(command: list[str], environment: dict[str, str], log: int) -> subprocess.Popen[bytes]:
        flags = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
        null = subprocess.DEVNULL
        try:
            # A job that would end the terminal with its starter: leave it, where it lets us.
            return subprocess.Popen(
                command,
                env=environment,
                stdin=null,
                stdout=log,
                stderr=log,
                creationflags=flags | subprocess.CREATE_BREAKAWAY_FROM_JOB,
            )
        except OSError:
            return subprocess.Popen(command, env=environment, stdin=null, stdout=log, stderr=log, creationflags=flags)

else:

    def _spawn(command: list[str], environment: dict[str, str], log: int) -> subprocess.Popen[bytes]:
        null = subprocess.DEVNULL
        return subprocess.Popen(command, env=environment, stdin=null, stdout=log, stderr=log, start_new_session=True)
