"""Cases that settle open questions by trading the smallest volume; what they leave open is closed after each."""

from __future__ import annotations

import time
from typing import Any, Final

from paper_terminal.conformance.flat import MAGIC
from paper_terminal.conformance.orders import awaited, closed, limit_request, market_request, opened, sent
from paper_terminal.conformance.runner import Case, Context, Difference, Skipped

_BIG_MAGIC: Final = (1 << 63) + 5
_STOP_WAIT_S: Final = 60.0
_ANY_FILLING: Final = {"FOK": 0, "IOC": 1, "RETURN": 2, "BOC": 3}


def visible_after(c: Context) -> str:
    """Time from the answer of an opening order to the position, its deal and its order in history."""
    result = sent(c, market_request(c, c.api.ORDER_TYPE_BUY))
    begun = time.monotonic()
    c.expect(result.retcode, c.api.TRADE_RETCODE_DONE, f"retcode ({result.comment})")
    (position,) = awaited(lambda: c.api.positions_get(ticket=result.order), "the position")
    times = [time.monotonic() - begun]
    awaited(lambda: c.api.history_deals_get(position=position.identifier), "the deal")
    times.append(time.monotonic() - begun)
    awaited(lambda: c.api.history_orders_get(ticket=result.order), "the order")
    times.append(time.monotonic() - begun)
    shown = ", ".join(
        f"{name} {each * 1000:.0f} ms" for name, each in zip(("position", "deal", "order"), times, strict=True)
    )
    return f"{shown}; tickets: position {position.ticket}, order {result.order}, deal {result.deal}"


def filled_volume(c: Context) -> str:
    """Look at volume_current of a filled order."""
    position = opened(c, c.api.ORDER_TYPE_SELL)
    (order,) = awaited(lambda: c.api.history_orders_get(ticket=position.ticket), "the order")
    return str(order.volume_current)


def equity(c: Context) -> str:
    """Add up the account with a position open; both sides are read until the market stood still between."""
    opened(c, c.api.ORDER_TYPE_BUY)

    def still() -> Any:
        before = c.api.positions_get()
        account = c.api.account_info()
        return account if before == c.api.positions_get() else None

    account = awaited(still, "a moment without a new price")
    total = account.balance + account.credit + sum(each.profit + each.swap for each in c.api.positions_get())
    return "yes" if abs(total - account.equity) < 0.005 else f"no: {account.equity} against {total:.2f}"


def check_margin(c: Context) -> str:
    """Check the same order with nothing open and with a position open."""
    request = market_request(c, c.api.ORDER_TYPE_BUY)
    before = c.api.order_check(request)
    opened(c, c.api.ORDER_TYPE_BUY)
    after = c.api.order_check(request)
    verdict = "the total" if after.margin > before.margin * 1.5 else "what the trade adds"
    return f"{verdict}: {before.margin} with nothing open, {after.margin} with as much open"


def commission(c: Context) -> str:
    """Look at the commission of both deals of a position."""
    position = opened(c, c.api.ORDER_TYPE_BUY)
    closed(c, position)
    awaited(lambda: len(c.api.history_deals_get(position=position.identifier)) == 2, "the deals")
    first, last = c.api.history_deals_get(position=position.identifier)
    return f"opening {first.commission}, closing {last.commission}, fees {first.fee} and {last.fee}"


def magic(c: Context) -> str:
    """Send a magic that a signed number cannot hold."""
    position = opened(c, c.api.ORDER_TYPE_BUY, magic=_BIG_MAGIC)
    return "yes" if position.magic == _BIG_MAGIC else f"no: {_BIG_MAGIC} came back as {position.magic}"


def close_magic(c: Context) -> str:
    """Close with another magic than the position has."""
    position = opened(c, c.api.ORDER_TYPE_BUY)
    result = closed(c, position, magic=MAGIC + 1, comment="other")
    found = awaited(lambda: [d for d in c.api.history_deals_get(position=position.identifier) if d.entry], "the deal")
    whose = {MAGIC: "the position's", MAGIC + 1: "the request's"}.get(found[0].magic, str(found[0].magic))
    return f"{whose}; comment {found[0].comment!r} (deal {result.deal})"


def sltp_result(c: Context) -> str:
    """Look at the result of SLTP."""
    position = opened(c, c.api.ORDER_TYPE_BUY)
    stop = round(position.price_open * 0.95, c.api.symbol_info(c.symbol).digits)
    change = {"action": c.api.TRADE_ACTION_SLTP, "symbol": c.symbol, "position": position.ticket, "sl": stop}
    result = sent(c, change)
    return f"order {result.order}, deal {result.deal} (position {position.ticket}), retcode {result.retcode}"


def pending_retcode(c: Context) -> str:
    """Place a pending order."""
    result = sent(c, limit_request(c))
    return f"{result.retcode} ({result.comment!r}), volume {result.volume}, price {result.price}"


def pending_filling(c: Context) -> str:
    """Place a pending order with each filling."""
    found = {name: sent(c, limit_request(c, type_filling=value)).retcode for name, value in _ANY_FILLING.items()}
    mask = c.api.symbol_info(c.symbol).filling_mode
    return f"{', '.join(f'{name} {code}' for name, code in found.items())} (filling_mode {mask})"


def through_the_market(c: Context) -> str:
    """Place a buy limit above the market."""
    info, tick = c.api.symbol_info(c.symbol), c.api.symbol_info_tick(c.symbol)
    result = sent(c, limit_request(c, price=round(tick.ask * 1.001, info.digits)))
    return f"{result.retcode} ({result.comment!r}), deal {result.deal}, execution mode {info.trade_exemode}"


def expiration_clock(c: Context) -> str:
    """Let an order expire in 10 minutes by UTC and by the server's clock, and see which is refused or kept."""
    if not c.api.symbol_info(c.symbol).expiration_mode & 4:
        raise Skipped("the symbol takes no expiration time")
    server_s, utc_s = int(c.api.symbol_info_tick(c.symbol).time), int(time.time())
    if abs(server_s - utc_s) < 1800:
        raise Skipped("the server's clock is UTC, or the market is closed")
    timed = {"type_time": c.api.ORDER_TIME_SPECIFIED}
    by_utc = sent(c, limit_request(c, expiration=utc_s + 600, **timed))
    by_server = sent(c, limit_request(c, expiration=server_s + 600, **timed))
    ahead = server_s > utc_s
    past = by_utc if ahead else by_server
    clock = (
        ("the server's" if ahead else "UTC") if past.retcode == c.api.TRADE_RETCODE_INVALID_EXPIRATION else "unclear"
    )
    return f"{clock}: in 10 min by UTC {by_utc.retcode}, by the server's clock {by_server.retcode}"


def stops_in_request(c: Context) -> str:
    """Open with SL and TP, and read them back."""
    tick, digits = c.api.symbol_info_tick(c.symbol), c.api.symbol_info(c.symbol).digits
    sl, tp = round(tick.bid * 0.95, digits), round(tick.bid * 1.05, digits)
    result = sent(c, market_request(c, c.api.ORDER_TYPE_BUY, sl=sl, tp=tp))
    if result.retcode != c.api.TRADE_RETCODE_DONE:
        return f"no: {result.retcode} ({result.comment!r})"
    (position,) = awaited(lambda: c.api.positions_get(ticket=result.order), "the position")
    return "yes" if (position.sl, position.tp) == (sl, tp) else f"no: sl {position.sl}, tp {position.tp} were kept"


def stop_close(c: Context) -> str:
    """Set stops as near as allowed on a long and wait until one is hit."""
    info = c.api.symbol_info(c.symbol)
    position = opened(c, c.api.ORDER_TYPE_BUY)
    away = max(info.trade_stops_level, info.spread, 2) * info.point
    bid = c.api.symbol_info_tick(c.symbol).bid
    near = {"sl": round(bid - away, info.digits), "tp": round(bid + away, info.digits)}
    result = sent(c, {"action": c.api.TRADE_ACTION_SLTP, "symbol": c.symbol, "position": position.ticket} | near)
    if result.retcode != c.api.TRADE_RETCODE_DONE:
        raise Skipped(f"stops {away / info.point:.0f} points away are refused ({result.retcode})")
    try:
        awaited(lambda: not c.api.positions_get(ticket=position.ticket), "a hit", within_s=_STOP_WAIT_S)
    except Difference as nothing:
        raise Skipped(f"the market reached neither stop within {_STOP_WAIT_S:.0f} s") from nothing
    awaited(lambda: len(c.api.history_deals_get(position=position.identifier)) == 2, "the deal")
    deal = c.api.history_deals_get(position=position.identifier)[-1]
    whose = {MAGIC: "the position's", 0: "0"}.get(deal.magic, str(deal.magic))
    return f"comment {deal.comment!r}, magic {whose}, reason {deal.reason}"


def instant_price(c: Context) -> str:
    """Open under Instant execution at a price a little off the market."""
    info = c.api.symbol_info(c.symbol)
    if info.trade_exemode != c.api.SYMBOL_TRADE_EXECUTION_INSTANT:
        raise Skipped(f"the symbol's execution mode is {info.trade_exemode}, not Instant")
    tick = c.api.symbol_info_tick(c.symbol)
    asked = round(tick.ask + 2 * info.point, info.digits)
    result = sent(c, market_request(c, c.api.ORDER_TYPE_BUY, price=asked))
    return f"retcode {result.retcode}: asked {asked} at ask {tick.ask}, filled at {result.price}"


def terminal_or_server(c: Context) -> str:
    """Send orders that are refused, and look at request_id."""
    info, tick = c.api.symbol_info(c.symbol), c.api.symbol_info_tick(c.symbol)
    good = market_request(c, c.api.ORDER_TYPE_BUY)
    tries = (
        good | {"volume": info.volume_min / 10},
        good | {"sl": round(tick.ask * 1.1, info.digits)},
        good | {"type_filling": 9},
        limit_request(c, price=round(tick.ask * 1.1, info.digits), type=c.api.ORDER_TYPE_SELL_STOP),
        {"action": c.api.TRADE_ACTION_REMOVE, "order": 1},
    )
    found = {}
    for request in tries:
        result = sent(c, request)
        found[result.retcode] = "server" if result.request_id else "terminal"
    return ", ".join(f"{code} {where}" for code, where in sorted(found.items()))


def close_by_result(c: Context) -> str:
    """Close two opposite positions by each other."""
    if c.api.account_info().margin_mode != c.api.ACCOUNT_MARGIN_MODE_RETAIL_HEDGING:
        raise Skipped("no hedging account")
    if not c.api.symbol_info(c.symbol).order_mode & 64:
        raise Skipped("the symbol does not offer it")
    long, short = opened(c, c.api.ORDER_TYPE_BUY), opened(c, c.api.ORDER_TYPE_SELL)
    request = {"action": c.api.TRADE_ACTION_CLOSE_BY, "position": long.ticket, "position_by": short.ticket}
    result = sent(c, request)
    c.expect(result.retcode, c.api.TRADE_RETCODE_DONE, "retcode")
    awaited(lambda: len(c.api.history_deals_get(position=long.ticket)) == 2, "the deals")
    deal = c.api.history_deals_get(position=long.ticket)[-1]
    other = c.api.history_deals_get(position=short.ticket)[-1]
    c.expect((deal.entry, other.entry), (c.api.DEAL_ENTRY_OUT_BY,) * 2, "entries")
    c.expect((deal.price, other.price), (short.price_open, long.price_open), "prices")
    c.expect(other.profit, 0.0, "profit of the second deal")
    shown = f"deal {result.deal}, order {result.order}, volume {result.volume}, price {result.price}"
    return f"{shown}; comments {deal.comment!r} and {other.comment!r}, magic {deal.magic}"


def api_switch(c: Context) -> str:
    """Send an order while the Python API option is on."""
    if not c.api.terminal_info().tradeapi_disabled:
        raise Skipped("the option that forbids trading through the Python API is off: set it and run this again")
    result = c.api.order_send(market_request(c, c.api.ORDER_TYPE_BUY))
    found = c.api.last_error() if result is None else (result.retcode, result.comment)
    return f"tradeapi_disabled is True and order_send gives {found}"


TRADING_QUESTIONS = tuple(
    Case(each.__name__, each, trades=True, settles=each.__name__.replace("_", "-"))
    for each in (
        api_switch,
        visible_after,
        filled_volume,
        equity,
        check_margin,
        commission,
        magic,
        close_magic,
        sltp_result,
        close_by_result,
        pending_retcode,
        pending_filling,
        through_the_market,
        expiration_clock,
        stops_in_request,
        stop_close,
        instant_price,
        terminal_or_server,
    )
)
