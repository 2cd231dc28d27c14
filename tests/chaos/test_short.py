"""One short run of the whole harness, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mt5bus.chaos.actions import processes_of
from mt5bus.chaos.configuration import prepare
from mt5bus.errors import ProcessError


def test_a_home_that_exists_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match="exists"):
        prepare(tmp_path, tmp_path, seed=1, minutes=1)


@pytest.mark.parametrize("terminal", [f"kind = 'mt5'\npath = '{sys.executable}'", "api = 'MetaTrader5'"])
def test_any_module_but_the_paper_terminal_is_refused(tmp_path: Path, terminal: str) -> None:
    changes = tmp_path / "mine.toml"
    changes.write_text(f"[terminal]\n{terminal}\n", encoding="utf-8")
    with pytest.raises(ProcessError, match="paper terminal only"):
        prepare(tmp_path, tmp_path / "home", seed=1, minutes=1, changes=changes)
    assert not (tmp_path / "home").exists()


def test_values_of_a_configuration_replace_the_harness_own(tmp_path: Path) -> None:
    changes = tmp_path / "mine.toml"
    changes.write_text("[bus]\nport = 17600\n[adapter.risk]\nmax_orders_per_minute = 7\n", encoding="utf-8")
    settings = prepare(tmp_path, tmp_path / "home", seed=1, minutes=1, changes=changes).settings
    assert settings.adapter.risk.max_orders_per_minute == 7
    assert settings.adapter.risk.max_positions == 40
    assert settings.bus.port != 17600


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.timeout(420)
@pytest.mark.parametrize(("seed", "account"), [(3, ()), (4, ("--netting",))], ids=["hedging", "netting"])
def test_a_short_run_keeps_every_promise(tmp_path: Path, seed: int, account: tuple[str, ...]) -> None:
    home = tmp_path / "home"
    command = [sys.executable, "-P", "-m", "mt5bus", "chaos", "--minutes", "0.4", "--seed", str(seed), *account]
    command += ["--home", str(home)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every promise was kept." in done.stdout
    assert processes_of(home) == []
