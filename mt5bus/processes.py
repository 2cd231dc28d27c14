"""Everything about processes that differs between platforms: start, identify, end, explain.

Facts this rests on (Windows): `.venv\\Scripts\\python.exe` is a launcher whose pid is not Python's; killing a
parent never kills its children; there is no signal that asks a process to end; a pid may be reused.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import site
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import IO, Any

import msgspec
import psutil

from mt5bus.errors import ProcessError
from mt5bus.handover import PASSWORD_VARIABLE, PIPE_VARIABLE
from mt5bus.windows import KillOnCloseJob, in_a_job, load_kernel32, set_error_mode

log = logging.getLogger(__name__)

SECRET_VARIABLES = (PASSWORD_VARIABLE, PIPE_VARIABLE)
PACKAGES_FOLDER = Path(__file__).resolve().parent.parent

# A creation time read twice differs by rounding only.
_SAME_START_S = 0.05
_PR_SET_PDEATHSIG = 1
_POLL_S = 0.02
_NICER, _NICEST = 10, 19

Starter = Callable[..., "subprocess.Popen[bytes]"]


class ProcessIdentity(msgspec.Struct, frozen=True):
    """A process that cannot be mistaken for a later one with the same pid."""

    pid: int
    create_time_s: float
    """Seconds since the epoch, as the operating system tells it."""
    executable: str

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """Return the identity of a running process.

        Raises:
            ProcessError: There is no such process, or it belongs to somebody else.
        """
        try:
            process = psutil.Process(pid)
            return cls(pid=pid, create_time_s=process.create_time(), executable=_executable(process))
        except (psutil.NoSuchProcess, psutil.AccessDenied) as error:
            raise ProcessError(f"process {pid} cannot be identified: {error}") from error

    @classmethod
    def own(cls) -> ProcessIdentity:
        """Return the identity of this process."""
        return cls.of(os.getpid())

    def find(self) -> psutil.Process | None:
        """Return the process while it runs; None once it is gone, a zombie, or its pid is another's."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.create_time_s) < _SAME_START_S
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return None

    def runs(self) -> bool:
        """Return whether this very process is running."""
        return self.find() is not None


def _executable(process: psutil.Process) -> str:
    try:
        return process.exe()
    except psutil.AccessDenied:
        return ""


def prepare_to_start_others() -> None:
    """Prepare this process to start and outlive others; on Windows also log what may end them all.

    A crash must not open a dialog that keeps a process alive, which children inherit. Inside somebody's job
    (a scheduler, an SSH server, CI) nodes may end with that job and then cannot be adopted.
    """
    set_error_mode()
    if sys.platform == "win32" and in_a_job(load_kernel32()):
        log.warning("this process runs inside a job of another program: if that kills on close, no node survives it")


def python_command() -> tuple[str, dict[str, str]]:
    """Return the Python to start children with, and the variables it needs to find this environment.

    In a Windows virtual environment that is the base interpreter itself, told where it is called from, as
    `multiprocessing` does: one process instead of launcher and child, and `Popen.pid` is Python's own.
    """
    if sys.platform == "win32":
        base = getattr(sys, "_base_executable", None)
        if base and base != sys.executable:
            return str(base), {"__PYVENV_LAUNCHER__": sys.executable}
    return sys.executable, {}


def module_command(module: str, *args: str | Path) -> list[str]:
    """Return the command line that runs one of our modules: `python -P -m module args`."""
    return [python_command()[0], "-P", "-m", module, *(str(arg) for arg in args)]


def child_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment for a child: without secrets, UTF-8, able to import our packages."""
    environment = {key: value for key, value in os.environ.items() if key.upper() not in SECRET_VARIABLES}
    environment |= python_command()[1]
    environment["PYTHONUTF8"] = "1"
    if str(PACKAGES_FOLDER) not in _installed_folders():
        # Run from a checkout that is not installed: -P leaves out the current folder, so name it.
        paths = [str(PACKAGES_FOLDER), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    return environment | dict(extra or {})


def _installed_folders() -> Iterable[str]:
    return (*site.getsitepackages(), site.getusersitepackages())


def start_node(
    command: Sequence[str | Path],
    *,
    output: Path,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    stdin: bytes = b"",
    starter: Starter = subprocess.Popen,
) -> subprocess.Popen[bytes]:
    """Start a process that outlives this one: a node, the supervisor, the terminal.

    It gets a session (Windows: a process group and a hidden console) of its own, so that Ctrl-C here does not
    reach it, and no job, so that it can be adopted.

    Args:
        command: A list, never a shell string.
        output: Its stdout and stderr are appended to this file.
        environment: The whole environment; default `child_environment()`.
        folder: Its working directory; default this process's own.
        stdin: Handed over through a pipe that is then closed: the channel for secrets.
        starter: Stands in for `subprocess.Popen`.

    Raises:
        ProcessError: The operating system refuses to start it.
    """
    flags: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        flags = {
            "creationflags": subprocess.CREATE_NEW_PROCESS_GROUP
            | subprocess.CREATE_NO_WINDOW
            | subprocess.NORMAL_PRIORITY_CLASS
        }
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("ab") as stream:
        process = _start(command, environment, folder, stream, stdin, flags, starter)
    _hand_over(process, stdin)
    return process


def start_link(
    command: Sequence[str | Path],
    *,
    output: Path,
    environment: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    starter: Starter = subprocess.Popen,
) -> subprocess.Popen[bytes]:
    """Start a child that ends with this process, however this one ends.

    Windows: a job that kills on close. Linux and macOS: the child calls `end_with_parent(PID)` first thing.

    Raises:
        ProcessError: The operating system refuses to start it, or to bind its life to ours (then it is ended).
    """
    flags: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        flags = {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.NORMAL_PRIORITY_CLASS}
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("ab") as stream:
        process = _start(command, environment, None, stream, stdin, flags, starter)
    if sys.platform == "win32":
        try:
            # The handle is the only way to the process that no reuse of its pid can mislead.
            _own_job().add(int(process._handle))  # type: ignore[attr-defined]
        except ProcessError:
            process.kill()
            process.wait(10)
            raise
    _hand_over(process, stdin)
    return process


def let_others_go_first(pid: int) -> None:
    """Let other programs have the processors before a link of ours.

    Windows: below normal. Elsewhere: ten steps nicer than we are. A system that refuses is left as it is.
    """
    try:
        if sys.platform == "win32":
            psutil.Process(pid).nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
            return
        level = min(psutil.Process().nice() + _NICER, _NICEST)
        psutil.Process(pid).nice(level)
        # Linux may weigh session against session first: a process's own nice level then counts within its session only.
        group = Path(f"/proc/{pid}/autogroup")
        if group.exists():
            group.write_text(str(level), encoding="ascii")
    except (psutil.Error, OSError) as error:
        log.warning("the priority of a process was not lowered", extra={"reason": str(error)})


def _start(
    command: Sequence[str | Path],
    environment: Mapping[str, str] | None,
    folder: Path | None,
    stream: IO[bytes],
    stdin: bytes,
    flags: dict[str, Any],
    starter: Starter,
) -> subprocess.Popen[bytes]:
    try:
        return starter(
            [str(word) for word in command],
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=dict(environment if environment is not None else child_environment()),
            cwd=folder,
            **flags,
        )
    except OSError as error:
        raise ProcessError(f"{command[0]} cannot be started: {error.strerror or error}") from error


def _hand_over(process: subprocess.Popen[bytes], stdin: bytes) -> None:
    if process.stdin is None:
        return
    try:
        # Small enough for the pipe's buffer, so this never waits for the child to read.
        process.stdin.write(stdin)
        process.stdin.close()
    except OSError:
        # The child is gone already; its exit is noticed where exits are noticed.
        process.stdin = None


_jobs: list[KillOnCloseJob] = []


def _own_job() -> KillOnCloseJob:
    if not _jobs:
        _jobs.append(KillOnCloseJob(load_kernel32()))
    return _jobs[0]


def end_with_parent(parent_pid: int) -> None:
    """Bind this process's life to its parent's; a link calls it before anything else.

    Linux: the kernel kills us when the parent dies. Windows: the parent's job does. macOS has neither: a link
    there also asks `parent_lives` in its loop.

    Raises:
        ProcessError: The parent is gone already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if not parent_lives(parent_pid):
        raise ProcessError(f"the process {parent_pid} that started this one is gone")


def parent_lives(parent_pid: int) -> bool:
    """Return whether the process that started this one is still there; cheap enough for every call."""
    if sys.platform == "win32":
        return True  # the job ends us with it
    return os.getppid() == parent_pid


def end_process(
    identity: ProcessIdentity,
    *,
    ask: Callable[[], None] | None = None,
    ask_deadline_s: float = 0.0,
    kill_deadline_s: float = 10.0,
) -> bool:
    """End a process: ask, wait, kill it and what it started, wait.

    Blocks up to both deadlines: for links and for the final stop, not for a loop that serves.

    Args:
        identity: Which process; a later one with the same pid is left alone.
        ask: Asks it politely (a message on the bus, a window message).
        ask_deadline_s: How long it may take after that, seconds.
        kill_deadline_s: How long a killed process may take to be gone, seconds.

    Returns:
        Whether it is gone. False: something in the kernel holds it; never reuse its files.
    """
    if ask is not None:
        ask()
        if _gone(identity, ask_deadline_s):
            return True
    for process in reversed(process_tree(identity)):
        kill(process)
    return _gone(identity, kill_deadline_s)


def process_tree(identity: ProcessIdentity) -> list[psutil.Process]:
    """Return the process and all it started, parents first; empty once it is gone.

    Taken before killing: a dead parent hides its children.
    """
    process = identity.find()
    if process is None:
        return []
    try:
        return [process, *process.children(recursive=True)]
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return [process]


def kill(process: psutil.Process) -> None:
    """Kill a process at once; one that is gone already is no error.

    Raises:
        ProcessError: It belongs to another user or runs elevated.
    """
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return
    except psutil.AccessDenied as error:
        raise ProcessError(
            f"process {process.pid} cannot be ended: it runs elevated or as another user; run both alike"
        ) from error


def _gone(identity: ProcessIdentity, deadline_s: float) -> bool:
    # psutil's own wait would take a child's exit code away from its `Popen`.
    until, pause = time.monotonic() + deadline_s, Event()
    while identity.runs():
        left_s = until - time.monotonic()
        if left_s <= 0:
            return False
        pause.wait(min(left_s, _POLL_S))
    return True


def explain_exit(code: int) -> str:
    """Return what an exit code says about the end of a process, in a few words.

    Never who killed it: codes do not tell (a killer records that itself).
    """
    known = _WINDOWS_CODES.get(code & 0xFFFFFFFF)
    if known:
        return known
    if code < 0:
        try:
            return f"ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"ended by signal {-code}"
    if 100 <= code <= 109 and sys.platform == "win32":
        return f"broken virtual environment (launcher exit {code}): delete .venv and run run.ps1 again"
    return f"exit code {code}"


def broken_environment(code: int) -> bool:
    """Return whether the venv launcher failed before Python ran: restarting cannot help."""
    return sys.platform == "win32" and 100 <= code <= 109


_WINDOWS_CODES = {
    0x40000015: "libzmq aborted: loopback connections blocked or reset by a firewall, VPN or antivirus",
    0xC000013A: "console closed or interrupted",
    0xC0000005: "access violation (see its faults file)",
    0xC0000409: "stack overrun or abort (see its faults file)",
}
