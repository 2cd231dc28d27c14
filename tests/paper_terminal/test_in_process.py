"""The broker in this process: it ends as one that is shown every tick singly, and halts where a caller must look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paper_terminal import constants as api
from paper_terminal.in_process import InProcess
from paper_terminal.ledger_records import TradeRequest
from paper_terminal.records import TICK_DTYPE, Records
from paper_terminal.settings import FeedSettings, FeedSymbol, Settings
from paper_terminal.specifications import DEFAULT_SPECIFICATIONS
from tests.paper_terminal.broker import START_MS, Broker, KeepingStore

EURUSD, USDJPY = DEFAULT_SPECIFICATIONS[0], DEFAULT_SPECIFICATIONS[2]
BOTH = Settings(symbols=(EURUSD, USDJPY), server_time="utc")


def walk(seed: int, count: int, *, price: float = 1.1, digits: int = 5) -> Records:
    """Return random ticks, some seconds apart, with a jump now and then."""
    random = np.random.default_rng(seed)
    moves = random.normal(0, 0.00008, count) + random.choice([0.0, 0.004, -0.004], count, p=[0.998, 0.001, 0.001])
    ticks = np.zeros(count, dtype=TICK_DTYPE)
    ticks["bid"] = np.round(price * np.exp(np.cumsum(moves)), digits)
    ticks["ask"] = np.round(ticks["bid"] + random.integers(0, 20, count) * 10.0**-digits, digits)
    ticks["time_msc"] = START_MS + 5000 + np.sort(random.integers(1, 20_000 * count, count))
    ticks["time"] = ticks["time_msc"] // 1000
    return ticks


def order(name: str, order_type: int, **fields: Any) -> TradeRequest:
    return TradeRequest(action=1, symbol=name, volume=0.1, type=order_type, **fields)


def decisions(seed: int, count: int) -> dict[int, TradeRequest]:
    """Return requests by the tick at which they are sent."""
    random = np.random.default_rng(seed)
    requests = {}
    for index in sorted(random.choice(count - 1, 8, replace=False).tolist()):
        buy, name = bool(random.integers(2)), ("EURUSD", "USDJPY")[random.integers(2)]
        price = 1.1 if name == "EURUSD" else 150.0
        stops = {"sl": price * (0.985 if buy else 1.015), "tp": price * (1.015 if buy else 0.985)}
        requests[index] = order(name, int(not buy), **stops)
    return requests


@pytest.mark.parametrize("seed", range(6))
def test_it_ends_as_a_broker_that_is_shown_every_tick_singly(seed: int) -> None:
    ticks = {"EURUSD": walk(seed, 800), "USDJPY": walk(seed + 1, 800, price=150.0, digits=3)}
    replay = InProcess(ticks, BOTH)
    requests = decisions(seed, len(replay.ticks))
    for index, request in requests.items():
        while replay.at <= index:
            assert replay.go_to(index)
        replay.send(request)
    while replay.go_to(len(replay.ticks)):
        pass

    single = Broker(store=KeepingStore(), symbols=(EURUSD, USDJPY), server_time="utc", commission_per_lot=3.0)
    single.engine.quotes.clear()
    for at in range(len(replay.ticks)):
        one = replay.ticks.window(at, at + 1)
        record = np.zeros(1, dtype=TICK_DTYPE)
        record["time_msc"], record["bid"], record["ask"] = one.times_ms, one.bids, one.asks
        single.engine.on_ticks([(one.names[one.owner[0]], record)], int(one.times_ms[0]))
        if at in requests:
            single.desk.send(single.account, requests[at])
    assert len(replay.account.deals) > 5
    assert replay.account.deals.all()[1:] == single.account.deals.all()[1:]  # the first is the deposit
    assert replay.account.balance == single.account.balance
    assert [each.profit for each in replay.account.positions.values()] == [
        each.profit for each in single.account.positions.values()
    ]
    assert replay.time_ms == single.engine.now_ms


def test_it_halts_at_the_tick_of_a_hit_stop() -> None:
    ticks = walk(3, 20_000)
    replay = InProcess({"EURUSD": ticks}, Settings(symbols=(EURUSD,)))
    assert replay.go_to(0)
    stop = round(float(ticks["bid"][0]) - 0.004, 5)
    assert replay.send(order("EURUSD", 0, sl=stop)).retcode == api.TRADE_RETCODE_DONE
    while replay.account.positions:
        assert replay.go_to(len(ticks))
    hit = int(np.flatnonzero(ticks["bid"] <= stop)[0])
    assert (replay.at, replay.changed) == (hit + 1, True)
    quote = replay.quote("EURUSD")
    assert quote is not None
    assert (quote.bid, replay.time_ms) == (float(ticks["bid"][hit]), int(ticks["time_msc"][hit]))
    assert replay.account.deals.all()[-1].reason == api.DEAL_REASON_SL


def test_a_condition_finds_each_of_its_ticks() -> None:
    ticks = walk(5, 150_000)
    replay = InProcess({"EURUSD": ticks}, Settings(symbols=(EURUSD,)))
    wanted = np.flatnonzero(ticks["bid"] > np.quantile(ticks["bid"], 0.9999))
    found = []
    while replay.go_until(lambda block: block.bids > np.quantile(ticks["bid"], 0.9999)):
        found.append(replay.at - 1)
    assert found == wanted.tolist()
    assert replay.at == len(ticks)
    assert not replay.go_to(len(ticks))


def test_a_check_leaves_everything_as_it_is() -> None:
    replay = InProcess({"EURUSD": walk(1, 10)}, Settings(symbols=(EURUSD,)))
    replay.go_to(0)
    assert replay.check(order("EURUSD", 0)).retcode == 0
    assert not replay.account.positions


def test_a_synthetic_market_is_opened_between_two_moments() -> None:
    chosen = Settings(symbols=(EURUSD, USDJPY), suffix=".m", feed=FeedSettings(seed=7, start="2026-03-02T08:00"))
    replay = InProcess.of_feed(chosen, START_MS, START_MS + 3_600_000)
    assert replay.ticks.names == ["EURUSD.m", "USDJPY.m"]
    assert len(replay.ticks) > 1000
    assert START_MS <= replay.ticks.times_ms[0] <= replay.ticks.times_ms[-1] <= START_MS + 3_600_000


def test_files_are_opened_between_two_moments(tmp_path: Path) -> None:
    lines = [f"2026-03-02 08:00:{second:02}.000,1.1000{second % 10},1.1001{second % 10}" for second in range(60)]
    path = tmp_path / "ticks.csv"
    path.write_text("\n".join(["time,bid,ask", *lines]), encoding="utf-8")
    feed = FeedSettings(kind="files", files=(FeedSymbol(symbol="EURUSD", paths=(str(path),)),))
    replay = InProcess.of_feed(Settings(symbols=(EURUSD,), feed=feed), 0, 1 << 41)
    assert len(replay.ticks) == 60


def test_no_ticks_and_unknown_symbols_are_refused() -> None:
    with pytest.raises(ValueError, match="no ticks"):
        InProcess({"EURUSD": np.zeros(0, dtype=TICK_DTYPE)})
    with pytest.raises(ValueError, match="NOSUCH"):
        InProcess({"NOSUCH": walk(1, 10)})
