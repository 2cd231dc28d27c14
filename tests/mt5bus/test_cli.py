"""The command group, and the commands that belong to no node."""

from __future__ import annotations

import importlib
import json
import logging
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mt5bus.cli import COMMANDS, Command, group
from mt5bus.commands.config import described
from mt5bus.commands.logs import LogReader, pretty
from mt5bus.home import Home
from mt5bus.logs import DailyFile, JsonFormatter
from mt5bus.settings import Settings


def test_help_lists_every_command_without_loading_any(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} was imported")

    monkeypatch.setattr(importlib, "import_module", refuse)
    result = CliRunner().invoke(group, ["--help"])
    assert result.exit_code == 0
    assert all(f"  {name} " in result.output for name in COMMANDS)


def test_the_group_starts_without_heavy_packages() -> None:
    code = "import sys, mt5bus.cli, mt5bus.config, mt5bus.logs, mt5bus.processes; print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True).stdout
    heavy = ("pandas", "sklearn", "numpy", "rich", "zmq", "protocol", "supervisor", "keyring", "sqlalchemy")
    assert not [name for name in heavy if f"'{name}'" in loaded]


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("no_such_package.cli", "is not part of this installation"),
        ("mt5bus.commands.config", "is not in mt5bus.commands.config of this version"),
    ],
)
def test_a_missing_package_breaks_its_own_command_only(
    monkeypatch: pytest.MonkeyPatch, module: str, words: str
) -> None:
    monkeypatch.setitem(COMMANDS, "dataset", Command(module, ""))
    result = CliRunner().invoke(group, ["dataset"])
    assert result.exit_code == 1
    assert words in result.output
    assert CliRunner().invoke(group, ["config"]).exit_code == 0


def test_an_unknown_command_is_wrong_usage() -> None:
    assert CliRunner().invoke(group, ["nonsense"]).exit_code == 2


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in {"halt", "resume", "arm", "inspect"}])
def test_every_command_takes_a_home(name: str) -> None:
    command = group.get_command(click.Context(group), name)
    assert command is not None
    assert any("--home" in parameter.opts for parameter in command.params)


def test_config_shows_values_sources_and_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text('[terminal]\npassword = "canary"\n[bus]\nport = 20000\n', encoding="utf-8")
    environ = {"MT5_SERVER": "Broker-Demo", "MT5BUS_HOME": str(tmp_path)}
    result = CliRunner().invoke(group, ["config", "--config", str(file)], env=environ)
    assert result.exit_code == 0, result.output
    assert "canary" not in result.output
    lines = {line.split(" = ")[0]: line for line in result.output.splitlines()}
    assert lines["bus.port"].split() == ["bus.port", "=", "20000", "#", "file", str(file)]
    assert lines["terminal.server"].endswith("# environment MT5_SERVER")
    as_json = CliRunner().invoke(group, ["config", "--json", "--config", str(file)], env=environ)
    assert json.loads(as_json.output)["terminal.password"] == {"value": "********", "source": f"file {file}"}


def test_a_bad_configuration_is_one_line_on_stderr(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text("[bus]\nport = 1\n", encoding="utf-8")
    result = CliRunner().invoke(group, ["config", "--config", str(file)])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == f"Error: {file}: key 'bus.port': expected `int` >= 1024, got 1\n"


def test_every_key_is_described() -> None:
    lines = list(described())
    assert any(line.startswith("port = 17600  # first of five ports") and "(1024 to 65531)" in line for line in lines)
    keys = [line for line in lines if " = " in line and not line.startswith("#")]
    assert all("  # " in line and len(line.split("  # ")[1]) > 5 for line in keys)
    assert "[adapter.risk]" in lines
    assert len(keys) > 60
    assert Settings() == Settings()


def write_logs(home: Home, node: str, *events: str) -> None:
    home.logs.mkdir(parents=True, exist_ok=True)
    handler = DailyFile(home.logs, node, now=lambda: datetime(2026, 5, 1, tzinfo=UTC))
    handler.setFormatter(JsonFormatter(node))
    for event in events:
        record = logging.makeLogRecord({"msg": event, "levelname": "INFO", "symbol": "EUR USD"})
        handler.handle(record)
    handler.close()


def test_logs_are_merged_by_time(tmp_path: Path) -> None:
    home = Home(tmp_path)
    write_logs(home, "adapter", "first")
    write_logs(home, "strategy", "second")
    write_logs(home, "adapter", "third")
    result = CliRunner().invoke(group, ["logs", "--home", str(tmp_path)])
    assert [line.split()[3] for line in result.output.splitlines()] == ["first", "second", "third"]
    assert 'symbol="EUR USD"' in result.output
    only = CliRunner().invoke(group, ["logs", "adapter", "-n", "1", "--home", str(tmp_path)])
    assert len(only.output.splitlines()) == 1
    assert "third" in only.output


def test_followed_logs_show_what_is_new_also_in_a_new_file(tmp_path: Path) -> None:
    home = Home(tmp_path)
    write_logs(home, "adapter", "first")
    reader = LogReader(home)
    assert len(reader.last(50)) == 1
    assert reader.new() == []
    write_logs(home, "strategy", "second")
    write_logs(home, "adapter", "third")
    with (home.logs / "adapter-2026-05-01.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"time": "half')
    assert [json.loads(line.text)["event"] for line in reader.new()] == ["second", "third"]
    assert reader.new() == []


def test_logs_of_nobody_say_who_there_is(tmp_path: Path) -> None:
    result = CliRunner().invoke(group, ["logs", "--home", str(tmp_path)])
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    write_logs(Home(tmp_path), "adapter", "first")
    result = CliRunner().invoke(group, ["logs", "nobody", "--home", str(tmp_path)])
    assert "there are adapter" in result.output


def test_a_line_that_is_no_record_is_shown_as_it_is() -> None:
    assert pretty("half a line") == "half a line"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_home_and_config(name: str) -> None:
    command = group.get_command(click.Context(group), name)
    assert command is not None
    assert {"home", "config"} <= {param.name for param in command.params}


def test_the_help_of_fault_shows_faults_and_their_arguments() -> None:
    result = CliRunner().invoke(group, ["fault", "--help"])
    assert result.exit_code == 0
    assert all(word in result.output for word in ("--home", "reply_lost", "--function", "--count"))


def test_faults_are_for_the_paper_terminal_that_ran(tmp_path: Path) -> None:
    result = CliRunner().invoke(group, ["fault", "hang", "--home", str(tmp_path)])
    assert result.exit_code == 1
    assert result.output.startswith("Error: no paper terminal has run in")
