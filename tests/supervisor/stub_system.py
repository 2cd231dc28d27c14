"""A system of small real nodes, on a home and ports of its own."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from mt5bus import config
from mt5bus.config import Loaded
from supervisor.children import ChildSpec

HERE = Path(__file__).resolve().parent
TOML = """
[bus]
port = {port}
[supervisor]
ping_interval_s = 0.1
missed_pongs = 3
backoff_first_s = 0.05
backoff_max_s = 1.0
max_restarts = {max_restarts}
restart_window_s = 60.0
start_deadline_s = {start_deadline_s}
stop_deadline_s = 2.0
"""


def free_ports() -> int:
    """Return the first of five consecutive free ports."""
    for first in range(21000 + (hash(Path.cwd()) % 50) * 100, 30000, 10):
        probes = []
        try:
            for port in range(first, first + 5):
                probe = socket.socket()
                probes.append(probe)
                probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        else:
            return first
        finally:
            for probe in probes:
                probe.close()
    raise AssertionError("no five free ports in a row")


def make_home(folder: Path, *, max_restarts: int = 10, start_deadline_s: float = 10.0) -> Loaded:
    """Write a configuration into a new home and load it."""
    folder.mkdir()
    text = TOML.format(port=free_ports(), max_restarts=max_restarts, start_deadline_s=start_deadline_s)
    (folder / "mt5bus.toml").write_text(text, encoding="utf-8")
    loaded = config.load(folder, environ={})
    loaded.home.create()
    return loaded


def node_spec(loaded: Loaded, name: str, *extra: str, launcher: bool = False) -> ChildSpec:
    """Return how to start a stub node, behind a fake launcher if wanted."""
    home = str(loaded.home.path)
    program = [str(HERE / "node_program.py"), name, "--home", home, *extra]
    start = [str(HERE / "launcher_program.py")] if launcher else []
    return ChildSpec(
        name=name,
        command=(sys.executable, *start, *program),
        output=loaded.home.logs / f"{name}-output.txt",
        marks=(str(HERE / "node_program.py"), name, "--home", home),
    )


def stub_terminal(loaded: Loaded) -> ChildSpec:
    """Return how to start a process that stands for the terminal: it only lives."""
    mark = str(loaded.home.terminal)
    return ChildSpec(
        name="terminal",
        command=(sys.executable, "-c", "import threading; threading.Event().wait()", mark),
        output=loaded.home.logs / "terminal-output.txt",
        marks=(mark,),
    )


def all_specs(loaded: Loaded) -> list[ChildSpec]:
    """Return the three nodes of a whole system."""
    return [node_spec(loaded, name) for name in ("adapter", "strategy", "ml_logger")]
