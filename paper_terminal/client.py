"""The client module: the names of `MetaTrader5`, talking to a paper terminal.

    import paper_terminal.client as mt5
    mt5.initialize("path/of/the/terminal/folder")

One connection and one `last_error` per process, as the real module has. Without a path the environment variable
`MT5BUS_PAPER_PATH` names the folder.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from paper_terminal import arguments as rules
from paper_terminal import launch
from paper_terminal.arguments import ArgumentError
from paper_terminal.builtin import Keywords, NoArguments, Positional
from paper_terminal.constants import *  # noqa: F403  # the module shows every constant as its own
from paper_terminal.constants import (
    ORDER_TYPE_BUY,
    ORDER_TYPE_SELL,
    POSITION_TYPE_BUY,
    POSITION_TYPE_SELL,
    RES_E_AUTH_FAILED,
    RES_E_INTERNAL_FAIL_INIT,
    RES_E_INTERNAL_FAIL_TIMEOUT,
    RES_E_NOT_FOUND,
    TRADE_ACTION_DEAL,
    TRADE_RETCODE_DONE,
    TRADE_RETCODE_PRICE_OFF,
    TRADE_RETCODE_REQUOTE,
)
from paper_terminal.records import RATE_DTYPE, TICK_DTYPE
from paper_terminal.session import SUCCESS, Failed, Session
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
    TradeRequest,
)

__version__ = "5.0.6231"
__author__ = "MetaQuotes Ltd."

_DEFAULT_TIMEOUT_MS = 60_000
_STATE_POLL_S = 0.1
_ATTEMPTS = 10

_session = Session()


def _structs(kind: type[StructSequence], records: Iterable[Iterable[Any]]) -> tuple[StructSequence, ...]:
    return tuple(map(kind, records))


def _count(arguments: tuple[Any, ...], low: int, high: int | None = None) -> None:
    if not low <= len(arguments) <= (low if high is None else high):
        raise ArgumentError("Invalid arguments")


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
    _session.ask("login", login, password, server)


def _await_broker(timeout_ms: int) -> None:
    """Poll the link to the broker every 100 ms; only the pauses count against the limit."""
    waited_s = 0.0
    while True:
        state = _session.ask("connection_state")
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
        _session.close()
        if not path:
            raise Failed(RES_E_INTERNAL_FAIL_INIT, "IPC initialize failed, MetaTrader 5 x64 not found")
        try:
            _session.channel = launch.attach_or_start(launch.folder_of(path))
        except launch.LaunchError as error:
            raise Failed(RES_E_INTERNAL_FAIL_INIT, f"IPC initialize failed, {error}") from error
        try:
            if login or password or server:
                _log_in(login, password, server)
            _await_broker(timeout_ms)
            _session.ask("initialized")
        except Failed:
            _session.close()
            raise
        return True

    return _session.run(body, False)


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

    return _session.run(body, False)


@NoArguments
def shutdown() -> bool:
    """Close the connection. The terminal goes on."""
    _session.last_error = SUCCESS
    _session.close()
    return True


@NoArguments
def last_error() -> tuple[int, str]:
    """Return the code and text of the last call."""
    return _session.last_error


@NoArguments
def version() -> tuple[int, int, str]:
    """Return the terminal's version, build and build date."""
    return _session.run(lambda: tuple(_session.ask("version")), (0, 0, ""))


def _info(function: str, kind: type[StructSequence]) -> Callable[[], StructSequence | None]:
    def info() -> StructSequence | None:
        return _session.run(lambda: kind(_session.ask(function)), None)

    info.__name__ = function
    return info


def _total(function: str) -> Callable[[], int | None]:
    def total() -> int | None:
        return _session.run(lambda: int(_session.ask(function)), None)

    total.__name__ = function
    return total


terminal_info = NoArguments(_info("terminal_info", TerminalInfo))
account_info = NoArguments(_info("account_info", AccountInfo))
symbols_total = NoArguments(_total("symbols_total"))
positions_total = NoArguments(_total("positions_total"))
orders_total = NoArguments(_total("orders_total"))


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
        return _structs(SymbolInfo, _session.ask("symbols_get", rules.text(given, "group", rules.MAX_GROUP_UNITS)))

    return _session.run(body, None, bad_argument=False)


def _of_symbol(function: str, kind: type[StructSequence]) -> Callable[[tuple[Any, ...]], StructSequence | None]:
    def of_symbol(positional: tuple[Any, ...]) -> StructSequence | None:
        def body() -> StructSequence:
            _count(positional, 1)
            return kind(_session.ask(function, rules.symbol(positional[0])))

        return _session.run(body, None)

    of_symbol.__name__ = function
    return of_symbol


@Positional
def symbol_select(positional: tuple[Any, ...]) -> bool:
    """Show a symbol in Market Watch, or take it out."""

    def body() -> bool:
        _count(positional, 1, 2)
        enable = bool(positional[1]) if len(positional) > 1 else True
        return bool(_session.ask("symbol_select", rules.symbol(positional[0]), enable))

    return _session.run(body, False)


def _book_change(function: str) -> Callable[[tuple[Any, ...]], bool | None]:
    def change(positional: tuple[Any, ...]) -> bool | None:
        def body() -> bool:
            _count(positional, 1)
            name = rules.symbol(positional[0])
            try:
                return bool(_session.ask(function, name))
            except Failed:
                return False  # the real module leaves last_error at success here

        return _session.run(body, False, bad_argument=None)

    change.__name__ = function
    return change


@Positional
def market_book_get(positional: tuple[Any, ...]) -> tuple[StructSequence, ...] | None:
    """Return the market depth of a symbol."""

    def body() -> tuple[StructSequence, ...]:
        _count(positional, 1)
        return _structs(BookInfo, _session.ask("market_book_get", rules.symbol(positional[0])))

    return _session.run(body, None)


symbol_info = Positional(_of_symbol("symbol_info", SymbolInfo))
symbol_info_tick = Positional(_of_symbol("symbol_info_tick", Tick))
market_book_add = Positional(_book_change("market_book_add"))
market_book_release = Positional(_book_change("market_book_release"))


# Ticks and bars ----------------------------------------------------------------------------------------------


def _copy(
    function: str, dtype: np.dtype[Any], *kinds: Callable[[Any], Any]
) -> Callable[[tuple[Any, ...]], np.ndarray[Any, Any] | None]:
    def copy(positional: tuple[Any, ...]) -> np.ndarray[Any, Any] | None:
        def body() -> np.ndarray[Any, Any]:
            _count(positional, len(kinds))
            values = [kind(value) for kind, value in zip(kinds, positional, strict=True)]
            records = _session.ask(function, *values, dtype=dtype)
            return np.empty(0, dtype=dtype) if records is None else records

        return _session.run(body, None)

    copy.__name__ = function
    return copy


_date, _int, _name = rules.date_s, rules.c_int, rules.symbol
copy_ticks_from = Positional(_copy("copy_ticks_from", TICK_DTYPE, _name, _date, _int, _int))
copy_ticks_range = Positional(_copy("copy_ticks_range", TICK_DTYPE, _name, _date, _date, _int))
copy_rates_from = Positional(_copy("copy_rates_from", RATE_DTYPE, _name, _int, _date, _int))
copy_rates_from_pos = Positional(_copy("copy_rates_from_pos", RATE_DTYPE, _name, _int, _int, _int))
copy_rates_range = Positional(_copy("copy_rates_range", RATE_DTYPE, _name, _int, _date, _date))


# Positions, orders, history ----------------------------------------------------------------------------------


def _filtered(
    records: tuple[StructSequence, ...], given: dict[str, Any], ticket_field: str = "ticket"
) -> tuple[StructSequence, ...]:
    """Apply the first filter present; the rest are not even looked at."""
    if "ticket" in given:
        ticket = rules.unsigned(given["ticket"], "ticket")
        return tuple(each for each in records if getattr(each, ticket_field) == ticket)
    if "symbol" in given:
        name = rules.text(given["symbol"], "symbol", rules.MAX_SYMBOL_UNITS)
        return tuple(each for each in records if each.symbol == name)  # type: ignore[attr-defined]
    if "group" in given:
        mask = rules.text(given["group"], "group", rules.MAX_GROUP_UNITS)
        return tuple(each for each in records if rules.matches_group(mask, each.symbol))  # type: ignore[attr-defined]
    return records


def _active(
    function: str, kind: type[StructSequence]
) -> Callable[[tuple[Any, ...], dict[str, Any] | None], tuple[StructSequence, ...] | None]:
    def active(positional: tuple[Any, ...], keywords: dict[str, Any] | None) -> tuple[StructSequence, ...] | None:
        def body() -> tuple[StructSequence, ...]:
            if positional:
                raise ArgumentError("Unnamed arguments not allowed")
            given = keywords or {}
            _filtered((), given)  # arguments are checked before anything is sent
            return _filtered(_structs(kind, _session.ask(function)), given)

        return _session.run(body, None)

    active.__name__ = function
    return active


def _history_total(function: str) -> Callable[[tuple[Any, ...]], int | None]:
    def total(positional: tuple[Any, ...]) -> int | None:
        def body() -> int:
            _count(positional, 2)
            return int(_session.ask(function, rules.date_s(positional[0]), rules.date_s(positional[1])))

        return _session.run(body, None)

    total.__name__ = function
    return total


def _history(
    function: str, kind: type[StructSequence]
) -> Callable[[tuple[Any, ...], dict[str, Any] | None], tuple[StructSequence, ...] | None]:
    def ask(positional: tuple[Any, ...], given: dict[str, Any]) -> list[Any]:
        if positional:
            _count(positional, 2)
            between = [rules.date_s(each) for each in positional]
            rules.text(given.get("group", "*"), "group", rules.MAX_GROUP_UNITS)
            return list(_session.ask(function, *between))
        for name in ("ticket", "position"):
            if name in given:
                number = rules.unsigned(given[name], name)
                try:
                    return list(_session.ask(f"{function}_by", name, number))
                except Failed as failed:
                    if failed.error[0] != RES_E_NOT_FOUND:
                        raise
                    return []
        raise ArgumentError("Invalid arguments")

    def history(positional: tuple[Any, ...], keywords: dict[str, Any] | None) -> tuple[StructSequence, ...] | None:
        def body() -> tuple[StructSequence, ...]:
            given = keywords or {}
            records = _structs(kind, ask(positional, given))
            return _filtered(records, {"group": given["group"]} if positional and "group" in given else {})

        return _session.run(body, None)

    history.__name__ = function
    return history


positions_get = Keywords(_active("positions_get", TradePosition))
orders_get = Keywords(_active("orders_get", TradeOrder))
history_orders_total = Positional(_history_total("history_orders_total"))
history_deals_total = Positional(_history_total("history_deals_total"))
history_orders_get = Keywords(_history("history_orders_get", TradeOrder))
history_deals_get = Keywords(_history("history_deals_get", TradeDeal))


# Trading -----------------------------------------------------------------------------------------------------


def _trade(
    function: str, kind: type[StructSequence]
) -> Callable[[tuple[Any, ...], dict[str, Any] | None], StructSequence | None]:
    def trade(positional: tuple[Any, ...], keywords: dict[str, Any] | None) -> StructSequence | None:
        def body() -> StructSequence:
            if keywords is not None and positional:
                raise ArgumentError("Unnamed arguments not allowed")
            if keywords is None and len(positional) != 1:
                raise ArgumentError("Invalid number of arguments")
            fields = positional[0] if keywords is None else keywords
            if not isinstance(fields, dict):
                raise ArgumentError("Invalid 1st unnamed argument")
            *result, request = _session.ask(function, rules.trade_request(fields))
            return kind([*result, TradeRequest(request)])

        return _session.run(body, None)

    trade.__name__ = function
    return trade


def _calculation(function: str, prices: int) -> Callable[[tuple[Any, ...]], float | None]:
    def calculate(positional: tuple[Any, ...]) -> float | None:
        def body() -> float:
            _count(positional, 3 + prices)
            action, name, *numbers = positional
            number = rules.c_int(action)
            return float(_session.ask(function, number, rules.symbol(name), *map(rules.c_double, numbers)))

        return _session.run(body, None)

    calculate.__name__ = function
    return calculate


order_check = Keywords(_trade("order_check", OrderCheckResult))
order_send = Keywords(_trade("order_send", OrderSendResult))
order_calc_margin = Positional(_calculation("order_calc_margin", 1))
order_calc_profit = Positional(_calculation("order_calc_profit", 2))


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
