"""The client module: the names of `MetaTrader5`, talking to a paper terminal.

    import paper_terminal.client as mt5
    mt5.initialize("path/of/the/terminal/folder")

One connection and one `last_error` per process, as the real module has. Without a path the environment variable
`MT5BUS_PAPER_PATH` names the folder.
"""

from __future__ import annotations

import os
import time
from typing import Any

from paper_terminal import arguments as rules
from paper_terminal import calls, launch
from paper_terminal.arguments import ArgumentError
from paper_terminal.builtin import BUILTINS, Keywords, NoArguments, Positional
from paper_terminal.channel import IncompatibleVersions
from paper_terminal.constants import *  # noqa: F403  # the module shows every constant as its own
from paper_terminal.constants import (
    ORDER_TYPE_BUY,
    ORDER_TYPE_SELL,
    POSITION_TYPE_BUY,
    POSITION_TYPE_SELL,
    RES_E_AUTH_FAILED,
    RES_E_INTERNAL_FAIL_INIT,
    RES_E_INTERNAL_FAIL_TIMEOUT,
    RES_E_INVALID_VERSION,
    TRADE_ACTION_DEAL,
    TRADE_RETCODE_DONE,
    TRADE_RETCODE_PRICE_OFF,
    TRADE_RETCODE_REQUOTE,
)
from paper_terminal.records import RATE_DTYPE, TICK_DTYPE
from paper_terminal.session import SESSION, Failed
from paper_terminal.structs import (
    AccountInfo,
    BookInfo,
    OrderCheckResult,
    OrderSendResult,
    StructSequence,
    SymbolInfo,
    TerminalInfo,
    Tick,
    TradeDeal,
    TradeOrder,
    TradePosition,
    TradeRequest,  # noqa: F401  # the module shows all its types
    is_struct,
)

__version__ = "5.0.6231"
__author__ = "MetaQuotes Ltd."

_DEFAULT_TIMEOUT_MS = 60_000
_STATE_POLL_S = 0.1
_ATTEMPTS = 10


# Connection --------------------------------------------------------------------------------------------------


def _credentials(keywords: dict[str, Any]) -> tuple[int, str, str, int]:
    login = rules.unsigned(keywords["login"], "login") if "login" in keywords else 0
    password = rules.text(keywords.get("password", ""), "password", rules.MAX_PASSWORD_UNITS)
    server = rules.text(keywords.get("server", ""), "server", rules.MAX_SERVER_UNITS)
    timeout = keywords.get("timeout", 0)
    if not isinstance(timeout, int) or timeout < 0:
        raise rules.invalid("timeout")
    return login, password, server, int(timeout) or _DEFAULT_TIMEOUT_MS


def _log_in(login: int, password: str, server: str) -> None:
    SESSION.ask("login", login, password, server)


def _await_broker(timeout_ms: int) -> None:
    """Poll the link to the broker every 100 ms; only the pauses count against the limit."""
    waited_s = 0.0
    while True:
        state = SESSION.ask("connection_state")
        if state == "connected":
            return
        if state == "refused":
            raise Failed(RES_E_AUTH_FAILED, "Terminal: Authorization failed")
        if waited_s * 1000 >= timeout_ms:
            raise Failed(RES_E_INTERNAL_FAIL_TIMEOUT, "IPC timeout")
        time.sleep(_STATE_POLL_S)
        waited_s += _STATE_POLL_S


@Keywords
def initialize(positional: tuple[Any, ...], keywords: dict[str, Any] | None) -> bool:
    """Connect to the terminal of a path, starting it if need be; log in if told to."""

    def body() -> bool:
        given = dict(keywords or {})
        if len(positional) > 1:
            raise ArgumentError("Invalid number of arguments")
        if positional:
            if not isinstance(positional[0], str):
                raise ArgumentError("Invalid 1st unnamed argument")
            given["path"] = positional[0]
        path = rules.text(given.get("path", os.environ.get(launch.PATH_VARIABLE, "")), "path", rules.MAX_PATH_UNITS)
        login, password, server, timeout_ms = _credentials(given)
        SESSION.close()
        if not path:
            raise Failed(RES_E_INTERNAL_FAIL_INIT, "IPC initialize failed, MetaTrader 5 x64 not found")
        try:
            SESSION.channel = launch.attach_or_start(launch.folder_of(path))
        except launch.LaunchError as error:
            raise Failed(RES_E_INTERNAL_FAIL_INIT, f"IPC initialize failed, {error}") from error
        except IncompatibleVersions as error:
            raise Failed(RES_E_INVALID_VERSION, str(error)) from error
        try:
            if login or password or server:
                _log_in(login, password, server)
            _await_broker(timeout_ms)
            SESSION.ask("initialized")
        except Failed:
            SESSION.close()
            raise
        return True

    return SESSION.run(body, False)


@Keywords
def login(positional: tuple[Any, ...], keywords: dict[str, Any] | None) -> bool:
    """Switch the account of the terminal, for every attached process."""

    def body() -> bool:
        given = dict(keywords or {})
        if len(positional) > 3:
            raise ArgumentError("Invalid number of arguments")
        order = (("login", int, "1st"), ("password", str, "2nd"), ("server", str, "3rd"))
        for value, (name, kind, ordinal) in zip(positional, order, strict=False):
            if not isinstance(value, kind):
                raise ArgumentError(f"Invalid {ordinal} unnamed argument")
            given[name] = value
        number, password, server, timeout_ms = _credentials(given)
        if not number:
            raise rules.invalid("login")
        _log_in(number, password, server)
        _await_broker(timeout_ms)
        return True

    return SESSION.run(body, False)


@NoArguments
def shutdown() -> bool:
    """Close the connection. The terminal goes on."""

    def body() -> bool:
        SESSION.close()
        return True

    return SESSION.run(body, True)


@NoArguments
def last_error() -> tuple[int, str]:
    """Return the code and text of the last call."""
    return SESSION.last_error


@NoArguments
def version() -> tuple[int, int, str]:
    """Return the terminal's version, build and build date."""
    return SESSION.run(lambda: tuple(SESSION.ask("version")), (0, 0, ""))


terminal_info = NoArguments(calls.info("terminal_info", TerminalInfo))
account_info = NoArguments(calls.info("account_info", AccountInfo))
symbols_total = NoArguments(calls.total("symbols_total"))
positions_total = NoArguments(calls.total("positions_total"))
orders_total = NoArguments(calls.total("orders_total"))


# Symbols -----------------------------------------------------------------------------------------------------


@Keywords
def symbols_get(
    positional: tuple[Any, ...], keywords: dict[str, Any] | None
) -> tuple[StructSequence, ...] | bool | None:
    """Return every symbol, or those a group mask selects."""

    def body() -> tuple[StructSequence, ...]:
        if len(positional) > 1:
            raise ArgumentError("Invalid number of arguments")
        if positional and not isinstance(positional[0], str):
            raise ArgumentError("Invalid 1st unnamed argument")
        given = positional[0] if positional else (keywords or {}).get("group", "*")
        return calls.structs_of(
            SymbolInfo, SESSION.ask("symbols_get", rules.text(given, "group", rules.MAX_GROUP_UNITS))
        )

    return SESSION.run(body, None, bad_argument=False)


@Positional
def symbol_select(positional: tuple[Any, ...]) -> bool:
    """Show a symbol in Market Watch, or take it out."""

    def body() -> bool:
        calls.check_count(positional, 1, 2)
        enable = bool(positional[1]) if len(positional) > 1 else True
        return bool(SESSION.ask("symbol_select", rules.symbol(positional[0]), enable))

    return SESSION.run(body, False)


@Positional
def market_book_get(positional: tuple[Any, ...]) -> tuple[StructSequence, ...] | None:
    """Return the market depth of a symbol."""

    def body() -> tuple[StructSequence, ...]:
        calls.check_count(positional, 1)
        return calls.structs_of(BookInfo, SESSION.ask("market_book_get", rules.symbol(positional[0])))

    return SESSION.run(body, None)


symbol_info = Positional(calls.of_symbol("symbol_info", SymbolInfo))
symbol_info_tick = Positional(calls.of_symbol("symbol_info_tick", Tick))
market_book_add = Positional(calls.book_change("market_book_add"))
market_book_release = Positional(calls.book_change("market_book_release"))


# Ticks and bars ----------------------------------------------------------------------------------------------


_date, _int, _name = rules.date_s, rules.c_int, rules.symbol
copy_ticks_from = Positional(calls.copy("copy_ticks_from", TICK_DTYPE, _name, _date, _int, _int))
copy_ticks_range = Positional(calls.copy("copy_ticks_range", TICK_DTYPE, _name, _date, _date, _int))
copy_rates_from = Positional(calls.copy("copy_rates_from", RATE_DTYPE, _name, _int, _date, _int))
copy_rates_from_pos = Positional(calls.copy("copy_rates_from_pos", RATE_DTYPE, _name, _int, _int, _int))
copy_rates_range = Positional(calls.copy("copy_rates_range", RATE_DTYPE, _name, _int, _date, _date))


# Positions, orders, history ----------------------------------------------------------------------------------


positions_get = Keywords(calls.active("positions_get", TradePosition))
orders_get = Keywords(calls.active("orders_get", TradeOrder))
history_orders_total = Positional(calls.history_total("history_orders_total"))
history_deals_total = Positional(calls.history_total("history_deals_total"))
history_orders_get = Keywords(calls.history("history_orders_get", TradeOrder))
history_deals_get = Keywords(calls.history("history_deals_get", TradeDeal))


# Trading -----------------------------------------------------------------------------------------------------


order_check = Keywords(calls.trade("order_check", OrderCheckResult))
order_send = Keywords(calls.trade("order_send", OrderSendResult))
order_calc_margin = Positional(calls.calculation("order_calc_margin", 1))
order_calc_profit = Positional(calls.calculation("order_calc_profit", 2))


# The package's own Python helpers ------------------------------------------------------------------------------


def _RawOrder(  # noqa: N802  # the package's name
    order_type: int,
    symbol: str,
    volume: float,
    price: float | None = None,
    comment: str | None = None,
    ticket: int | None = None,
) -> Any:
    """Send a market order: at a given price once, else up to ten times at the latest one."""
    request: dict[str, Any] = {
        "action": TRADE_ACTION_DEAL,
        "symbol": symbol,
        "volume": volume,
        "type": order_type,
        "deviation": 10,
    }
    if comment is not None:
        request["comment"] = comment
    if ticket is not None:
        request["position"] = ticket
    if price is not None:
        return order_send(request | {"price": price})
    result = None
    for _ in range(_ATTEMPTS):
        tick: Any = symbol_info_tick(symbol)
        result = order_send(request | {"price": tick.ask if order_type == ORDER_TYPE_BUY else tick.bid})
        if result is None or result[0] not in {TRADE_RETCODE_REQUOTE, TRADE_RETCODE_PRICE_OFF}:
            break
    return result


def Buy(  # noqa: N802  # the package's name
    symbol: str, volume: float, price: float | None = None, *, comment: str | None = None, ticket: int | None = None
) -> Any:
    """Buy at market; raises AttributeError when there is no tick, as the package does."""
    return _RawOrder(ORDER_TYPE_BUY, symbol, volume, price, comment, ticket)


def Sell(  # noqa: N802  # the package's name
    symbol: str, volume: float, price: float | None = None, *, comment: str | None = None, ticket: int | None = None
) -> Any:
    """Sell at market; raises AttributeError when there is no tick, as the package does."""
    return _RawOrder(ORDER_TYPE_SELL, symbol, volume, price, comment, ticket)


def Close(symbol: str, *, comment: str | None = None, ticket: int | None = None) -> Any:  # noqa: N802
    """Close the symbol's positions, or one by ticket: True, False, 'Partially', or None on failure."""
    positions: Any = positions_get(symbol=symbol) if ticket is None else positions_get(ticket=ticket)
    if positions is None:
        return None
    tried = closed = 0
    for position in positions:
        if position.type not in {POSITION_TYPE_BUY, POSITION_TYPE_SELL}:
            continue
        tried += 1
        opposite = ORDER_TYPE_SELL if position.type == POSITION_TYPE_BUY else ORDER_TYPE_BUY
        if symbol_info_tick(symbol) is None:
            return None
        result = _RawOrder(opposite, symbol, position.volume, None, comment, position.ticket)
        if result is None:
            return None
        closed += result.retcode == TRADE_RETCODE_DONE
    if closed == 0:
        return False
    return True if closed == tried else "Partially"


# What `from MetaTrader5 import *` gives: constants, functions and types, none of this module's own imports.
__all__ = [
    name
    for name, value in list(globals().items())
    if (isinstance(value, int) and name[0] != "_")
    or isinstance(value, BUILTINS)
    or name in {"Buy", "Sell", "Close"}
    or is_struct(value)
]
