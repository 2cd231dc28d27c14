"""A whole system as a user starts it: real processes, real sockets, a home of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from mt5bus.config import Loaded, load
from mt5bus.connect import client_of
from mt5bus.settings import PORTS_IN_A_ROW
from protocol.client import BusClient
from tests.waiting import eventually

UP_TIMEOUT_S = 60.0
_first_port = 20_000 + os.getpid() % 5_000 * 5


def free_ports() -> int:
    """Return the first of five consecutive free ports, below the ephemeral range."""
    global _first_port
    while True:
        _first_port += PORTS_IN_A_ROW
        if all(_is_free(_first_port + offset) for offset in range(PORTS_IN_A_ROW)):
            return _first_port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class System:
    """One system under test, by its command line."""

    def __init__(self, folder: Path, config: str) -> None:
        self.home = folder / "home with space"
        self.config = folder / "mt5bus.toml"
        self.port = free_ports()
        self.config.write_text(config.replace("PORT", str(self.port)), encoding="utf-8")

    def run(self, *arguments: str, timeout_s: float = UP_TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        """Run ``mt5bus ARGUMENTS --home ... --config ...`` to its end."""
        return subprocess.run(
            self.command(*arguments), capture_output=True, encoding="utf-8", timeout=timeout_s, check=False
        )

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of ``mt5bus ARGUMENTS`` on this home."""
        options = ["--home", str(self.home), "--config", str(self.config)]
        return [sys.executable, "-P", "-m", "mt5bus", arguments[0], *options, *arguments[1:]]

    def up(self) -> None:
        """Start everything and leave it running."""
        done = self.run("up", "--detach")
        assert done.returncode == 0, done.stdout + done.stderr + self.tail_of_logs()

    def down(self) -> None:
        """Stop everything; nothing of it may be left."""
        before = self.processes()
        done = self.run("down")
        assert done.returncode == 0, done.stdout + done.stderr
        eventually(lambda: not [p for p in before if _alive(p)], what="the end of every process")
        assert self.processes() == []

    def status(self) -> dict[str, Any]:
        """Return the status document."""
        done = self.run("status", "--json")
        assert done.returncode == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def try_status(self) -> dict[str, Any] | None:
        """Return the status document, or None while nobody answers."""
        done = self.run("status", "--json")
        return json.loads(done.stdout) if done.returncode == 0 else None

    def wait_for(self, check: Callable[[dict[str, Any]], Any], *, timeout_s: float, what: str) -> Any:
        """Return the first truthy `check` of the status document."""

        def look() -> Any:
            document = self.try_status()
            return document is not None and check(document)

        try:
            return eventually(look, timeout_s=timeout_s, what=what)
        except AssertionError as error:
            raise AssertionError(f"{error}\nlast status: {self.try_status()}\n{self.tail_of_logs()}") from error

    def wait_until_healthy(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait until every node and the terminal run and the account is known; return the status."""

        def check(document: dict[str, Any]) -> dict[str, Any] | None:
            return document if healthy(document) else None

        document: dict[str, Any] = self.wait_for(check, timeout_s=timeout_s, what="a healthy system")
        return document

    def loaded(self) -> Loaded:
        """Return the effective configuration."""
        return load(self.home, self.config)

    def client(self) -> BusClient:
        """Return a client of this system."""
        return client_of(self.loaded())

    def pid_of(self, name: str) -> int:
        """Return the process id of a node, of `terminal`, or of `supervisor`."""
        document = self.status()
        if name in {"terminal", "supervisor"}:
            return int(document[name]["pid"])
        return int(next(node["pid"] for node in document["nodes"] if node["name"] == name))

    def processes(self) -> list[psutil.Process]:
        """Return every process that was started for this home."""
        return [p for p in psutil.process_iter() if str(self.home) in _command_line(p) and p.pid != os.getpid()]

    def tail_of_logs(self) -> str:
        """Return the end of every log, for a failure's text."""
        texts = [f"--- {p.name}\n{p.read_text('utf-8', 'replace')[-3000:]}" for p in sorted(self.logs())]
        return "\n".join(texts)

    def logs(self) -> list[Path]:
        """Return the log files."""
        return [p for p in (self.home / "logs").glob("*") if p.is_file()]


def healthy(document: dict[str, Any]) -> bool:
    """Say whether a status document shows a system in order."""
    nodes_run = all(node["state"] == "running" for node in document["nodes"])
    return nodes_run and document["terminal"]["state"] == "running" and bool(document["account"]["login"])


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


SMALL_CONFIG = """
[bus]
port = PORT

[supervisor]
backoff_first_s = 0.2
"""


@pytest.fixture
def make_system(tmp_path: Path) -> Iterator[Callable[[str], System]]:
    """Return a maker of systems from a configuration text, in which ``PORT`` is filled in; they end with the test."""
    made: list[System] = []

    def make(config: str = SMALL_CONFIG) -> System:
        folder = tmp_path / f"system{len(made)}"
        folder.mkdir()
        system = System(folder, config)
        made.append(system)
        return system

    yield make
    for system in made:
        if system.processes():
            system.run("down")
        for process in system.processes():
            process.kill()


@pytest.fixture
def system(make_system: Callable[..., System]) -> System:
    """Return a system with the default configuration on ports of its own, not started."""
    return make_system()
