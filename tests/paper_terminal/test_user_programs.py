"""Programs as users write them, on a real terminal process, and the whole ledger looked through afterwards.

They are written against `mt5` as their authors know it. Where they would sleep they ask again: the market passes a few
seconds whenever a client asks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

import paper_terminal.client as _client
from paper_terminal.settings import AccountSettings, FeedSettings, Settings
from tests.paper_terminal.ledger_audit import FOREVER_S, Ledger
from tests.paper_terminal.running import RunningTerminal

mt5: Any = _client
MAGIC: Final = 234_000
SYMBOL: Final = "EURUSD"
DEADLINE_S: Final = 60.0


@pytest.fixture(params=["hedging", "netting"])
def account(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def terminal(tmp_path: Path, account: str) -> Iterator[RunningTerminal]:
    mode = mt5.ACCOUNT_MARGIN_MODE_RETAIL_HEDGING if account == "hedging" else mt5.ACCOUNT_MARGIN_MODE_RETAIL_NETTING
    settings = Settings(
        accounts=(AccountSettings(balance=10_000.0, margin_mode=mode),),
        history_days=0.05,
        feed=FeedSettings(start="2026-03-04T12:00:00", speed="max", step_ms=4000, seed=11, ticks_per_second=1.0),
    )
    with RunningTerminal(tmp_path / "t", settings) as running:
        assert mt5.initialize(str(running.folder))
        yield running
        mt5.shutdown()


def until(done: Callable[[], Any], what: str) -> None:
    """Go on polling as a bot's main loop does, until it has seen enough."""
    deadline = time.monotonic() + DEADLINE_S
    while not done():
        assert time.monotonic() < deadline, f"{what} did not happen"
        assert mt5.symbol_info_tick(SYMBOL) is not None


# What every bot has: opening, closing, cleaning up ---------------------------------------------------------------


def market_order(side: int, volume: float, **more: Any) -> Any:
    tick = mt5.symbol_info_tick(SYMBOL)
    request = {
        "action": mt5.TRADE_ACTION_DEAL,
        "symbol": SYMBOL,
        "volume": volume,
        "type": side,
        "price": tick.ask if side == mt5.ORDER_TYPE_BUY else tick.bid,
        "deviation": 20,
        "magic": MAGIC,
        "comment": "python bot",
        "type_time": mt5.ORDER_TIME_GTC,
        "type_filling": mt5.ORDER_FILLING_IOC,
    }
    return mt5.order_send(request | more)


def pending_order(kind: int, volume: float, price: float, **more: Any) -> Any:
    request = {
        "action": mt5.TRADE_ACTION_PENDING,
        "symbol": SYMBOL,
        "volume": volume,
        "type": kind,
        "price": round(price, 5),
        "magic": MAGIC,
        "comment": "grid",
        "type_time": mt5.ORDER_TIME_GTC,
        "type_filling": mt5.ORDER_FILLING_RETURN,
    }
    return mt5.order_send(request | more)


def close_position(position: Any, volume: float | None = None) -> Any:
    side = mt5.ORDER_TYPE_SELL if position.type == mt5.POSITION_TYPE_BUY else mt5.ORDER_TYPE_BUY
    return market_order(side, volume or position.volume, position=position.ticket, comment="close")


def cancel_all() -> None:
    for order in mt5.orders_get(symbol=SYMBOL):
        result = mt5.order_send({"action": mt5.TRADE_ACTION_REMOVE, "order": order.ticket})
        # Between the list and the request the order may have been filled: it is gone then.
        assert result.retcode in {mt5.TRADE_RETCODE_DONE, mt5.TRADE_RETCODE_INVALID}, result


def close_all() -> None:
    """Remove what waits, then close what is open, until nothing is left."""
    while mt5.orders_total() or mt5.positions_total():
        cancel_all()
        for position in mt5.positions_get():
            result = close_position(position)
            assert result.retcode in {mt5.TRADE_RETCODE_DONE, mt5.TRADE_RETCODE_POSITION_CLOSED}, result


def _gone(ticket: int) -> bool:
    return not mt5.positions_get(ticket=ticket)


def _some_gone(orders: set[int]) -> bool:
    return {each.ticket for each in mt5.orders_get()} < orders


def assert_flat() -> Ledger:
    """Check that nothing is left and everything adds up."""
    ledger = Ledger()
    ledger.audit()
    assert not ledger.positions
    assert not ledger.active
    assert ledger.account.margin == 0.0
    return ledger


# The bots --------------------------------------------------------------------------------------------------------


def test_a_grid_bot_refills_its_grid_and_closes_all(terminal: RunningTerminal) -> None:
    step, levels = 0.00040, 4
    middle = mt5.symbol_info_tick(SYMBOL).bid
    grid: dict[tuple[int, int], int] = {}

    def fill_grid() -> int:
        waiting = {order.ticket for order in mt5.orders_get(symbol=SYMBOL) if order.magic == MAGIC}
        tick = mt5.symbol_info_tick(SYMBOL)
        for level in range(1, levels + 1):
            for kind, sign in ((mt5.ORDER_TYPE_BUY_LIMIT, -1), (mt5.ORDER_TYPE_SELL_LIMIT, 1)):
                price = middle + sign * level * step
                beyond = price < tick.ask - 0.0001 if sign < 0 else price > tick.bid + 0.0001
                if grid.get((kind, level)) in waiting or not beyond:
                    continue
                result = pending_order(kind, 0.02, price, tp=round(price - sign * step, 5))
                assert result.retcode in {mt5.TRADE_RETCODE_DONE, mt5.TRADE_RETCODE_INVALID_PRICE}, result
                if result.retcode == mt5.TRADE_RETCODE_DONE:
                    assert result.deal == 0
                    grid[kind, level] = result.order
        return sum(each.magic == MAGIC for each in mt5.history_deals_get(1, FOREVER_S))

    until(lambda: fill_grid() >= 15, "enough fills of the grid")
    Ledger().audit()
    close_all()
    ledger = assert_flat()
    filled = [each for each in ledger.filed if each.type in {2, 3} and each.state == mt5.ORDER_STATE_FILLED]
    assert filled
    assert all(each.position_id for each in filled)
    assert {each.state for each in ledger.filed if not each.position_id} <= {mt5.ORDER_STATE_CANCELED}


@pytest.mark.parametrize("account", ["hedging"])
def test_a_martingale_doubles_after_each_loss(terminal: RunningTerminal) -> None:
    volume, rounds = 0.01, list[tuple[float, float, int]]()
    while len(rounds) < 12:
        tick = mt5.symbol_info_tick(SYMBOL)
        side = mt5.ORDER_TYPE_BUY if len(rounds) % 2 == 0 else mt5.ORDER_TYPE_SELL
        sign = 1 if side == mt5.ORDER_TYPE_BUY else -1
        entry = tick.ask if sign > 0 else tick.bid
        stops = {"sl": round(entry - sign * 0.0006, 5), "tp": round(entry + sign * 0.0006, 5)}
        sent = market_order(side, volume, **stops)
        assert sent.retcode == mt5.TRADE_RETCODE_DONE, sent
        (position,) = mt5.positions_get(ticket=sent.order)
        until(partial(_gone, position.ticket), "the stop or the take profit")
        deals = mt5.history_deals_get(position=position.identifier)
        assert [deal.entry for deal in deals] == [mt5.DEAL_ENTRY_IN, mt5.DEAL_ENTRY_OUT]
        assert deals[1].reason in {mt5.DEAL_REASON_SL, mt5.DEAL_REASON_TP}
        assert deals[1].comment in {f"[sl {stops['sl']:.5f}]", f"[tp {stops['tp']:.5f}]"}
        result = sum(deal.profit + deal.commission + deal.swap for deal in deals)
        rounds.append((volume, result, deals[1].reason))
        volume = 0.01 if result > 0 else min(round(volume * 2, 2), 5.12)
    ledger = assert_flat()
    assert ledger.account.balance == pytest.approx(10_000 + sum(result for _, result, _ in rounds), abs=0.01)
    assert {reason for *_, reason in rounds} == {mt5.DEAL_REASON_SL, mt5.DEAL_REASON_TP}
    assert all((reason == mt5.DEAL_REASON_TP) == (result > 0) for _, result, reason in rounds)


def test_a_breakout_bot_cancels_the_other_side_and_lets_orders_expire(terminal: RunningTerminal) -> None:
    outcomes = []
    for away in (0.0003, 0.0003, 0.02):  # the last is never reached, and expires
        tick = mt5.symbol_info_tick(SYMBOL)
        life = {"type_time": mt5.ORDER_TIME_SPECIFIED, "expiration": int(tick.time) + 1800}
        above = pending_order(mt5.ORDER_TYPE_BUY_STOP, 0.1, tick.ask + away, **life)
        below = pending_order(mt5.ORDER_TYPE_SELL_STOP, 0.1, tick.bid - away, **life)
        assert above.retcode == below.retcode == mt5.TRADE_RETCODE_DONE
        pair = {above.order, below.order}
        until(partial(_some_gone, pair), "one of the pair")
        cancel_all()
        for order in pair:
            (filed,) = mt5.history_orders_get(ticket=order)
            outcomes.append(filed.state)
            assert filed.time_expiration == life["expiration"]
            if filed.state == mt5.ORDER_STATE_EXPIRED:
                assert filed.time_done >= filed.time_expiration
        close_all()
    assert_flat()
    assert outcomes.count(mt5.ORDER_STATE_FILLED) >= 2
    assert outcomes[-2:] == [mt5.ORDER_STATE_EXPIRED] * 2


def test_a_trailing_stop_follows_and_closes(terminal: RunningTerminal) -> None:
    sent = market_order(mt5.ORDER_TYPE_BUY, 0.1)
    assert sent.retcode == mt5.TRADE_RETCODE_DONE
    moved: list[float] = []

    def trail() -> bool:
        positions = mt5.positions_get(symbol=SYMBOL)
        if not positions:
            return True
        stop = round(mt5.symbol_info_tick(SYMBOL).bid - 0.0005, 5)
        if stop > positions[0].sl:
            request = {
                "action": mt5.TRADE_ACTION_SLTP,
                "symbol": SYMBOL,
                "position": positions[0].ticket,
                "sl": stop,
                "tp": 0.0,
            }
            result = mt5.order_send(request)
            gone = (mt5.TRADE_RETCODE_POSITION_CLOSED, mt5.TRADE_RETCODE_INVALID_STOPS)
            assert result.retcode in {mt5.TRADE_RETCODE_DONE, mt5.TRADE_RETCODE_NO_CHANGES, *gone}, result
            if result.retcode == mt5.TRADE_RETCODE_DONE:
                moved.append(stop)
        return False

    until(trail, "the trailing stop")
    ledger = assert_flat()
    assert moved == sorted(moved)
    closing = ledger.deals[-1]
    assert closing.reason == mt5.DEAL_REASON_SL
    assert closing.comment == f"[sl {moved[-1]:.5f}]"
    assert closing.price <= moved[-1]


@pytest.mark.parametrize("account", ["hedging"])
def test_a_close_all_script_pairs_opposites_and_closes_the_rest_in_parts(terminal: RunningTerminal) -> None:
    opened = [market_order(side, volume) for side, volume in ((0, 0.3), (1, 0.1), (0, 0.2), (1, 0.25), (0, 0.04))]
    assert {each.retcode for each in opened} == {mt5.TRADE_RETCODE_DONE}
    assert [each.ticket for each in mt5.positions_get()] == [each.order for each in opened]
    Ledger().audit()
    while True:
        longs = [each for each in mt5.positions_get() if each.type == mt5.POSITION_TYPE_BUY]
        shorts = [each for each in mt5.positions_get() if each.type == mt5.POSITION_TYPE_SELL]
        if not (longs and shorts):
            break
        request = {
            "action": mt5.TRADE_ACTION_CLOSE_BY,
            "position": longs[0].ticket,
            "position_by": shorts[0].ticket,
            "magic": MAGIC,
        }
        assert mt5.order_send(request).retcode == mt5.TRADE_RETCODE_DONE
        Ledger().audit()
    assert sum(each.volume for each in longs) == pytest.approx(0.19)
    largest = max(longs, key=lambda each: each.volume)
    assert close_position(largest, round(largest.volume / 2, 2)).retcode == mt5.TRADE_RETCODE_DONE
    Ledger().audit()
    close_all()
    ledger = assert_flat()
    assert ledger.account.balance == pytest.approx(10_000 + sum(ledger.result_of(each.order) for each in opened))
    # The volume closed against each other pays no commission, and no position is closed beyond its volume.
    pairs = [each for each in ledger.deals if each.entry == mt5.DEAL_ENTRY_OUT_BY]
    assert sum(each.commission for each in pairs) == 0
    assert sum(each.volume for each in pairs) == pytest.approx(2 * 0.35)


@pytest.mark.parametrize("account", ["netting"])
def test_a_stop_and_reverse_bot_turns_one_position_round(terminal: RunningTerminal) -> None:
    first = market_order(mt5.ORDER_TYPE_BUY, 0.1)
    for turn in range(1, 7):
        (position,) = mt5.positions_get()
        side = mt5.ORDER_TYPE_SELL if position.type == mt5.POSITION_TYPE_BUY else mt5.ORDER_TYPE_BUY
        result = market_order(side, round(position.volume + 0.1, 2))
        assert result.retcode == mt5.TRADE_RETCODE_DONE
        (reversed_position,) = mt5.positions_get()
        assert reversed_position.type == (mt5.POSITION_TYPE_SELL if turn % 2 else mt5.POSITION_TYPE_BUY)
        assert (reversed_position.ticket, reversed_position.identifier) == (result.order, first.order)
        assert reversed_position.volume == 0.1
        Ledger().audit()
    close_all()
    ledger = assert_flat()
    entries = [each.entry for each in mt5.history_deals_get(position=first.order)]
    assert entries == [mt5.DEAL_ENTRY_IN, *[mt5.DEAL_ENTRY_INOUT] * 6, mt5.DEAL_ENTRY_OUT]
    assert ledger.account.balance == pytest.approx(10_000 + ledger.result_of(first.order))


def test_a_bot_that_sizes_by_free_margin_gets_what_it_reckoned(terminal: RunningTerminal) -> None:
    account, tick = mt5.account_info(), mt5.symbol_info_tick(SYMBOL)
    for_one = mt5.order_calc_margin(mt5.ORDER_TYPE_BUY, SYMBOL, 1.0, tick.ask)
    lots = int(account.margin_free * 0.5 / for_one * 100) / 100
    request = {"action": mt5.TRADE_ACTION_DEAL, "symbol": SYMBOL, "volume": lots, "type": mt5.ORDER_TYPE_BUY}
    checked = mt5.order_check(request)
    assert (checked.retcode, checked.comment) == (0, "Done")
    assert market_order(mt5.ORDER_TYPE_BUY, lots).retcode == mt5.TRADE_RETCODE_DONE
    account = mt5.account_info()
    assert account.margin == pytest.approx(checked.margin, rel=0.002)
    assert account.margin == pytest.approx(for_one * lots, rel=0.002)
    assert account.margin_level == pytest.approx(account.equity / account.margin * 100)
    assert market_order(mt5.ORDER_TYPE_BUY, lots + 1.0).retcode == mt5.TRADE_RETCODE_NO_MONEY
    assert mt5.order_check(request | {"volume": lots + 1.0}).retcode == mt5.TRADE_RETCODE_NO_MONEY
    close_all()
    assert_flat()
