"""What only Windows has: job objects, the error mode, owner-only folders.

Importable everywhere, so that its structures and its decisions are tested on every platform; the calls
themselves go through the `kernel32` handed in, which only Windows can supply.
"""

from __future__ import annotations

import csv
import ctypes
import os
import subprocess
import sys
from ctypes import wintypes
from pathlib import Path
from typing import Any, Final

from mt5bus.errors import ProcessError

JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE: Final = 0x2000
JOB_OBJECT_EXTENDED_LIMIT_INFORMATION: Final = 9
SEM_FAILCRITICALERRORS: Final = 0x0001
SEM_NOGPFAULTERRORBOX: Final = 0x0002
# os.mkdir(mode=0o700) sets an owner-only access list from these patch versions on.
_PRIVATE_MKDIR_SINCE = {(3, 11): 10, (3, 12): 4}


class BasicLimits(ctypes.Structure):
    """JOBOBJECT_BASIC_LIMIT_INFORMATION. Not `wintypes.DWORD`, which has 8 bytes where a C long has."""

    _fields_ = (
        ("PerProcessUserTimeLimit", ctypes.c_int64),
        ("PerJobUserTimeLimit", ctypes.c_int64),
        ("LimitFlags", ctypes.c_uint32),
        ("MinimumWorkingSetSize", ctypes.c_size_t),
        ("MaximumWorkingSetSize", ctypes.c_size_t),
        ("ActiveProcessLimit", ctypes.c_uint32),
        ("Affinity", ctypes.c_size_t),
        ("PriorityClass", ctypes.c_uint32),
        ("SchedulingClass", ctypes.c_uint32),
    )


class ExtendedLimits(ctypes.Structure):
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION: 144 bytes on 64 bit."""

    _fields_ = (
        ("BasicLimitInformation", BasicLimits),
        ("IoInfo", ctypes.c_uint64 * 6),
        ("ProcessMemoryLimit", ctypes.c_size_t),
        ("JobMemoryLimit", ctypes.c_size_t),
        ("PeakProcessMemoryUsed", ctypes.c_size_t),
        ("PeakJobMemoryUsed", ctypes.c_size_t),
    )


class KillOnCloseJob:
    """A job whose members end when its owner does, however that ends.

    Keep it for the owner's whole life: closing or collecting it kills every member.
    """

    def __init__(self, kernel32: Any) -> None:
        """Create the job.

        Args:
            kernel32: `load_kernel32()`, or a stand-in with the same functions.

        Raises:
            ProcessError: Windows refuses to make the job.
        """
        self._kernel32 = kernel32
        self._handle = kernel32.CreateJobObjectW(None, None)
        if not self._handle:
            raise ProcessError(_failed("CreateJobObject"))
        limits = ExtendedLimits()
        limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
        done = kernel32.SetInformationJobObject(
            self._handle, JOB_OBJECT_EXTENDED_LIMIT_INFORMATION, ctypes.byref(limits), ctypes.sizeof(limits)
        )
        if not done:
            raise ProcessError(_failed("SetInformationJobObject"))

    def add(self, process_handle: int) -> None:
        """Put a process into the job, at once after its start and before it has children.

        Raises:
            ProcessError: Windows refuses; the process would outlive its owner, so the caller ends it.
        """
        if not self._kernel32.AssignProcessToJobObject(self._handle, process_handle):
            raise ProcessError(_failed("AssignProcessToJobObject"))


def load_kernel32() -> Any:
    """Return kernel32 with the signatures of every function used here.

    Raises:
        ProcessError: This is not Windows.
    """
    if sys.platform != "win32":
        raise ProcessError("kernel32 exists on Windows only")
    kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel32.CreateJobObjectW.argtypes = (ctypes.c_void_p, wintypes.LPCWSTR)
    kernel32.CreateJobObjectW.restype = wintypes.HANDLE
    kernel32.SetInformationJobObject.argtypes = (wintypes.HANDLE, ctypes.c_int, ctypes.c_void_p, wintypes.DWORD)
    kernel32.SetInformationJobObject.restype = wintypes.BOOL
    kernel32.AssignProcessToJobObject.argtypes = (wintypes.HANDLE, wintypes.HANDLE)
    kernel32.AssignProcessToJobObject.restype = wintypes.BOOL
    kernel32.IsProcessInJob.argtypes = (wintypes.HANDLE, wintypes.HANDLE, ctypes.POINTER(wintypes.BOOL))
    kernel32.IsProcessInJob.restype = wintypes.BOOL
    kernel32.GetCurrentProcess.argtypes = ()
    kernel32.GetCurrentProcess.restype = wintypes.HANDLE
    return kernel32


def in_a_job(kernel32: Any) -> bool:
    """Return whether this process runs inside a job of somebody else (scheduler, SSH server, CI)."""
    answer = wintypes.BOOL()
    done = kernel32.IsProcessInJob(kernel32.GetCurrentProcess(), None, ctypes.byref(answer))
    return bool(done and answer.value)


def make_private_folder(folder: Path, *, run: Any = subprocess.run) -> None:
    """Make a folder that only this user, the administrators and the system can open.

    An elevated process would own it as "Administrators" and lock the user out, and old Pythons ignore the
    mode: both grant the user's own SID instead.

    Raises:
        OSError: The folder cannot be made or its access cannot be set.
    """
    since = _PRIVATE_MKDIR_SINCE.get(sys.version_info[:2], 0)
    if sys.version_info.micro >= since and not _elevated():
        folder.mkdir(mode=0o700, exist_ok=True)
        return
    folder.mkdir(exist_ok=True)
    _grant_only_this_user(folder, "(OI)(CI)F", run=run)


def make_private_file(path: Path, *, run: Any = subprocess.run) -> None:
    """Let only this user open a file that is there: it inherits nothing from its folder any more.

    Raises:
        OSError: Its access cannot be set.
    """
    _grant_only_this_user(path, "F", run=run)


def _grant_only_this_user(path: Path, rights: str, *, run: Any) -> None:
    system32 = Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32"
    who = run([str(system32 / "whoami.exe"), "/user", "/fo", "csv", "/nh"], capture_output=True, check=False)
    rows = list(csv.reader(who.stdout.decode("utf-8", "replace").splitlines()))
    if who.returncode or not rows or len(rows[0]) < 2:
        raise OSError(f"whoami does not name the user of {path}; remove it and start not elevated")
    # By the SID: names are translated.
    grant = f"*{rows[0][1]}:{rights}"
    done = run(
        [str(system32 / "icacls.exe"), str(path), "/inheritance:r", "/grant:r", grant],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise OSError(f"icacls refused {path}; from an administrator prompt: icacls {path} /reset /T")


def set_error_mode() -> None:
    """Keep a crash from opening a dialog that holds the process alive; children inherit this."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.SetErrorMode(SEM_FAILCRITICALERRORS | SEM_NOGPFAULTERRORBOX)


def _elevated() -> bool:
    if sys.platform != "win32":
        return False
    return bool(ctypes.WinDLL("shell32").IsUserAnAdmin())


def _failed(function: str) -> str:
    code = 0
    if sys.platform == "win32":
        code = ctypes.get_last_error()
    return f"Windows refused {function} (error {code}): links could outlive the adapter"
