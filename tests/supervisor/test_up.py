"""The commands up, down, status and restart, as a user calls them: as processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mt5bus.config import Loaded
from supervisor.instance import read_running
from tests.supervisor.stub_system import make_home
from tests.supervisor.up_program import PROGRAM, home_processes
from tests.waiting import eventually

ROOT = PROGRAM.parents[2]
if sys.platform == "win32":
    INTERRUPT = signal.CTRL_BREAK_EVENT
    FLAGS = subprocess.CREATE_NEW_PROCESS_GROUP
else:
    INTERRUPT = signal.SIGINT
    FLAGS = 0


@pytest.fixture
def loaded(tmp_path: Path) -> Iterator[Loaded]:
    loaded = make_home(tmp_path / "höme with space")
    yield loaded
    for identity in home_processes(loaded).values():
        process = identity.find()
        if process is not None:
            process.kill()


def start(loaded: Loaded, *words: str) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MT5_", "MT5BUS_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.supervisor.up_program", *words, "--home", str(loaded.home.path)],
        cwd=ROOT,
        env=environment | {"PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        creationflags=FLAGS,
    )


def wait_until_up(process: subprocess.Popen[str]) -> None:
    stderr = process.stderr
    assert stderr is not None
    running: set[str] = set()
    while len(running) < 3:
        line = stderr.readline()
        assert line, "it ended before everything ran"
        running |= {name for name in ("adapter", "strategy", "ml_logger") if f"{name}: running" in line}


def run(loaded: Loaded, *words: str) -> tuple[int, str, str]:
    with start(loaded, *words) as process:
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err


def status(loaded: Loaded) -> dict[str, object]:
    code, out, err = run(loaded, "status", "--json")
    assert code == 0, err
    document: dict[str, object] = json.loads(out)
    return document


def nothing_runs(loaded: Loaded) -> bool:
    return not home_processes(loaded)


def test_ctrl_c_stops_everything_and_leaves_no_process(loaded: Loaded) -> None:
    with start(loaded, "up") as process:
        eventually(lambda: len(home_processes(loaded)) == 5, timeout_s=30, what="all processes")
        code, out, err = run(loaded, "up")
        assert (code, out) == (1, "")
        assert err.startswith("Error: a system already runs on this home")
        assert err.count("\n") == 1
        wait_until_up(process)
        process.send_signal(INTERRUPT)
        out, err = process.communicate(timeout=10)
        assert process.returncode == 0
        assert err.endswith("mt5bus: stopped\n")
    assert nothing_runs(loaded)


def test_detached_status_restart_and_down(loaded: Loaded) -> None:
    code, _, err = run(loaded, "up", "--detach")
    assert code == 0, err
    document = status(loaded)
    nodes = document["nodes"]
    assert isinstance(nodes, list)
    assert document["state"] == "running"
    wanted = {"name", "state", "pid", "uptime_s", "restarts", "pong_age_s", "cpu_percent", "memory_mb"}
    assert all(wanted <= set(node) for node in nodes)
    assert {"terminal", "account", "streams", "orders", "store"} <= set(document)
    code, out, _ = run(loaded, "status")
    assert code == 0
    assert "adapter running: pid" in out
    old = home_processes(loaded)["ml_logger"]
    assert run(loaded, "restart", "logger")[0] == 0
    eventually(lambda: home_processes(loaded).get("ml_logger", old).pid != old.pid, what="another logger")
    code, _, err = run(loaded, "restart", "nobody")
    assert (code, err) == (1, "Error: there is no process 'nobody': there are terminal, adapter, strategy, ml_logger\n")
    code, _, err = run(loaded, "down")
    assert (code, err.splitlines()[-1]) == (0, "mt5bus: stopped")
    assert nothing_runs(loaded)
    code, _, err = run(loaded, "status")
    assert code == 1
    assert err.startswith("Error: no system runs on the home")
    assert run(loaded, "down")[0] == 0


def test_a_killed_supervisor_is_brought_back_and_adopts(loaded: Loaded) -> None:
    with start(loaded, "up") as process:
        wait_until_up(process)
        before = home_processes(loaded)
        running = read_running(loaded.home)
        assert running is not None
        psutil.Process(running.identity.pid).kill()
        eventually(
            lambda: (found := read_running(loaded.home)) and found.identity != running.identity,
            timeout_s=20,
            what="another supervisor",
        )
        after = home_processes(loaded)
        assert {name: after[name] for name in before if name != "supervisor"} == {
            name: identity for name, identity in before.items() if name != "supervisor"
        }
        process.send_signal(INTERRUPT)
        process.communicate(timeout=20)
        assert process.returncode == 0
    assert nothing_runs(loaded)


def test_down_ends_what_a_killed_supervisor_left(loaded: Loaded) -> None:
    assert run(loaded, "up", "--detach")[0] == 0
    running = read_running(loaded.home)
    assert running is not None
    psutil.Process(running.identity.pid).kill()
    eventually(lambda: "supervisor" not in home_processes(loaded), what="the end of the supervisor")
    assert len(home_processes(loaded)) == 4
    assert run(loaded, "down")[0] == 0
    assert nothing_runs(loaded)


def test_a_failed_start_is_one_line_and_leaves_nothing(loaded: Loaded) -> None:
    (loaded.home.run / "bad-start").touch()
    code, _, err = run(loaded, "up")
    assert code == 1
    last = err.splitlines()[-1]
    assert last.startswith("Error: strategy does not start: exit code 7; it said: Error: the thing is not there")
    assert nothing_runs(loaded)


def test_a_terminal_that_does_not_start_fails_a_detached_start(loaded: Loaded) -> None:
    (loaded.home.run / "bad-terminal").touch()
    code, _, err = run(loaded, "up", "--detach")
    assert code == 1
    assert err.splitlines()[-1] == "Error: terminal does not start: exit code 1; it said: bad settings"
    assert nothing_runs(loaded)


def test_a_detached_start_says_what_works_with_something_missing(loaded: Loaded) -> None:
    (loaded.home.run / "strategy.degraded").touch()
    code, _, err = run(loaded, "up", "--detach")
    assert code == 0
    assert err.splitlines()[-1].startswith("mt5bus: the system runs (but strategy: degraded")
    assert run(loaded, "down")[0] == 0
    assert nothing_runs(loaded)


def test_a_detached_start_that_takes_long_says_what_does_not_work_yet(tmp_path: Path) -> None:
    loaded = make_home(tmp_path / "home", start_deadline_s=3.0)
    (loaded.home.run / "strategy.starting").touch()
    try:
        code, _, err = run(loaded, "up", "--detach")
        assert code == 1
        last = err.splitlines()[-1]
        assert last.startswith("Error: the system was started and goes on trying, but not everything works yet: ")
        assert "strategy: starting" in last
    finally:
        assert run(loaded, "down")[0] == 0
    assert nothing_runs(loaded)


def test_a_port_in_use_is_one_line_and_starts_nothing(loaded: Loaded) -> None:
    port = loaded.settings.bus.port + 2
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        code, _, err = run(loaded, "up")
    assert code == 1
    assert err == (
        f"Error: port {port} (orders) on 127.0.0.1 is in use by another program: set another port in [bus] or"
        " MT5BUS_PORT\n"
    )
    assert nothing_runs(loaded)


def test_a_broken_configuration_is_one_line_and_does_not_keep_down_from_working(loaded: Loaded) -> None:
    assert run(loaded, "up", "--detach")[0] == 0
    file = loaded.home.path / "mt5bus.toml"
    file.write_text("[bus]\nprot = 1\n", encoding="utf-8")
    assert run(loaded, "status")[0] == 0
    code, _, err = run(loaded, "up")
    assert (code, err) == (1, f"Error: {file}: unknown key 'bus.prot'; did you mean 'port'?\n")
    code, _, err = run(loaded, "down")
    assert (code, err.splitlines()[-1]) == (0, "mt5bus: stopped")
    assert nothing_runs(loaded)
