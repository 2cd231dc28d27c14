"""The stop-out, step by step in the order of the Manager's documents."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from paper_terminal import constants as api
from paper_terminal.ledger_records import Deal
from paper_terminal.settings import AccountSettings
from tests.paper_terminal.broker import EURUSD, USDJPY, Broker

CROSS = msgspec.structs.replace(EURUSD, name="GBPUSD", currency_base="GBP")


def broker(balance: float, *, symbols: Any = (EURUSD, USDJPY, CROSS), **account: Any) -> Broker:
    settings = AccountSettings(balance=balance, **account)
    made = Broker(symbols=symbols, account=settings, commission_per_lot=0.0)
    for symbol in symbols:
        if symbol.name == "GBPUSD":
            made.quote("GBPUSD", 1.3, 1.3001)
    return made


def stopped(broker: Broker) -> list[Deal]:
    return [deal for deal in broker.account.deals.all() if deal.reason == api.DEAL_REASON_SO]


def pend(broker: Broker, price: float, volume: float, symbol: str = "EURUSD", kind: int = 2) -> int:
    placed = broker.send(
        action=api.TRADE_ACTION_PENDING, symbol=symbol, type=kind, price=price, volume=volume, type_filling=2
    )
    assert placed.retcode == api.TRADE_RETCODE_DONE, placed
    return placed.order


def test_waiting_orders_go_first_the_largest_margin_first_and_only_until_the_level_is_reached() -> None:
    symbol = msgspec.structs.replace(EURUSD, margin_rate_limit=1.0)
    low = broker(1550.0, symbols=(symbol,))
    small, large, middle = (pend(low, 1.05, volume) for volume in (0.1, 0.6, 0.2))
    free = pend(low, 1.2, 0.5, kind=4)
    low.buy(0.4)  # 440 of 1,385 in use
    low.quote("EURUSD", 1.0718, 1.0719)  # 418 of equity against 1,385: below 50 %
    states = {each.ticket: each.state for each in low.account.history_orders.all()}
    assert states[large] == api.ORDER_STATE_CANCELED
    assert set(low.account.orders) == {small, middle, free}
    assert not stopped(low)
    low.quote("EURUSD", 1.0690, 1.0691)  # 306 against 755
    assert set(low.account.orders) == {small, free}
    assert not stopped(low)
    low.quote("EURUSD", 1.0657, 1.0658)  # 174 against 545; without the last order 174 against 440 is no better
    assert set(low.account.orders) == {free}
    assert len(stopped(low)) == 1
    assert not low.account.positions


def test_the_largest_loss_is_closed_first_and_the_level_looked_at_after_each() -> None:
    low = broker(4200.0)
    small, large = low.buy(0.5), low.buy(1.5)
    other = low.buy(1.0, symbol="GBPUSD")
    low.quote("EURUSD", 1.0866, 1.0867)
    assert [deal.position_id for deal in stopped(low)] == [large.identifier]
    assert set(low.account.positions) == {small.ticket, other.ticket}
    deal = stopped(low)[0]
    order = low.account.history_orders.get(deal.order)
    assert order is not None
    assert (order.reason, order.state, deal.entry) == (api.ORDER_REASON_SO, api.ORDER_STATE_FILLED, 1)
    assert deal.comment.startswith("[so ")
    assert deal.comment.endswith("%]")


def test_of_positions_all_in_profit_the_smallest_profit_is_closed_first() -> None:
    low = broker(2000.0)
    rich, poor = low.buy(0.8), low.buy(0.4)
    low.quote("EURUSD", 1.1051, 1.1052)
    low.engine.dealer.deposit(low.account, -2000.0, "withdrawal")
    low.quote("EURUSD", 1.1050, 1.1051)
    assert [deal.position_id for deal in stopped(low)] == [poor.identifier]
    assert set(low.account.positions) == {rich.ticket}


def test_swap_and_commission_do_not_decide_which_goes_first() -> None:
    low = broker(2000.0)
    loser, charged = low.buy(0.8), low.buy(0.7)
    charged.swap = -500.0
    low.account.put_position(charged)
    low.quote("EURUSD", 1.0936, 1.0937)
    assert stopped(low)[0].position_id == loser.identifier


def test_a_closed_symbol_is_passed_over() -> None:
    shut = msgspec.structs.replace(EURUSD, sessions={"wednesday": "00:00-09:00"})
    low = broker(2600.0, symbols=(shut, CROSS))
    low.now_ms -= low.now_ms % 86_400_000  # Wednesday, midnight UTC: 02:00 on the server
    low.engine.now_ms = low.now_ms
    loser, other = low.buy(1.2), low.buy(0.4, symbol="GBPUSD")
    low.quote("EURUSD", 1.0861, 1.0862, after_ms=8 * 3_600_000)  # 10:00: too late to close it
    assert not low.engine.trades("EURUSD")
    assert [deal.position_id for deal in stopped(low)] == [other.identifier]
    assert set(low.account.positions) == {loser.ticket}
    low.quote("EURUSD", 1.0800, 1.0801, after_ms=7 * 86_400_000 - 8 * 3_600_000)
    assert [deal.position_id for deal in stopped(low)] == [other.identifier, loser.identifier]


@pytest.mark.parametrize(
    ("trade_mode", "pieces"), [(api.ACCOUNT_TRADE_MODE_REAL, [1.0, 1.0, 0.5]), (api.ACCOUNT_TRADE_MODE_DEMO, [2.5])]
)
def test_a_netting_position_above_the_largest_volume_is_closed_in_pieces_on_real_accounts(
    trade_mode: int, pieces: list[float]
) -> None:
    symbol = msgspec.structs.replace(EURUSD, volume_max=1.0)
    low = broker(3000.0, symbols=(symbol,), margin_mode=0, trade_mode=trade_mode)
    for volume in (1.0, 1.0, 0.5):
        position = low.buy(volume)
    low.quote("EURUSD", 1.0878, 1.0879)  # 3,000 less 3,075
    assert [deal.volume for deal in stopped(low)] == pieces
    assert {deal.position_id for deal in stopped(low)} == {position.identifier}
    assert not low.account.positions


def test_a_partial_stop_out_marks_the_position() -> None:
    symbol = msgspec.structs.replace(EURUSD, volume_max=1.0)
    low = broker(3000.0, symbols=(symbol,), margin_mode=0, trade_mode=api.ACCOUNT_TRADE_MODE_REAL)
    for volume in (1.0, 1.0, 0.5):
        low.buy(volume)
    low.quote("EURUSD", 1.0934, 1.0935)  # equity 1,325 of 2,750: one piece is enough
    (position,) = low.account.positions.values()
    assert position.volume == 1.5
    assert position.comment.startswith("[so 4")
    assert len(stopped(low)) == 1


def test_money_mode_goes_by_equity() -> None:
    low = broker(1000.0, stop_out_mode=api.ACCOUNT_STOPOUT_MODE_MONEY, stop_out_level=300.0)
    position = low.buy(0.5)
    low.quote("EURUSD", 1.0862, 1.0863)
    assert not stopped(low)
    low.quote("EURUSD", 1.0860, 1.0861)  # 295
    assert [deal.position_id for deal in stopped(low)] == [position.identifier]
    assert stopped(low)[0].comment == "[so 295.00]"


def test_at_the_level_itself_it_happens_and_above_it_only_warns() -> None:
    low = broker(1200.0, stop_out_level=50.0)
    low.quote("EURUSD", 1.0999, 1.1)
    low.buy(1.0)  # margin 1,100
    low.quote("EURUSD", 1.09351, 1.0936)  # 551 of equity, far below the margin call level
    assert not stopped(low)
    low.quote("EURUSD", 1.0935, 1.0936)
    assert len(stopped(low)) == 1
    assert stopped(low)[0].comment == "[so 50.00%]"
