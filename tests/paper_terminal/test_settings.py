"""The settings file: read, checked, written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paper_terminal.cli import effective_settings
from paper_terminal.settings import SETTINGS_FILE, AccountSettings, FeedSettings, Settings, SettingsError, load, save


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    settings = Settings(
        accounts=(AccountSettings(name='Anna "A" Müller \\ 1'),), suffix=".m", market_watch=("EURUSD",), server_time=-90
    )
    save(settings, tmp_path / SETTINGS_FILE)
    assert load(tmp_path / SETTINGS_FILE) == settings


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("sufix = '.m'", "sufix"),
        ("suffix = 1", "suffix"),
        ("suffix = ", "Invalid value"),
        ("server_time = 'mars'", "mars"),
        ("[[accounts]]\nmargin_mode = 3", "hedging"),
        ("[[accounts]]\nlogin = 1\n[[accounts]]\nlogin = 1", "twice"),
        ("[feed]\nspeed = 0", "speed"),
        ("[feed]\nkind = 'files'", "files"),
        ("market_watch = ['NOSUCH']", "NOSUCH"),
    ],
)
def test_bad_settings_are_refused_in_one_line_naming_the_file(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load(path)
    message = str(caught.value)
    assert word in message
    assert message.startswith(str(path))
    assert "\n" not in message


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load(tmp_path / "none.toml")


def test_feed_files_are_relative_to_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("[feed]\nkind = 'files'\nfiles = [{symbol = 'EURUSD', paths = ['a.zip']}]", encoding="utf-8")
    assert load(path).feed.files[0].paths == (str(tmp_path / "a.zip"),)


def test_options_win_over_files_and_are_kept(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("suffix = '.a'\nhistory_days = 2.0\n", encoding="utf-8")
    options: dict[str, Any] = {"suffix": ".b", "speed": "max", "seed": None, "server_time": "120"}
    settings = effective_settings(tmp_path, config, options)
    assert (settings.suffix, settings.history_days, settings.feed.speed, settings.server_time) == (
        ".b",
        2.0,
        "max",
        120,
    )
    assert effective_settings(tmp_path, None, {}) == settings


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    assert effective_settings(tmp_path, None, {}) == Settings()
    assert not (tmp_path / SETTINGS_FILE).exists()
    assert Settings().feed == FeedSettings()
