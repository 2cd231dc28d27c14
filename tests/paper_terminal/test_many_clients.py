"""Many processes on one terminal: arriving together, dying at any point, reading slowly, waiting for a place."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import paper_terminal.client as client_module
from paper_terminal.channel import Channel, NoTerminal
from paper_terminal.faults import list_faults, set_fault
from paper_terminal.settings import FeedSettings, Settings
from paper_terminal.wire import read_address
from tests.paper_terminal.running import QUICK, ROOT, RunningTerminal, call, environment, kill_started
from tests.waiting import eventually

mt5: Any = client_module
DEEP = Settings(history_days=0.1, symbols=QUICK.symbols[:1], feed=FeedSettings(ticks_per_second=60.0), max_clients=2)
"""Some 30 MB of ticks of one symbol, and two places for clients."""


class Script:
    """A client process that says its lines and waits for ours."""

    def __init__(self, folder: Path, code: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + textwrap.dedent(code), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            cwd=ROOT,
            encoding="utf-8",
        )

    def line(self) -> str:
        """Return the next line it says."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go(self) -> None:
        """Let it go on."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """End it as kill -9 does."""
        self.process.kill()
        self.process.communicate(timeout=10)


PRELUDE = """
import json, sys
import paper_terminal.client as mt5
def say(*what): print(*what, flush=True)
def wait(): sys.stdin.readline()
folder = sys.argv[1]
"""


@pytest.fixture
def scripts() -> Iterator[contextlib.ExitStack]:
    """Collect processes that are ended at the end."""
    with contextlib.ExitStack() as stack:
        yield stack


def started(scripts: contextlib.ExitStack, folder: Path, code: str) -> Script:
    script = Script(folder, code)
    scripts.callback(script.kill)
    return script


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with RunningTerminal(tmp_path_factory.mktemp("many") / "terminal", DEEP) as running:
        yield running.folder
    mt5.shutdown()


def test_processes_that_arrive_together_start_one_terminal(tmp_path: Path, scripts: contextlib.ExitStack) -> None:
    folder = tmp_path / "fresh"
    code = "wait(); say(mt5.initialize(folder), mt5.last_error()); say(mt5.positions_total()); wait()"
    clients = [started(scripts, folder, code) for _ in range(4)]
    try:
        for client in clients:
            client.go()
        assert [client.line() for client in clients] == ["True (1, 'Success')"] * 4
        assert [client.line() for client in clients] == ["0"] * 4
    finally:
        kill_started(folder)


def test_hundreds_come_and_go_and_many_stay(tmp_path: Path) -> None:
    with RunningTerminal(tmp_path / "terminal") as running:
        for _ in range(300):
            channel = Channel(running.folder)
            assert call(channel, "symbols_total") == 4
            channel.close()
        with contextlib.ExitStack() as stack:
            channels = [stack.enter_context(contextlib.closing(Channel(running.folder))) for _ in range(200)]
            assert [call(channel, "symbols_total") for channel in channels] == [4] * 200


def test_a_client_killed_in_the_middle_of_a_frame_leaves_nothing(deep: Path, scripts: contextlib.ExitStack) -> None:
    code = """
        from paper_terminal.arguments import trade_request
        from paper_terminal.session import SESSION
        from paper_terminal.wire import Request, frame
        assert mt5.initialize(folder)
        whole = frame(Request("order_send", [trade_request(dict(action=1, symbol="EURUSD", volume=0.1, type=0))]))
        SESSION.channel._socket.sendall(whole[:-5])
        say("half")
        wait()
    """
    for _ in range(3):  # there are two places only: each must be free again
        client = started(scripts, deep, code)
        assert client.line() == "half"
        client.kill()
    assert mt5.initialize(str(deep))
    assert mt5.positions_total() == 0


def test_a_client_killed_in_a_call_leaves_its_effect_and_its_place(deep: Path, scripts: contextlib.ExitStack) -> None:
    assert mt5.initialize(str(deep))
    before = mt5.positions_total()
    set_fault(deep, "slow", functions=("order_send",), ms=300)
    client = started(
        scripts,
        deep,
        """
        assert mt5.initialize(folder)
        say("calling")
        mt5.order_send(action=1, symbol="EURUSD", volume=0.1, type=0)
        """,
    )
    assert client.line() == "calling"
    eventually(lambda: list_faults(deep) == [], what="the call")
    client.kill()
    eventually(lambda: mt5.positions_total() == before + 1, what="the order's effect")
    other = Channel(deep)
    assert call(other, "positions_total") == before + 1
    other.close()
    assert mt5.Close("EURUSD") is True


READS_SLOWLY = """
    from paper_terminal.session import SESSION
    from paper_terminal.wire import Request, frame
    assert mt5.initialize(folder)
    now = mt5.symbol_info_tick("EURUSD").time
    SESSION.channel._socket.sendall(frame(Request("copy_ticks_range", ["EURUSD", 1, now, -1])))
    first = SESSION.channel._socket.recv(1000)
    say(int.from_bytes(first[4:8], "little"))
    wait()
"""


def test_a_slow_reader_holds_up_nobody_and_dies_without_trace(deep: Path, scripts: contextlib.ExitStack) -> None:
    for _ in range(2):
        reader = started(scripts, deep, READS_SLOWLY)
        assert int(reader.line()) > 10_000_000
        assert mt5.initialize(str(deep))
        tick = mt5.symbol_info_tick("EURUSD")
        eventually(lambda: mt5.symbol_info_tick("EURUSD") != tick, what="new ticks beside a slow reader")  # noqa: B023
        assert reader.process.poll() is None
        reader.kill()
        mt5.shutdown()


def test_a_client_too_many_waits_until_one_has_gone(deep: Path, scripts: contextlib.ExitStack) -> None:
    assert mt5.initialize(str(deep))
    second = Channel(deep)
    third = started(scripts, deep, "say('asking'); say(mt5.initialize(folder)); say(mt5.positions_total()); wait()")
    assert third.line() == "asking"
    assert list_faults(deep) == []  # who gives controls needs no place
    assert call(second, "positions_total") == 0
    second.close()
    assert third.line() == "True"
    assert third.line() == "0"
    mt5.shutdown()


def test_login_in_one_process_switches_all_and_accounts_stay_apart(
    tmp_path: Path, scripts: contextlib.ExitStack
) -> None:
    settings = msgspec.structs.replace(QUICK, open_unknown_accounts=True)
    with RunningTerminal(tmp_path / "terminal", settings) as running:
        code = """
            assert mt5.initialize(folder)
            while True:
                say(json.dumps([mt5.account_info().login, mt5.positions_total()]))
                wait()
        """
        others = [started(scripts, running.folder, code) for _ in range(2)]
        assert [json.loads(each.line()) for each in others] == [[10_000_001, 0]] * 2
        assert mt5.initialize(str(running.folder))
        assert mt5.Buy("EURUSD", 0.1).retcode == 10009
        assert mt5.login(77, "secret", "Paper-Demo")
        for each in others:
            each.go()
        assert [json.loads(each.line()) for each in others] == [[77, 0]] * 2
        assert mt5.Buy("EURUSD", 0.2).retcode == 10009
        assert mt5.Buy("GBPUSD", 0.2).retcode == 10009
        mt5.shutdown()
        running.kill()
        running.start()
        assert mt5.initialize(str(running.folder))
        assert (mt5.account_info().login, mt5.positions_total()) == (77, 2)
        assert mt5.login(10_000_001)
        assert [each.volume for each in mt5.positions_get()] == [0.1]
        mt5.shutdown()


def test_the_address_that_a_killed_terminal_leaves_behind_holds_up_nobody(tmp_path: Path) -> None:
    with RunningTerminal(tmp_path / "terminal") as running:
        running.kill()
        left = read_address(running.folder)
        assert left is not None
        with pytest.raises(NoTerminal):
            Channel(running.folder)
        try:
            assert mt5.initialize(str(running.folder)), mt5.last_error()
            assert read_address(running.folder) != left
        finally:
            mt5.shutdown()
            kill_started(running.folder)
