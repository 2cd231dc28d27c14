"""The conformance suite, run against the client module and a terminal of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from paper_terminal.cli import main
from paper_terminal.conformance.command import NotReady, conform
from paper_terminal.settings import AccountSettings
from tests.paper_terminal.running import QUICK, RunningTerminal

OPEN_QUESTIONS = {
    "close_by",
    "filled_volume",
    "missing_action",
    "part_seconds_in_ticks",
    "pending",
    "refused_checks",
    "server_offset",
    "spread_of_longer_bars",
    "stops",
    "too_many_bars",
}


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    settings = msgspec.structs.replace(QUICK, history_days=0.6, symbols=QUICK.symbols[:2])
    with RunningTerminal(tmp_path_factory.mktemp("conformance") / "terminal", settings) as running:
        yield running.folder


def test_the_paper_terminal_conforms(terminal: Path) -> None:
    report = conform("paper_terminal.client", path=str(terminal), symbol="EURUSD", trading=True)
    assert report.agrees, "\n".join(report.lines())
    assert {each.name for each in report.of("answered")} == OPEN_QUESTIONS
    assert len(report.of("same")) >= 25


def test_the_command_reports_and_leaves_trading_out_unless_told(terminal: Path) -> None:
    ended = CliRunner().invoke(main, ["--path", str(terminal), "conformance", "--symbol", "GBPUSD"])
    assert ended.exit_code == 0, ended.output
    assert "0 different" in ended.output
    assert "open_and_close" not in ended.output


def test_a_missing_module_or_symbol_is_told(terminal: Path) -> None:
    with pytest.raises(NotReady, match="cannot be imported"):
        conform("no_such_module", path="", symbol="EURUSD", trading=False)
    with pytest.raises(NotReady, match="name another"):
        conform("paper_terminal.client", path=str(terminal), symbol="NOPE", trading=False)


def test_nothing_is_traded_on_a_real_account(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(QUICK, accounts=(AccountSettings(trade_mode=2),))
    with RunningTerminal(tmp_path / "terminal", settings) as running, pytest.raises(NotReady, match="demonstration"):
        conform("paper_terminal.client", path=str(running.folder), symbol="EURUSD", trading=True)
