"""A marked password is nowhere: logs, captures, journal, store, command lines, environments, status, errors."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from protocol.captures import Capture
from tests.integration.conftest import System

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

CANARY = "c4nary-Pa55word-7f3e"

CONFIG = f"""
[bus]
port = PORT

[terminal]
login = 4242
server = "Paper-Demo"

[[paper.accounts]]
login = 4242
password = "{CANARY}"
server = "Paper-Demo"
"""


def test_password_is_visible_nowhere(make_system: Callable[..., System]) -> None:
    system = make_system(CONFIG)
    up = subprocess.run(
        system.command("up", "--detach"),
        env={**os.environ, "MT5_PASSWORD": CANARY},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert up.returncode == 0, up.stderr + system.tail_of_logs()
    document = system.wait_until_healthy()
    assert document["account"]["login"] == 4242
    recorded = system.run("record", "--minutes", "0.1")
    frames = [record.frame for path in (system.home / "captures").glob("*.mt5cap") for record in Capture(path)]
    assert frames, recorded.stderr
    assert not [frame for frame in frames if CANARY.encode() in frame]
    shown = [
        recorded.stdout,
        recorded.stderr,
        up.stdout,
        up.stderr,
        str(document),
        system.run("config").stdout,
        system.run("logs").stdout,
    ]
    assert not [text for text in shown if CANARY in text]
    assert _processes_that_show(system, CANARY) == []
    # The broker behind the paper terminal has to know its own accounts' passwords; nobody else may.
    assert _files_that_hold(system.home, CANARY, besides=system.home / "terminal") == []
    system.down()


def _processes_that_show(system: System, secret: str) -> list[str]:
    found = []
    for process in system.processes():
        try:
            texts = [*process.cmdline(), process.name(), *process.environ().values()]
        except psutil.NoSuchProcess:
            continue
        found += [f"{process.pid}: {text[:80]}" for text in texts if secret in text]
    return found


def _files_that_hold(folder: Path, secret: str, *, besides: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file() and besides not in path.parents]
    return [path for path in files if secret.encode() in path.read_bytes()]
