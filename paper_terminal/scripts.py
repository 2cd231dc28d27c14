"""Running programs written for MetaTrader 5: the folder with the stand-in module, and the terminal they meet.

That terminal is made for strangers: many symbols, years of bars, orders executed as a demonstration server does
(Instant, every filling), and an account opened for any login that is not known. It ends by itself when no
program has been attached for half a minute; its state stays.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import platformdirs

from paper_terminal import launch
from paper_terminal.catalogue import DEMO_SPECIFICATIONS
from paper_terminal.settings import SETTINGS_FILE, AccountSettings, FeedSettings, Settings, save

DEMO_ACCOUNT: Final = AccountSettings(
    login=25115284,  # the account of the documents' examples; they disagree about its password
    password="",
    server="MetaQuotes-Demo",
    name="Paper Trader",
    leverage=100,
    balance=100_000.0,
)
DEMO_SETTINGS: Final = Settings(
    accounts=(DEMO_ACCOUNT,),
    symbols=DEMO_SPECIFICATIONS,
    commission_per_lot=0.0,
    history_days=0.05,  # the hour before the start; what is older is made when asked for
    bar_history_days=10_000.0,
    open_unknown_accounts=True,
    idle_exit_s=30.0,
    feed=FeedSettings(ticks_per_second=1.0),
)
"""What a terminal for programs begins with; `paper.toml` in its folder may be changed afterwards."""


class CannotRun(Exception):
    """The program cannot be run as asked; the text says why and what to do."""


def refuse_isolation(command: Sequence[str]) -> None:
    """Refuse -I and -E among Python's own options: with them it ignores PYTHONPATH, by which the module is found.

    Raises:
        CannotRun: one of them is there.
    """
    words = iter(command)
    for word in words:
        if word[:1] != "-" or word in {"-", "-c", "-m"}:
            return
        if word in {"-W", "-X"}:
            next(words, None)
        elif not word.startswith(("--", "-W", "-X", "-c", "-m")) and set("IE") & set(word):
            raise CannotRun(
                f"{word}: Python then ignores PYTHONPATH, so the program would not find MetaTrader5. "
                "Use -P (the program's folder is not searched) or -s (nor the user's packages) instead."
            )


def shim_dir() -> Path:
    """Return the folder that holds the module `MetaTrader5`, to be put first on a program's path."""
    return Path(__file__).resolve().parent / "shim"


def default_folder() -> Path:
    """Return the folder of the user's own paper terminal, below the home folder of the system."""
    home = os.environ.get("MT5BUS_HOME") or platformdirs.user_data_dir("mt5bus", appauthor=False)
    return Path(home).expanduser().resolve() / "paper"


def prepare(folder: Path) -> None:
    """Give a folder that has no settings those of a terminal for programs.

    Raises:
        OSError: the folder cannot be written.
    """
    if not (folder / SETTINGS_FILE).exists():
        folder.mkdir(parents=True, exist_ok=True)
        save(DEMO_SETTINGS, folder / SETTINGS_FILE)


def prepare_default_terminal() -> None:
    """Let `initialize` without a path mean the user's own terminal, here and in child processes.

    Importing the module never fails, as the real one's does not: a folder that cannot be written is told of by
    `initialize`, with -10003.
    """
    if not os.environ.get(launch.PATH_VARIABLE):
        folder = default_folder()
        with contextlib.suppress(OSError):
            prepare(folder)
        os.environ[launch.PATH_VARIABLE] = str(folder)


def run(folder: Path, command: Sequence[str]) -> int:
    """Run Python with these arguments against the terminal of a folder, started if need be; return its exit code.

    Raises:
        CannotRun: an option of Python that keeps the module from being found.
        LaunchError: the terminal does not start.
        OSError: the folder cannot be written.
    """
    refuse_isolation(command)
    prepare(folder)
    launch.attach_or_start(folder).close()
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(shim_dir()), environment.get("PYTHONPATH")]))
    environment[launch.PATH_VARIABLE] = str(folder)
    with subprocess.Popen([sys.executable, *command], env=environment) as child:
        # Ctrl-C reaches the program too: what it makes of it decides how this ends.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            code = child.wait()
        finally:
            signal.signal(signal.SIGINT, before)
    return code if code >= 0 else 128 - code
