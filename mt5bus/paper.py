"""The way to the paper terminal: its settings from the table `[paper]`, and its own command line.

Its modules are imported only when one of these is called: nothing else of ours knows the paper terminal.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

import click
import msgspec

from mt5bus.config import Loaded
from mt5bus.errors import ConfigError, ProcessError


def settings_file(loaded: Loaded) -> Path:
    """Return where the [paper] table is handed to the paper terminal: among its own files, for it holds passwords."""
    return loaded.home.terminal / "from-mt5bus.toml"


def check_settings(loaded: Loaded) -> None:
    """Let the paper terminal judge the table [paper] before anything is started; a real terminal has none.

    Raises:
        ConfigError: An unknown key or a bad value.
        ProcessError: The paper terminal is not part of this installation.
    """
    if loaded.settings.terminal.kind != "paper":
        return
    settings = _module("paper_terminal.settings")
    try:
        msgspec.convert(loaded.settings.paper, settings.Settings).check()
    except (msgspec.ValidationError, settings.SettingsError) as error:
        text = str(error).replace("`$", "`paper")
        raise ConfigError(f"{loaded.file or 'the configuration'}: table [paper]: {text}") from error


def write_settings(loaded: Loaded) -> None:
    """Write the [paper] table as a file of its own, which the paper terminal reads.

    Raises:
        OSError: The disk refuses.
    """
    if loaded.settings.terminal.kind == "paper" and loaded.settings.paper:
        settings_file(loaded).write_text(toml_text(loaded.settings.paper), encoding="utf-8", newline="\n")


def run_paper_command(arguments: Sequence[str]) -> None:
    """Run `python -m paper_terminal` with these arguments in this process; it exits as the paper terminal does.

    Raises:
        ProcessError: The paper terminal is not part of this installation.
    """
    paper_command().main(list(arguments), prog_name="mt5bus paper")


def paper_command() -> click.Command:
    """Return the paper terminal's own command line.

    Raises:
        ProcessError: The paper terminal is not part of this installation.
    """
    command = _module("paper_terminal.cli").main
    if not isinstance(command, click.Command):
        raise ProcessError("the paper terminal of this version has no command line")
    return command


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ProcessError(f"the paper terminal cannot be loaded ({error}): install with run.sh or run.ps1") from error


def toml_text(table: Mapping[str, object]) -> str:
    """Return a table as TOML, one line a key."""
    return "".join(f"{_key(key)} = {_value(value)}\n" for key, value in table.items())


def _key(key: str) -> str:
    return _text(key)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(inner) for inner in value) + "]"
    if isinstance(value, int | float):
        return repr(value)
    return str(value)  # the dates and times of TOML


def _text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(sign if sign >= " " and sign != "\x7f" else f"\\u{ord(sign):04x}" for sign in escaped) + '"'
