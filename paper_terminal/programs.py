"""Programs that the terminal itself runs: the expert and the script of a start-up file, in Python instead of MQL5.

Where the real terminal has `MQL5/Experts/NAME.ex5`, this one has `NAME.py`, and runs it as a child process that ends
with it. What the program finds is in docs/paper-terminal.md. Its output arrives through a pipe that only a thread can
wait on under Windows; the thread hands lines on, the terminal's own loop writes them.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path, PureWindowsPath
from typing import IO, Any, Final, Literal, NamedTuple

from paper_terminal.journal import Journal
from paper_terminal.launch import PATH_VARIABLE
from paper_terminal.scripts import shim_dir

PROGRAM_VARIABLE: Final = "MT5BUS_PAPER_PROGRAM"
SYMBOL_VARIABLE: Final = "MT5BUS_PAPER_SYMBOL"
PERIOD_VARIABLE: Final = "MT5BUS_PAPER_PERIOD"
PARAMETERS_VARIABLE: Final = "MT5BUS_PAPER_PARAMETERS"
"""Environment variables a program finds: its name, symbol, period, and its parameters as a JSON object of texts."""

_SECRETS: Final = ("MT5_PASSWORD",)
_KINDS: Final = {"expert": ("MQL5/Experts", "Experts"), "script": ("MQL5/Scripts", "Scripts")}
_END_LIMIT_S: Final = 5.0
_MOST_LINES: Final = 10_000
"""Lines of output that may wait for the loop; a program that writes more waits with its next one."""

_log = logging.getLogger(__name__)


class Wanted(NamedTuple):
    """A program to be started on a chart."""

    kind: Literal["expert", "script"]
    name: str
    """Path below MQL5/Experts or MQL5/Scripts, without extension."""
    symbol: str
    period: str
    parameters: str = ""
    """File in MQL5/Presets, with its extension; '': the program's own values."""
    shutdown: bool = False
    """The terminal ends after the program; scripts only."""

    @property
    def title(self) -> str:
        """Return how the logs name it."""
        return f"{PureWindowsPath(self.name).name} ({self.symbol},{self.period})"


class _Running:
    """One program under way."""

    def __init__(self, wanted: Wanted, child: subprocess.Popen[bytes], reader: threading.Thread) -> None:
        self.wanted = wanted
        self.child = child
        self.reader = reader


class Programs:
    """The programs of one terminal."""

    def __init__(
        self,
        folder: Path,
        *,
        note: Callable[[str, str], None],
        journal: Journal,
        environment: Mapping[str, str] = os.environ,
        popen: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen,
    ) -> None:
        """Run programs of the terminal of `folder`.

        Args:
            folder: The terminal's folder, with the layout below it made.
            note: Writes the terminal's own journal: source and text.
            journal: Takes the programs' output (MQL5/Logs).
            environment: What programs inherit, less secrets.
            popen: Starts a process.
        """
        self._folder = folder
        self._note = note
        self._journal = journal
        self._environment = environment
        self._popen = popen
        self._running: list[_Running] = []
        self._output: queue.Queue[tuple[str, str]] = queue.Queue(_MOST_LINES)

    def start(self, wanted: Wanted) -> bool:
        """Start a program; what is missing is in the journal, as with the real terminal."""
        folder, source = _KINDS[wanted.kind]
        program = _below(self._folder / folder, f"{wanted.name}.py")
        if program is None or not program.is_file():
            self._note(source, f"{wanted.kind} {wanted.title} failed to load: {folder}/{wanted.name}.py not found")
            return False
        try:
            child = self._spawn(wanted, program)
        except OSError as error:
            self._note(source, f"{wanted.kind} {wanted.title} failed to load: {error.strerror}")
            return False
        assert child.stdout is not None
        reader = threading.Thread(target=self._read, args=(wanted.title, child.stdout), daemon=True)
        reader.start()
        self._running.append(_Running(wanted, child, reader))
        self._note(source, f"{wanted.kind} {wanted.title} loaded successfully")
        return True

    def _spawn(self, wanted: Wanted, program: Path) -> subprocess.Popen[bytes]:
        apart: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            apart = {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
        return self._popen(
            [sys.executable, "-P", "-u", "-m", "paper_terminal.program_host", str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self._folder / "MQL5/Files",
            env=self._environment_of(wanted),
            **apart,
        )

    def _environment_of(self, wanted: Wanted) -> dict[str, str]:
        environment = {name: value for name, value in self._environment.items() if name.upper() not in _SECRETS}
        packages = str(Path(__file__).resolve().parents[1])
        inherited = environment.get("PYTHONPATH")
        return environment | {
            "PYTHONPATH": os.pathsep.join(filter(None, [str(shim_dir()), packages, inherited])),
            "PYTHONIOENCODING": "utf-8:backslashreplace",
            PATH_VARIABLE: str(self._folder),
            PROGRAM_VARIABLE: wanted.name,
            SYMBOL_VARIABLE: wanted.symbol,
            PERIOD_VARIABLE: wanted.period,
            PARAMETERS_VARIABLE: json.dumps(self._parameters(wanted)),
        }

    def _parameters(self, wanted: Wanted) -> dict[str, str]:
        if not wanted.parameters:
            return {}
        preset = _below(self._folder / "MQL5/Presets", wanted.parameters)
        try:
            return {} if preset is None else read_preset(preset)
        except (OSError, UnicodeDecodeError):
            self._note(_KINDS[wanted.kind][1], f"{wanted.title}: MQL5/Presets/{wanted.parameters} cannot be read")
            return {}

    def _read(self, title: str, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                self._output.put((title, line.decode("utf-8", "replace").rstrip("\r\n")))

    def look_after(self) -> bool:
        """Write what programs have said and note those that have ended; tell whether the terminal is to end now."""
        shutdown = False
        for running in [each for each in self._running if each.child.poll() is not None]:
            if running.reader.is_alive():  # what it said last is still to come, or a child of its own holds the pipe
                running.reader.join(0.05)
            self._running.remove(running)
            self._write_output()
            self._note_end(running)
            shutdown |= running.wanted.shutdown
        self._write_output()
        return shutdown

    def _write_output(self) -> None:
        while True:
            try:
                title, line = self._output.get_nowait()
            except queue.Empty:
                return
            self._journal.write(title, line)

    def _note_end(self, running: _Running) -> None:
        wanted, code = running.wanted, running.child.returncode
        source = _KINDS[wanted.kind][1]
        if running.child.stdin is not None:
            running.child.stdin.close()
        if code:
            self._note(source, f"{wanted.kind} {wanted.title} ended with exit code {code}")
        self._note(source, f"{wanted.kind} {wanted.title} removed")

    def stop(self) -> None:
        """End every program: each has the time of an OnDeinit to do so, then it is killed. Blocks up to 5 s."""
        for running in self._running:
            if running.child.stdin is not None:
                running.child.stdin.close()  # what the host of each program waits for
        deadline = time.monotonic() + _END_LIMIT_S
        while self._running:
            self.look_after()
            for running in self._running:
                if time.monotonic() >= deadline:
                    _log.warning("program %s does not end: it is killed", running.wanted.title)
                    running.child.kill()
                try:
                    running.child.wait(0.05)
                except subprocess.TimeoutExpired:
                    continue


def read_preset(path: Path) -> dict[str, str]:
    """Return the parameters of a .set file, by name: UTF-16 with its mark, or UTF-8.

    A line is `name=value`, or `name=value||start||step||stop||optimise`, of which the value counts.

    Raises:
        OSError: it cannot be read.
        UnicodeDecodeError: it is no text.
    """
    data = path.read_bytes()
    text = data.decode("utf-16" if data[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig")
    parameters = {}
    for line in text.splitlines():
        name, separator, value = line.partition("=")
        if separator and not line.lstrip().startswith(";"):
            parameters[name.strip()] = value.partition("||")[0].strip()
    return parameters


def _below(folder: Path, name: str) -> Path | None:
    """Return the file of a name written as on Windows, or None for one that leads out of the folder."""
    root = folder.resolve()
    found = root.joinpath(*PureWindowsPath(name).parts).resolve()
    return found if found.is_relative_to(root) else None
