"""Cases that change nothing: arguments, errors, types, market data, history."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np

from paper_terminal.conformance.runner import Case, Context, Difference, Skipped
from paper_terminal.records import RATE_DTYPE, TICK_DTYPE

_FAR_S = 2_000_000_000
_BOOLEAN_FIELDS = {
    "TerminalInfo": range(10),
    "AccountInfo": (5, 6, 9),
    "SymbolInfo": (0, 2, 3, 13, 24),
}


def _raises(kind: type[BaseException], call: Any, what: str) -> None:
    try:
        call()
    except kind:
        return
    raise Difference(f"{what}: no {kind.__name__}")


def positions_take_no_position(c: Context) -> None:
    """positions_get and orders_get have keyword arguments only."""
    for function in (c.api.positions_get, c.api.orders_get):
        c.expect_failure(function(c.symbol), None, -2, "Unnamed arguments not allowed")


def history_needs_dates_or_a_number(c: Context) -> None:
    """The history functions refuse dates as keywords, and nothing at all."""
    for function in (c.api.history_orders_get, c.api.history_deals_get):
        c.expect_failure(function(), None, -2, "Invalid arguments")
        c.expect_failure(function(date_from=1, date_to=2), None, -2, "Invalid arguments")


def dates(c: Context) -> None:
    """Numbers and datetimes are dates; texts, dates and numpy dates are not."""
    for wrong in ("2024-01-01", date(2024, 1, 1), np.datetime64("2024-01-01")):
        c.expect_failure(c.api.copy_rates_from(c.symbol, 1, wrong, 1), None, -2, "Invalid arguments")
    _raises(SystemError, lambda: c.api.copy_rates_from(c.symbol, 1, 1_700_000_000_000, 1), "a date in milliseconds")
    _raises(SystemError, lambda: c.api.copy_rates_from_pos(c.symbol, 1, 0, "5"), "a count as text")


def unknown_keywords(c: Context) -> None:
    """Unknown keywords are ignored."""
    c.expect(c.api.positions_get(ticket=1, nonsense=5), (), "positions_get(ticket=1, nonsense=5)")


def bad_groups(c: Context) -> None:
    """symbols_get answers False to a bad argument."""
    c.expect_failure(c.api.symbols_get(5), False, -2)
    c.expect_failure(c.api.symbols_get(group=5), False, -2, 'Invalid "group" argument')


def bad_book_arguments(c: Context) -> None:
    """The book functions answer None to a bad argument."""
    c.expect_failure(c.api.market_book_add(1), None, -2, "Invalid arguments")
    c.expect_failure(c.api.market_book_release(), None, -2, "Invalid arguments")


def login_without_a_number(c: Context) -> None:
    """Login 0 is refused before anything is sent."""
    c.expect_failure(c.api.login(0), False, -2, 'Invalid "login" argument')


def unknown_symbols(c: Context) -> None:
    """An unknown symbol is not found."""
    c.expect_failure(c.api.symbol_info("NO_SUCH_SYMBOL"), None, -4)
    c.expect_failure(c.api.symbol_select("NO_SUCH_SYMBOL", True), False, -1)
    c.expect(c.api.symbol_info_tick("NO_SUCH_SYMBOL"), None, "symbol_info_tick")


def nothing_is_an_empty_tuple(c: Context) -> None:
    """No records are an empty tuple and success."""
    for result in (
        c.api.positions_get(ticket=1),
        c.api.orders_get(symbol="NO_SUCH"),
        c.api.history_orders_get(ticket=1),
    ):
        c.expect(result, (), "an empty answer")
        c.expect(c.api.last_error(), (1, "Success"), "last_error")


def value_types(c: Context) -> None:
    """Booleans are bool, counts int, prices float, in every information struct."""
    for result in (c.api.terminal_info(), c.api.account_info(), c.api.symbol_info(c.symbol)):
        name = type(result).__name__
        found = [index for index, value in enumerate(result) if isinstance(value, bool)]
        c.expect(found, list(_BOOLEAN_FIELDS[name]), f"{name}: places of booleans")
        c.expect({type(value) for value in result} <= {bool, int, float, str}, True, f"{name}: plain values")


def versions(c: Context) -> None:
    """version() is two numbers and a text."""
    c.expect([type(each) for each in c.api.version()], [int, int, str], "types")


def record_types(c: Context) -> None:
    """Arrays are packed records of 60 bytes."""
    c.expect(c.api.copy_rates_from_pos(c.symbol, 1, 0, 3).dtype, RATE_DTYPE, "rates")
    c.expect(c.api.copy_ticks_from(c.symbol, _now(c) - 3600, 3, c.api.COPY_TICKS_ALL).dtype, TICK_DTYPE, "ticks")


def _now(c: Context) -> int:
    """Return the server's time, as far as the newest tick tells it."""
    return int(c.api.symbol_info_tick(c.symbol).time)


def rates_edges(c: Context) -> None:
    """Bars ascend; both ends of a range are included; `from` includes the bar it names."""
    bars = c.api.copy_rates_from_pos(c.symbol, c.api.TIMEFRAME_M1, 1, 30)
    c.expect(bool((np.diff(bars["time"]) > 0).all()), True, "ascending")
    first, last = int(bars["time"][0]), int(bars["time"][-1])
    c.expect(c.api.copy_rates_range(c.symbol, 1, first, last).tolist(), bars.tolist(), "range with both ends")
    c.expect(c.api.copy_rates_from(c.symbol, 1, last, 30).tolist(), bars.tolist(), "from, going back")
    c.expect(int(c.api.copy_rates_from(c.symbol, 1, last - 1, 1)["time"][0]), int(bars["time"][-2]), "from, before it")


def ticks_edges(c: Context) -> None:
    """Ticks ascend, and begin with the second asked for."""
    now = _now(c)
    ticks = c.api.copy_ticks_range(c.symbol, now - 1800, now - 60, c.api.COPY_TICKS_ALL)
    if not len(ticks):
        raise Skipped("no ticks in the last half hour")
    c.expect(bool((np.diff(ticks["time_msc"]) >= 0).all()), True, "ascending")
    c.expect(bool((ticks["time"] == ticks["time_msc"] // 1000).all()), True, "time is time_msc // 1000")
    c.expect(bool((ticks["time_msc"] >= (now - 1800) * 1000).all()), True, "not before the start")
    few = c.api.copy_ticks_from(c.symbol, now - 1800, 5, c.api.COPY_TICKS_ALL)
    c.expect(few.tolist(), ticks[: len(few)].tolist(), "from a second on, oldest first")


def masks(c: Context) -> None:
    """A mask of exclusions alone selects nothing; everything is selected by a star."""
    everything = c.api.symbols_get()
    c.expect(c.api.symbols_total(), len(everything), "symbols_total")
    c.expect(len(c.api.symbols_get("*")), len(everything), "symbols_get('*')")
    c.expect(c.symbol in {each.name for each in c.api.symbols_get(group=f"*,!{c.symbol}")}, False, "an exclusion")
    deals = c.api.history_deals_get(1, _FAR_S, group="!NO_SUCH")
    c.expect(deals, (), "exclusions alone")


def history_counts(c: Context) -> None:
    """Totals equal the lengths of what is got."""
    c.expect(c.api.history_deals_total(1, _FAR_S), len(c.api.history_deals_get(1, _FAR_S)), "deals")
    c.expect(c.api.history_orders_total(1, _FAR_S), len(c.api.history_orders_get(1, _FAR_S)), "orders")


def calculations(c: Context) -> None:
    """Profit follows price and direction; margin is positive."""
    tick = c.api.symbol_info_tick(c.symbol)
    up = tick.ask * 1.01
    profit = c.api.order_calc_profit(c.api.ORDER_TYPE_BUY, c.symbol, 1, tick.ask, up)
    loss = c.api.order_calc_profit(c.api.ORDER_TYPE_SELL, c.symbol, 1.0, tick.ask, up)
    c.expect((type(profit), profit > 0, loss < 0), (float, True, True), "signs of profit")
    c.expect(c.api.order_calc_margin(c.api.ORDER_TYPE_BUY, c.symbol, 0.1, tick.ask) > 0, True, "margin")


def checks(c: Context) -> None:
    """order_check refuses an impossible volume and takes a possible one."""
    info, tick = c.api.symbol_info(c.symbol), c.api.symbol_info_tick(c.symbol)
    filling = c.api.ORDER_FILLING_FOK if info.filling_mode & 1 else c.api.ORDER_FILLING_IOC
    request = {"action": 1, "symbol": c.symbol, "type": 0, "price": tick.ask, "deviation": 100, "type_filling": filling}
    result = c.api.order_check(request | {"volume": info.volume_min / 10})
    if result.retcode == c.api.TRADE_RETCODE_CLIENT_DISABLES_AT:
        raise Skipped("AutoTrading is off")
    c.expect(result.retcode, c.api.TRADE_RETCODE_INVALID_VOLUME, "retcode of too small a volume")
    result = c.api.order_check(request | {"volume": info.volume_min})
    c.expect((result.retcode, result.comment), (0, "Done"), "a passed check")
    c.expect(result.request.volume, info.volume_min, "the request it echoes")


_CASES = (
    positions_take_no_position,
    history_needs_dates_or_a_number,
    dates,
    unknown_keywords,
    bad_groups,
    bad_book_arguments,
    login_without_a_number,
    unknown_symbols,
    nothing_is_an_empty_tuple,
    value_types,
    versions,
    record_types,
    rates_edges,
    ticks_edges,
    masks,
    history_counts,
    calculations,
    checks,
)

SAFE_CASES = tuple(Case(each.__name__, each) for each in _CASES)
