"""Starting, identifying and ending processes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from mt5bus import handover, processes
from mt5bus.errors import ConfigError, ProcessError
from mt5bus.processes import ProcessIdentity
from mt5bus.secret import Secret
from tests.waiting import eventually

WAIT = "import threading; threading.Event().wait()"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "output.txt"


def test_a_node_gets_its_secret_by_stdin_and_not_by_its_environment(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MT5_PASSWORD", "canary")
    code = "import os, sys; print('MT5_PASSWORD' in os.environ, sys.flags.utf8_mode, sys.stdin.readline())"
    process = processes.start_node([sys.executable, "-c", code], output=output, stdin=handover.pack(Secret("canary")))
    assert process.wait(20) == 0
    assert output.read_text(encoding="utf-8") == 'False 1 {"password":"canary"}\n\n'


def test_a_handed_over_password_is_received_once_and_nothing_else_is() -> None:
    assert handover.receive(io.BytesIO(handover.pack(Secret("pä ss\n")))).reveal() == "pä ss\n"
    for wrong in (b"", b"x\n", b"{}\n", b"[1]\n"):
        with pytest.raises(ConfigError, match="no password came on stdin"):
            handover.receive(io.BytesIO(wrong))


def test_a_node_that_ended_before_reading_is_no_error_of_its_starter(output: Path) -> None:
    process = processes.start_node([sys.executable, "-c", "pass"], output=output, stdin=b"x" * 10)
    assert process.wait(20) == 0


def test_a_program_that_is_not_there_is_one_error(output: Path) -> None:
    with pytest.raises(ProcessError, match="/no/such cannot be started"):
        processes.start_node(["/no/such"], output=output)


def test_a_module_is_found_from_anywhere_and_not_shadowed(output: Path, tmp_path: Path) -> None:
    (tmp_path / "mt5bus.py").write_text("raise SystemExit('shadowed')", encoding="utf-8")
    process = processes.start_node(processes.module_command("mt5bus", "--help"), output=output, folder=tmp_path)
    assert process.wait(20) == 0
    assert "Usage: mt5bus" in output.read_text(encoding="utf-8")


def test_an_identity_is_not_another_process_with_the_same_pid() -> None:
    own = ProcessIdentity.own()
    assert own.runs()
    assert not ProcessIdentity(own.pid, own.create_time_s - 10, own.executable).runs()
    with pytest.raises(ProcessError, match="cannot be identified"):
        ProcessIdentity.of(2**22 + 1)


def test_a_process_is_ended_with_what_it_started(output: Path) -> None:
    code = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {WAIT!r}]); print(p.pid); p.wait()"
    process = processes.start_node([sys.executable, "-u", "-c", code], output=output)
    child = int(eventually(lambda: output.read_text(encoding="utf-8").strip(), what="the child's pid"))
    identity = ProcessIdentity.of(process.pid)
    assert processes.end_process(identity)
    assert not identity.runs()
    assert process.wait(10) != 0
    eventually(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie", what="its end")
    assert processes.end_process(identity), "what is gone is gone"


def test_a_process_that_ends_when_asked_is_not_killed(output: Path) -> None:
    code = "import sys; sys.stdin.read(); sys.exit(0)"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert processes.end_process(ProcessIdentity.of(process.pid), ask=process.stdin.close, ask_deadline_s=20)
    assert process.wait(10) == 0


def test_a_link_ends_with_the_process_that_started_it(output: Path, tmp_path: Path) -> None:
    link = f"import sys; from mt5bus.processes import end_with_parent; end_with_parent(int(sys.argv[1])); {WAIT}"
    owner = (
        "import os, sys; from pathlib import Path; from mt5bus.processes import start_link\n"
        f"command = [sys.executable, '-c', {link!r}, str(os.getpid())]\n"
        f"p = start_link(command, output=Path({str(tmp_path / 'link.txt')!r})); print(p.pid, flush=True); {WAIT}"
    )
    process = processes.start_node([sys.executable, "-u", "-c", owner], output=output)
    pid = int(eventually(lambda: output.read_text(encoding="utf-8").strip(), what="the link's pid"))
    identity = ProcessIdentity.of(pid)
    process.kill()
    process.wait(10)
    eventually(lambda: not identity.runs(), what="the end of the link")


def test_a_link_whose_owner_is_gone_does_not_start() -> None:
    if sys.platform == "win32":
        pytest.skip("there the owner's job ends it")
    with pytest.raises(ProcessError, match="that started this one is gone"):
        processes.end_with_parent(os.getpid())


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (7, "exit code 7"),
        (-9, "ended by SIGKILL"),
        (-99, "ended by signal 99"),
        (0x40000015, "libzmq aborted: loopback connections blocked"),
        (0xC000013A, "console closed or interrupted"),
        (-1073741510, "console closed or interrupted"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="signals have names on POSIX only")
def test_exit_codes_are_explained(code: int, words: str) -> None:
    assert words in processes.explain_exit(code)


def test_in_a_windows_environment_the_base_interpreter_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(sys, "_base_executable", r"C:\Python\python.exe", raising=False)
    monkeypatch.setattr(sys, "executable", r"C:\v\Scripts\python.exe")
    command, environment = processes.python_command()
    assert command == r"C:\Python\python.exe"
    assert environment == {"__PYVENV_LAUNCHER__": r"C:\v\Scripts\python.exe"}
    assert processes.broken_environment(103)
    assert not processes.broken_environment(1)


@pytest.mark.skipif(sys.platform != "linux", reason="there the environment can be read in /proc")
def test_a_command_does_not_show_the_password_it_was_given(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "from mt5bus import config\nfrom pathlib import Path\nconfig.hide_password()\n"
        "print('canary-7' in Path('/proc/self/environ').read_text(encoding='utf-8'))\n"
        "print(config.load(password=True).settings.terminal.password.reveal()[::-1])\n"
        "from mt5bus.processes import child_environment\n"
        "print([k for k in child_environment() if 'PASS' in k])"
    )
    process = processes.start_node(
        [sys.executable, "-c", code], output=output, environment={**os.environ, "MT5_PASSWORD": "canary-7"}
    )
    assert process.wait(20) == 0
    assert output.read_text(encoding="utf-8").splitlines() == ["False", "7-yranac", "[]"]
