"""One client process: its threads, signal handlers and children use one connection."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import paper_terminal.client as client_module
from paper_terminal.faults import clear_faults, set_fault
from tests.paper_terminal.running import RunningTerminal, environment

mt5: Any = client_module
SYMBOLS = ("EURUSD", "GBPUSD", "USDJPY", "XAUUSD")


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[RunningTerminal]:
    with RunningTerminal(tmp_path / "terminal") as running:
        assert mt5.initialize(str(running.folder))
        yield running
        mt5.shutdown()


@pytest.mark.usefixtures("terminal")
def test_calls_of_many_threads_never_mix() -> None:
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait(10)
        for turn in range(50):
            name = SYMBOLS[(number + turn) % len(SYMBOLS)]
            assert mt5.symbol_info(name).name == name
            assert len(mt5.copy_rates_from_pos(name, mt5.TIMEFRAME_M1, 0, 5 + number)) == 5 + number

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, number) for number in range(8)]:
            done.result(60)


posix_only = pytest.mark.skipif(sys.platform == "win32", reason="no handler interrupts a call on Windows, and no fork")


@posix_only
def test_a_handler_in_the_middle_of_a_call_may_call_too(terminal: RunningTerminal) -> None:
    set_fault(terminal.folder, "slow", functions=("account_info",), ms=500)
    seen = []

    def handler(_number: int, _frame: FrameType | None) -> None:
        seen.append(mt5.symbol_info("XAUUSD").name)

    assert _interrupted(handler, mt5.account_info).login == 10_000_001
    assert seen == ["XAUUSD"]


@posix_only
def test_after_ctrl_c_in_the_middle_of_a_call_the_next_ones_work(terminal: RunningTerminal) -> None:
    set_fault(terminal.folder, "slow", functions=("account_info",), ms=500)

    def handler(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _interrupted(handler, mt5.account_info)
    clear_faults(terminal.folder)
    assert mt5.positions_get() == ()
    assert mt5.symbol_info("EURUSD").name == "EURUSD"


if sys.platform != "win32":

    def _interrupted(handler: Any, call: Any) -> Any:
        """Return what a call gives that a signal interrupts after 0.1 s."""
        before = signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            return call()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, before)

else:

    def _interrupted(_handler: Any, call: Any) -> Any:
        return call()


@posix_only
def test_a_forked_child_begins_without_a_connection_as_a_spawned_one_does(terminal: RunningTerminal) -> None:
    program = textwrap.dedent("""
        import os, sys
        import paper_terminal.client as mt5
        assert mt5.initialize(sys.argv[1])
        child = os.fork()
        if not child:
            assert mt5.account_info() is None and mt5.last_error()[0] == -10004
            assert mt5.initialize(sys.argv[1]) and mt5.symbol_info("GBPUSD").name == "GBPUSD"
            os._exit(0)
        for _ in range(100):
            assert mt5.symbol_info("EURUSD").name == "EURUSD"
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """)
    command = [sys.executable, "-c", program, str(terminal.folder)]
    ended = subprocess.run(command, env=environment(), capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
