"""Readers that stand still under load: the publisher's memory is bounded, others notice nothing, waking is complete."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from protocol.keys import KeyStore
from tests.integration.conftest import free_ports
from tests.waiting import eventually

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
STOPPED = 8
WELL_OVER_THE_MARK = 160_000  # 100,000 messages wait for one reader; what the kernel holds comes on top
MOST_MB = 60 * STOPPED  # a mark of messages with their headers, for each that stands still

Start = Callable[[str, str], tuple[psutil.Process, Path]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a starter of the programs, by the program's name and one of its own."""
    KeyStore(tmp_path / "keys").ensure()
    port = free_ports()
    running: list[subprocess.Popen[bytes]] = []

    def started(program: str, name: str) -> tuple[psutil.Process, Path]:
        file = tmp_path / f"{name}.json"
        arguments = [program, str(tmp_path / "keys"), str(port), str(file)]
        command = [sys.executable, "-m", "tests.integration.stream_programs", *arguments]
        running.append(subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}))
        return psutil.Process(running[-1].pid), file

    yield started
    for process in running:
        process.kill()
        process.wait(10)


def told(file: Path) -> dict[str, Any]:
    """Return what a program wrote last; nothing before its first word."""
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return found


def test_readers_that_stand_still_cost_the_others_nothing_and_wake_up_whole(start: Start, tmp_path: Path) -> None:
    publisher, published = start("publish", "publisher")
    _, awake = start("read", "awake")
    sleepers = [start("read", f"sleeper{number}") for number in range(STOPPED)]
    files = [file for _, file in sleepers]
    eventually(lambda: all(told(f).get("event") for f in (awake, *files)), timeout_s=90, what="every reader live")
    before = told(published)["ticks"]
    for process, _ in sleepers:
        process.suspend()
    eventually(lambda: told(published)["ticks"] > before + WELL_OVER_THE_MARK, timeout_s=120, what="more than the mark")
    assert publisher.memory_info().rss < MOST_MB * 1_000_000
    (tmp_path / "quiet").touch()
    last: list[dict[str, Any]] = []

    def quiet() -> bool:
        last.append(told(published))
        return len(last) > 100 and last[-1] == last[-100]

    eventually(quiet, timeout_s=30, what="the end of the load")
    end = last[-1]

    def complete(file: Path) -> bool:
        found = told(file)
        counted = found["received"] + found["skipped"]
        return found["event"] == end["events"] and bool(counted == end["ticks"] - found["first"] + 1)

    eventually(lambda: complete(awake), timeout_s=30, what="the undisturbed reader's last tick")
    assert told(awake)["skipped"] == 0, "nobody else's standing still costs it a tick"
    for process, _ in sleepers:
        process.resume()
    eventually(lambda: all(map(complete, files)), timeout_s=90, what="every reader's last tick and event")
    assert all(told(file)["whole"] for file in (awake, *files)), "events in order, once, without a hole"
    assert all(told(file)["skipped"] > 0 for file in files), "what was dropped is counted"
