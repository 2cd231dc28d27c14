"""Skipping quiet ticks changes nothing but the time it takes."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from paper_terminal import constants as api
from paper_terminal.records import TICK_DTYPE, Records
from paper_terminal.settings import AccountSettings
from tests.paper_terminal.broker import Broker, show_singly

COUNT = 4000


def walk(broker: Broker, seed: int) -> list[tuple[str, Records]]:
    """Return random ticks of both symbols after the broker's present."""
    random = np.random.default_rng(seed)
    blocks = []
    for name, price, digits in (("EURUSD", 1.1, 5), ("USDJPY", 150.0, 3)):
        ticks = np.zeros(COUNT, dtype=TICK_DTYPE)
        moves = random.normal(0, 0.00008, COUNT) + random.choice([0.0, 0.004, -0.004], COUNT, p=[0.998, 0.001, 0.001])
        bids = price * np.exp(np.cumsum(moves))
        ticks["bid"] = np.round(bids, digits)
        ticks["ask"] = np.round(bids + random.integers(0, 20, COUNT) * 10.0**-digits, digits)
        ticks["time_msc"] = broker.now_ms + np.sort(random.integers(1, 90_000_000, COUNT))
        ticks["time"] = ticks["time_msc"] // 1000
        blocks.append((name, ticks))
    return blocks


def prepared(balance: float, margin_mode: int) -> Broker:
    broker = Broker(account=AccountSettings(balance=balance, margin_mode=margin_mode), server_time="utc")
    pend: dict[str, Any] = {"action": api.TRADE_ACTION_PENDING, "volume": 0.1, "type_filling": 2}
    for points in (100, 300, 700):
        offset = points * 1e-5
        for kind, price in ((2, 1.1 - offset), (3, 1.1001 + offset), (4, 1.1001 + 2 * offset), (5, 1.1 - 2 * offset)):
            sl = price - 0.004 if kind % 2 == 0 else price + 0.004
            broker.send(**pend, type=kind, price=price, sl=sl, tp=2 * price - sl)
        broker.send(**pend, type=6, price=1.1001 + offset, stoplimit=1.1)
    until = broker.engine.moment().seconds + 20_000
    broker.send(**pend, type=2, price=1.08, type_time=2, expiration=until)
    broker.send(type=0, volume=0.2, symbol="USDJPY", sl=148.0, tp=152.0)
    broker.send(type=1, volume=0.1, symbol="EURUSD")
    return broker


@pytest.mark.parametrize("margin_mode", [0, 2])
@pytest.mark.parametrize("balance", [700.0, 50_000.0])
@pytest.mark.parametrize("seed", range(3))
def test_one_block_ends_as_single_ticks_do(seed: int, balance: float, margin_mode: int) -> None:
    whole, single = prepared(balance, margin_mode), prepared(balance, margin_mode)
    blocks = walk(whole, seed)
    end_ms = whole.now_ms + 90_000_001
    whole.engine.on_ticks(blocks, end_ms)
    show_singly(single.engine, blocks, end_ms)
    assert len(whole.account.deals) > 5
    assert whole.account.deals.all() == single.account.deals.all()
    assert whole.account.history_orders.all() == single.account.history_orders.all()
    assert whole.account.balance == single.account.balance
    assert whole.engine.valuer.value(whole.account) == single.engine.valuer.value(single.account)
    assert [msgspec.structs.astuple(each) for each in whole.account.orders.values()] == [
        msgspec.structs.astuple(each) for each in single.account.orders.values()
    ]
