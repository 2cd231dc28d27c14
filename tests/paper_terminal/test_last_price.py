"""Symbols whose orders and stops wait for the last price: exchange stocks and futures."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from paper_terminal import constants as api
from paper_terminal.records import Records
from paper_terminal.specifications import Specification
from tests.paper_terminal.broker import USDJPY, Broker, show_singly, ticks
from tests.paper_terminal.test_skipping import walk

STOCK = Specification(
    name="EURUSD",  # the helper's first quotes are of this name
    group="Stocks",
    currency_base="USD",
    currency_profit="USD",
    digits=5,
    contract_size=1.0,
    calc_mode=api.SYMBOL_CALC_MODE_EXCH_STOCKS,
    chart_mode=api.SYMBOL_CHART_MODE_LAST,
    volume_max=10_000.0,
)
PENDING: dict[str, Any] = {"action": api.TRADE_ACTION_PENDING, "volume": 1.0, "type_filling": 2}


def with_last(broker: Broker, bid: float, ask: float, last: float) -> None:
    broker.now_ms += 1000
    records = ticks((broker.now_ms, bid, ask))
    records["last"] = last
    broker.engine.on_ticks([("EURUSD", records)], broker.now_ms)


def traded(calc_mode: int = api.SYMBOL_CALC_MODE_EXCH_STOCKS) -> Broker:
    broker = Broker(symbols=(msgspec.structs.replace(STOCK, calc_mode=calc_mode), USDJPY), commission_per_lot=0.0)
    with_last(broker, 1.1, 1.1002, 1.1001)
    return broker


def test_a_pending_order_waits_for_the_last_price() -> None:
    broker = traded()
    assert broker.send(**PENDING, type=api.ORDER_TYPE_BUY_LIMIT, price=1.09).retcode == api.TRADE_RETCODE_DONE
    with_last(broker, 1.0898, 1.0899, 1.0901)
    assert len(broker.account.positions) == 0, "the ask reached it, but nothing was dealt there"
    with_last(broker, 1.0901, 1.0902, 1.09)
    (position,) = broker.account.positions.values()
    assert position.price_open == 1.09


def test_a_stop_order_triggered_by_the_last_price_fills_at_the_ask() -> None:
    broker = traded()
    broker.send(**PENDING, type=api.ORDER_TYPE_BUY_STOP, price=1.11)
    with_last(broker, 1.111, 1.112, 1.1099)
    assert len(broker.account.positions) == 0
    with_last(broker, 1.1098, 1.1099, 1.11)
    (position,) = broker.account.positions.values()
    assert position.price_open == 1.1099


def test_stops_wait_for_the_last_price_and_close_at_the_market() -> None:
    broker = traded()
    broker.buy(1.0, sl=1.09, tp=1.12)
    with_last(broker, 1.08, 1.0801, 1.0901)
    assert len(broker.account.positions) == 1
    with_last(broker, 1.0903, 1.0904, 1.09)
    assert len(broker.account.positions) == 0
    closed = broker.account.deals.all()[-1]
    assert (closed.reason, closed.price) == (api.DEAL_REASON_SL, 1.0903)


def test_without_deals_and_elsewhere_quotes_trigger() -> None:
    for broker, last in ((traded(), 0.0), (traded(api.SYMBOL_CALC_MODE_CFD), 1.0901)):
        broker.buy(1.0, sl=1.09)
        with_last(broker, 1.08, 1.0801, last)
        assert len(broker.account.positions) == 0


def test_nothing_can_be_dealt_before_both_sides_are_quoted() -> None:
    broker = Broker(symbols=(msgspec.structs.replace(STOCK, name="SBER"),), account=None)
    records = ticks((broker.now_ms + 1, 0.0, 0.0))
    records["last"] = 1.2
    broker.engine.on_ticks([("SBER", records)], broker.now_ms + 1)
    assert broker.send(symbol="SBER", type=0, volume=1.0).retcode == api.TRADE_RETCODE_PRICE_OFF


def lively(broker: Broker, seed: int) -> list[tuple[str, Records]]:
    """Return random ticks whose deals stray from the quotes, some of them before there was a deal."""
    blocks = walk(broker, seed)
    random = np.random.default_rng(seed)
    records = blocks[0][1]
    strayed = records["bid"] * np.exp(random.normal(0, 0.002, len(records)))
    records["last"] = np.where(random.random(len(records)) < 0.1, 0.0, np.round(strayed, 5))
    return blocks


@pytest.mark.parametrize("seed", range(3))
def test_one_block_ends_as_single_ticks_do(seed: int) -> None:
    whole, single = traded(), traded()
    for broker in (whole, single):
        for points in (100, 300, 700):
            for kind, side in ((2, -1), (3, 1), (4, 1), (5, -1)):
                price = round(1.1 + side * points * 1e-5, 5)
                broker.send(**PENDING, type=kind, price=price, sl=0.0, tp=0.0)
        broker.buy(1.0, sl=1.095, tp=1.105)
    blocks = lively(whole, seed)
    end_ms = whole.now_ms + 90_000_001
    whole.engine.on_ticks(blocks, end_ms)
    show_singly(single.engine, blocks, end_ms)
    assert len(whole.account.deals) > 5
    assert whole.account.deals.all() == single.account.deals.all()
    assert whole.account.history_orders.all() == single.account.history_orders.all()
