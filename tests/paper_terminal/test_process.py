"""The terminal as a process: attaching, several clients, its death and return, faults."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

import paper_terminal.client as client_module
from paper_terminal.arguments import trade_request
from paper_terminal.channel import Channel, ChannelBroken, NoTerminal
from paper_terminal.cli import main
from paper_terminal.faults import FaultError, clear_faults, list_faults, set_fault
from paper_terminal.settings import AccountSettings
from paper_terminal.wire import HEADER, Reply, Request, frame, read_address
from tests.paper_terminal.running import QUICK, ROOT, RunningTerminal, call, environment, kill_started
from tests.waiting import eventually

mt5: Any = client_module
BUY = {"action": 1, "symbol": "EURUSD", "volume": 0.1, "type": 0}
FOREVER_S = 2_000_000_000


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[RunningTerminal]:
    with RunningTerminal(tmp_path / "terminal") as running:
        yield running
    mt5.shutdown()


@pytest.fixture
def channel(terminal: RunningTerminal) -> Iterator[Channel]:
    connection = Channel(terminal.folder)
    yield connection
    connection.close()


def test_initialize_starts_a_missing_terminal_and_shutdown_leaves_it(tmp_path: Path) -> None:
    folder = tmp_path / "fresh"
    try:
        assert mt5.initialize(str(folder / "terminal64.exe")), mt5.last_error()
        first = read_address(folder)
        assert mt5.terminal_info().data_path == str(folder)
        assert mt5.shutdown() is True
        assert mt5.account_info() is None
        assert mt5.last_error() == (-10004, "No IPC connection")
        assert mt5.initialize(path=str(folder))
        assert read_address(folder) == first
    finally:
        mt5.shutdown()
        kill_started(folder)


def test_initialize_without_a_path_finds_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MT5BUS_PAPER_PATH", raising=False)
    assert mt5.initialize() is False
    assert mt5.last_error() == (-10003, "IPC initialize failed, MetaTrader 5 x64 not found")


def test_a_second_terminal_on_the_same_folder_says_so_and_ends(terminal: RunningTerminal) -> None:
    second = subprocess.run(
        [sys.executable, "-P", "-m", "paper_terminal", "--path", str(terminal.folder)],
        env=environment(),
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=30,
    )
    assert second.returncode == 3
    assert second.stderr.strip().endswith("a terminal is already running from this folder")
    Channel(terminal.folder).close()


def test_bad_settings_are_one_clear_line(tmp_path: Path) -> None:
    config = tmp_path / "bad.toml"
    config.write_text("sufix = '.m'\n", encoding="utf-8")
    command = [sys.executable, "-P", "-m", "paper_terminal", "--path", str(tmp_path / "t"), "--config", str(config)]
    ended = subprocess.run(command, env=environment(), capture_output=True, encoding="utf-8", check=False, timeout=30)
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert "sufix" in ended.stderr


def test_a_termination_signal_ends_it_cleanly(terminal: RunningTerminal) -> None:
    assert terminal.stop() == 0
    assert read_address(terminal.folder) is None


def test_market_data_reaches_the_client(terminal: RunningTerminal) -> None:
    assert mt5.initialize(str(terminal.folder))
    tick = mt5.symbol_info_tick("EURUSD")
    ticks = mt5.copy_ticks_range("EURUSD", 1, FOREVER_S, mt5.COPY_TICKS_ALL)
    assert ticks.flags.owndata
    assert len(ticks) > 1000  # half an hour at the quietest time of day
    assert (np.diff(ticks["time_msc"]) >= 0).all()
    assert ticks["time_msc"][-1] >= tick.time_msc
    assert (ticks["time"] == ticks["time_msc"] // 1000).all()
    bars = mt5.copy_rates_from_pos("EURUSD", mt5.TIMEFRAME_M1, 0, 10)
    assert len(bars) == 10
    assert mt5.copy_rates_from_pos("EURUSD", 7, 0, 10) is None
    assert mt5.last_error() == (-2, "Terminal: Invalid params")
    assert mt5.symbol_info_tick("NOSUCH") is None
    assert mt5.last_error() == (-4, "Terminal: Not found")


def test_what_is_left_for_later_is_unsupported(terminal: RunningTerminal) -> None:
    assert mt5.initialize(str(terminal.folder))
    assert mt5.market_book_get("EURUSD") is None
    assert mt5.last_error() == (-1, "Terminal: Call failed")
    assert mt5.market_book_add("EURUSD") is False


def test_a_symbol_outside_market_watch_has_no_tick_and_no_trade(terminal: RunningTerminal) -> None:
    assert mt5.initialize(str(terminal.folder))
    assert mt5.symbol_select("EURUSD", False)
    assert mt5.symbol_info_tick("EURUSD") is None
    assert mt5.symbol_info("EURUSD").bid == 0.0
    assert mt5.order_send(BUY).retcode == mt5.TRADE_RETCODE_PRICE_OFF
    assert mt5.symbol_select("EURUSD")
    assert mt5.order_send(BUY).retcode == mt5.TRADE_RETCODE_DONE
    assert not mt5.symbol_select("EURUSD", False)
    assert not mt5.symbol_select("NOSUCH")
    assert mt5.last_error() == (-1, "Terminal: Call failed")


def test_the_packages_helpers_trade(terminal: RunningTerminal) -> None:
    assert mt5.initialize(str(terminal.folder))
    assert mt5.Buy("EURUSD", 0.1).retcode == mt5.TRADE_RETCODE_DONE
    assert mt5.Sell("EURUSD", 0.2, comment="s").retcode == mt5.TRADE_RETCODE_DONE
    assert mt5.Close("EURUSD") is True
    assert mt5.positions_get() == ()
    assert mt5.last_error() == (1, "Success")
    assert mt5.Close("EURUSD") is False


def test_login_switches_the_account_for_every_client(tmp_path: Path) -> None:
    second = AccountSettings(login=22, password="pw", balance=50.0)
    settings = msgspec.structs.replace(QUICK, accounts=(AccountSettings(), second))
    with RunningTerminal(tmp_path / "t", settings) as terminal:
        other = Channel(terminal.folder)
        assert mt5.initialize(str(terminal.folder))
        assert mt5.login(22, "wrong") is False
        assert mt5.last_error() == (-6, "Terminal: Authorization failed")
        assert mt5.account_info().login == 10_000_001
        assert mt5.login(22, password="pw", server="Paper-Demo")
        assert call(other, "account_info")[0] == 22
        assert mt5.account_info().balance == 50.0
        assert not mt5.initialize(str(terminal.folder), login=22, password="wrong")
        assert mt5.account_info() is None
        assert mt5.last_error() == (-10004, "No IPC connection")
        terminal.kill()
        other.close()
        terminal.start()
        assert mt5.initialize(str(terminal.folder))
        assert mt5.account_info().login == 22
        mt5.shutdown()


def test_several_clients_are_served_and_a_killed_one_locks_nothing(terminal: RunningTerminal) -> None:
    script = """
        import sys, paper_terminal.client as mt5
        assert mt5.initialize(sys.argv[1]), mt5.last_error()
        for _ in range(20):
            assert mt5.order_send(action=1, symbol="EURUSD", volume=0.01, type=0).retcode == 10009
        print("done", flush=True)
        sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(terminal.folder)]
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(), cwd=ROOT)
        for _ in range(3)
    ]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline().strip() == b"done"
        children[0].kill()
        assert mt5.initialize(str(terminal.folder))
        assert mt5.positions_total() == 60
        assert len({each.ticket for each in mt5.positions_get()}) == 60
    finally:
        for child in children:
            child.kill()
            child.communicate()


def test_a_dead_terminal_fails_as_a_dead_pipe_does(terminal: RunningTerminal) -> None:
    assert mt5.initialize(str(terminal.folder))
    terminal.kill()
    for _ in range(2):
        assert mt5.account_info() is None
        assert mt5.last_error() == (-10001, "IPC send failed")
    terminal.start()
    assert mt5.initialize(str(terminal.folder))


def test_strangers_and_garbage_are_dropped(terminal: RunningTerminal, channel: Channel) -> None:

    address = read_address(terminal.folder)
    assert address is not None
    hello = b"\x92\xa5hello\x93\xa5wrong\x03\xa6Python"
    for garbage in (
        b"GET / HTTP/1.1\r\n\r\n",
        HEADER.pack(4, 0) + b"\xc1\xc1\xc1\xc1",
        HEADER.pack(len(hello), 0) + hello,
    ):
        with socket.create_connection(("127.0.0.1", address.port)) as stranger:
            stranger.settimeout(5)
            stranger.sendall(garbage)
            with contextlib.suppress(ConnectionResetError):
                assert stranger.recv(100) == b""
    code, _ = channel.call("symbol_info_tick", [["not a name"]])
    assert code == -2
    assert call(channel, "positions_total") == 0


def test_pipelined_requests_are_answered_in_turn(terminal: RunningTerminal) -> None:
    address = read_address(terminal.folder)
    assert address is not None
    requests = [Request("hello", [address.token, 3, "Python"]), *[Request("symbols_total", [])] * 3]
    with socket.create_connection(("127.0.0.1", address.port)) as connection:
        connection.settimeout(5)
        connection.sendall(b"".join(map(frame, requests)))
        expected = frame(Reply(1, None)) + frame(Reply(1, 4)) * 3
        received = b""
        while len(received) < len(expected):
            received += connection.recv(1000)
        assert received == expected


def test_the_command_line_gives_and_takes_faults(terminal: RunningTerminal) -> None:
    folder = str(terminal.folder)
    runner = CliRunner()
    assert (
        runner.invoke(main, ["fault", folder, "slow", "--function", "version", "--count", "0", "--ms", "5"]).exit_code
        == 0
    )
    (fault,) = list_faults(terminal.folder)
    assert (fault.name, fault.functions, fault.count, fault.ms) == ("slow", ("version",), None, 5)
    assert '"name":"slow"' in runner.invoke(main, ["faults", folder]).output
    assert runner.invoke(main, ["clear-faults", folder]).exit_code == 0
    assert list_faults(terminal.folder) == []
    terminal.kill()
    failed = runner.invoke(main, ["faults", folder])
    assert failed.exit_code == 1
    assert failed.output.startswith("Error: ")


# Death and return --------------------------------------------------------------------------------------------


# Faults ------------------------------------------------------------------------------------------------------


def test_a_hang_blocks_the_client_with_the_gil_until_it_is_killed(terminal: RunningTerminal) -> None:
    script = """
        import sys, threading, paper_terminal.client as mt5
        assert mt5.initialize(sys.argv[1])
        stop = threading.Event()
        def beat():
            while not stop.wait(0.005):
                print("beat", flush=True)
        threading.Thread(target=beat, daemon=True).start()
        sys.stdin.readline()
        print("calling", flush=True)
        mt5.symbol_info_tick("EURUSD")
        print("returned", flush=True)
    """
    set_fault(terminal.folder, "hang", functions=("symbol_info_tick",))
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(terminal.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
        encoding="utf-8",
    )
    try:
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline() == "beat\n"
        child.stdin.write("go\n")
        child.stdin.flush()
        eventually(lambda: list_faults(terminal.folder) == [], what="the hang")
        assert mt5.initialize(str(terminal.folder))
        assert mt5.symbol_info_tick("EURUSD") is not None
        assert child.poll() is None
    finally:
        child.kill()
        output, _ = child.communicate(timeout=10)
    lines = output.splitlines()
    assert "returned" not in lines
    assert len(lines) - lines.index("calling") <= 3, "the beating thread was frozen too"


def test_a_lost_reply_has_executed(terminal: RunningTerminal) -> None:
    assert mt5.initialize(str(terminal.folder))
    set_fault(terminal.folder, "reply_lost")
    assert mt5.order_send(BUY) is None
    assert mt5.last_error() == (-10002, "IPC recv failed")
    assert mt5.positions_total() is None
    assert mt5.last_error() == (-10004, "No IPC connection")
    assert mt5.initialize(str(terminal.folder))
    assert mt5.positions_total() == 1


@pytest.mark.parametrize("executed", [False, True])
def test_a_crash_before_or_after_the_order(terminal: RunningTerminal, executed: bool) -> None:
    assert mt5.initialize(str(terminal.folder))
    set_fault(terminal.folder, "crash", executed=executed)
    assert mt5.order_send(BUY) is None
    assert mt5.last_error() == (-10002, "IPC recv failed")
    terminal.process.wait(10)
    terminal.start()
    assert mt5.initialize(str(terminal.folder))
    assert mt5.positions_total() == int(executed)


def test_requests_are_refused_count_times(terminal: RunningTerminal) -> None:
    assert mt5.initialize(str(terminal.folder))
    set_fault(terminal.folder, "reject", count=2)
    set_fault(terminal.folder, "requote")
    results = [mt5.order_send(BUY) for _ in range(4)]
    assert [each.retcode for each in results] == [10006, 10006, 10004, 10009]
    assert results[2].ask > results[2].bid > 0
    assert mt5.positions_total() == 1


def test_states_last_until_cleared(terminal: RunningTerminal) -> None:
    assert mt5.initialize(str(terminal.folder))
    set_fault(terminal.folder, "disconnect", count=None)
    assert mt5.terminal_info().connected is False
    assert mt5.order_send(BUY).retcode == 10031
    assert not mt5.initialize(str(terminal.folder), timeout=200)
    assert mt5.last_error() == (-10005, "IPC timeout")
    clear_faults(terminal.folder, "disconnect")
    assert mt5.initialize(str(terminal.folder))
    set_fault(terminal.folder, "trade_off", count=None)
    assert mt5.terminal_info().trade_allowed is False
    assert mt5.order_send(BUY).retcode == 10027
    assert [each.name for each in list_faults(terminal.folder)] == ["trade_off"]
    clear_faults(terminal.folder)
    assert mt5.order_send(BUY).retcode == 10009


def test_a_state_with_a_duration_ends_by_itself(terminal: RunningTerminal) -> None:
    assert mt5.initialize(str(terminal.folder))
    set_fault(terminal.folder, "disconnect", ms=100)
    eventually(lambda: mt5.terminal_info().connected, what="the link to the broker")
    ticks = mt5.copy_ticks_range("EURUSD", 1, FOREVER_S, -1)
    assert (np.diff(ticks["time_msc"]) < 30_000).all()


def test_a_late_fill_comes_after_its_timeout(terminal: RunningTerminal) -> None:
    assert mt5.initialize(str(terminal.folder))
    set_fault(terminal.folder, "late_fill", ms=200)
    assert mt5.order_send(BUY).retcode == 10012
    assert mt5.positions_total() == 0
    eventually(lambda: mt5.positions_total() == 1, what="the late deal")


def test_a_slow_call_delays_only_its_client(terminal: RunningTerminal, channel: Channel) -> None:
    set_fault(terminal.folder, "slow", functions=("account_info",), ms=60_000)
    script = "import sys, paper_terminal.client as m; m.initialize(sys.argv[1]); print(1, flush=True); m.account_info()"
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(terminal.folder)], stdout=subprocess.PIPE, env=environment()
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == b"1"
        eventually(lambda: list_faults(terminal.folder) == [], what="the slow call")
        assert call(channel, "account_info")[0] == 10_000_001
        assert child.poll() is None
    finally:
        child.kill()
        child.communicate()


def test_impossible_faults_are_refused(terminal: RunningTerminal) -> None:
    for name, params in (
        ("explode", {}),
        ("hang", {"count": 0}),
        ("reject", {"functions": ("version",)}),
        ("slow", {"x": 1}),
    ):
        with pytest.raises(FaultError):
            set_fault(terminal.folder, name, **params)


def test_faults_need_a_terminal(tmp_path: Path) -> None:
    with pytest.raises(NoTerminal):
        set_fault(tmp_path, "hang")


def test_a_request_to_a_dead_terminal_was_not_sent(terminal: RunningTerminal, channel: Channel) -> None:
    terminal.kill()
    with pytest.raises(ChannelBroken) as broken:
        channel.call("order_send", [trade_request(BUY)])
    assert broken.value.phase == "send"
