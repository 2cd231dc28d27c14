"""The table [paper]: judged before anything is started, handed over as a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from mt5bus import config, paper
from mt5bus.cli import group
from mt5bus.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[paper]\nsufix = '.m'", "table [paper]: Object contains unknown field `sufix`"),
        ("[paper.feed]\nkind = 'nosuch'", "table [paper]: Invalid enum value 'nosuch' - at `paper.feed.kind`"),
        ("[paper.feed]\nspeed = -1.0", "table [paper]: feed.speed: must be above 0"),
        ("[[paper.accounts]]\nlogin = 0", "table [paper]: accounts, login 0: must be positive"),
    ],
)
@pytest.mark.parametrize("command", ["up", "paper"])
def test_a_bad_table_is_one_line_and_starts_nothing(tmp_path: Path, command: str, text: str, told: str) -> None:
    (tmp_path / "mt5bus.toml").write_text(text, encoding="utf-8")
    result = CliRunner().invoke(group, [command, "--home", str(tmp_path)])
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {tmp_path / 'mt5bus.toml'}: {told}")
    assert result.output.count("\n") == 1
    assert not (tmp_path / "terminal").exists()


def test_a_real_terminal_has_no_such_table_to_judge(tmp_path: Path) -> None:
    text = "[terminal]\nkind = 'mt5'\nmanage = false\n[paper]\nsufix = '.m'\n"
    (tmp_path / "mt5bus.toml").write_text(text, encoding="utf-8")
    paper.check_settings(config.load(tmp_path, environ={}))


def test_the_default_configuration_is_accepted(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    loaded = config.load(tmp_path, root / "mt5bus.toml", environ={})
    try:
        paper.check_settings(loaded)
    except ConfigError as error:
        pytest.fail(str(error))
