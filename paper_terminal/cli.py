"""Command line of the paper terminal: run one, and give a running one faults."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Any

import click
import msgspec
from filelock import FileLock, Timeout

from paper_terminal import faults, scripts
from paper_terminal import settings as configuration
from paper_terminal.assembly import open_terminal
from paper_terminal.channel import ChannelBroken, NoTerminal
from paper_terminal.conformance.command import USUAL_MODULE, NotReady, conform
from paper_terminal.feeds import FeedError
from paper_terminal.journal import PROGRAM_LOG_FOLDER, Journal, make_layout
from paper_terminal.launch import ALREADY_RUNNING, PATH_VARIABLE, LaunchError, start
from paper_terminal.programs import Programs
from paper_terminal.server import Server
from paper_terminal.settings import SETTINGS_FILE, Settings, SettingsError
from paper_terminal.startup import StartUp, log_in_as_told, read_startup, start_programs, with_startup
from paper_terminal.state import StateError

_LOCK_FILE = "terminal.lock"
_LOCK_WAIT_S = 2.0


@click.group(invoke_without_command=True)
@click.option(
    "--path", type=click.Path(file_okay=False, path_type=Path), help="The terminal's folder; made if missing."
)
@click.option("--config", type=click.Path(path_type=Path), help="Settings (TOML); kept in the folder for later starts.")
@click.option("--seed", type=int, help="Seed of the synthetic market.")
@click.option("--speed", help="Feed seconds per real second, or 'max'.")
@click.option("--ticks-per-second", type=float, help="Mean tick rate of each synthetic symbol.")
@click.option("--server-time", help="ny+7, eu+2, utc, or a fixed offset in minutes.")
@click.option("--suffix", help="Suffix of the broker's symbol names.")
@click.option("--history-days", type=float, help="Days of ticks before the start.")
@click.option("--hold/--no-hold", default=None, help="The feed waits until a client has initialised.")
@click.option("--weekend/--no-weekend", default=None, help="Close the synthetic market at weekends.")
@click.option(
    "--startup", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A start-up file as /config takes."
)
@click.option("--delay-ms", type=int, default=0, hidden=True, help="Hold the folder so long before anything else.")
@click.pass_context
def main(
    context: click.Context,
    /,
    path: Path | None,
    config: Path | None,
    startup: Path | None,
    delay_ms: int,
    **options: Any,
) -> None:
    """Run a paper terminal in the foreground on the folder PATH, until Ctrl-C."""
    if context.invoked_subcommand is not None:
        return
    if path is None:
        raise click.UsageError("--path is needed: the folder that holds the terminal's state")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    context.exit(run(path, config, options, startup=startup, delay_ms=delay_ms))


def run(
    path: Path, config: Path | None, options: dict[str, Any], *, startup: Path | None = None, delay_ms: int = 0
) -> int:
    """Run a terminal until it is told to stop; return its exit code."""
    folder = path.expanduser().resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / _LOCK_FILE, timeout=_LOCK_WAIT_S):
            threading.Event().wait(delay_ms / 1000)
            wanted = StartUp() if startup is None else read_startup(startup)
            settings = with_startup(effective_settings(folder, config, options), wanted)
            restart_ms = serve(folder, settings, wanted, source=startup)
        if restart_ms is not None:  # as LiveUpdate does: by itself, the switches it was started with are lost
            start(folder, "--delay-ms", str(restart_ms))
    except Timeout:
        click.echo(f"{folder}: a terminal is already running from this folder", err=True)
        return ALREADY_RUNNING
    except (SettingsError, FeedError, StateError, LaunchError, OSError) as error:
        click.echo(f"paper terminal: {error}", err=True)
        return 1
    return 0


def serve(folder: Path, settings: Settings, startup: StartUp, *, source: Path | None = None) -> int | None:
    """Open the terminal of a folder whose lock is held, and serve it; blocks. `source` is the start-up file.

    Returns:
        After how many milliseconds it is to start again, where it has ended for an update; else None.

    Raises:
        StateError: the state cannot be used or written.
        FeedError: a feed file cannot be used.
        SettingsError: the settings cannot be used.
        OSError: no socket.
    """
    assembly = open_terminal(folder, settings)
    try:
        make_layout(folder)
        note = assembly.terminal.note = Journal(folder).write
        note("Terminal", f"started in {folder}")
        if source is not None:
            note("Startup", f'successfully initialized from start config "{source}"')
            log_in_as_told(assembly.terminal, startup)
        programs = Programs(folder, note=note, journal=Journal(folder, log_folder=PROGRAM_LOG_FOLDER))
        server = Server(
            folder,
            assembly,
            idle_exit_s=settings.idle_exit_s,
            max_clients=settings.max_clients,
            programs=programs,
        )
        click.echo(f"paper terminal ready: path {folder}, port {server.port}, pid {os.getpid()}")
        try:
            start_programs(assembly.terminal, startup, programs)
            server.run()
        finally:
            programs.stop()
            note("Terminal", "stopped")
        return server.restart_after_ms
    finally:
        assembly.store.close()


def effective_settings(folder: Path, config: Path | None, options: dict[str, Any]) -> Settings:
    """Return options over the named file over the folder's own file over the defaults; keep them in the folder.

    Raises:
        SettingsError: any of them cannot be used.
        OSError: the folder cannot be written.
    """
    own = folder / SETTINGS_FILE
    source = own if config is None and own.exists() else config
    base = Settings() if source is None else configuration.load(source)
    given = {key: value for key, value in options.items() if value is not None}
    if not given and config is None:
        return base
    values = msgspec.to_builtins(base)
    for key, value in given.items():
        target = values["feed"] if key in {"seed", "speed", "ticks_per_second"} else values
        target[key] = _plain(value)
    try:
        settings = msgspec.convert(values, Settings)
    except msgspec.ValidationError as error:
        raise SettingsError(str(error)) from error
    settings.check()
    configuration.save(settings, own)
    return settings


def _plain(value: Any) -> Any:
    """Return an option's text as the number it is, if it is one: --speed 5, --server-time 120."""
    if isinstance(value, str):
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
    return value


@main.command("fault")
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("name", type=click.Choice(faults.FAULTS))
@click.option("--function", "functions", multiple=True, help="API function it applies to; may be repeated.")
@click.option("--count", type=int, default=1, show_default=True, help="How often it strikes; 0: until cleared.")
@click.option("--ms", type=int, default=1000, show_default=True, help="Delay or duration, milliseconds.")
@click.option("--executed", is_flag=True, help="Let the call take effect first.")
@click.option("--retcode", type=int, default=0, help="Return code of the faults retcode, late_fill and link_lost.")
@click.option("--fraction", type=float, default=1.0, show_default=True, help="Part that a late_fill fills at first.")
@click.option("--symbol", "symbols", multiple=True, help="Symbol that no_quotes concerns; may be repeated.")
@click.option("--incompatible", is_flag=True, help="Let the build after an update refuse clients (-5).")
@click.option("--probability", type=float, default=1.0, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
def fault_command(path: Path, name: str, count: int, **params: Any) -> None:
    """Give the terminal running from PATH a fault."""
    _controlled(lambda: faults.set_fault(path, name, count=count or None, **params))
    click.echo(
        f"{name}: set" + (f" for {count} time{'s' * (count > 1)}" if count else " until it is cleared"), err=True
    )


@main.command("clear-faults")
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("name", default="")
def clear_command(path: Path, name: str) -> None:
    """Take all faults, or those of one NAME, from the terminal running from PATH."""
    _controlled(lambda: faults.clear_faults(path, name))
    click.echo(f"{name or 'all faults'}: cleared", err=True)


@main.command("faults")
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
def list_command(path: Path) -> None:
    """Show the faults of the terminal running from PATH."""
    found = _controlled(lambda: faults.list_faults(path))
    for fault in found:
        click.echo(msgspec.json.encode(fault).decode())
    if not found:
        click.echo("no faults are set", err=True)


@main.command("balance", context_settings={"ignore_unknown_options": True})
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("amount", type=float)
@click.option("--login", type=int, default=0, help="The account; by default the one logged in to.")
@click.option("--comment", default="", help="Comment of the deal.")
@click.option("--kind", type=click.Choice(list(faults.BALANCE_KINDS)), default="balance", help="Type of the deal.")
def balance_command(path: Path, amount: float, login: int, comment: str, kind: str) -> None:
    """Deposit AMOUNT on an account of the terminal running from PATH; a negative amount withdraws."""
    number = faults.BALANCE_KINDS[kind]
    deal = _controlled(lambda: faults.balance(path, amount, login=login, comment=comment, kind=number))
    click.echo(f"deal {deal}")


def _controlled(action: Any) -> Any:
    try:
        return action()
    except (faults.FaultError, NoTerminal, ChannelBroken) as error:
        raise click.ClickException(str(error)) from error


@main.command("shim-dir")
def shim_dir_command() -> None:
    """Print the folder that holds a MetaTrader5 module for this terminal, to be put first on PYTHONPATH."""
    click.echo(str(scripts.shim_dir()))


@main.command(
    "exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}, add_help_option=False
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
@click.pass_context
def exec_command(context: click.Context, /, command: tuple[str, ...]) -> None:
    """Run a program written for MetaTrader5: exec SCRIPT.py [ARGS] or exec -m MODULE [ARGS].

    `--path DIR` before `exec` names the terminal's folder; by default it is MT5BUS_PAPER_PATH, else the folder
    `paper` in the home folder. The terminal is started when it does not run.
    """
    folder = context.parent.params["path"] if context.parent else None
    named = folder or os.environ.get(PATH_VARIABLE) or scripts.default_folder()
    try:
        code = scripts.run(Path(named).expanduser().resolve(), command)
    except LaunchError as error:
        raise click.ClickException(f"{error}{'' if not error.reason else f': {error.reason}'}") from error
    except (scripts.CannotRun, OSError) as error:
        raise click.ClickException(str(error)) from error
    context.exit(code)


@main.command("conformance")
@click.option("--api", "module", default=USUAL_MODULE, show_default=True, help="Module to be tried: MetaTrader5, say.")
@click.option("--symbol", default="EURUSD", show_default=True, help="A liquid symbol.")
@click.option("--trading", is_flag=True, help="Trade the smallest volume, too; on demonstration accounts only.")
@click.option("--json", "json_file", type=click.File("w", encoding="utf-8"), help="Write the report there, too.")
@click.pass_context
def conformance_command(context: click.Context, /, module: str, symbol: str, trading: bool, json_file: Any) -> None:
    """Compare a MetaTrader5 module with the facts, and answer what they leave open.

    `--path` before `conformance` names the terminal. Without --trading nothing is changed that lasts. With it every
    case closes what it opened, also after Ctrl-C. The exit code is 1 when something differs, broke or was left open.
    """
    path = context.parent.params["path"] if context.parent else None
    try:
        report = conform(module, path=str(path or ""), symbol=symbol, trading=trading)
    except NotReady as error:
        raise click.ClickException(str(error)) from error
    for line in report.lines():
        click.echo(line)
    if json_file is not None:
        json_file.write(report.as_json() + "\n")
    context.exit(0 if report.agrees else 1)
