"""Programs that the terminal runs: experts and scripts of the start-up file, as real child processes."""

from __future__ import annotations

import codecs
import contextlib
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import paper_terminal.client as client_module
from paper_terminal.programs import read_preset
from tests.paper_terminal.running import RunningTerminal
from tests.waiting import eventually

mt5: Any = client_module

HEARTBEAT = """
    import contextlib, os, time
    import MetaTrader5 as mt5
    from pulse import interval_s
    assert mt5.initialize(), mt5.last_error()
    print("watching", os.environ["MT5BUS_PAPER_SYMBOL"], os.environ["MT5BUS_PAPER_PERIOD"])
    count = 0
    try:
        while True:
            count += 1
            tick = mt5.symbol_info_tick(os.environ["MT5BUS_PAPER_SYMBOL"])
            with open("heartbeat.tmp", "w", encoding="ascii") as file:
                file.write(f"{count} {os.getpid()} {tick.time if tick else 0}")
            with contextlib.suppress(PermissionError):  # Windows: somebody reads it just now
                os.replace("heartbeat.tmp", "heartbeat.txt")
            time.sleep(interval_s())
    finally:
        print("deinit")
"""
PULSE = """
    import json, os
    def interval_s():
        return float(json.loads(os.environ["MT5BUS_PAPER_PARAMETERS"])["IntervalSeconds"])
"""


def log_text(folder: Path, name: str) -> str:
    """Return all of a log folder's text."""
    return "".join(each.read_bytes().decode("utf-16") for each in sorted((folder / name).glob("*.log")))


class Starting:
    """A terminal with a start-up file and programs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "terminal"
        self.ini = folder / "start.ini"

    def program(self, where: str, text: str) -> None:
        path = self.folder / "MQL5" / where
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")

    def preset(self, name: str, text: str) -> None:
        path = self.folder / "MQL5" / "Presets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(codecs.BOM_UTF16_LE + text.encode("utf-16-le"))

    def terminal(self, startup: str, experts: str = "") -> RunningTerminal:
        self.ini.write_text(f"[Experts]\n{experts}\n[StartUp]\n{startup}\n", encoding="utf-8")
        return RunningTerminal(self.folder, arguments=("--startup", str(self.ini)))

    def heartbeat(self) -> tuple[int, int]:
        """Return count and process number of the heartbeat file, (0, 0) before the first beat."""
        try:
            count, pid, _ = (self.folder / "MQL5/Files/heartbeat.txt").read_text(encoding="ascii").split()
        except OSError:
            return 0, 0
        return int(count), int(pid)

    def journal(self) -> str:
        return log_text(self.folder, "logs")

    def output(self) -> str:
        return log_text(self.folder, "MQL5/Logs")


@pytest.fixture
def starting(tmp_path: Path) -> Starting:
    starting = Starting(tmp_path)
    starting.program("Experts/Watch/Heartbeat.py", HEARTBEAT)
    starting.program("Experts/Watch/pulse.py", PULSE)
    starting.preset("beat.set", "; saved\r\nIntervalSeconds=0.01||0.01||0.1||1||N\r\nUnused=2\r\n")
    return starting


HEARTBEAT_STARTUP = "Expert=Watch\\Heartbeat\nExpertParameters=beat.set\nSymbol=GBPUSD\nPeriod=M5"


@contextlib.contextmanager
def beating(starting: Starting) -> Iterator[tuple[RunningTerminal, psutil.Process]]:
    with starting.terminal(HEARTBEAT_STARTUP) as terminal:
        eventually(lambda: starting.heartbeat()[0] > 3, what="the heartbeat")
        expert = psutil.Process(starting.heartbeat()[1])
        yield terminal, expert
        eventually(lambda: not expert.is_running(), what="the end of the expert with its terminal")


def test_an_expert_beats_in_a_file_and_ends_with_its_terminal(starting: Starting) -> None:
    with beating(starting) as (terminal, _):
        count, pid = starting.heartbeat()
        eventually(lambda: starting.heartbeat()[0] > count + 3, what="further beats")
        assert starting.heartbeat()[1] == pid
        assert terminal.stop() == 0
    assert "Heartbeat (GBPUSD,M5)\twatching GBPUSD M5\r\n" in starting.output()
    assert "Heartbeat (GBPUSD,M5)\tdeinit\r\n" in starting.output()
    assert "Traceback" not in starting.output()
    for line in ("loaded successfully", "removed"):
        assert f"Experts\texpert Heartbeat (GBPUSD,M5) {line}\r\n" in starting.journal()
    assert f'Startup\tsuccessfully initialized from start config "{starting.ini}"' in starting.journal()


def test_an_expert_ends_with_a_killed_terminal(starting: Starting) -> None:
    with beating(starting) as (terminal, _):
        terminal.kill()


def test_an_expert_keeps_its_charts_symbol_in_market_watch(starting: Starting) -> None:
    with beating(starting) as (terminal, _):
        assert mt5.initialize(str(terminal.folder))
        assert not mt5.symbol_select("GBPUSD", False)
        assert mt5.symbol_select("EURUSD", False)
        mt5.shutdown()
        terminal.kill()


def test_an_expert_that_does_not_end_is_killed(starting: Starting) -> None:
    starting.program(
        "Experts/Stubborn.py",
        """
        import os, signal, time
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with open("heartbeat.tmp", "w") as file:
            file.write(f"9 {os.getpid()} 0")
        os.replace("heartbeat.tmp", "heartbeat.txt")
        while True:
            time.sleep(0.05)
        """,
    )
    with starting.terminal("Expert=Stubborn") as terminal:
        eventually(lambda: starting.heartbeat()[0] == 9, what="the expert")
        expert = psutil.Process(starting.heartbeat()[1])
        assert terminal.stop() == 0
        assert not expert.is_running()
    assert "expert Stubborn (EURUSD,H1) removed" in starting.journal()


def test_automated_trading_off_starts_no_expert(starting: Starting) -> None:
    with starting.terminal(HEARTBEAT_STARTUP, experts="Enabled=0") as terminal:
        eventually(lambda: "expert Heartbeat" in starting.journal(), what="the journal's line")
        assert mt5.initialize(str(terminal.folder))
        assert mt5.terminal_info().trade_allowed is False
        mt5.shutdown()
        assert terminal.stop() == 0
    assert "automated trading is disabled: expert Heartbeat (GBPUSD,M5) is not started" in starting.journal()
    assert starting.heartbeat() == (0, 0)


@pytest.mark.parametrize("name", ["Missing", "..\\Files\\Outside"])
def test_a_missing_program_is_in_the_journal(starting: Starting, name: str) -> None:
    starting.program("Files/Outside.py", "print('never')")
    with starting.terminal(f"Expert={name}\nSymbol=EURUSD") as terminal:
        eventually(lambda: "failed to load" in starting.journal(), what="the journal's line")
        assert terminal.stop() == 0
    title = name.rpartition("\\")[2]
    assert f"expert {title} (EURUSD,H1) failed to load: MQL5/Experts/{name}.py not found" in starting.journal()
    assert starting.output() == ""


def test_an_unknown_symbol_has_no_chart(starting: Starting) -> None:
    with starting.terminal("Expert=Watch\\Heartbeat\nSymbol=NOSUCH") as terminal:
        eventually(lambda: "no chart for NOSUCH" in starting.journal(), what="the journal's line")
        assert terminal.stop() == 0


def test_a_script_runs_once_and_may_shut_the_terminal_down(starting: Starting) -> None:
    starting.program("Scripts/Once.py", "import sys\nprint('ça va', sys.path[0].endswith('shim'))\nraise SystemExit(3)")
    with starting.terminal("Script=Once\nShutdownTerminal=1\nSymbol=EURUSD\nPeriod=D1") as terminal:
        assert terminal.process.wait(30) == 0
    assert "Once (EURUSD,D1)\tça va True\r\n" in starting.output()
    assert "Scripts\tscript Once (EURUSD,D1) ended with exit code 3\r\n" in starting.journal()
    assert "Scripts\tscript Once (EURUSD,D1) removed\r\n" in starting.journal()


def test_a_failing_script_leaves_its_traceback_and_the_terminal(starting: Starting) -> None:
    starting.program("Scripts/Broken.py", "import MetaTrader5\nprint('x' * 100_000)\nraise ValueError('oops')")
    with starting.terminal("Script=Broken") as terminal:
        eventually(lambda: "script Broken (EURUSD,H1) removed" in starting.journal(), what="the script's end")
        assert "ValueError: oops" in starting.output()
        assert terminal.process.poll() is None


def test_a_password_in_the_environment_reaches_no_program(starting: Starting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MT5_PASSWORD", "s3cret")
    starting.program("Scripts/Show.py", "import os\nprint(sorted(os.environ.items()))")
    with starting.terminal("Script=Show") as terminal:
        eventually(lambda: "script Show (EURUSD,H1) removed" in starting.journal(), what="the script's end")
        assert terminal.stop() == 0
    assert "MT5BUS_PAPER_PROGRAM" in starting.output()
    assert "s3cret" not in starting.output()


def test_presets_are_read_in_either_encoding(tmp_path: Path) -> None:
    text = ";comment=1\r\nLots=0.10||0.10||0.01||1.00||N\r\nName=a = b\r\nEmpty=\r\nno parameter\r\n"
    for data in (codecs.BOM_UTF16_LE + text.encode("utf-16-le"), text.encode("utf-8-sig"), text.encode("ascii")):
        (tmp_path / "a.set").write_bytes(data)
        assert read_preset(tmp_path / "a.set") == {"Lots": "0.10", "Name": "a = b", "Empty": ""}
