"""Programs written for MetaTrader 5, run on a paper terminal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from paper_terminal import launch, scripts
from paper_terminal.settings import SETTINGS_FILE, save
from paper_terminal.wire import IPC_FILE
from tests.paper_terminal.running import environment
from tests.waiting import eventually

SCRIPT = """
import sys
import MetaTrader5 as mt5
assert mt5.initialize(login=4711, server="Some-Demo", password="secret"), mt5.last_error()
account = mt5.account_info()
assert (account.login, account.server, account.balance) == (4711, "Some-Demo", 100000.0)
bars = mt5.copy_rates_from_pos("EURUSD", mt5.TIMEFRAME_D1, 0, 50)
assert len(bars) == 50, mt5.last_error()
tick = mt5.symbol_info_tick("EURUSD")
request = {
    "action": mt5.TRADE_ACTION_DEAL, "symbol": "EURUSD", "volume": 0.1, "type": mt5.ORDER_TYPE_BUY,
    "price": tick.ask, "deviation": 100, "type_filling": mt5.ORDER_FILLING_RETURN, "type_time": mt5.ORDER_TIME_GTC,
}
result = mt5.order_send(request)
assert result.retcode == mt5.TRADE_RETCODE_DONE, result
assert mt5.Close("EURUSD") is True
mt5.shutdown()
assert not mt5.initialize(login=4711, server="Some-Demo", password="wrong")
assert mt5.last_error()[0] == -6
sys.exit(len(sys.argv))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a terminal's folder whose terminal ends soon after its last client."""
    home = tmp_path / "home"
    (home / "paper").mkdir(parents=True)
    save(msgspec.structs.replace(scripts.DEMO_SETTINGS, idle_exit_s=0.3), home / "paper" / SETTINGS_FILE)
    return home / "paper"


def paper(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    variables = environment() | {"MT5BUS_HOME": str(folder.parent)}
    variables.pop(launch.PATH_VARIABLE, None)
    command = [sys.executable, "-m", "paper_terminal", *arguments]
    return subprocess.run(command, env=variables, capture_output=True, encoding="utf-8", timeout=60, check=False)


def test_exec_runs_a_program_with_its_arguments_and_exit_code(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "bot.py"
    script.write_text(SCRIPT, encoding="utf-8")
    ended = paper(folder, "exec", str(script), "--lots", "1")
    assert ended.returncode == 3, ended.stderr
    eventually(lambda: not (folder / IPC_FILE).exists(), timeout_s=20, what="the terminal's end")


def test_a_path_of_the_module_is_enough(folder: Path, tmp_path: Path) -> None:
    shim = paper(folder, "shim-dir").stdout.strip()
    variables = environment() | {"MT5BUS_HOME": str(folder.parent), "PYTHONPATH": shim}
    variables.pop(launch.PATH_VARIABLE, None)
    code = (
        "import MetaTrader5 as m, importlib.metadata as d; from MetaTrader5 import *;"
        " assert initialize(path='C:\\\\Program Files\\\\MetaTrader 5\\\\terminal64.exe'), last_error();"
        " assert d.version('MetaTrader5') == m.__version__; print(terminal_info().data_path)"
    )
    command = [sys.executable, "-c", code]
    ended = subprocess.run(
        command, env=variables, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=60, check=False
    )
    assert ended.stdout.strip() == str(folder.resolve()), ended.stderr
    eventually(lambda: not (folder / IPC_FILE).exists(), timeout_s=20, what="the terminal's end")


@pytest.mark.parametrize("options", [["-I"], ["-sE"], ["-W", "error", "-E"], ["-X", "dev", "-I", "-m"]])
def test_an_option_that_hides_the_module_is_refused_with_what_to_do(folder: Path, options: list[str]) -> None:
    ended = paper(folder, "exec", *options, "bot.py")
    assert ended.returncode == 1
    assert "PYTHONPATH" in ended.stderr
    assert not (folder / IPC_FILE).exists()


@pytest.mark.parametrize(
    "command",
    [
        ["-P", "-s", "-c", "x"],
        ["-W", "ignore", "bot.py", "-I"],
        ["-m", "pytest", "-E"],
        ["bot.py", "-E"],
        ["-"],
        ["-WI"],
    ],
)
def test_the_programs_own_arguments_are_no_options_of_python(command: list[str]) -> None:
    scripts.refuse_isolation(command)


def test_a_terminal_that_cannot_start_says_why(folder: Path) -> None:
    (folder / SETTINGS_FILE).write_text("colour = 1\n", encoding="utf-8")
    ended = paper(folder, "exec", "-c", "raise SystemExit(0)")
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"Error: Process create failed {folder}: ")
    assert "unknown field `colour`" in ended.stderr


def test_importing_the_module_never_fails(folder: Path) -> None:
    blocked = folder / "file"
    blocked.touch()
    variables = environment() | {"MT5BUS_HOME": str(blocked), "PYTHONPATH": str(scripts.shim_dir())}
    variables.pop(launch.PATH_VARIABLE, None)
    code = "import MetaTrader5 as m; assert m.initialize() is False; print(m.last_error()[0])"
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, env=variables, capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert ended.stdout == "-10003\n", ended.stderr


def test_a_terminal_elsewhere_means_the_one_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(launch.PATH_VARIABLE, str(tmp_path / "mine"))
    assert launch.folder_of("/nowhere/at/all/terminal64.exe") == (tmp_path / "mine").resolve()
    assert launch.folder_of(str(tmp_path / "terminal64.exe")) == tmp_path.resolve()
    assert launch.folder_of(str(tmp_path / "other")) == (tmp_path / "other").resolve()


DOCUMENTED = """
import MetaTrader5 as mt5
from datetime import datetime, timezone
assert mt5.initialize(), mt5.last_error()
assert mt5.account_info().login == 25115284
for password in ("one", "another"):  # the documents' examples disagree
    assert mt5.login(25115284, password=password, server="MetaQuotes-Demo"), mt5.last_error()
assert mt5.login(17221085) and mt5.account_info().login == 17221085
day = datetime(2020, 1, 10, tzinfo=timezone.utc)
ticks = mt5.copy_ticks_from("EURUSD", day, 100000, mt5.COPY_TICKS_ALL)
assert len(ticks) == 100000 and ticks["time"][0] // 86400 == day.timestamp() // 86400
assert len(mt5.copy_rates_range("GBPUSD", mt5.TIMEFRAME_D1, datetime(2000, 1, 1), datetime(2001, 1, 1))) > 250
print(mt5.__name__, mt5.terminal_info().maxbars)
"""


def test_what_the_documents_examples_take_for_granted_is_there(folder: Path) -> None:
    ended = paper(folder, "exec", "-c", DOCUMENTED)
    assert (ended.returncode, ended.stdout) == (0, "MetaTrader5 100000\n"), ended.stderr
    eventually(lambda: not (folder / IPC_FILE).exists(), timeout_s=20, what="the terminal's end")
