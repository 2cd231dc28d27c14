"""The node as a process: it starts, stops on its signal, and says in one line what is wrong with its configuration."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mt5bus.processes import child_environment, module_command
from tests.strategy.samples import example_path
from tests.waiting import eventually


def command(home: Path, text: str) -> list[str]:
    config = home.parent / "mt5bus.toml"
    config.write_text(text, encoding="utf-8")
    return module_command("strategy", "--home", home, "--config", config, "--alone")


def logged(home: Path) -> str:
    return "".join(path.read_text(encoding="utf-8") for path in (home / "logs").glob("strategy-*.jsonl"))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no signal that asks one process to end")
def test_node_starts_without_an_adapter_and_ends_on_its_signal(tmp_path: Path) -> None:
    text = f'[[strategy]]\nname = "mine"\nclass = "{example_path().as_posix()}:ThreeRisingBars"\n'
    process = subprocess.Popen(command(tmp_path / "home", text), env=child_environment())
    try:
        eventually(lambda: "strategy node started" in logged(tmp_path / "home"), timeout_s=30, what="the start")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
        assert "signal SIGTERM" in logged(tmp_path / "home")
    finally:
        process.kill()
        process.wait()


def test_wrong_parameter_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    text = "[[strategy]]\nparams = { treshold = 0.5 }\n"
    done = subprocess.run(
        command(tmp_path / "home", text),
        check=False,
        env=child_environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr == "Error: strategy 'confluence': unknown parameter 'treshold'; did you mean 'threshold'?\n"
