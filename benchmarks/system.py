"""The whole system in a home of its own, started and stopped as a user does; and the rows measured on it."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from benchmarks import callback, isolation, orders, recovery
from benchmarks.rows import Row
from mt5bus.config import Loaded, load
from mt5bus.connect import client_of
from mt5bus.processes import child_environment
from mt5bus.settings import PORTS_IN_A_ROW
from protocol.client import BusClient

COMMAND_DEADLINE_S = 60.0
_FIRST_PORT, _LAST_PORT = 20_000, 30_000

# Name, base, profit currency, digits, price. Every profit currency has a cross with the dollar among them.
_SYMBOLS = (
    ("EURUSD", "EUR", "USD", 5, 1.10),
    ("GBPUSD", "GBP", "USD", 5, 1.28),
    ("AUDUSD", "AUD", "USD", 5, 0.66),
    ("NZDUSD", "NZD", "USD", 5, 0.61),
    ("USDJPY", "USD", "JPY", 3, 150.0),
    ("USDCAD", "USD", "CAD", 5, 1.36),
    ("USDCHF", "USD", "CHF", 5, 0.88),
    ("EURGBP", "EUR", "GBP", 5, 0.86),
    ("EURJPY", "EUR", "JPY", 3, 165.0),
    ("GBPJPY", "GBP", "JPY", 3, 192.0),
)
TICKS_PER_SECOND = 20.0

# The strategy runs and judges every bar, but asks for a score that no bar reaches: the orders are the benchmark's.
_CONFIG = """
[bus]
port = {port}

[paper]
server_time = "ny+7"
history_days = 0.05
{symbols}
[paper.feed]
kind = "synthetic"
seed = 1
ticks_per_second = {rate}

[adapter]
symbols = [{names}]
timeframes = ["S5"]
server_time = "ny+7"

[adapter.risk]
max_positions = 1000
max_orders_per_minute = 1000000

[[strategy]]
name = "observer"
class = "strategy.confluence:Confluence"
timeframe = "S5"

[strategy.params]
threshold = 1.0
max_spread_ratio = 0.000001

[logger]
backfill_days = 0

[supervisor]
max_restarts = 1000
backoff_first_s = 0.01
backoff_max_s = 0.01
"""


def rows(*, quick: bool) -> list[Row]:
    """Return the rows of the whole system. `quick` does a tenth."""
    with System() as system, system.client() as bus:
        return [
            callback.row(system.loaded(), seconds=3.0 if quick else 30.0),
            orders.row(system.loaded(), bus, count=20 if quick else 100),
            *isolation.rows(system.loaded(), seconds=1.0 if quick else 10.0),
            *recovery.rows(bus, kills=1 if quick else 5),
        ]


class System:
    """A system on ten symbols of the paper terminal. Nothing of it is left at the end, however that comes about."""

    def __init__(self) -> None:
        # Windows may hold a log a moment longer than its process lives.
        self._folder = tempfile.TemporaryDirectory(prefix="mt5bus-benchmark-", ignore_cleanup_errors=True)
        self._home = Path(self._folder.name) / "home"
        self._config = Path(self._folder.name) / "mt5bus.toml"
        self._config.write_text(_config(free_ports()), encoding="utf-8")

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def loaded(self) -> Loaded:
        """Return the effective configuration."""
        return load(self._home, self._config)

    def client(self) -> BusClient:
        """Return a client of the system."""
        return client_of(self.loaded())

    def _start(self) -> None:
        done = self._run("up", "--detach")
        if done.returncode:
            raise RuntimeError(f"the system does not start: {done.stdout}{done.stderr}")
        with self.client() as bus:
            recovery.wait_until_running(bus)

    def _end(self) -> None:
        try:
            self._run("down")
        finally:
            for process in self._processes():
                process.kill()
            self._folder.cleanup()

    def _run(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        places = ["--home", str(self._home), "--config", str(self._config)]
        # A session of its own: Ctrl-C is for this process, which then stops the system in order.
        apart: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        return subprocess.run(
            [sys.executable, "-P", "-m", "mt5bus", command, *places, *arguments],
            capture_output=True,
            encoding="utf-8",
            timeout=COMMAND_DEADLINE_S,
            check=False,
            env=child_environment(),
            **apart,
        )

    def _processes(self) -> list[psutil.Process]:
        """Return what runs with this home on its command line: ours alone, its name was drawn."""
        return [process for process in psutil.process_iter() if str(self._home) in _command_line(process)]


def free_ports() -> int:
    """Return the first of as many free ports in a row as a system takes.

    Raises:
        RuntimeError: There are none.
    """
    for first in range(_FIRST_PORT, _LAST_PORT, PORTS_IN_A_ROW):
        if all(_is_free(first + offset) for offset in range(PORTS_IN_A_ROW)):
            return first
    raise RuntimeError(f"no {PORTS_IN_A_ROW} free ports in a row from {_FIRST_PORT} to {_LAST_PORT}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _config(port: int) -> str:
    symbols = "".join(
        f'[[paper.symbols]]\nname = "{name}"\ncurrency_base = "{base}"\ncurrency_profit = "{profit}"\n'
        f"digits = {digits}\nsynthetic_price = {price}\n"
        for name, base, profit, digits, price in _SYMBOLS
    )
    names = ", ".join(f'"{each[0]}"' for each in _SYMBOLS)
    return _CONFIG.format(port=port, symbols=symbols, names=names, rate=TICKS_PER_SECOND)


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
