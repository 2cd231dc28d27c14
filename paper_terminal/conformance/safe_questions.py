"""Cases that settle open questions without trading or changing anything that lasts."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np

from paper_terminal.conformance.flat import market_filling
from paper_terminal.conformance.runner import Case, Context, Skipped

_FAR_S: Final = 2_000_000_000
_YEAR_2000_S: Final = 946_684_800


def _now(c: Context) -> int:
    """Return the server's time, as far as the newest tick tells it."""
    return int(c.api.symbol_info_tick(c.symbol).time)


def _parts(c: Context) -> list[tuple[Any, Any]]:
    """Return the last whole M15 bars, each with the M1 bars in it."""
    minutes = c.api.copy_rates_from_pos(c.symbol, c.api.TIMEFRAME_M1, 0, 600)
    bars = c.api.copy_rates_from_pos(c.symbol, c.api.TIMEFRAME_M15, 1, 20)
    parts = []
    for bar in bars:
        inside = minutes[(minutes["time"] >= bar["time"]) & (minutes["time"] < bar["time"] + 900)]
        if len(inside) and inside["time"][0] != minutes["time"][0]:
            parts.append((bar, inside))
    if not parts:
        raise Skipped("too few bars")
    return parts


def longer_bars(c: Context) -> str:
    """Compare M15 bars with the M1 bars in them."""
    parts = _parts(c)
    equal = 0
    for bar, inside in parts:
        built = (inside["open"][0], inside["high"].max(), inside["low"].min(), inside["close"][-1])
        same = tuple(bar[name] for name in ("open", "high", "low", "close")) == built
        equal += same and int(bar["tick_volume"]) == int(inside["tick_volume"].sum())
    return f"{equal} of {len(parts)} M15 bars are their M1 bars"


def _agreement(found: list[tuple[int, Any]]) -> str:
    """Tell how often a bar's spread is which of its parts' spreads (in order of time)."""
    choices: dict[str, Callable[[Any], Any]] = {
        "lowest": np.min,
        "first": lambda spreads: spreads[0],
        "last": lambda spreads: spreads[-1],
        "highest": np.max,
    }
    counts = {
        name: sum(int(choose(spreads)) == spread for spread, spreads in found) for name, choose in choices.items()
    }
    return f"of {len(found)} bars: {', '.join(f'{name} {count}' for name, count in counts.items())}"


def spread_longer(c: Context) -> str:
    """Compare the spread of M15 bars with those of their M1 bars."""
    return _agreement([(int(bar["spread"]), inside["spread"]) for bar, inside in _parts(c)])


def spread_m1(c: Context) -> str:
    """Compare the spread of M1 bars with those of their ticks."""
    point = c.api.symbol_info(c.symbol).point
    bars = c.api.copy_rates_from_pos(c.symbol, c.api.TIMEFRAME_M1, 1, 20)
    ticks = c.api.copy_ticks_range(c.symbol, int(bars["time"][0]), int(bars["time"][-1]) + 59, c.api.COPY_TICKS_ALL)
    found = []
    for bar in bars:
        inside = ticks[(ticks["time"] >= bar["time"]) & (ticks["time"] < bar["time"] + 60)]
        if len(inside):
            spreads = np.round((inside["ask"] - inside["bid"]) / point).astype(int)
            found.append((int(bar["spread"]), spreads))
    if not found:
        raise Skipped("no ticks in the last minutes")
    return _agreement(found)


def tick_range_end(c: Context) -> str:
    """Ask for a range that ends at a second in which there are ticks."""
    now = _now(c)
    ticks = c.api.copy_ticks_range(c.symbol, now - 1800, now - 60, c.api.COPY_TICKS_ALL)
    later = ticks[ticks["time_msc"] % 1000 > 0]
    if not len(later):
        raise Skipped("no tick inside a second")
    second = int(later["time"][-1])
    found = c.api.copy_ticks_range(c.symbol, now - 1800, second, c.api.COPY_TICKS_ALL)
    return "no" if not len(found) or int(found["time_msc"][-1]) <= second * 1000 else "yes"


def tick_order(c: Context) -> str:
    """Copy the same half hour twice, and once from a start inside of it."""
    now = _now(c)
    first = c.api.copy_ticks_range(c.symbol, now - 1800, now - 5, c.api.COPY_TICKS_ALL)
    again = c.api.copy_ticks_range(c.symbol, now - 1800, now - 5, c.api.COPY_TICKS_ALL)
    if not len(first):
        raise Skipped("no ticks in the last half hour")
    second = int(first["time"][len(first) // 2])
    inside = c.api.copy_ticks_range(c.symbol, second, now - 5, c.api.COPY_TICKS_ALL)
    ties = int((np.diff(first["time_msc"]) == 0).sum())
    same = first.tobytes() == again.tobytes()
    part = first[first["time"] >= second].tobytes() == inside.tobytes()
    return f"twice the same: {_said(same)}; the same from a later start: {_said(part)}; {ties} ties of {len(first)}"


def _said(value: bool) -> str:
    return "yes" if value else "no"


def tick_history(c: Context) -> str:
    """Look for the oldest tick and the oldest daily bar."""
    ticks = c.api.copy_ticks_from(c.symbol, _YEAR_2000_S, 1, c.api.COPY_TICKS_ALL)
    bars = c.api.copy_rates_range(c.symbol, c.api.TIMEFRAME_D1, _YEAR_2000_S, _now(c))
    return f"ticks since {_oldest(ticks)}, D1 bars since {_oldest(bars)}"


def _oldest(records: Any) -> str:
    if records is None or not len(records):
        return "(none given)"
    return f"{datetime.fromtimestamp(int(records['time'][0]), UTC):%Y-%m-%d %H:%M}"


def too_many_bars(c: Context) -> str:
    """Ask for as many bars as the chart holds."""
    result = c.api.copy_rates_from_pos(c.symbol, 1, 0, c.api.terminal_info().maxbars)
    return f"{'nothing' if result is None else len(result)}, {c.api.last_error()}"


def _unselected(c: Context) -> Any:
    for each in c.api.symbols_get():
        if not each.select and each.trade_mode:
            return each
    raise Skipped("every symbol is in Market Watch: take one out to try this")


def unselected_symbol(c: Context) -> str:
    """Look at a symbol outside Market Watch."""
    each = _unselected(c)
    tick = c.api.symbol_info_tick(each.name)
    prices = "its prices are 0" if not each.bid else f"it has prices (bid {each.bid})"
    return f"{prices}, tick value {each.trade_tick_value}, time {each.time}; symbol_info_tick: {tick and tick[:3]}"


def first_copy(c: Context) -> str:
    """Select a symbol, copy a day of its ticks twice, and take it out again."""
    name, now = _unselected(c).name, _now(c)
    c.api.symbol_select(name, True)
    try:
        counts, took_ms = [], []
        for _ in range(2):
            begun = time.monotonic()
            ticks = c.api.copy_ticks_range(name, now - 86_400, now, c.api.COPY_TICKS_ALL)
            took_ms.append(round((time.monotonic() - begun) * 1000))
            counts.append(c.api.last_error()[0] if ticks is None else len(ticks))
    finally:
        c.api.symbol_select(name, False)
    return f"{counts[0]} ticks after {took_ms[0]} ms, then {counts[1]} after {took_ms[1]} ms ({name})"


def server_offset(c: Context) -> str:
    """Compare the newest tick's time with UTC."""
    ahead = datetime.fromtimestamp(_now(c), UTC) - datetime.now(UTC)
    offset = f"{round(ahead / timedelta(minutes=15)) / 4:+} h"
    return f"{offset} by the newest tick; if the market is closed this tells how old that is"


def missing_action(c: Context) -> str:
    """Check a request without an action."""
    result = c.api.order_check({"symbol": c.symbol, "volume": 0.01})
    return f"{result.retcode} ({result.comment!r})"


def check_refused(c: Context) -> str:
    """Check a request of an impossible volume."""
    result = c.api.order_check({"action": 1, "symbol": c.symbol, "volume": 1e9, "type": 0})
    return str(result[:8])


def comments(c: Context) -> str:
    """Check requests that are wrong in one thing each."""
    info, tick = c.api.symbol_info(c.symbol), c.api.symbol_info_tick(c.symbol)
    filling = market_filling(c.api, info)
    good = {"action": 1, "symbol": c.symbol, "volume": info.volume_min, "type": 0, "price": tick.ask, "deviation": 100}
    good["type_filling"] = filling
    pending = good | {"action": 5, "type": c.api.ORDER_TYPE_BUY_LIMIT, "type_filling": 2}
    tries = (
        good | {"volume": info.volume_min / 10},
        good | {"sl": tick.ask * 1.1},
        good | {"type_filling": 9},
        good | {"volume": info.volume_max},
        good | {"type": 77},
        pending | {"price": round(tick.ask * 1.1, info.digits)},
        pending | {"price": round(tick.bid * 0.9, info.digits), "type_time": 2, "expiration": 1_000_000},
        {"action": 6, "position": 1},
        {"action": 8, "order": 1},
    )
    found = {}
    for request in tries:
        result = c.api.order_check(request)
        if result is not None:
            found[result.retcode] = result.comment
    return ", ".join(f"{code} {text!r}" for code, text in sorted(found.items()))


def balance(c: Context) -> str:
    """Add up every deal."""
    deals = c.api.history_deals_get(1, _FAR_S)
    total = sum(each.profit + each.commission + each.swap + each.fee for each in deals)
    found = c.api.account_info().balance
    return "yes" if abs(found - total) < 0.005 else f"no: {found} against {total:.2f} of {len(deals)} deals"


def deals_by_ticket(c: Context) -> str:
    """Ask for a deal by its own and by its order's ticket."""
    for deal in c.api.history_deals_get(1, _FAR_S)[::-1]:
        if deal.order and deal.order != deal.ticket:
            own, order = c.api.history_deals_get(ticket=deal.ticket), c.api.history_deals_get(ticket=deal.order)
            return f"the deal's ticket gives {_tickets(own)}, the order's {_tickets(order)}; the deal is {deal.ticket}"
    raise Skipped("the account has no deal of an order yet")


def _tickets(deals: Any) -> str:
    return "None" if deals is None else str([each.ticket for each in deals])


def book_after_shutdown(c: Context) -> str:
    """Subscribe to depth, connect anew, and look at the depth."""
    if not c.api.market_book_add(c.symbol):
        raise Skipped(f"{c.symbol} has no market depth")
    try:
        c.api.shutdown()
        c.connect()
        return "no" if c.api.market_book_get(c.symbol) is None else "yes"
    finally:
        c.api.market_book_release(c.symbol)


SAFE_QUESTIONS = tuple(
    Case(each.__name__, each, settles=each.__name__.replace("_", "-"))
    for each in (
        unselected_symbol,
        first_copy,
        tick_order,
        tick_range_end,
        tick_history,
        too_many_bars,
        longer_bars,
        spread_m1,
        spread_longer,
        server_offset,
        missing_action,
        check_refused,
        comments,
        balance,
        deals_by_ticket,
        book_after_shutdown,
    )
)
