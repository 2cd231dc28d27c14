"""The options that every command shares, and how an expected failure becomes one line.

@click.command()
@common_options
def adapter(home: Path | None, config: Path | None) -> None:
    with one_line_errors():
        loaded = load(home, config)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import click
import msgspec

from mt5bus import config as configuration
from mt5bus import handover, logs
from mt5bus.errors import Mt5busError
from mt5bus.secret import Secret

F = TypeVar("F", bound=Callable[..., object])


def common_options(command: F) -> F:
    """Add `--home DIR` and `--config FILE`, passed as `home` and `config`, each a Path or None."""
    command = click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Configuration file (default: MT5BUS_CONFIG, mt5bus.toml in the home, the checkout's).",
    )(command)
    return click.option(
        "--home",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder of all state (default: MT5BUS_HOME, the platform's local data folder).",
    )(command)


def password_option(command: F) -> F:
    """Add the hidden `--password-on-stdin`, passed as `password_on_stdin`; for the node that logs in."""
    return click.option(
        handover.OPTION, "password_on_stdin", is_flag=True, hidden=True, help="The supervisor hands it over."
    )(command)


def load(
    home: Path | None,
    config: Path | None,
    *,
    password: bool = False,
    password_on_stdin: bool = False,
) -> configuration.Loaded:
    """Load the configuration for a command.

    Args:
        home: `--home`.
        config: `--config`.
        password: Keep the password; only for who logs in or hands it on.
        password_on_stdin: Take it from the starter instead of file, environment and keyring.

    Raises:
        ConfigError: As `mt5bus.config.load`; or nothing came on stdin.
    """
    handed = handover.receive() if password_on_stdin else Secret()
    loaded = configuration.load(home, config, password=password and not password_on_stdin)
    if not password_on_stdin:
        return loaded
    sources = loaded.sources | {configuration.PASSWORD_KEY: "the supervisor"}
    settings = configuration.with_password(loaded.settings, handed)
    return msgspec.structs.replace(loaded, settings=settings, sources=sources)


def captures_folder(loaded: configuration.Loaded) -> Path:
    """Return where captures go by the configuration."""
    named = loaded.settings.captures.folder
    return Path(named).expanduser() if named else loaded.home.captures


def find_capture(loaded: configuration.Loaded, file: Path) -> Path:
    """Return the capture that a command was given: a path, or a name in the folder of captures.

    Raises:
        Mt5busError: There is no such file.
    """
    folder = captures_folder(loaded)
    for path in (file, folder / file):
        if path.is_file():
            return path
    raise Mt5busError(f"the file {file} does not exist, neither here nor in {folder}")


def start_logs(node: str, loaded: configuration.Loaded) -> logs.JsonFormatter:
    """Send this process's records to its daily file, by the configuration, without the password.

    Raises:
        HomeError: The home folder cannot be made.
    """
    settings = loaded.settings
    return logs.setup(
        node,
        loaded.home,
        level=settings.logging.level,
        keep_days=settings.logging.keep_days,
        secrets=(settings.terminal.password,),
    )


@contextmanager
def one_line_errors(*others: type[Exception]) -> Iterator[None]:
    """Turn expected failures into click's one line on stderr and exit code 1.

    Args:
        others: Further expected types, such as `protocol.errors.BusError`.

    Raises:
        click.ClickException: In place of the failure.
    """
    expected: tuple[type[Exception], ...] = (Mt5busError, *others)
    try:
        yield
    except expected as error:
        raise click.ClickException(" ".join(str(error).split())) from error
