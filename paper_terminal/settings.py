"""The terminal's settings: what is in `paper.toml`, checked before anything starts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from paper_terminal.constants import (
    ACCOUNT_MARGIN_MODE_RETAIL_HEDGING,
    ACCOUNT_STOPOUT_MODE_PERCENT,
    ACCOUNT_TRADE_MODE_DEMO,
    SYMBOL_CHART_MODE_BID,
    SYMBOL_CHART_MODE_LAST,
    TRADE_RETCODE_DONE,
    TRADE_RETCODE_PLACED,
)
from paper_terminal.margin import BONDS, CALC_MODES, FUTURES, OPTIONS
from paper_terminal.rollover import SWAP_MODES
from paper_terminal.server_time import ServerTimeRule
from paper_terminal.specifications import DEFAULT_SPECIFICATIONS, Specification
from paper_terminal.trading_hours import HoursError, TradingHours
from paper_terminal.wire import replace_with_retry

SETTINGS_FILE = "paper.toml"


class SettingsError(Exception):
    """Settings that cannot be used; one line says which and why."""


class AccountSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One account of the broker."""

    login: int = 10_000_001
    password: str = "paper"  # noqa: S105  # play money
    """Empty: any will do."""
    server: str = "Paper-Demo"
    name: str = "Paper Trader"
    currency: str = "USD"
    currency_digits: int = 2
    balance: float = 10_000.0
    """Deposited when the account is first opened."""
    leverage: int = 100
    margin_mode: int = ACCOUNT_MARGIN_MODE_RETAIL_HEDGING
    trade_mode: int = ACCOUNT_TRADE_MODE_DEMO
    stop_out_level: float = 50.0
    """Margin level in percent at which positions are closed by the broker."""
    margin_call_level: float = 100.0
    """Margin level in percent that only warns."""
    stop_out_mode: int = ACCOUNT_STOPOUT_MODE_PERCENT
    """Unit of the two levels: 0 percent of margin, 1 money of equity."""
    limit_orders: int = 0
    """Most pending orders; 0: no limit."""
    limit_positions: int = 0
    """Most positions, on a hedging account together with pending orders; 0: no limit."""
    fifo_close: bool = False
    """A position is closed only when no older one of its symbol is open (10045)."""
    hedge_prohibited: bool = False
    """A hedging account takes no position against an open one of the symbol (10046)."""
    trade_allowed: bool = True
    """False: as after logging in with the investor's password (10017)."""
    trade_expert: bool = True
    """False: the broker forbids automated trading (10026)."""


class FeedSymbol(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One symbol of a file feed."""

    symbol: str
    paths: tuple[str, ...]
    """Files or folders, in time order; relative ones to the settings file's folder."""
    format: str = "auto"
    """A format of the feeds (`lean`, `mt5_bars`, `parquet` ...), or `auto`."""
    zone: str = ""
    """Zone of times that do not say theirs: `UTC`, `UTC-05:00`, a server-time rule `ny+7` or `eu+2`, or `server` for
    the terminal's own. Empty: the format's, which is `server` for MetaTrader's exports and UTC for most."""
    prices: Literal["plain", "points"] = "plain"
    """`points`: prices are whole numbers of points, to be divided by the symbol's digits."""
    ask_paths: tuple[str, ...] = ()
    """Bars of the ask, one file or folder for each of `paths`, which then hold those of the bid alone."""


class FeedSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where ticks come from."""

    kind: Literal["synthetic", "files"] = "synthetic"
    seed: int = 1
    """Chooses the synthetic market."""
    ticks_per_second: float = 2.0
    """Mean of each synthetic symbol."""
    speed: float | Literal["max"] = 1.0
    """Feed seconds per real second; `max`: as fast as clients take the ticks. Not 1: the clock is the feed's."""
    start: str = ""
    """First moment delivered, ISO date and time in UTC; empty: the first tick of the files, or now."""
    files: tuple[FeedSymbol, ...] = ()
    crossed: Literal["keep", "drop", "repair"] = "keep"
    """Quotes with bid above ask in files: kept and traded on as they come, left out, or turned round."""
    step_ms: int = 1000
    """Most feed time passed in one turn at speed `max`, milliseconds."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything the terminal can be told."""

    accounts: tuple[AccountSettings, ...] = (AccountSettings(),)
    symbols: tuple[Specification, ...] = DEFAULT_SPECIFICATIONS
    prefix: str = ""
    suffix: str = ""
    market_watch: tuple[str, ...] | None = None
    """Plain names selected at the first start; None: every symbol."""
    server_time: str | int = "ny+7"
    """`ny+7`, `eu+2`, `utc`, or a fixed offset in minutes."""
    commission_per_lot: float = 3.0
    """Account currency, charged per lot."""
    commission_on: Literal["both", "in", "out"] = "both"
    """Which deals it is charged on: opening and closing, or one of them."""
    fee_per_lot: float = 0.0
    """Account currency, per lot of each deal, booked in `fee`."""
    placed_retcode: int = TRADE_RETCODE_DONE
    """What placing a pending order answers: 10009, on some servers 10008."""
    fill_limit_better: bool = False
    """A limit order that the market has jumped over fills at the better price, not at its own."""
    stops_in_request: bool = True
    """False: the server ignores SL and TP of an opening deal under Market and Exchange execution."""
    pending_filling: Literal["any", "return", "mask"] = "any"
    """Fillings of pending orders that are taken: any, RETURN alone, or those of the symbol's mask."""
    dealer_requotes: float = 0.0
    """Share of market orders under Request execution that the dealer answers with another price (10004)."""
    dealer_requote_points: int = 2
    """How much worse that price is, points."""
    dealer_rejects: float = 0.0
    """Share of them that the dealer refuses (10006)."""
    stop_magic: bool = True
    """Orders of SL, TP and stop-out carry the position's magic; False: 0."""
    max_requests_per_second: int = 0
    """More trade requests in one second are refused (10024); 0: no limit."""
    weekend: bool = False
    """Close the synthetic market from Friday to Sunday, 22:00 UTC both. Off: there is always something to see."""
    history_days: float = 1.0
    """Days of ticks before the start that are there at once."""
    bar_history_days: float = 0.0
    """Days of bars before those ticks, made when they are asked for; the synthetic market only."""
    max_bars: int = 100_000
    open_unknown_accounts: bool = False
    """`login` with an unknown number and a password opens an account like the first one, with that password."""
    idle_exit_s: float = 0.0
    """Seconds without any client after which the terminal ends; 0: never."""
    max_clients: int = 0
    """Most client processes attached at once; a further one waits without limit for its turn. 0: no limit."""
    trade_allowed: bool = True
    """The AutoTrading button."""
    first_history_call: Literal["whole", "part", "fail"] = "whole"
    """What the first copy call for a symbol gives after the terminal's start: all, the newer half, or -1."""
    api_off_retcode: int = 0
    """How `order_send` refuses while the Python API is switched off: 0 is None and -8, 10027 a result."""
    hold: bool = False
    """The feed waits until a client has initialised."""
    feed: FeedSettings = FeedSettings()

    def check(self) -> None:
        """Check what types cannot say.

        Raises:
            SettingsError: a value out of range, or two that contradict each other.
        """
        try:
            ServerTimeRule(self.server_time)
        except ValueError as error:
            raise SettingsError(str(error)) from error
        for problem in _problems(self):
            raise SettingsError(problem)


def _problems(settings: Settings) -> list[str]:
    return [*_account_problems(settings), *_symbol_problems(settings), *_feed_problems(settings)]


def _account_problems(settings: Settings) -> Iterator[str]:
    logins = [each.login for each in settings.accounts]
    if not logins:
        yield "accounts: at least one is needed"
    if len(set(logins)) != len(logins):
        yield "accounts: a login is given twice"
    for account in settings.accounts:
        where = f"accounts, login {account.login}"
        if account.login <= 0:
            yield f"{where}: must be positive"
        if account.margin_mode not in {0, 1, 2} or account.stop_out_mode not in {0, 1}:
            yield f"{where}: margin_mode is 0 (netting), 1 (exchange) or 2 (hedging), stop_out_mode 0 or 1"
        if account.leverage < 1 or account.balance < 0:
            yield f"{where}: leverage must be at least 1 and balance not negative"


def _symbol_problems(settings: Settings) -> Iterator[str]:
    names = [each.name for each in settings.symbols]
    if not names or len(set(names)) != len(names):
        yield "symbols: at least one is needed, and none twice"
    for symbol in settings.symbols:
        if not (0 < symbol.volume_min <= symbol.volume_max and symbol.volume_step > 0 and symbol.contract_size > 0):
            yield f"symbols, {symbol.name}: volumes and contract size must be positive, min below max"
        if not 0 <= symbol.book_depth <= 64 or symbol.liquidity_lots < 0:
            yield f"symbols, {symbol.name}: book_depth must be 0 to 64, liquidity_lots not negative"
        if symbol.chart_mode not in {SYMBOL_CHART_MODE_BID, SYMBOL_CHART_MODE_LAST}:
            yield f"symbols, {symbol.name}: chart_mode must be 0 (bid) or 1 (last price)"
        if not 0 <= symbol.digits <= 8:
            yield f"symbols, {symbol.name}: digits must be 0 to 8"
        yield from _margin_problems(symbol)
        try:
            TradingHours(symbol.sessions, symbol.holidays)
        except HoursError as error:
            yield f"symbols, {symbol.name}: {error}"
    unknown = {*(settings.market_watch or ()), *(each.symbol for each in settings.feed.files)} - set(names)
    for name in sorted(unknown):
        yield f"{name}: no symbol of this name is specified"


def _margin_problems(symbol: Specification) -> Iterator[str]:
    where = f"symbols, {symbol.name}"
    if symbol.calc_mode in OPTIONS:
        yield (
            f"{where}: calc_mode {symbol.calc_mode} (options) is not offered: how MetaTrader 5 reckons their margin and"
            " profit is not documented; use another mode, or a contract with a margin_initial of its own"
        )
    elif symbol.calc_mode not in CALC_MODES or symbol.swap_mode not in SWAP_MODES:
        yield f"{where}: calc_mode {symbol.calc_mode} or swap_mode {symbol.swap_mode} is not offered"
    if symbol.calc_mode in FUTURES and symbol.margin_initial <= 0:
        yield f"{where}: a futures symbol needs its margin_initial"
    if symbol.calc_mode in BONDS and symbol.face_value <= 0:
        yield f"{where}: a bond needs its face_value"
    amounts = (symbol.margin_initial, symbol.margin_maintenance, symbol.margin_hedged or 0.0)
    rates = (symbol.margin_rate, symbol.margin_rate_short or 0.0, symbol.margin_rate_limit)
    if min(*amounts, *rates, symbol.margin_rate_stop, symbol.margin_rate_stop_limit) < 0:
        yield f"{where}: margins and margin rates must not be negative"


def _feed_problems(settings: Settings) -> Iterator[str]:
    if settings.placed_retcode not in {TRADE_RETCODE_PLACED, TRADE_RETCODE_DONE}:
        yield "placed_retcode: must be 10008 or 10009"
    if min(settings.dealer_requotes, settings.dealer_rejects, settings.dealer_requote_points) < 0:
        yield "dealer_requotes, dealer_rejects and dealer_requote_points must not be negative"
    if settings.dealer_requotes + settings.dealer_rejects > 1:
        yield "dealer_requotes and dealer_rejects are shares: together at most 1"
    if settings.feed.speed != "max" and settings.feed.speed <= 0:
        yield "feed.speed: must be above 0, or 'max'"
    for each in settings.feed.files:
        if each.ask_paths and len(each.ask_paths) != len(each.paths):
            yield f"feed.files, {each.symbol}: ask_paths must name one for each of paths"
    if settings.feed.kind == "files" and not settings.feed.files:
        yield "feed: kind 'files' needs at least one entry in files"
    numbers = (settings.history_days, settings.bar_history_days, settings.idle_exit_s, settings.max_clients)
    if min(numbers) < 0 or settings.feed.step_ms < 1:
        names = "history_days, bar_history_days, idle_exit_s and max_clients"
        yield f"{names} must not be negative, feed.step_ms at least 1"


def load(path: Path) -> Settings:
    """Return the settings of a TOML file, checked; relative paths in it become absolute.

    Raises:
        SettingsError: no such file, not TOML, an unknown key, a bad value.
    """
    try:
        settings = msgspec.toml.decode(path.read_bytes(), type=Settings)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from error
    settings = _with_absolute_paths(settings, path.resolve().parent)
    try:
        settings.check()
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error
    return settings


def _with_absolute_paths(settings: Settings, folder: Path) -> Settings:
    files = tuple(
        msgspec.structs.replace(
            each,
            paths=tuple(str(folder / path) for path in each.paths),
            ask_paths=tuple(str(folder / path) for path in each.ask_paths),
        )
        for each in settings.feed.files
    )
    return msgspec.structs.replace(settings, feed=msgspec.structs.replace(settings.feed, files=files))


def save(settings: Settings, path: Path) -> None:
    """Write the settings as TOML, atomically, so that a terminal started without options finds them.

    Raises:
        OSError: the folder cannot be written.
    """
    values = msgspec.to_builtins(settings)
    lines = [f"{key} = {_toml(value)}" for key, value in values.items() if value is not None]
    temporary = path.with_suffix(".tmp")
    temporary.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    replace_with_retry(temporary, path)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        pairs = (f"{key} = {_toml(item)}" for key, item in value.items() if item is not None)
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)  # for plain values JSON and TOML agree
