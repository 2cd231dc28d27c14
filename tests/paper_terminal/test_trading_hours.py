"""Trading hours by weekday: what is refused, what does not happen, and what the synthetic market does not quote."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paper_terminal import constants as api
from paper_terminal.market import make_feed
from paper_terminal.settings import FeedSettings, Settings, SettingsError, load, save
from paper_terminal.trading_hours import WEEKDAYS, HoursError, TradingHours
from tests.paper_terminal.broker import EURUSD, Broker

WEEKDAY_HOURS = dict.fromkeys(WEEKDAYS[1:6], "01:00-23:55")
SHARES = dict.fromkeys(WEEKDAYS[1:6], "16:30-23:00")
NOON = "2026-02-25T12:00:00"  # a Wednesday


def at_ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("moment", "opened"),
    [
        ("2026-02-25T01:00:00", True),
        ("2026-02-25T00:59:59", False),
        ("2026-02-25T23:54:59", True),
        ("2026-02-25T23:55:00", False),
        ("2026-02-27T12:00:00", True),
        ("2026-02-28T12:00:00", False),
        ("2026-03-01T12:00:00", False),
        ("2026-12-25T12:00:00", False),
    ],
)
def test_a_moment_is_inside_or_outside(moment: str, opened: bool) -> None:
    hours = TradingHours(WEEKDAY_HOURS, ["2026-12-25"])
    assert hours.is_open(at_ms(moment)) is opened


def test_a_day_may_have_a_break() -> None:
    hours = TradingHours({"monday": "01:00-12:00, 13:00-24:00"})
    monday = "2026-02-23T"
    assert [hours.is_open(at_ms(monday + each)) for each in ("11:59:59", "12:30:00", "13:00:00", "23:59:59")] == [
        True,
        False,
        True,
        True,
    ]


@given(st.lists(st.integers(0, 2_000_000_000), max_size=50), st.booleans())
def test_many_moments_are_told_as_each_alone(seconds: list[int], holiday: bool) -> None:
    hours = TradingHours(SHARES, ["2001-09-11"] if holiday else [])
    told = hours.opened(np.array(sorted(seconds), dtype=np.int64))
    assert list(told) == [hours.is_open(each * 1000) for each in sorted(seconds)]


@pytest.mark.parametrize(
    ("sessions", "holidays", "problem"),
    [
        ({"mon": "00:00-24:00"}, (), "'mon' is not one of"),
        ({"monday": "9-17"}, (), "is not HH:MM-HH:MM"),
        ({"monday": "17:00-09:00"}, (), "must end after it begins"),
        ({"monday": "00:00-24:30"}, (), "by 24:00"),
        ({}, (), "none on any day"),
        (None, ("25.12.2026",), "not an ISO date"),
    ],
)
def test_bad_hours_are_refused_by_the_settings(sessions: Any, holidays: Any, problem: str) -> None:
    with pytest.raises(HoursError, match=problem):
        TradingHours(sessions, holidays)
    symbol = msgspec.structs.replace(EURUSD, sessions=sessions, holidays=holidays)
    with pytest.raises(SettingsError, match=f"EURUSD.*{problem}"):
        Settings(symbols=(symbol,)).check()


def test_hours_survive_the_settings_file(tmp_path: Any) -> None:
    symbol = msgspec.structs.replace(EURUSD, sessions=SHARES, holidays=("2026-12-25",))
    save(Settings(symbols=(symbol,)), tmp_path / "paper.toml")
    assert load(tmp_path / "paper.toml").symbols == (symbol,)


# What the broker does ------------------------------------------------------------------------------------------


def shut_at_night() -> Broker:
    """Return a broker whose market closes at 23:55 of a server that shows UTC, at noon."""
    broker = Broker(symbols=(msgspec.structs.replace(EURUSD, sessions=WEEKDAY_HOURS),), server_time="utc")
    broker.now_ms = at_ms(NOON)
    broker.quote("EURUSD", 1.1, 1.1001)
    return broker


def go_to(broker: Broker, moment: str, bid: float = 1.1) -> None:
    broker.quote("EURUSD", bid, round(bid + 0.0001, 5), after_ms=at_ms(moment) - broker.now_ms)


def test_every_request_is_refused_while_the_market_is_closed() -> None:
    broker = shut_at_night()
    long, short = broker.buy(0.1), broker.sell(0.1)
    pending = {"action": api.TRADE_ACTION_PENDING, "type": 2, "volume": 0.1, "price": 1.05, "type_filling": 2}
    order = broker.send(**pending).order
    go_to(broker, "2026-02-25T23:56:00")
    requests: list[dict[str, Any]] = [
        {"volume": 0.1},
        pending,
        {"position": long.ticket, "type": 1, "volume": 0.1},
        {"action": api.TRADE_ACTION_SLTP, "position": long.ticket, "sl": 1.0},
        {"action": api.TRADE_ACTION_MODIFY, "order": order, "price": 1.04},
        {"action": api.TRADE_ACTION_REMOVE, "order": order},
        {"action": api.TRADE_ACTION_CLOSE_BY, "position": long.ticket, "position_by": short.ticket},
    ]
    assert [broker.send(**each).retcode for each in requests] == [api.TRADE_RETCODE_MARKET_CLOSED] * len(requests)
    go_to(broker, "2026-02-26T01:00:00")
    assert [broker.send(**each).retcode for each in requests] == [
        api.TRADE_RETCODE_DONE,
        api.TRADE_RETCODE_DONE,
        api.TRADE_RETCODE_DONE,
        api.TRADE_RETCODE_POSITION_CLOSED,
        api.TRADE_RETCODE_DONE,
        api.TRADE_RETCODE_DONE,
        api.TRADE_RETCODE_POSITION_CLOSED,
    ]


def test_stops_and_orders_wait_for_the_market_to_open() -> None:
    broker = shut_at_night()
    position = broker.buy(0.1, sl=1.09)
    broker.send(action=api.TRADE_ACTION_PENDING, type=2, volume=0.1, price=1.08, type_filling=2)
    go_to(broker, "2026-02-25T23:57:00", 1.07)
    assert list(broker.account.positions) == [position.ticket]
    assert position.price_current == 1.07
    assert len(broker.account.orders) == 1
    go_to(broker, "2026-02-26T01:00:00", 1.06)
    (opened,) = broker.account.positions.values()
    assert (opened.price_open, len(broker.account.orders)) == (1.08, 0)
    closing = next(deal for deal in broker.account.deals.all() if deal.reason == api.DEAL_REASON_SL)
    assert (closing.position_id, closing.price) == (position.identifier, 1.06)  # the first price when it opened


def test_orders_expire_and_nights_are_charged_while_the_market_is_closed() -> None:
    broker = shut_at_night()
    position = broker.buy(0.1)
    broker.send(
        action=api.TRADE_ACTION_PENDING, type=2, volume=0.1, price=1.08, type_filling=2, type_time=api.ORDER_TIME_DAY
    )
    go_to(broker, "2026-02-26T00:30:00")
    assert not broker.account.orders
    assert position.swap < 0


# What the synthetic market does --------------------------------------------------------------------------------


def feed(**fields: Any) -> Any:
    symbol = msgspec.structs.replace(EURUSD, **fields)
    settings = Settings(symbols=(symbol,), server_time="ny+7", feed=FeedSettings(start=NOON, speed=60.0))
    return make_feed(settings, resume_ms=None)


def test_the_synthetic_market_quotes_in_trading_hours_only_and_the_same_as_without_them() -> None:
    start, end = at_ms("2026-02-25T00:00:00"), at_ms("2026-02-27T00:00:00")
    always, within = feed().history("EURUSD", start, end), feed(sessions=SHARES).history("EURUSD", start, end)
    hours = TradingHours(SHARES)
    server_s = always["time"] + 2 * 3600  # winter: New York + 7 h is UTC + 2 h
    assert 0 < len(within) < len(always)
    assert (within == always[hours.opened(server_s)]).all()


def test_bars_of_the_past_keep_the_hours_too() -> None:
    start, end = at_ms("2026-02-16T00:00:00"), at_ms("2026-02-23T00:00:00")
    bars = feed(sessions=SHARES, holidays=("2026-02-16",)).minute_bars("EURUSD", start, end)
    assert len(bars) == 4 * 390
    assert set((bars["time"] + 2 * 3600) // 86_400 % 7) == {5, 6, 0, 1}  # Tuesday to Friday, the epoch's Thursday is 0


def test_the_next_tick_is_found_beyond_a_closed_weekend() -> None:
    market = feed(sessions=SHARES)
    friday_night = at_ms("2026-02-27T22:00:00")
    market.take(friday_night)
    monday = at_ms("2026-03-02T14:30:00")
    assert monday <= market.next_time_ms() < monday + 600_000
