"""The start-up file that a terminal takes with /config: what of it means something here.

| section | keys | effect |
|---|---|---|
| [Common] | Login, Password, Server | the account at the start; without a password the saved one |
| [Charts] | MaxBars | `max_bars` |
| [Experts] | Enabled, AllowLiveTrading | the AutoTrading button: on unless one of them is 0; no expert with Enabled=0 |
| [StartUp] | Symbol, Period | the chart of the programs: the first symbol of Market Watch and H1 if not told |
| [StartUp] | Expert, ExpertParameters | a program that runs as long as the terminal (see `programs`) |
| [StartUp] | Script, ScriptParameters, ShutdownTerminal | a program that ends; with 1 the terminal ends after it |

The file is only read, a bad value is ignored, as the real terminal does. UTF-8 or UTF-16 with its mark.
"""

from __future__ import annotations

import configparser
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from paper_terminal import constants as api
from paper_terminal.programs import Programs, Wanted
from paper_terminal.served import CallFailed
from paper_terminal.settings import Settings, SettingsError
from paper_terminal.terminal import Terminal

_PERIODS: Final = frozenset(name.removeprefix("TIMEFRAME_") for name in vars(api) if name.startswith("TIMEFRAME_"))
_DEFAULT_PERIOD: Final = "H1"


class StartUp(NamedTuple):
    """What a start-up file asks for; what it does not say is 0, '' or None."""

    login: int = 0
    password: str = ""
    server: str = ""
    max_bars: int = 0
    trade_allowed: bool | None = None
    expert: str = ""
    symbol: str = ""
    period: str = _DEFAULT_PERIOD
    expert_parameters: str = ""
    script: str = ""
    script_parameters: str = ""
    shutdown_terminal: bool = False
    experts_enabled: bool = True

    def __repr__(self) -> str:
        """Return a text without the password."""
        programs = f"expert={self.expert!r}, script={self.script!r}"
        return f"StartUp(login={self.login}, server={self.server!r}, {programs})"


def read_startup(path: Path) -> StartUp:
    """Return what a start-up file asks for.

    Raises:
        SettingsError: it cannot be read, or is no such file.
    """
    parser = configparser.RawConfigParser(strict=False, inline_comment_prefixes=(";",))
    try:
        data = path.read_bytes()
        text = data.decode("utf-16" if data[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig")
        parser.read_string(text)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, configparser.Error) as error:
        # The parser's texts quote lines of the file, and one of them may hold the password.
        raise SettingsError(f"{path}: is no start-up file ({type(error).__name__})") from None

    def text_of(section: str, key: str) -> str:
        return parser.get(section, key, fallback="").strip()

    def number_of(section: str, key: str) -> int | None:
        value = text_of(section, key)
        return int(value) if value.isascii() and value.isdigit() else None

    period = text_of("StartUp", "Period").upper()
    switches = [number_of("Experts", key) for key in ("Enabled", "AllowLiveTrading")]
    told = [each for each in switches if each is not None]
    return StartUp(
        login=number_of("Common", "Login") or 0,
        password=text_of("Common", "Password"),
        server=text_of("Common", "Server"),
        max_bars=number_of("Charts", "MaxBars") or 0,
        trade_allowed=all(told) if told else None,
        expert=text_of("StartUp", "Expert"),
        symbol=text_of("StartUp", "Symbol"),
        period=period if period in _PERIODS else _DEFAULT_PERIOD,
        expert_parameters=text_of("StartUp", "ExpertParameters"),
        script=text_of("StartUp", "Script"),
        script_parameters=text_of("StartUp", "ScriptParameters"),
        shutdown_terminal=number_of("StartUp", "ShutdownTerminal") == 1,
        experts_enabled=number_of("Experts", "Enabled") != 0,
    )


def with_startup(settings: Settings, startup: StartUp) -> Settings:
    """Return settings with what a start-up file says over them; nothing of it is kept."""
    if startup.max_bars:
        settings = msgspec.structs.replace(settings, max_bars=startup.max_bars)
    if startup.trade_allowed is not None:
        settings = msgspec.structs.replace(settings, trade_allowed=startup.trade_allowed)
    return settings


def log_in_as_told(terminal: Terminal, startup: StartUp) -> None:
    """Log in to the account of a start-up file; a refusal is in the journal, and the last account stays.

    Raises:
        StateError: the change cannot be made durable.
    """
    if startup.login:
        try:
            terminal.login(startup.login, startup.password, startup.server)
        except CallFailed:
            terminal.note("Network", f"'{startup.login}': the start-up file's account is refused")


def start_programs(terminal: Terminal, startup: StartUp, programs: Programs) -> None:
    """Start the programs of a start-up file on its chart.

    Raises:
        StateError: the chart's symbol cannot be kept in Market Watch.
    """
    wanted = list(_wanted(terminal, startup))
    if not wanted:
        return
    symbol = wanted[0].symbol
    if not symbol or not terminal.open_chart(symbol):
        terminal.note("Startup", f"no chart for {startup.symbol or 'any symbol'}: no program is started")
        return
    for each in wanted:
        if each.kind == "expert" and not startup.experts_enabled:
            terminal.note("Experts", f"automated trading is disabled: expert {each.title} is not started")
        else:
            programs.start(each)


def _wanted(terminal: Terminal, startup: StartUp) -> Iterator[Wanted]:
    symbol = startup.symbol or terminal.first_symbol()
    if startup.expert:
        yield Wanted("expert", startup.expert, symbol, startup.period, startup.expert_parameters)
    if startup.script:
        shutdown = startup.shutdown_terminal
        yield Wanted("script", startup.script, symbol, startup.period, startup.script_parameters, shutdown)
