"""The terminal as a supervised process: how to start it, find it again and ask it to end.

The paper terminal is one of our modules, found by its command line; `terminal64.exe` is found by the path of its
program. Both replace themselves when they update: a new process of the same terminal at its end is an update, not a
crash.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from mt5bus import paper
from mt5bus.config import Loaded, paper_folder
from mt5bus.errors import ProcessError
from mt5bus.processes import ProcessIdentity, module_command
from supervisor.children import Child, ChildSpec, find_running
from supervisor.specs import TERMINAL

log = logging.getLogger(__name__)


def terminal_spec(loaded: Loaded) -> ChildSpec | None:
    """Return how to start the terminal; None when somebody else does (`terminal.manage = false`)."""
    settings = loaded.settings.terminal
    if not settings.manage:
        return None
    output = loaded.home.logs / "terminal-output.txt"
    if settings.kind == "mt5":
        program = Path(settings.path).absolute()
        command = (str(program), "/portable") if settings.portable else (str(program),)
        return ChildSpec(name=TERMINAL, command=command, output=output, marks=(), folder=program.parent)
    folder = str(paper_folder(loaded))
    arguments = ["--path", folder]
    if loaded.settings.paper:
        arguments += ["--config", str(paper.settings_file(loaded))]
    return ChildSpec(
        name=TERMINAL,
        command=tuple(module_command("paper_terminal", *arguments)),
        output=output,
        marks=("-m", "paper_terminal", "--path", folder),
        # Relative paths in [paper] (a file feed) are meant from where the configuration file is.
        folder=loaded.file.parent if loaded.file is not None else None,
    )


def find_terminal(loaded: Loaded, spec: ChildSpec) -> ProcessIdentity | None:
    """Return the terminal of this configuration if it runs already."""
    if loaded.settings.terminal.kind == "paper":
        return find_running([spec]).get(TERMINAL)
    return _by_program(Path(spec.command[0]))


def successor_finder(loaded: Loaded, spec: ChildSpec) -> Callable[[], Child | None]:
    """Return what finds the terminal under a new process after its end."""

    def find() -> Child | None:
        identity = find_terminal(loaded, spec)
        return Child(identity) if identity is not None else None

    return find


def _by_program(program: Path) -> ProcessIdentity | None:
    wanted = os.path.normcase(program)
    for process in psutil.process_iter():
        try:
            if os.path.normcase(process.exe()) == wanted:
                return ProcessIdentity.of(process.pid)
        except (psutil.Error, ProcessError, OSError):
            continue
    return None


def ask_to_end(pid: int) -> None:
    """Ask a terminal to end: a window message on Windows, SIGTERM elsewhere. It may refuse; the caller then kills."""
    try:
        if sys.platform == "win32":
            taskkill = Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32" / "taskkill.exe"
            subprocess.Popen(
                [str(taskkill), "/PID", str(pid)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                creationflags=subprocess.CREATE_NO_WINDOW,
            )
        else:
            os.kill(pid, signal.SIGTERM)
    except OSError as error:
        log.warning("the terminal could not be asked to end", extra={"target": pid, "reason": str(error)})
