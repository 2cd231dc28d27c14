"""`kill -9` of a node until the supervisor calls its successor ready, beside a bare Python with the same imports."""

from __future__ import annotations

import statistics
import time
from typing import Any

import psutil

from benchmarks import children
from benchmarks.children import wait_until
from benchmarks.rows import Row
from protocol.client import BusClient

_TARGET = 2.0
_BACK_S = 60.0
_LOOK_S = 0.01

MODULES = {
    "adapter": ("broker_adapter.__main__", "broker_adapter.node"),
    "strategy": ("strategy.__main__", "strategy.node", "strategy.confluence"),
    "ml_logger": ("ml_logger.__main__", "ml_logger.node"),
}
"""What the process of each node imports by the time it is ready."""


def rows(bus: BusClient, *, kills: int) -> list[Row]:
    """Return a row for each node of a running system, each killed `kills` times."""
    return [_row(bus, node, modules, kills) for node, modules in MODULES.items()]


def _row(bus: BusClient, node: str, modules: tuple[str, ...], kills: int) -> Row:
    floors, ours = [], []
    for _ in range(kills):
        floors.append(import_ms(modules))
        ours.append(_recovery_ms(bus, node))
    return Row(
        f"kill -9 of {node} to ready, p50 of {kills}",
        "ms",
        statistics.median(floors),
        statistics.median(ours),
        "Python importing its modules",
        _TARGET,
    )


def import_ms(modules: tuple[str, ...]) -> float:
    """Return the milliseconds from the start of a Python process until it has imported `modules`."""
    begun = time.perf_counter()
    process = children.start(["-c", f"import {', '.join(modules)}; print('done', flush=True)"])
    try:
        assert process.stdout
        if process.stdout.readline() != "done\n":
            raise RuntimeError(f"{', '.join(modules)} cannot be imported")
        return (time.perf_counter() - begun) * 1e3
    finally:
        children.end(process)


def _recovery_ms(bus: BusClient, node: str) -> float:
    wait_until_running(bus)
    pid = int(_entry(bus.status(), node)["pid"])
    begun = time.perf_counter()
    psutil.Process(pid).kill()
    for _ in wait_until(_BACK_S, f"{node} back", step_s=_LOOK_S):
        found = _entry(bus.status(), node)
        if found["state"] == "running" and found["pid"] not in {None, pid}:
            break
    return (time.perf_counter() - begun) * 1e3


def wait_until_running(bus: BusClient) -> None:
    """Return once every node and the terminal run and the account is known."""
    for _ in wait_until(_BACK_S, "system in order"):
        document = bus.status()
        if document["state"] == "running" and document["account"]["login"]:
            return


def _entry(document: dict[str, Any], node: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in document["nodes"] if each["name"] == node)
    return found
