"""A terminal process for tests: started on a folder, ended with it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from paper_terminal.channel import Channel, NoTerminal
from paper_terminal.settings import SETTINGS_FILE, FeedSettings, Settings, save
from paper_terminal.wire import IPC_FILE
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
QUICK = Settings(history_days=0.02, feed=FeedSettings(ticks_per_second=20.0))
"""Half an hour of history and a lively market: starts at once."""


def environment() -> dict[str, str]:
    """Return an environment in which a child finds the packages under test."""
    return dict(os.environ) | {"PYTHONPATH": str(ROOT)}


class RunningTerminal:
    """A terminal process on a folder."""

    def __init__(self, folder: Path, settings: Settings = QUICK, *, arguments: Sequence[str] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save(settings, folder / SETTINGS_FILE)
        self.folder = folder
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> RunningTerminal:
        """Start the process and wait until it answers."""
        (self.folder / IPC_FILE).unlink(missing_ok=True)
        with (self.folder / "test.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "paper_terminal", "--path", str(self.folder), *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(),
            )
        eventually(self._answers, timeout_s=30, what="the terminal")
        return self

    def _answers(self) -> bool:
        assert self.process.poll() is None, (self.folder / "test.log").read_text(encoding="utf-8")
        try:
            Channel(self.folder).close()
        except NoTerminal:
            return False
        return True

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def kill(self) -> None:
        """End it as kill -9 does."""
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """Ask it to end; return its exit code."""
        self.process.terminate()
        return self.process.wait(10)

    def __enter__(self) -> RunningTerminal:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()


def kill_started(folder: Path) -> None:
    """End every terminal that was started on a folder, those included that wait for the first one's end."""

    def none_left() -> bool:
        running = [process for process in psutil.process_iter() if _runs_on(process, folder)]
        for process in running:
            process.kill()
        return not running

    eventually(none_left, what="the end of the terminals")


def _runs_on(process: psutil.Process, folder: Path) -> bool:
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return "paper_terminal" in words and str(folder) in words and process.pid != os.getpid()


def call(channel: Channel, function: str, *arguments: Any) -> Any:
    """Return what the terminal answers; a refusal fails the test."""
    code, value = channel.call(function, list(arguments))
    assert code == 1, (function, code, value)
    return value
