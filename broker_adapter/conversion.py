"""From the API's values to the bus's: UTC instead of server time, canonical symbols instead of the broker's. Pure."""

from __future__ import annotations

from collections.abc import Callable

from broker_adapter.api_types import ApiAccount, ApiDeal, ApiOrder, ApiPosition, ApiSymbol
from market.instrument import Instrument
from protocol.messages import Account, Deal, Order, Position

ToUtc = Callable[[int], int]
"""Server time to UTC, both milliseconds (`ServerClock.to_utc_ms`)."""
Canonical = Callable[[str], str]
"""A broker's symbol to the canonical one; an unmapped one stays (`Catalogue.canonical`)."""


def account_from(api: ApiAccount) -> Account:
    """Return the account as it travels on the bus."""
    return Account(
        server=api.server,
        login=api.login,
        name=api.name,
        currency=api.currency,
        leverage=api.leverage,
        trade_mode=api.trade_mode,
        margin_mode=api.margin_mode,
        balance=api.balance,
        credit=api.credit,
        profit=api.profit,
        equity=api.equity,
        margin=api.margin,
        margin_free=api.margin_free,
        margin_level=api.margin_level,
        trade_allowed=api.trade_allowed,
        trade_expert=api.trade_expert,
    )


def position_from(api: ApiPosition, *, to_utc_ms: ToUtc, canonical: Canonical) -> Position:
    """Return the position as it travels on the bus."""
    return Position(
        ticket=api.ticket,
        identifier=api.identifier,
        symbol=canonical(api.symbol),
        type=api.type,
        volume=api.volume,
        price_open=api.price_open,
        sl=api.sl,
        tp=api.tp,
        price_current=api.price_current,
        profit=api.profit,
        swap=api.swap,
        magic=api.magic,
        comment=api.comment,
        reason=api.reason,
        time_ms=_utc(api.time_msc, api.time, to_utc_ms),
        time_update_ms=_utc(api.time_update_msc, api.time_update, to_utc_ms),
    )


def order_from(api: ApiOrder, *, to_utc_ms: ToUtc, canonical: Canonical) -> Order:
    """Return the order as it travels on the bus; times that are not set stay 0."""
    return Order(
        ticket=api.ticket,
        symbol=canonical(api.symbol),
        type=api.type,
        state=api.state,
        volume_initial=api.volume_initial,
        volume_current=api.volume_current,
        price_open=api.price_open,
        price_stoplimit=api.price_stoplimit,
        sl=api.sl,
        tp=api.tp,
        type_filling=api.type_filling,
        type_time=api.type_time,
        position_id=api.position_id,
        position_by_id=api.position_by_id,
        magic=api.magic,
        comment=api.comment,
        reason=api.reason,
        time_setup_ms=_utc(api.time_setup_msc, api.time_setup, to_utc_ms),
        time_done_ms=_utc(api.time_done_msc, api.time_done, to_utc_ms),
        time_expiration_ms=_utc(0, api.time_expiration, to_utc_ms),
    )


def deal_from(api: ApiDeal, *, to_utc_ms: ToUtc, canonical: Canonical) -> Deal:
    """Return the deal as it travels on the bus; a balance deal has no symbol."""
    return Deal(
        ticket=api.ticket,
        order=api.order,
        position_id=api.position_id,
        symbol=canonical(api.symbol) if api.symbol else "",
        type=api.type,
        entry=api.entry,
        reason=api.reason,
        volume=api.volume,
        price=api.price,
        profit=api.profit,
        commission=api.commission,
        swap=api.swap,
        fee=api.fee,
        magic=api.magic,
        comment=api.comment,
        time_ms=_utc(api.time_msc, api.time, to_utc_ms),
    )


def instrument_from(api: ApiSymbol, *, symbol: str) -> Instrument:
    """Return the specification under the canonical name `symbol`."""
    return Instrument(
        symbol=symbol,
        broker_symbol=api.name,
        digits=api.digits,
        point=api.point,
        tick_size=api.trade_tick_size,
        tick_value=api.trade_tick_value,
        contract_size=api.trade_contract_size,
        volume_min=api.volume_min,
        volume_max=api.volume_max,
        volume_step=api.volume_step,
        volume_limit=api.volume_limit,
        stops_level_points=api.trade_stops_level,
        freeze_level_points=api.trade_freeze_level,
        execution=api.trade_exemode,
        filling_mask=api.filling_mode,
        order_mask=api.order_mode,
        expiration_mask=api.expiration_mode,
        trade_mode=api.trade_mode,
        calc_mode=api.trade_calc_mode,
        currency_base=api.currency_base,
        currency_profit=api.currency_profit,
        currency_margin=api.currency_margin,
        description=api.description,
        path=api.path,
        margin_initial=api.margin_initial,
        swap_long=api.swap_long,
        swap_short=api.swap_short,
    )


def _utc(server_msc: int, server_s: int, to_utc_ms: ToUtc) -> int:
    server_ms = server_msc or server_s * 1000
    return to_utc_ms(server_ms) if server_ms else 0
