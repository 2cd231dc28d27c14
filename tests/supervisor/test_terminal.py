"""The terminal as a process: command lines, its settings file, finding it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt5bus import paper
from mt5bus.config import Loaded, paper_folder
from mt5bus.home import Home
from mt5bus.secret import Secret
from mt5bus.settings import Settings, Terminal
from paper_terminal.faults import set_fault
from supervisor import terminal
from supervisor.children import AdoptionFile, find_running, last_words
from supervisor.specs import node_specs
from tests.paper_terminal.running import RunningTerminal, kill_started
from tests.waiting import eventually


def loaded_with(home: Path, **values: object) -> Loaded:
    settings = Settings(terminal=Terminal(**values))  # type: ignore[arg-type]
    return Loaded(home=Home(home), file=home / "my.toml", settings=settings, sources={})


def test_the_paper_terminal_runs_from_its_folder_with_its_table(tmp_path: Path) -> None:
    loaded = loaded_with(tmp_path)
    settings = msgspec.structs.replace(loaded.settings, paper={"suffix": ".m"})
    loaded = msgspec.structs.replace(loaded, settings=settings)
    loaded.home.create()
    spec = terminal.terminal_spec(loaded)
    assert spec is not None
    assert spec.command[1:6] == ("-P", "-m", "paper_terminal", "--path", str(tmp_path / "terminal"))
    paper.write_settings(loaded)
    written = Path(spec.command[spec.command.index("--config") + 1])
    assert tomllib.loads(written.read_text(encoding="utf-8")) == {"suffix": ".m"}


def test_a_real_terminal_runs_from_its_own_folder(tmp_path: Path) -> None:
    program = tmp_path / "MetaTrader 5" / "terminal64.exe"
    spec = terminal.terminal_spec(loaded_with(tmp_path, kind="mt5", path=str(program), portable=True))
    assert spec is not None
    assert spec.command == (str(program), "/portable")
    assert spec.folder == program.parent


def test_a_terminal_that_somebody_else_starts_is_left_to_him(tmp_path: Path) -> None:
    assert terminal.terminal_spec(loaded_with(tmp_path, manage=False)) is None


def test_a_running_terminal_is_found_by_its_program(tmp_path: Path) -> None:
    loaded = loaded_with(tmp_path, kind="mt5", path=str(Path(sys.executable).resolve()))
    spec = terminal.terminal_spec(loaded)
    assert spec is not None
    assert terminal.find_terminal(loaded, spec) is not None
    assert terminal.successor_finder(loaded, spec)() is not None
    absent = loaded_with(tmp_path, kind="mt5", path=str(tmp_path / "terminal64.exe"))
    spec = terminal.terminal_spec(absent)
    assert spec is not None
    assert terminal.find_terminal(absent, spec) is None


def test_a_paper_terminal_that_updated_itself_is_found_again(tmp_path: Path) -> None:
    loaded = loaded_with(tmp_path)
    spec = terminal.terminal_spec(loaded)
    assert spec is not None
    folder = paper_folder(loaded)
    find = terminal.successor_finder(loaded, spec)
    assert find() is None
    with RunningTerminal(folder) as running:
        set_fault(folder, "update", ms=0)
        assert running.process.wait(20) == 0
        try:
            found = find()
            assert found is not None
            assert found.pid != running.process.pid
            eventually((folder / "ipc.json").exists, timeout_s=30, what="the terminal's return")
        finally:
            kill_started(folder)


def test_a_terminal_is_asked_to_end() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
    terminal.ask_to_end(process.pid)
    assert process.wait(20) != 0


def test_only_the_adapter_gets_the_password_and_nobody_in_his_arguments(tmp_path: Path) -> None:
    specs = node_specs(loaded_with(tmp_path, password=Secret("canary")))
    assert [b"canary" in spec.stdin for spec in specs] == [True, False, False]
    assert ["--password-on-stdin" in spec.command for spec in specs] == [True, False, False]
    assert "canary" not in repr([spec.command for spec in specs]) + repr(specs)
    assert all(spec.command[-1 - ("--password-on-stdin" in spec.command)].endswith("my.toml") for spec in specs)


scalars = (
    st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8"))
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), values, max_size=5))
def test_a_table_reads_back_as_it_was_written(table: dict[str, object]) -> None:
    assert tomllib.loads(paper.toml_text(table)) == table


def test_dates_are_written_as_toml_has_them() -> None:
    table = tomllib.loads("a = 2026-01-31\nb = 07:30:00\nc = 2026-01-31T07:30:00Z")
    assert tomllib.loads(paper.toml_text(table)) == table


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff", b'{"version": 99, "processes": []}'])
def test_an_adoption_file_that_says_nothing_is_no_error(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "adopted.json"
    if content is not None:
        file.write_bytes(content)
    assert AdoptionFile(file).read() == ()


def test_processes_without_marks_are_never_found(tmp_path: Path) -> None:
    spec = terminal.terminal_spec(loaded_with(tmp_path, kind="mt5", path="x"))
    assert spec is not None
    assert find_running([spec]) == {}


def test_last_words_are_the_last_line_said(tmp_path: Path) -> None:
    assert last_words(tmp_path / "absent") == ""
    (tmp_path / "output").write_text("one\n  two\n\n", encoding="utf-8")
    assert last_words(tmp_path / "output") == "; it said: two"
