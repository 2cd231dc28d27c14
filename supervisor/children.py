"""Processes that outlive their starter: started, found again, watched, ended.

Nodes and terminal go on when the supervisor dies. The next one finds them by the adoption file (pid, creation time,
executable, instance) and, for a process that was started an instant before the death, by its command line.
"""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec
import psutil

from mt5bus import processes
from mt5bus.errors import ProcessError
from mt5bus.files import replace_with_retry
from mt5bus.processes import ProcessIdentity

log = logging.getLogger(__name__)

Spawn = Callable[["ChildSpec"], "subprocess.Popen[bytes]"]


class ChildSpec(msgspec.Struct, frozen=True):
    """What to start: one supervised process."""

    name: str
    command: tuple[str, ...]
    output: Path
    """Its stdout and stderr: what it says before it can log, and a crash's last words."""
    marks: tuple[str, ...]
    """Words that all stand in its command line and in no other system's: how an orphan is recognised."""
    folder: Path | None = None
    stdin: bytes = b""

    def __repr__(self) -> str:
        # stdin holds the password.
        return f"ChildSpec({self.name!r})"


class Adopted(msgspec.Struct, frozen=True):
    """A running process in the adoption file."""

    name: str
    identity: ProcessIdentity
    instance: str = ""
    """What the node drew at its start; empty until it said hello."""
    routing_id: str = ""
    """Its address on the socket for pings: with it the next supervisor pings it without waiting for a hello."""
    restarts: int = 0


class _AdoptionFile(msgspec.Struct, frozen=True):
    version: int
    processes: tuple[Adopted, ...]


class AdoptionFile:
    """`run/adopted.json`: the processes that the next supervisor takes over."""

    VERSION = 1

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: tuple[Adopted, ...] | None = None

    def read(self) -> tuple[Adopted, ...]:
        """Return what the last supervisor left; empty if there is nothing, or nothing readable."""
        try:
            content = msgspec.json.decode(self._path.read_bytes(), type=_AdoptionFile)
        except FileNotFoundError:
            return ()
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            # Orphans are still found by their command line.
            log.warning("the adoption file is unreadable", extra={"file": str(self._path), "reason": str(error)})
            return ()
        return content.processes if content.version == self.VERSION else ()

    def write(self, entries: Iterable[Adopted]) -> None:
        """Replace the file, if anything changed.

        Raises:
            OSError: The disk refuses.
        """
        content = tuple(sorted(entries, key=lambda entry: entry.name))
        if content == self._written:
            return
        temporary = self._path.with_suffix(".tmp")
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(_AdoptionFile(self.VERSION, content))))
        replace_with_retry(temporary, self._path)
        self._written = content


class Child:
    """One running process: started here, or found running.

    On Windows what was started may be a launcher, whose child is the node; `identity` becomes the node's own as
    soon as it says hello, and both are ended together.
    """

    def __init__(self, identity: ProcessIdentity, process: subprocess.Popen[bytes] | None = None) -> None:
        self.started = identity
        self.identity = identity
        self._process = process
        self._exit_code: int | None = None
        self._statistics: psutil.Process | None = None

    @classmethod
    def launch(cls, spec: ChildSpec, *, spawn: Spawn | None = None) -> Child:
        """Start the process.

        Raises:
            ProcessError: It cannot be started, or ended at once.
        """
        process = (spawn or _spawn)(spec)
        try:
            identity = ProcessIdentity.of(process.pid)
        except ProcessError:
            code = process.wait(10)
            raise ProcessError(f"it ended at once: {processes.explain_exit(code)}") from None
        return cls(identity, process)

    @property
    def pid(self) -> int:
        """The node's own process id once it is known, else that of what was started."""
        return self.identity.pid

    @property
    def create_time_s(self) -> float:
        """When it was created, seconds since the epoch."""
        return self.identity.create_time_s

    @property
    def exit_code(self) -> int | None:
        """Its exit code; None while it runs, and for ever if it was adopted."""
        return self._exit_code

    def ended(self) -> bool:
        """Return whether it is gone. Cheap: asked at every turn."""
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return False
            self._exit_code = code
            self._process = None
        # A launcher that was killed alone leaves the node behind.
        return not self.identity.runs()

    def is_or_started(self, pid: int) -> bool:
        """Return whether a process is this one or a descendant of what was started."""
        if pid in {self.identity.pid, self.started.pid}:
            return True
        try:
            return any(parent.pid == self.started.pid for parent in psutil.Process(pid).parents())
        except psutil.Error:
            return False

    def identify(self, pid: int) -> None:
        """Take the node's own identity, told by its hello.

        Raises:
            ProcessError: It is gone already.
        """
        if pid != self.identity.pid:
            self.identity = ProcessIdentity.of(pid)
            self._statistics = None

    def kill(self) -> None:
        """Kill it with its launcher and everything it started; returns before they are gone.

        A refusal is logged: whether it worked shows in `ended`.
        """
        for identity in {self.started.pid: self.started, self.identity.pid: self.identity}.values():
            for process in reversed(processes.process_tree(identity)):
                try:
                    processes.kill(process)
                except ProcessError as error:
                    log.warning("a process cannot be ended", extra={"target": process.pid, "reason": str(error)})

    def usage(self) -> tuple[float, float]:
        """Return (CPU in percent of one core since the last call, resident memory in MB); zeros once it is gone."""
        try:
            if self._statistics is None:
                self._statistics = psutil.Process(self.identity.pid)
                self._statistics.cpu_percent(None)
            with self._statistics.oneshot():
                return self._statistics.cpu_percent(None), self._statistics.memory_info().rss / 1e6
        except psutil.Error:
            return 0.0, 0.0


def _spawn(spec: ChildSpec) -> subprocess.Popen[bytes]:
    return processes.start_node(spec.command, output=spec.output, folder=spec.folder, stdin=spec.stdin)


def find_running(specs: Sequence[ChildSpec]) -> dict[str, ProcessIdentity]:
    """Return the processes of this user whose command line has all the marks of a spec, by its name.

    Where a launcher and its child both match, it is the child.
    """
    found: dict[str, list[psutil.Process]] = {}
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        words = _command_line(process)
        for spec in specs:
            if spec.marks and set(spec.marks) <= words:
                found.setdefault(spec.name, []).append(process)
    identities = {}
    for name, matches in found.items():
        parents = {_parent_pid(process) for process in matches}
        innermost = [process for process in matches if process.pid not in parents]
        try:
            identities[name] = ProcessIdentity.of(innermost[-1].pid)
        except (ProcessError, IndexError):
            continue  # it ended while we looked
    return identities


def _command_line(process: psutil.Process) -> set[str]:
    try:
        return set() if process.status() == psutil.STATUS_ZOMBIE else set(process.cmdline())
    except (psutil.Error, OSError):
        return set()


def _parent_pid(process: psutil.Process) -> int:
    try:
        return process.ppid()
    except psutil.Error:
        return -1


def last_words(output: Path) -> str:
    """Return the last line of a process's output file as a clause; empty if it said nothing."""
    try:
        with output.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - 4096))
            lines = stream.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"; it said: {last[:500]}" if last else ""
