"""The start-up file, the folder's layout and the journal."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from paper_terminal.assembly import open_terminal
from paper_terminal.journal import FOLDERS, Journal, make_layout, told
from paper_terminal.ledger_records import TradeRequest
from paper_terminal.settings import AccountSettings, Settings, SettingsError
from paper_terminal.startup import StartUp, log_in_as_told, read_startup, with_startup

FILE = """[Common]
Login=22
Password=s3cret
Server=Paper-Demo
[Charts]
MaxBars=5000
[Experts]
Enabled=1
AllowLiveTrading=0
[StartUp]
Expert=Examples\\Guard
ExpertParameters=guard.set
Symbol=EURUSD
Period=m5
Script=Once
ScriptParameters=once.set
ShutdownTerminal=1
"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_start_up_file_is_read_in_either_encoding(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "start.ini"
    path.write_bytes(FILE.encode(encoding))
    startup = read_startup(path)
    assert startup == StartUp(
        login=22,
        password="s3cret",
        server="Paper-Demo",
        max_bars=5000,
        trade_allowed=False,
        expert="Examples\\Guard",
        symbol="EURUSD",
        period="M5",
        expert_parameters="guard.set",
        script="Once",
        script_parameters="once.set",
        shutdown_terminal=True,
    )
    assert "s3cret" not in repr(startup)
    settings = with_startup(Settings(), startup)
    assert (settings.max_bars, settings.trade_allowed) == (5000, False)


def test_bad_values_are_ignored_and_no_file_is_an_error_without_the_password(tmp_path: Path) -> None:
    path = tmp_path / "start.ini"
    path.write_text("[Common]\nLogin=abc\n[Charts]\nMaxBars=-4\n[Experts]\n[StartUp]\nPeriod=M7\n", encoding="utf-8")
    assert read_startup(path) == StartUp()
    assert with_startup(Settings(), StartUp()) == Settings()
    path.write_text("Password=s3cret\n", encoding="utf-8")
    with pytest.raises(SettingsError) as refused:
        read_startup(path)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(("password", "login"), [("two", 22), ("", 22), ("wrong", 10_000_001)])
def test_the_account_of_the_file_is_logged_in_to(tmp_path: Path, password: str, login: int) -> None:
    settings = Settings(accounts=(AccountSettings(), AccountSettings(login=22, password="two")), history_days=0.01)
    assembly = open_terminal(tmp_path, settings)
    notes: list[str] = []
    assembly.terminal.note = lambda _source, text: notes.append(text)
    log_in_as_told(assembly.terminal, StartUp(login=22, password=password))
    assembly.store.close()
    assert assembly.terminal.account.login == login
    assert any("refused" in note for note in notes) == (login != 22)


def test_the_journal_is_utf16_with_one_mark(tmp_path: Path) -> None:
    make_layout(tmp_path)
    assert all((tmp_path / each).is_dir() for each in FOLDERS)
    journal = Journal(tmp_path, now=lambda: datetime(2025, 3, 4, 5, 6, 7, 89_000, tzinfo=UTC))
    journal.write("Terminal", "started")
    journal.write("Trades", told(TradeRequest(action=1, symbol="EURUSD", volume=0.1, comment="c")))
    text = (tmp_path / "logs" / "20250304.log").read_bytes().decode("utf-16-le")
    assert text == (
        "\ufeffPT\t0\t05:06:07.089\tTerminal\tstarted\r\n"
        "PT\t0\t05:06:07.089\tTrades\taction 1 EURUSD type 0 volume 0.1\r\n"
    )


def test_a_journal_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(tmp_path / "nowhere")
    journal.write("Terminal", "one")
    journal.write("Terminal", "two")
    assert len(caplog.records) == 1


def test_settings_survive_a_start_up_file() -> None:
    changed = with_startup(Settings(), StartUp(trade_allowed=False))
    assert msgspec.structs.replace(changed, trade_allowed=True) == Settings()
