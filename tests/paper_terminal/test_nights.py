"""What a night does to an account: swaps of every mode, the triple day, reopening; and operations on its money."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from paper_terminal import constants as api
from paper_terminal.info import account_info
from paper_terminal.settings import AccountSettings
from paper_terminal.structs import AccountInfo
from tests.paper_terminal.broker import EURUSD, USDJPY, Broker

DAY_MS = 86_400_000
GBPJPY = msgspec.structs.replace(USDJPY, name="GBPJPY", currency_base="GBP", swap_long=-10.0, swap_short=4.0)
GBPUSD = msgspec.structs.replace(EURUSD, name="GBPUSD", currency_base="GBP")


def night(side: int, *, nights: int = 1, server_time: str = "utc", **fields: Any) -> Broker:
    """Return a broker after half a lot of GBPJPY has been held from Thursday noon on for some days, at 200.0/200.02."""
    symbol = msgspec.structs.replace(GBPJPY, **fields)
    broker = Broker(symbols=(symbol, USDJPY, GBPUSD), server_time=server_time, commission_per_lot=0.0)
    broker.now_ms += DAY_MS - (broker.now_ms % DAY_MS) + DAY_MS // 2
    broker.quote("GBPUSD", 1.3, 1.3001)
    broker.quote("USDJPY", 150.0, 150.01)
    broker.quote("GBPJPY", 190.0, 190.02)
    broker.send(symbol="GBPJPY", type=side, volume=0.5)
    broker.quote("GBPJPY", 200.0, 200.02)
    broker.quote("GBPJPY", 200.0, 200.02, after_ms=nights * DAY_MS)
    return broker


# Half a lot is 50,000 pounds; a yen is 1/150.01 of a dollar; half a lot long is worth 10,000,000 yen.
YEN = 1 / 150.01
SWAPS: list[tuple[int, int, float]] = [
    (api.SYMBOL_SWAP_MODE_DISABLED, 0, 0.0),
    (api.SYMBOL_SWAP_MODE_POINTS, 0, -10 * 0.001 * 50_000 * YEN),
    (api.SYMBOL_SWAP_MODE_POINTS, 1, 4 * 0.001 * 50_000 * YEN),
    (api.SYMBOL_SWAP_MODE_CURRENCY_SYMBOL, 0, -10 * 0.5 * 1.3),
    (api.SYMBOL_SWAP_MODE_CURRENCY_MARGIN, 0, -10 * 0.5 * YEN),
    (api.SYMBOL_SWAP_MODE_CURRENCY_DEPOSIT, 1, 4 * 0.5),
    (api.SYMBOL_SWAP_MODE_INTEREST_CURRENT, 0, -0.10 / 360 * 200.0 * 50_000 * YEN),
    (api.SYMBOL_SWAP_MODE_INTEREST_OPEN, 0, -0.10 / 360 * 190.02 * 50_000 * YEN),
    (api.SYMBOL_SWAP_MODE_INTEREST_OPEN, 1, 0.04 / 360 * 190.0 * 50_000 * YEN),
]


@pytest.mark.parametrize(("mode", "side", "swap"), SWAPS)
def test_each_swap_mode_charges_its_way(mode: int, side: int, swap: float) -> None:
    broker = night(side, swap_mode=mode, currency_margin="JPY")
    (position,) = broker.account.positions.values()
    assert position.swap == pytest.approx(swap, abs=0.006)
    assert position.time_update == position.time
    deal = broker.account.deals.get(broker.close(position).deal)
    assert deal is not None
    assert deal.swap == position.swap
    assert not [each for each in broker.account.deals.all() if each.ticket != deal.ticket and each.swap]


@pytest.mark.parametrize(
    ("triple_day", "nights", "charged"), [(4, 1, 3), (5, 1, 1), (5, 2, 4), (5, 4, 4), (5, 5, 5), (3, 7, 7)]
)
def test_the_triple_day_and_the_weekend(triple_day: int, nights: int, charged: int) -> None:
    mode: dict[str, Any] = {"swap_mode": api.SYMBOL_SWAP_MODE_CURRENCY_DEPOSIT, "swap_long": -2.0}
    broker = night(0, nights=nights, swap_rollover3days=triple_day, **mode)
    (position,) = broker.account.positions.values()
    assert position.swap == pytest.approx(-1.0 * charged)


def test_a_point_of_a_future_is_worth_what_its_tick_says() -> None:
    fields: dict[str, Any] = {
        "calc_mode": api.SYMBOL_CALC_MODE_FUTURES,
        "margin_initial": 100.0,
        "currency_base": "JPY",
        "tick_value": 50.0,  # yen, for a thousandth
    }
    (position,) = night(0, **fields).account.positions.values()
    assert position.swap == pytest.approx(-10 * 50.0 * 0.5 * YEN, abs=0.006)


@pytest.mark.parametrize(
    ("mode", "side", "opened"),
    [
        (api.SYMBOL_SWAP_MODE_REOPEN_CURRENT, 0, 200.0 + 0.010),
        (api.SYMBOL_SWAP_MODE_REOPEN_CURRENT, 1, 200.02 + 0.004),
        (api.SYMBOL_SWAP_MODE_REOPEN_BID, 0, 200.0 + 0.010),
        (api.SYMBOL_SWAP_MODE_REOPEN_BID, 1, 200.0 + 0.004),
    ],
)
def test_reopening_changes_price_and_ticket_but_not_the_identifier(mode: int, side: int, opened: float) -> None:
    broker = night(side, swap_mode=mode)
    (position,) = broker.account.positions.values()
    assert position.ticket != position.identifier
    assert position.price_open == pytest.approx(opened)
    assert position.swap == 0.0
    rolled = [each for each in broker.account.deals.all() if each.reason == api.DEAL_REASON_ROLLOVER]
    assert [(each.entry, each.position_id, each.volume) for each in rolled] == [
        (api.DEAL_ENTRY_OUT, position.identifier, 0.5),
        (api.DEAL_ENTRY_IN, position.identifier, 0.5),
    ]
    gain = (200.0 - 190.02 if side == 0 else 190.0 - 200.02) * 50_000
    assert rolled[0].profit == pytest.approx(gain * YEN, abs=0.5)


def test_nights_end_by_the_servers_clock() -> None:
    # Noon in UTC is 14:00 at New York + 7 h: the night ends at 22:00 UTC.
    broker = night(0, nights=0, server_time="ny+7")
    (position,) = broker.account.positions.values()
    broker.quote("GBPJPY", 200.0, 200.02, after_ms=10 * 3_600_000 - 60_000)
    assert position.swap == 0.0
    broker.quote("GBPJPY", 200.0, 200.02, after_ms=60_000)
    assert position.swap < 0.0


# Operations on the account's money ------------------------------------------------------------------------------


def test_credit_is_kept_apart_from_the_balance_but_counts_in_equity() -> None:
    broker = Broker(account=AccountSettings(balance=1000.0), commission_per_lot=0.0)
    broker.engine.dealer.deposit(broker.account, 500.0, "welcome", kind=api.DEAL_TYPE_CREDIT)
    broker.engine.commit()
    for _ in range(2):
        worth = broker.engine.valuer.value(broker.account)
        assert (worth.balance, worth.equity, broker.account.credit) == (1000.0, 1500.0, 500.0)
        broker.restart()
    values: Any = AccountInfo(tuple(account_info(broker.account, worth)))
    assert (values.balance, values.credit, values.equity, values.margin_free) == (1000.0, 500.0, 1500.0, 1500.0)
    broker.buy(1.3)  # 1,430 of margin: the credit pays for it
    broker.engine.dealer.deposit(broker.account, -500.0, "taken back", kind=api.DEAL_TYPE_CREDIT)
    broker.quote("EURUSD", 1.0969, 1.0970)  # 584 of equity against 715
    assert not broker.account.positions
    assert broker.account.credit == 0.0


@pytest.mark.parametrize("kind", [api.DEAL_TYPE_CORRECTION, api.DEAL_TYPE_INTEREST, api.DEAL_DIVIDEND, api.DEAL_TAX])
def test_other_operations_change_the_balance(kind: int) -> None:
    broker = Broker()
    deal = broker.engine.dealer.deposit(broker.account, -12.34, "by the broker", kind=kind)
    assert broker.account.balance == 9987.66
    assert (deal.type, deal.order, deal.entry, deal.position_id, deal.symbol) == (kind, 0, 0, 0, "")
    assert (deal.volume, deal.price, deal.profit) == (0.0, 0.0, -12.34)
