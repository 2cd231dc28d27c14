"""Facts as the adapter tells them, for tests: whole messages from the few fields that matter."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from market.bars import Bar
from protocol.messages import (
    Account,
    BarUpdate,
    Beacon,
    Deal,
    DealEvent,
    Event,
    EventBody,
    IntentEvent,
    Order,
    OrderEvent,
    Position,
    PositionEvent,
    SignalEvent,
    Snapshot,
    StateUpdate,
)
from protocol.ticks import RATE_DTYPE

SERVER = "Broker-Demo"
LOGIN = 10_001
LOG = "log-a"
NOW_MS = 1_700_000_000_000


def account(login: int = LOGIN) -> Account:
    return Account(
        server=SERVER,
        login=login,
        name="Test",
        currency="USD",
        leverage=100,
        trade_mode=0,
        margin_mode=2,
        balance=10_000.0,
        credit=0.0,
        profit=0.0,
        equity=10_000.0,
        margin=0.0,
        margin_free=10_000.0,
        margin_level=0.0,
        trade_allowed=True,
        trade_expert=True,
    )


def deal(
    ticket: int,
    *,
    position: int = 1,
    entry: int = 0,
    type_: int = 0,
    volume: float = 0.1,
    price: float = 1.1,
    profit: float = 0.0,
    commission: float = 0.0,
    swap: float = 0.0,
    fee: float = 0.0,
    reason: int = 3,
    order: int = 0,
    time_ms: int = NOW_MS,
    client_order_id: str = "",
) -> Deal:
    return Deal(
        ticket=ticket,
        order=order or ticket + 5000,
        position_id=position,
        symbol="EURUSD",
        type=type_,
        entry=entry,
        reason=reason,
        volume=volume,
        price=price,
        profit=profit,
        commission=commission,
        swap=swap,
        fee=fee,
        magic=77,
        comment="",
        time_ms=time_ms,
        strategy="confluence" if client_order_id else "",
        client_order_id=client_order_id,
    )


def order(ticket: int, *, state: int = 1, done_ms: int = 0, left: float = 0.1) -> Order:
    return Order(
        ticket=ticket,
        symbol="EURUSD",
        type=0,
        state=state,
        volume_initial=0.1,
        volume_current=left,
        price_open=1.1,
        price_stoplimit=0.0,
        sl=1.0,
        tp=1.2,
        type_filling=1,
        type_time=0,
        position_id=ticket,
        position_by_id=0,
        magic=77,
        comment="c",
        reason=3,
        time_setup_ms=NOW_MS,
        time_done_ms=done_ms,
        time_expiration_ms=0,
    )


def position(identifier: int, *, volume: float = 0.1, sl: float = 0.0) -> Position:
    return Position(
        ticket=identifier,
        identifier=identifier,
        symbol="EURUSD",
        type=0,
        volume=volume,
        price_open=1.1,
        sl=sl,
        tp=0.0,
        price_current=1.1,
        profit=0.0,
        swap=0.0,
        magic=77,
        comment="",
        reason=3,
        time_ms=NOW_MS,
        time_update_ms=NOW_MS,
    )


def intent(
    client_order_id: str,
    state: str = "done",
    *,
    position: int = 0,
    filled: float = 0.0,
    fill_price: float = 0.0,
    price: float = 0.0,
    side: str = "buy",
    code: str = "",
) -> IntentEvent:
    return IntentEvent(
        client_order_id=client_order_id,
        strategy="confluence",
        action="open",
        state=state,
        symbol="EURUSD",
        side=side,
        volume=0.1,
        price=price,
        sl=1.05,
        tp=0.0,
        code=code,
        position=position,
        filled_volume=filled,
        fill_price=fill_price,
        time_ms=NOW_MS,
    )


def signal(
    signal_id: str,
    *,
    client_order_id: str = "",
    direction: int = 1,
    price: float = 1.1,
    features: dict[str, float] | None = None,
    reason: str = "",
    strategy: str = "confluence",
) -> SignalEvent:
    return SignalEvent(
        signal_id=signal_id,
        strategy=strategy,
        symbol="EURUSD",
        timeframe="M1",
        bar_open_time_ms=NOW_MS - 60_000,
        direction=direction,
        strength=0.5,
        price=price,
        features={"rsi": 61.5, "atr": 0.001} if features is None else features,
        taken=bool(client_order_id),
        client_order_id=client_order_id,
        reason=reason,
    )


def event(offset: int, body: EventBody, *, log_id: str = LOG, market_ms: int | None = None, epoch: int = 1) -> Event:
    return Event(
        log_id=log_id,
        offset=offset,
        epoch=epoch,
        recorded_ms=NOW_MS + offset,
        market_ms=NOW_MS + offset if market_ms is None else market_ms,
        server=SERVER,
        login=LOGIN,
        body=body,
    )


def life_of_an_order(first_offset: int, number: int, *, log_id: str = LOG) -> list[Event]:
    """Return the nine events of one signal, its order, and its position's opening."""
    client_order_id = f"o{number}"
    bodies: list[EventBody] = [
        signal(f"s{number}", client_order_id=client_order_id),
        intent(client_order_id, "intended"),
        intent(client_order_id, "sent"),
        OrderEvent(order(number)),
        OrderEvent(order(number, state=4, done_ms=NOW_MS + number, left=0.0)),
        DealEvent(deal(number, position=number, client_order_id=client_order_id)),
        PositionEvent("opened", position(number)),
        intent(client_order_id, "done", position=number, filled=0.1, fill_price=1.1002),
        PositionEvent("changed", position(number, sl=1.05)),
    ]
    return [event(first_offset + index, body, log_id=log_id) for index, body in enumerate(bodies)]


def bar(open_time_ms: int, *, close: float = 1.1) -> Bar:
    return Bar(open_time_ms, 1.1, 1.2, 1.0, close, 12, 3)


def bar_update(
    number: int, open_time_ms: int, *, timeframe: str = "M1", revision: int = 0, close: float = 1.1, epoch: int = 1
) -> BarUpdate:
    return BarUpdate(epoch, number, 0, timeframe, revision, bar(open_time_ms, close=close))


def rates(closes: Mapping[int, float]) -> bytes:
    """Return bars as records, by open time in milliseconds."""
    rows = [(time_ms // 1000, 1.1, 1.2, 1.0, close, 12, 3, 0) for time_ms, close in closes.items()]
    return np.array(rows, dtype=RATE_DTYPE).tobytes()


def snapshot(request_id: int = 0, *, log_id: str = LOG, offset: int = 0, known: bool = True) -> Snapshot:
    return Snapshot(
        id=request_id,
        log_id=log_id,
        offset=offset,
        epoch=1,
        market_ms=NOW_MS,
        account=account() if known else None,
        positions=(),
        orders=(),
        instruments=(),
        intents=(),
        trading_mode="active",
        connection="connected",
        server_offset_minutes=120,
        server_time_status="measured",
    )


def state(number: int, *, login: int = LOGIN, epoch: int = 1, market_ms: int = NOW_MS) -> StateUpdate:
    return StateUpdate(epoch, number, market_ms, account(login), (), ())


def beacon(
    log_id: str, offset: int, *, bars: dict[str, int] | None = None, epoch: int = 1, market_ms: int = NOW_MS
) -> Beacon:
    return Beacon(
        epoch=epoch,
        sent_ns=0,
        wall_ms=market_ms,
        market_ms=market_ms,
        log_id=log_id,
        event_offset=offset,
        ticks={},
        bars=bars or {},
        connection="connected",
        trading_mode="active",
        server_offset_minutes=120,
        server_time_status="measured",
    )
