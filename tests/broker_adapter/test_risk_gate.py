"""The gate's counters, the day's loss, modes and arming: at their edges, and over a restart."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from broker_adapter.account_records import Records
from broker_adapter.broker_state import BrokerRead
from broker_adapter.journal_records import Record
from broker_adapter.order_requests import Draft
from broker_adapter.order_states import State
from broker_adapter.risk_gate import Exposure, RiskGate, closing_volume
from market.risk import TradingMode
from mt5bus.settings import Risk
from protocol.errors import NotReady, RiskRefused
from protocol.messages import Account, Deal, Order, Position, Quote
from tests.broker_adapter.test_journal import Opened, intent

DAY_MS = 86_400_000
MIDNIGHT = 20_000 * DAY_MS
ACCOUNT = Account("Broker-Demo", 1001, "n", "USD", 100, 0, 2, 10_000, 0, 0, 10_000, 0, 0, 0, True, True)
REAL = msgspec.structs.replace(ACCOUNT, trade_mode=2)
BUY = Draft(action="open", symbol="EURUSD", side="buy", volume=0.1)
CLOSE = Draft(action="close", symbol="EURUSD", side="sell", volume=0.1, position=5, reduces=True)
LOOSEN = Draft(action="modify_position", symbol="EURUSD", side="buy", position=5)
TIGHTEN = msgspec.structs.replace(LOOSEN, reduces=True)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    it = Opened(tmp_path)
    yield it
    it.journal.close()


Check = Callable[..., str]


def check(gate: RiskGate, order: Draft = BUY, **more: object) -> str:
    """Return which limit refuses the order; empty if it passes."""
    given: dict[str, object] = {
        "account": ACCOUNT,
        "exposure": Exposure(positions=(), intents=()),
        "quote": Quote("EURUSD", MIDNIGHT + 1000, 1.1, 1.1001),
        "point": 1e-5,
        "now_ms": MIDNIGHT + 1000,
        "now_ns": 0,
        "server_time_known": True,
        **more,
    }
    try:
        gate.check(order, **given)  # type: ignore[arg-type]
    except RiskRefused as error:
        assert set(error.details) == {"limit", "value", "allowed"}
        return error.details["limit"]
    except NotReady as error:
        return error.details["limit"]
    return ""


def read(*, deals: Iterable[Deal] = (), **changes: object) -> BrokerRead:
    made = BrokerRead(
        account=ACCOUNT,
        positions=(),
        orders=(),
        history_orders=Records(),
        deals=Records(deals),
        history_from_ms=MIDNIGHT - DAY_MS,
        connected=True,
        started_ns=0,
        finished_ns=0,
        market_ms=MIDNIGHT + 3_600_000,
    )
    return msgspec.structs.replace(made, **changes)


def money(ticket: int, kind: int, profit: float, at_ms: int) -> Deal:
    return Deal(ticket, 0, 0, "", kind, 0, 0, 0.0, 0.0, profit, 0.0, 0.0, 0.0, 0, "", at_ms)


def equity(amount: float, balance: float | None = None) -> Account:
    return msgspec.structs.replace(ACCOUNT, equity=amount, balance=amount if balance is None else balance)


def store(opened: Opened, records: tuple[Record, ...]) -> None:
    opened.journal.write(records, lambda _events: None)
    opened.settle()


def test_the_mode_decides_and_survives(opened: Opened, tmp_path: Path) -> None:
    gate = RiskGate(Risk(), opened.journal)
    assert [check(gate, one) for one in (BUY, CLOSE, TIGHTEN, LOOSEN)] == ["", "", "", ""]
    store(opened, gate.set_mode(TradingMode.REDUCING))
    assert [check(gate, one) for one in (BUY, CLOSE, TIGHTEN, LOOSEN)] == ["mode", "", "", "mode"]
    store(opened, gate.set_mode(TradingMode.HALTED))
    again = RiskGate(Risk(), opened.journal)
    assert again.mode is TradingMode.HALTED
    assert again.mode_serial == 2
    assert [check(again, one) for one in (BUY, CLOSE, TIGHTEN, LOOSEN)] == ["mode"] * 4
    assert check(again, CLOSE, operator=True) == ""


def test_a_real_account_takes_nothing_until_it_is_armed(opened: Opened) -> None:
    gate = RiskGate(Risk(), opened.journal)
    assert [check(gate, one, account=REAL) for one in (BUY, CLOSE)] == ["not_armed"] * 2
    store(opened, gate.arm(msgspec.structs.replace(REAL, server="Another-Real")))
    assert check(gate, account=REAL) == "not_armed", "the same number at another broker"
    store(opened, gate.arm(REAL))
    assert check(gate, account=REAL) == ""
    assert check(RiskGate(Risk(), opened.journal), account=REAL) == ""
    store(opened, gate.disarm(REAL.login))
    assert check(RiskGate(Risk(), opened.journal), account=REAL) == "not_armed"


def test_active_pending_orders_count_as_positions_and_volume(opened: Opened) -> None:
    waiting = Order(7, "EURUSD", 2, 1, 0.3, 0.3, 1.09, 0.0, 0.0, 0.0, 2, 0, 0, 0, 0, "", 3, 1, 0, 0)
    at_work = msgspec.structs.replace(waiting, ticket=8, type=0)  # a market order on its way counts as its intent
    exposure = Exposure(positions=(), orders=(waiting, at_work), intents=())
    assert check(RiskGate(Risk(max_positions=1), opened.journal), exposure=exposure) == "positions"
    assert check(RiskGate(Risk(max_positions=2), opened.journal), exposure=exposure) == ""
    assert check(RiskGate(Risk(max_volume_per_symbol=0.35), opened.journal), exposure=exposure) == "volume_per_symbol"
    assert check(RiskGate(Risk(max_volume_per_symbol=0.4), opened.journal), exposure=exposure) == ""


def test_no_expiration_is_sent_in_a_server_time_that_is_only_assumed(opened: Opened) -> None:
    gate = RiskGate(Risk(), opened.journal)
    change = Draft(action="modify_order", symbol="EURUSD", side="buy", order=7, expiration_ms=MIDNIGHT + DAY_MS)
    assert check(gate, change) == ""
    assert check(gate, change, server_time_known=False) == "server_time"
    assert check(gate, msgspec.structs.replace(change, expiration_ms=0), server_time_known=False) == ""


def test_orders_a_minute_are_counted_in_a_sliding_minute(opened: Opened) -> None:
    gate = RiskGate(Risk(max_orders_per_minute=2), opened.journal)
    for second in (0, 30):
        assert check(gate, now_ns=second * 10**9) == ""
        gate.count_order(second * 10**9)
    assert check(gate, now_ns=59_999_999_999) == "orders_per_minute"
    assert check(gate, CLOSE, now_ns=59_999_999_999) == ""
    assert check(gate, now_ns=60 * 10**9) == ""


def test_orders_of_the_last_minute_count_over_a_restart(opened: Opened) -> None:
    wall_ms, now_ns = MIDNIGHT, 10**12
    made = [(1, 59_999), (2, 60_000), (3, 5_000), (4, -7)]  # ms ago; the last by a clock that was set back
    orders = [msgspec.structs.replace(intent(number), taken_ms=wall_ms - ago) for number, ago in made]
    gone = msgspec.structs.replace(orders[2], state=State.REFUSED)
    gate = RiskGate(Risk(max_orders_per_minute=4), opened.journal)
    gate.recount([*orders, gone], wall_ms=wall_ms, now_ns=now_ns)
    assert check(gate, now_ns=now_ns) == ""
    gate.count_order(now_ns)
    assert check(gate, now_ns=now_ns) == "orders_per_minute"
    assert check(gate, now_ns=now_ns + 1_000_000) == ""  # the oldest is a minute old


def test_ticks_that_are_missing_refuse_new_exposure_only(opened: Opened) -> None:
    gate = RiskGate(Risk(), opened.journal)
    assert check(gate, gap=True) == "gap"
    assert check(gate, CLOSE, gap=True) == ""


def test_where_positions_net_a_symbol_has_one_owner(opened: Opened) -> None:
    gate = RiskGate(Risk(), opened.journal)
    netting = msgspec.structs.replace(ACCOUNT, margin_mode=0)
    held = Position(5, 5, "EURUSD", 0, 0.1, 1.1, 0.0, 0.0, 1.1, 0.0, 0.0, 0, "", 3, 0, 0, strategy="first")
    pending = Order(7, "EURUSD", 2, 1, 0.3, 0.3, 1.09, 0.0, 0.0, 0.0, 2, 0, 0, 0, 0, "", 3, 1, 0, 0, strategy="first")
    flying = msgspec.structs.replace(intent(1), strategy="first", symbol="EURUSD")
    for exposure in (
        Exposure(positions=(held,), intents=()),
        Exposure(positions=(), orders=(pending,), intents=()),
        Exposure(positions=(), intents=(flying,)),
    ):
        asked: dict[str, Any] = {"account": netting, "exposure": exposure}
        assert check(gate, strategy="first", **asked) == ""
        assert check(gate, strategy="second", **asked) == "owner"
        assert check(gate, strategy="", **asked) == "owner"
        assert check(gate, CLOSE, strategy="second", **asked) == ""
        assert check(gate, strategy="second", account=ACCOUNT, exposure=exposure) == ""
    by_hand = Exposure(positions=(msgspec.structs.replace(held, strategy=""),), intents=())
    assert check(gate, strategy="first", account=netting, exposure=by_hand) == "owner"
    elsewhere = Exposure(positions=(msgspec.structs.replace(held, symbol="GBPUSD"),), intents=())
    assert check(gate, strategy="second", account=netting, exposure=elsewhere) == ""


def test_prices_too_old_or_too_wide_refuse_new_exposure_only(opened: Opened) -> None:
    gate = RiskGate(Risk(max_price_age_ms=1000, max_spread_points=10), opened.journal)
    assert check(gate) == ""
    assert check(gate, now_ms=MIDNIGHT + 2000) == ""
    assert check(gate, now_ms=MIDNIGHT + 2001) == "price_age"
    assert check(gate, CLOSE, now_ms=MIDNIGHT + 2001) == ""
    assert check(gate, quote=None) == "price_age"
    wide = Quote("EURUSD", MIDNIGHT + 1000, 1.1, 1.10011)
    assert check(gate, quote=wide) == "spread"
    old_decision = msgspec.structs.replace(BUY, decided_ms=MIDNIGHT - 1)
    assert check(gate, old_decision) == "price_age"
    assert check(gate, server_time_known=False) == "server_time"


@pytest.mark.parametrize(("bid", "ask"), [(math.nan, 1.1), (1.1, math.inf), (1.1, 1e308)])
def test_a_spread_that_cannot_be_computed_is_not_known(opened: Opened, bid: float, ask: float) -> None:
    quote = Quote("EURUSD", MIDNIGHT + 1000, bid, ask)
    gate = RiskGate(Risk(max_spread_points=20), opened.journal)
    assert check(gate, quote=quote) == "spread"
    assert check(gate, CLOSE, quote=quote) == ""
    uses = gate.symbol_uses("EURUSD", ACCOUNT, Exposure(positions=(), intents=()), quote, 1e-5, MIDNIGHT)
    assert [use.used for use in uses if use.name == "spread"] == [None]


def test_the_days_loss_counts_from_midnight_without_deposits(opened: Opened) -> None:
    gate = RiskGate(Risk(max_daily_loss=100.0), opened.journal)
    assert math.isnan(gate.daily_loss(ACCOUNT))
    assert check(gate) == "daily_loss"  # not known yet
    # 10,000 now; lost 30 and paid in 500 since midnight: 9,530 then.
    deals = (money(1, 2, 500.0, MIDNIGHT + 5), money(2, 0, -30.0, MIDNIGHT + 6), money(3, 2, 7.0, MIDNIGHT - 1))
    store(opened, gate.on_read(read(deals=deals), midnight_ms=MIDNIGHT))
    assert gate.daily_loss(equity(10_000)) == pytest.approx(30.0)
    assert check(gate, account=equity(9930.01)) == ""
    assert check(gate, account=equity(9930.0)) == "daily_loss"
    assert check(gate, CLOSE, account=equity(9930.0)) == ""


def test_the_days_start_survives_and_the_next_day_begins_anew(opened: Opened) -> None:
    gate = RiskGate(Risk(max_daily_loss=100.0), opened.journal)
    store(opened, gate.on_read(read(), midnight_ms=MIDNIGHT))
    again = RiskGate(Risk(max_daily_loss=100.0), opened.journal)
    assert math.isnan(again.daily_loss(equity(9950)))  # what was paid in since midnight is still to be read
    assert again.on_read(read(account=equity(9950)), midnight_ms=MIDNIGHT) == ()
    assert again.daily_loss(equity(9950)) == 50.0
    next_day = read(account=equity(9900, 9950), market_ms=MIDNIGHT + DAY_MS + 250, history_from_ms=MIDNIGHT)
    store(opened, again.on_read(next_day, midnight_ms=MIDNIGHT + DAY_MS))
    assert again.daily_loss(equity(9900)) == 0.0  # seen at midnight: equity, not balance
    assert math.isnan(again.daily_loss(msgspec.structs.replace(ACCOUNT, login=2)))


def test_what_was_paid_in_before_a_restart_hides_no_loss(opened: Opened) -> None:
    gate = RiskGate(Risk(max_daily_loss=100.0), opened.journal)
    store(opened, gate.on_read(read(), midnight_ms=MIDNIGHT))
    paid_in = (money(1, 2, 500.0, MIDNIGHT + 5),)
    again = RiskGate(Risk(max_daily_loss=100.0), opened.journal)
    # The first read of the new life does not reach back to the deposit.
    again.on_read(read(account=equity(10_400), history_from_ms=MIDNIGHT + 10), midnight_ms=MIDNIGHT)
    assert check(again, account=equity(10_400)) == "daily_loss"
    again.on_read(read(account=equity(10_400), deals=paid_in), midnight_ms=MIDNIGHT)
    assert again.daily_loss(equity(10_400)) == 100.0
    # Another account's money is another's.
    again.on_read(read(account=msgspec.structs.replace(ACCOUNT, login=2)), midnight_ms=MIDNIGHT)
    again.on_read(read(account=equity(9_999)), midnight_ms=MIDNIGHT)
    assert again.daily_loss(equity(9_999)) == 0.0


def test_a_short_history_cannot_tell_the_days_start(opened: Opened) -> None:
    gate = RiskGate(Risk(max_daily_loss=100.0), opened.journal)
    assert gate.on_read(read(history_from_ms=MIDNIGHT + 1), midnight_ms=MIDNIGHT) == ()
    assert math.isnan(gate.daily_loss(ACCOUNT))


def test_allowed_symbols_and_positions(opened: Opened) -> None:
    assert check(RiskGate(Risk(symbols=("GBPUSD",)), opened.journal)) == "symbol"
    one = intent(1)
    assert check(RiskGate(Risk(max_positions=1), opened.journal), exposure=Exposure(positions=(), intents=(one,))) == (
        "positions"
    )
    assert closing_volume(Exposure(positions=(), intents=(one,)), 5) == 0.0
