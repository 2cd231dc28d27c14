"""Doing what the schedule says: to processes of this one system only, its connections and its paper terminal."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from mt5bus.chaos.schedule import LINES, Action
from mt5bus.chaos.wire import Wire
from paper_terminal.channel import ChannelBroken, NoTerminal
from paper_terminal.faults import clear_faults, set_fault

_MODULES: Mapping[str, str] = {
    "terminal": "paper_terminal",
    "adapter": "broker_adapter",
    "strategy": "strategy",
    "ml_logger": "ml_logger",
    "supervisor": "supervisor",
    "link:trade": "broker_adapter.link",
    "link:feed": "broker_adapter.link",
    "link:bulk": "broker_adapter.link",
}


class NotNow(Exception):
    """It cannot be done at this moment: there is no such process."""


class Actor:
    """Kills, freezes, injects and disturbs connections.

    Args:
        terminal: Folder of the paper terminal.
        wire: What the bus's connections pass through.
        pids: The system's processes as last known.
        started_s: When the system was started, seconds since 1970: an older process is none of it.
    """

    def __init__(self, terminal: Path, wire: Wire, *, pids: Callable[[], Mapping[str, int]], started_s: float) -> None:
        self._terminal = terminal
        self._wire = wire
        self._pids = pids
        self._started_s = started_s
        self._frozen: dict[str, psutil.Process] = {}
        self._disturbed: set[str] = set()

    @property
    def frozen(self) -> list[str]:
        """What is frozen at this moment."""
        return list(self._frozen)

    def do(self, action: Action) -> None:
        """Do it; what takes time lasts until `undo`.

        Raises:
            NotNow: There is no such process at this moment, it is frozen, or its connections are disturbed already.
        """
        if action.lines:
            self._disturb(action)
            return
        if action.target in self._frozen:
            raise NotNow(f"{action.target} is frozen")
        try:
            if action.kind == "fault":
                self._inject(action)
            elif action.kind == "kill":
                self._process(action.target).kill()
            else:
                process = self._process(action.target)
                process.suspend()
                self._frozen[action.target] = process
        except psutil.Error as error:
            raise NotNow(f"{action.target}: {error}") from error

    def undo(self, action: Action) -> None:
        """End what takes time: let the frozen process go on, or everything pass on the connections again."""
        if action.lines:
            self._wire.heal(action.lines)
            self._disturbed.difference_update(action.lines)
        else:
            self.thaw(action.target)

    def thaw(self, target: str) -> None:
        """Let a frozen process go on; one that was killed meanwhile is fine."""
        process = self._frozen.pop(target, None)
        if process is None:
            return
        try:
            process.resume()
        except psutil.NoSuchProcess:
            return

    def end(self) -> None:
        """Thaw everything, let everything pass and take the faults away.

        Raises:
            NotNow: The terminal does not run at this moment.
        """
        for target in self.frozen:
            self.thaw(target)
        self._wire.heal(LINES)
        self._disturbed.clear()
        try:
            clear_faults(self._terminal)
        except (NoTerminal, ChannelBroken) as error:
            raise NotNow(str(error)) from error

    def _disturb(self, action: Action) -> None:
        if self._disturbed.intersection(action.lines):
            raise NotNow(f"{action.target} is disturbed already")
        if action.kind == "cut":
            self._wire.cut(action.lines)
            return
        self._disturbed.update(action.lines)
        if action.kind == "hold":
            self._wire.hold(action.lines)
        elif action.kind == "refuse":
            self._wire.refuse(action.lines)
        else:
            self._wire.slow(action.lines, action.params["pause_ms"] / 1000)

    def _inject(self, action: Action) -> None:
        if "terminal" in self._frozen:
            raise NotNow("the terminal is frozen")  # it could not answer, and asking has no deadline
        try:
            set_fault(self._terminal, action.target, **action.params)
        except (NoTerminal, ChannelBroken) as error:
            raise NotNow(str(error)) from error

    def _process(self, target: str) -> psutil.Process:
        pid = self._pids().get(target)
        if pid is None:
            raise NotNow(f"no {target} is known")
        process = psutil.Process(pid)
        ours = process.create_time() >= self._started_s and _MODULES[target] in process.cmdline()
        if not ours or process.status() == psutil.STATUS_ZOMBIE:
            raise NotNow(f"process {pid} is no longer {target}")
        return process


def processes_of(home: Path) -> list[psutil.Process]:
    """Return the terminal, nodes and supervisor that run on a home; not who merely names it, such as the harness."""
    return [process for process in psutil.process_iter() if _runs_on(process, str(home))]


def _runs_on(process: psutil.Process, home: str) -> bool:
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    of_home = any(word == home or word.startswith(home + os.sep) for word in words)
    return of_home and any(module in words for module in _MODULES.values())
