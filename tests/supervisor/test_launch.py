"""What `up` finds out before it starts anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from mt5bus import config
from mt5bus.config import Loaded
from mt5bus.errors import ConfigError
from supervisor.launch import check_strategies


def configured(folder: Path, strategy: str) -> Loaded:
    file = folder / "mt5bus.toml"
    file.write_text(f"[[strategy]]\nname = 'mine'\n{strategy}\n", encoding="utf-8")
    return config.load(folder / "home", file, environ={})


@pytest.mark.parametrize(
    ("strategy", "told"),
    [
        ("class = 'strategy.confluence:Confluence'\nparams = { thresold = 1 }", "did you mean 'threshold'"),
        ("class = 'strategy.confluence:Confluence'\nparams = { threshold = 'a' }", "parameter 'threshold'"),
        ("class = 'nowhere.at_all:Mine'", "there is no module 'nowhere.at_all'"),
        ("class = 'mine.py:Mine'", "RuntimeError: boom"),
    ],
)
def test_a_strategy_that_cannot_be_loaded_is_one_line(tmp_path: Path, strategy: str, told: str) -> None:
    (tmp_path / "mine.py").write_text("print('noise')\nraise RuntimeError('boom')\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=f"^strategy 'mine': .*{told}"):
        check_strategies(configured(tmp_path, strategy))


def test_the_reference_strategy_can_be_loaded(tmp_path: Path) -> None:
    check_strategies(configured(tmp_path, "class = 'strategy.confluence:Confluence'"))
