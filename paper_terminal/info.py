"""The values of `account_info`, `terminal_info` and `symbol_info`, in the order of their fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from paper_terminal.accounts import Account
from paper_terminal.margin import Converter, NoRate, Quote
from paper_terminal.records import Records
from paper_terminal.session_day import Day
from paper_terminal.settings import Settings
from paper_terminal.specifications import Specification
from paper_terminal.structs import AccountInfo, SymbolInfo, TerminalInfo
from paper_terminal.valuation import Valuation

VERSION = 500
BUILD = 5430
BUILD_DATE = "20 Nov 2025"
COMPANY = "Paper Broker"


def _ordered(fields: tuple[str, ...], values: dict[str, Any], default: Any = 0) -> list[Any]:
    return [values.get(name, default) for name in fields]


def account_info(account: Account, worth: Valuation) -> list[Any]:
    """Return an account's values."""
    settings = account.settings
    values = {
        "login": settings.login,
        "trade_mode": settings.trade_mode,
        "leverage": settings.leverage,
        "limit_orders": settings.limit_orders,
        "margin_so_mode": settings.stop_out_mode,
        "trade_allowed": settings.trade_allowed,
        "trade_expert": settings.trade_expert,
        "margin_mode": settings.margin_mode,
        "currency_digits": settings.currency_digits,
        "fifo_close": settings.fifo_close,
        "balance": worth.balance,
        "credit": account.credit,
        "profit": worth.profit,
        "equity": worth.equity,
        "margin": worth.margin,
        "margin_free": worth.margin_free,
        "margin_level": worth.margin_level,
        "margin_initial": worth.margin_initial,
        "margin_maintenance": worth.margin_maintenance,
        "margin_so_call": settings.margin_call_level,
        "margin_so_so": settings.stop_out_level,
        "name": settings.name,
        "server": settings.server,
        "currency": settings.currency,
        "company": COMPANY,
    }
    return _ordered(AccountInfo.__match_args__, values, 0.0)


def terminal_info(
    folder: Path, settings: Settings, *, build: int, connected: bool, trade_allowed: bool, api_off: bool
) -> list[Any]:
    """Return the terminal's values."""
    values = {
        "community_account": False,
        "community_connection": False,
        "connected": connected,
        "dlls_allowed": False,
        "trade_allowed": trade_allowed,
        "tradeapi_disabled": api_off,
        "email_enabled": False,
        "ftp_enabled": False,
        "notifications_enabled": False,
        "mqid": False,
        "build": build,
        "maxbars": settings.max_bars,
        "codepage": 0,
        "ping_last": 1000,
        "community_balance": 0.0,
        "retransmission": 0.0,
        "company": COMPANY,
        "name": "Paper Terminal",
        "language": "English",
        "path": str(folder),
        "data_path": str(folder),
        "commondata_path": str(folder / "Common"),
    }
    return _ordered(TerminalInfo.__match_args__, values)


_INTEGERS = frozenset(SymbolInfo.__match_args__[4:31]) | {"chart_mode"}
_TEXTS = frozenset(SymbolInfo.__match_args__[83:])
_BOOLEANS = frozenset({"custom", "select", "visible", "spread_float", "margin_hedged_use_leg"})
_EMPTY: dict[str, Any] = {
    name: False if name in _BOOLEANS else 0 if name in _INTEGERS else "" if name in _TEXTS else 0.0
    for name in SymbolInfo.__match_args__
}


def symbol_info(
    name: str,
    symbol: Specification,
    *,
    selected: bool,
    tick: Records | None,
    day: Day,
    converter: Converter,
    currency: str,
) -> list[Any]:
    """Return a symbol's values. Without a tick its prices are 0; `day` is what its day has seen."""
    values = dict(_EMPTY) | _specified(name, symbol) | {"select": selected, "visible": selected}
    if tick is not None and len(tick):
        quote = Quote(float(tick["bid"][0]), float(tick["ask"][0]), 0)
        values |= {
            "time": int(tick["time"][0]),
            "bid": quote.bid,
            "ask": quote.ask,
            "last": float(tick["last"][0]),
            "volume": int(tick["volume"][0]),
            "volume_real": float(tick["volume_real"][0]),
            "spread": round((quote.ask - quote.bid) / symbol.point),
        }
        values |= _of_day(symbol, day, float(tick["last"][0]) if symbol.by_last else quote.bid)
        values |= _tick_values(symbol, converter, currency, quote)
    return list(values.values())


def _specified(name: str, symbol: Specification) -> dict[str, Any]:
    return {
        "chart_mode": symbol.chart_mode,
        "digits": symbol.digits,
        "spread_float": True,
        "ticks_bookdepth": symbol.book_depth,
        "trade_calc_mode": symbol.calc_mode,
        "trade_mode": symbol.trade_mode,
        "trade_stops_level": symbol.stops_level,
        "trade_freeze_level": symbol.freeze_level,
        "trade_exemode": symbol.exemode,
        "swap_mode": symbol.swap_mode,
        "swap_rollover3days": symbol.swap_rollover3days,
        "expiration_mode": symbol.expiration_mode,
        "filling_mode": symbol.filling_mode,
        "order_mode": symbol.order_mode,
        "order_gtc_mode": symbol.order_gtc_mode,
        "point": symbol.point,
        "trade_tick_size": symbol.step,
        "trade_contract_size": symbol.contract_size,
        "volume_min": symbol.volume_min,
        "volume_max": symbol.volume_max,
        "volume_step": symbol.volume_step,
        "volume_limit": symbol.volume_limit,
        "swap_long": symbol.swap_long,
        "swap_short": symbol.swap_short,
        "margin_initial": symbol.margin_initial,
        "margin_maintenance": symbol.margin_maintenance,
        "margin_hedged_use_leg": symbol.margin_hedged_use_leg,
        "margin_hedged": symbol.hedged_size,
        "trade_face_value": symbol.face_value,
        "trade_accrued_interest": symbol.accrued_interest,
        "trade_liquidity_rate": symbol.liquidity_rate,
        "currency_base": symbol.currency_base,
        "currency_profit": symbol.currency_profit,
        "currency_margin": symbol.margin_currency,
        "description": symbol.description,
        "name": name,
        "path": f"{symbol.group}\\{name}",
    }


def _of_day(symbol: Specification, day: Day, price: float) -> dict[str, Any]:
    before = day.closed_before or day.opened
    return {
        "bidhigh": day.bid_high,
        "bidlow": day.bid_low,
        "askhigh": day.ask_high,
        "asklow": day.ask_low,
        "lasthigh": day.last_high,
        "lastlow": day.last_low,
        "volumehigh": int(day.volume_high),
        "volumelow": int(day.volume_low),
        "volumehigh_real": day.volume_high,
        "volumelow_real": day.volume_low,
        "session_deals": day.deals,
        "session_volume": day.volume,
        "session_turnover": day.value * symbol.contract_size,
        "session_aw": symbol.price(day.value / day.volume) if day.volume else 0.0,
        "session_open": day.opened,
        "session_close": before,
        "price_change": round((price / before - 1.0) * 100.0, 4) if before and price else 0.0,
    }


def _tick_values(symbol: Specification, converter: Converter, currency: str, quote: Quote) -> dict[str, Any]:
    try:
        value = abs(
            converter.profit(
                symbol, buy=True, volume=1.0, opened=quote.bid - symbol.step, closed=quote.bid, to=currency
            )
        )
    except NoRate:
        return {}
    value = round(value, 8)
    return {"trade_tick_value": value, "trade_tick_value_profit": value, "trade_tick_value_loss": value}
