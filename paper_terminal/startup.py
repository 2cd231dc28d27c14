"""The start-up file that a terminal takes with /config: what of it means something here.

| section | keys | effect |
|---|---|---|
| [Common] | Login, Password, Server | the account at the start; without a password the saved one |
| [Charts] | MaxBars | `max_bars` |
| [Experts] | Enabled, AllowLiveTrading | the AutoTrading button: on unless one of them is 0 |
| [StartUp] | Expert, Symbol, Period | told in the journal; there are no programs to run here |

The file is only read, a bad value is ignored, as the real terminal does. UTF-8 or UTF-16 with its mark.
"""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import NamedTuple

import msgspec

from paper_terminal.served import CallFailed
from paper_terminal.settings import Settings, SettingsError
from paper_terminal.terminal import Terminal


class StartUp(NamedTuple):
    """What a start-up file asks for; what it does not say is 0, '' or None."""

    login: int = 0
    password: str = ""
    server: str = ""
    max_bars: int = 0
    trade_allowed: bool | None = None
    expert: str = ""
    symbol: str = ""
    period: str = "H1"

    def __repr__(self) -> str:
        """Return a text without the password."""
        return f"StartUp(login={self.login}, server={self.server!r}, expert={self.expert!r})"


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
        period=text_of("StartUp", "Period") or "H1",
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
    if startup.expert:
        where = f"{startup.symbol or 'the first chart'},{startup.period}"
        terminal.note("Experts", f"expert {startup.expert} ({where}) is not loaded: a paper terminal runs no programs")
