"""What only Windows has, with its calls in the test's hands."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mt5bus import windows
from mt5bus.errors import ProcessError
from mt5bus.files import replace_with_retry
from mt5bus.windows import BasicLimits, ExtendedLimits, KillOnCloseJob


class FakeKernel32:
    def __init__(self, *, failing: str = "") -> None:
        self.failing = failing
        self.flags = 0
        self.members: list[int] = []

    def CreateJobObjectW(self, _attributes: None, _name: None) -> int:
        return 0 if self.failing == "create" else 11

    def SetInformationJobObject(self, job: int, kind: int, limits: Any, size: int) -> int:
        assert (job, kind, size) == (11, 9, ctypes.sizeof(ExtendedLimits))
        self.flags = limits._obj.BasicLimitInformation.LimitFlags
        return 0 if self.failing == "set" else 1

    def AssignProcessToJobObject(self, job: int, process: int) -> int:
        assert job == 11
        self.members.append(process)
        return 0 if self.failing == "assign" else 1

    def GetCurrentProcess(self) -> int:
        return -1

    def IsProcessInJob(self, _process: int, _job: None, answer: Any) -> int:
        answer._obj.value = 1
        return 1


@pytest.mark.skipif(ctypes.sizeof(ctypes.c_void_p) != 8, reason="64 bit only")
def test_the_structures_have_the_size_windows_expects() -> None:
    assert ctypes.sizeof(BasicLimits) == 64
    assert ctypes.sizeof(ExtendedLimits) == 144


def test_a_job_kills_its_members_when_it_closes() -> None:
    kernel32 = FakeKernel32()
    KillOnCloseJob(kernel32).add(42)
    assert kernel32.flags == windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
    assert kernel32.members == [42]


@pytest.mark.parametrize("failing", ["create", "set", "assign"])
def test_what_windows_refuses_is_an_error(failing: str) -> None:
    with pytest.raises(ProcessError, match="Windows refused"):
        KillOnCloseJob(FakeKernel32(failing=failing)).add(42)


def test_a_foreign_job_is_noticed() -> None:
    assert windows.in_a_job(FakeKernel32())


@pytest.mark.skipif(sys.platform == "win32", reason="there it is")
def test_kernel32_is_refused_elsewhere() -> None:
    with pytest.raises(ProcessError, match="on Windows only"):
        windows.load_kernel32()


class FakeRun:
    def __init__(self, *, icacls: int = 0) -> None:
        self.commands: list[list[str]] = []
        self._icacls = icacls

    def __call__(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        self.commands.append(command)
        if "whoami" in command[0]:
            return subprocess.CompletedProcess(command, 0, b'"PC\\J\xc3\xb6rg","S-1-5-21-7"\r\n')
        return subprocess.CompletedProcess(command, self._icacls, b"")


def test_an_elevated_process_gives_the_folder_to_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_elevated", lambda: True)
    run = FakeRun()
    windows.make_private_folder(tmp_path / "keys", run=run)
    assert run.commands[1][1:] == [str(tmp_path / "keys"), "/inheritance:r", "/grant:r", "*S-1-5-21-7:(OI)(CI)F"]
    with pytest.raises(OSError, match="icacls refused"):
        windows.make_private_folder(tmp_path / "other", run=FakeRun(icacls=5))


def test_otherwise_the_folder_is_private_by_its_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_PRIVATE_MKDIR_SINCE", {})
    run = FakeRun()
    windows.make_private_folder(tmp_path / "keys", run=run)
    assert (tmp_path / "keys").is_dir()
    assert run.commands == []


class Scanner:
    """Stands in for a virus scanner that holds a file open for a while."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self, source: Path, target: Path) -> None:
        if self.left:
            self.left -= 1
            raise PermissionError(13, "in use")
        source.replace(target)


def test_a_file_that_is_held_open_for_a_moment_is_replaced_in_the_end(tmp_path: Path) -> None:
    (tmp_path / "new").write_text("new", encoding="utf-8")
    waits: list[float] = []
    replace_with_retry(tmp_path / "new", tmp_path / "old", replace=Scanner(4), tries=10, wait_s=waits.append)
    assert (tmp_path / "old").read_text(encoding="utf-8") == "new"
    assert len(waits) == 4


def test_a_file_that_stays_open_is_an_error_in_the_end(tmp_path: Path) -> None:
    with pytest.raises(PermissionError):
        replace_with_retry(tmp_path / "a", tmp_path / "b", replace=Scanner(99), tries=10, wait_s=lambda _: None)
