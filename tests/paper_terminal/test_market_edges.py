"""What clients get at the edges: copies, depth, Market Watch and the day's values, from a terminal on known ticks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

import paper_terminal.client as client_module
from paper_terminal.records import RATE_DTYPE, TICK_DTYPE
from paper_terminal.settings import FeedSettings, FeedSymbol, Settings
from paper_terminal.specifications import DEFAULT_SPECIFICATIONS, Specification
from tests.paper_terminal.running import RunningTerminal

mt5: Any = client_module
FRIDAY = 1_772_236_800 - 86_400
"""2026-02-27, at midnight."""
DAY = 86_400
QUOTES = [
    (FRIDAY - DAY + 36_000.000, "1.09990", "1.10000"),
    (FRIDAY + 36_000.000, "1.10000", "1.10010"),
    (FRIDAY + 36_000.000, "1.10000", "1.10010"),
    (FRIDAY + 36_000.250, "1.10005", "1.10010"),
    (FRIDAY + 36_059.999, "1.09995", "1.10020"),
    (FRIDAY + 36_060.000, "1.10010", "1.10011"),
    (FRIDAY + 36_240.500, "1.10020", "1.10030"),
    (FRIDAY + 82_800.000, "1.10015", "1.10025"),
]
DEALS = (
    "<DATE>\t<TIME>\t<BID>\t<ASK>\t<LAST>\t<VOLUME>\t<FLAGS>\n"
    "2026.02.26\t10:00:00.000\t99.5\t100.5\t100.00\t4\t94\n"
    "2026.02.27\t10:00:00.000\t100.1\t100.6\t\t\t6\n"
    "2026.02.27\t10:00:01.000\t\t\t100.60\t10\t56\n"
    "2026.02.27\t10:00:02.000\t\t\t100.10\t30\t88\n"
    "2026.02.27\t10:05:00.000\t\t100.4\t\t\t4\n"
)
BOOKED = msgspec.structs.replace(DEFAULT_SPECIFICATIONS[0], book_depth=3)
SHARE = Specification(
    name="SBER",
    group="Stocks",
    currency_base="USD",
    currency_profit="USD",
    digits=2,
    contract_size=10.0,
    calc_mode=32,
    chart_mode=1,
    exemode=3,
)


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningTerminal]:
    folder = tmp_path_factory.mktemp("edges")
    rows = "".join(f"{time:.3f},{bid},{ask}\n" for time, bid, ask in QUOTES)
    (folder / "eurusd.csv").write_text("timestamp,bid,ask\n" + rows, encoding="utf-8")
    (folder / "sber.csv").write_text(DEALS, encoding="utf-8")
    files = [FeedSymbol(symbol=name, paths=(str(folder / f"{name.lower()}.csv"),)) for name in ("EURUSD", "SBER")]
    settings = Settings(
        symbols=(BOOKED, DEFAULT_SPECIFICATIONS[1], DEFAULT_SPECIFICATIONS[2], SHARE),
        market_watch=("EURUSD", "SBER", "USDJPY"),
        server_time="utc",
        history_days=30.0,
        max_bars=50,
        feed=FeedSettings(kind="files", files=tuple(files), start="2026-03-01T12:00:00"),
    )
    with RunningTerminal(folder / "terminal", settings) as running:
        yield running


@pytest.fixture(autouse=True)
def _attached(terminal: RunningTerminal) -> Iterator[None]:
    assert mt5.initialize(str(terminal.folder)), mt5.last_error()
    yield
    mt5.shutdown()


def failed(code: int, text: str = "") -> bool:
    found = mt5.last_error()
    return found[0] == code and (not text or found[1] == text)


def test_only_an_initialize_that_means_something_closes_the_connection() -> None:
    assert mt5.initialize(5) is False
    assert failed(-2, "Invalid 1st unnamed argument")
    assert mt5.account_info() is not None
    assert mt5.initialize(login=1, server="Nowhere") is False
    assert mt5.account_info() is None
    assert failed(-10004, "No IPC connection")


# Ticks -------------------------------------------------------------------------------------------------------


def after(seconds: float) -> int:
    return int((FRIDAY + seconds) * 1000)


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (FRIDAY + 36_000, FRIDAY + 36_000, [after(36_000)] * 2),
        (FRIDAY + 36_000, FRIDAY + 36_001, [after(36_000)] * 2 + [after(36_000.25)]),
        (FRIDAY + 36_059.9, FRIDAY + 36_060.9, [after(36_059.999), after(36_060)]),
        (FRIDAY + 36_061, FRIDAY + 36_240, []),
        (FRIDAY + DAY, FRIDAY + 2 * DAY, []),
        (FRIDAY + 82_800, FRIDAY + 2 * DAY, [after(82_800)]),
        (FRIDAY + 82_800, FRIDAY + 36_000, []),
        (2_000_000_000, 2_000_000_001, []),
    ],
)
def test_a_range_of_ticks_includes_both_whole_seconds(first: float, last: float, expected: list[int]) -> None:
    ticks = mt5.copy_ticks_range("EURUSD", first, last, mt5.COPY_TICKS_ALL)
    assert ticks["time_msc"].tolist() == expected
    assert mt5.last_error() == (1, "Success")
    assert (ticks.dtype, ticks.ndim, bool(ticks.flags.owndata), bool(ticks.flags.c_contiguous)) == (
        TICK_DTYPE,
        1,
        True,
        True,
    )


def test_ticks_from_a_second_on_are_the_oldest_ones() -> None:
    for count, expected in ((1, 1), (3, 3), (100, 7)):
        ticks = mt5.copy_ticks_from("EURUSD", FRIDAY + 36_000.9, count, mt5.COPY_TICKS_ALL)
        assert len(ticks) == expected
        assert ticks["time_msc"][0] == after(36_000)
    assert len(mt5.copy_ticks_from("EURUSD", FRIDAY + 2 * DAY, 5, mt5.COPY_TICKS_ALL)) == 0


def test_flags_filter_ticks() -> None:
    def flags(kind: int) -> list[int]:
        return list(mt5.copy_ticks_range("SBER", 1, FRIDAY + DAY, kind)["flags"])

    assert flags(mt5.COPY_TICKS_ALL) == [94, 6, 56, 88, 4]
    assert flags(mt5.COPY_TICKS_INFO) == [94, 6, 4]
    assert flags(mt5.COPY_TICKS_TRADE) == [94, 56, 88]
    assert flags(mt5.COPY_TICKS_INFO | mt5.COPY_TICKS_TRADE) == [94, 6, 56, 88, 4]
    assert len(mt5.copy_ticks_range("EURUSD", 1, FRIDAY + DAY, mt5.COPY_TICKS_TRADE)) == 0
    assert mt5.last_error() == (1, "Success")
    assert mt5.copy_ticks_range("SBER", 1, FRIDAY + DAY, 0) is None
    assert failed(-2, "Terminal: Invalid params")


# Bars --------------------------------------------------------------------------------------------------------

MINUTES = [FRIDAY - DAY + 36_000, FRIDAY + 36_000, FRIDAY + 36_060, FRIDAY + 36_240, FRIDAY + 82_800]


def opens(bars: Any) -> list[int]:
    assert mt5.last_error() == (1, "Success")
    assert bars.dtype == RATE_DTYPE
    return list(bars["time"])


def test_a_minute_without_ticks_has_no_bar() -> None:
    bars = mt5.copy_rates_range("EURUSD", mt5.TIMEFRAME_M1, 1, FRIDAY + 3 * DAY)
    assert opens(bars) == MINUTES
    assert bars[1].item() == (MINUTES[1], 1.1, 1.10005, 1.09995, 1.09995, 4, 5, 0)


def test_bars_counted_back_from_a_moment() -> None:
    for moment, count, expected in (
        (MINUTES[2], 2, MINUTES[1:3]),
        (MINUTES[2] - 1, 2, MINUTES[:2]),
        (MINUTES[2] + 0.9, 1, MINUTES[2:3]),
        (MINUTES[2], 40, MINUTES[:3]),
        (FRIDAY + 2 * DAY, 2, MINUTES[3:]),
        (1, 5, []),
    ):
        assert opens(mt5.copy_rates_from("EURUSD", mt5.TIMEFRAME_M1, moment, count)) == expected


def test_bars_counted_back_from_a_position() -> None:
    for start, count, expected in (
        (0, 1, MINUTES[4:]),
        (0, 49, MINUTES),
        (1, 2, MINUTES[2:4]),
        (4, 10, MINUTES[:1]),
        (5, 10, []),
        (10**9, 1, []),
    ):
        assert opens(mt5.copy_rates_from_pos("EURUSD", mt5.TIMEFRAME_M1, start, count)) == expected


def test_ranges_of_bars_include_both_ends() -> None:
    for first, last, expected in (
        (MINUTES[1], MINUTES[3], MINUTES[1:4]),
        (MINUTES[1] + 1, MINUTES[3] - 1, MINUTES[2:3]),
        (MINUTES[1] + 0.5, MINUTES[3] + 0.5, MINUTES[1:4]),
        (MINUTES[3], MINUTES[1], []),
        (FRIDAY + DAY, FRIDAY + 2 * DAY, []),
    ):
        assert opens(mt5.copy_rates_range("EURUSD", mt5.TIMEFRAME_M1, first, last)) == expected


def test_longer_periods_open_by_the_calendar() -> None:
    for frame, expected in (
        (mt5.TIMEFRAME_H4, [FRIDAY - DAY + 28_800, FRIDAY + 28_800, FRIDAY + 72_000]),
        (mt5.TIMEFRAME_D1, [FRIDAY - DAY, FRIDAY]),
        (mt5.TIMEFRAME_W1, [FRIDAY - 5 * DAY]),
        (mt5.TIMEFRAME_MN1, [FRIDAY - 26 * DAY]),
    ):
        assert opens(mt5.copy_rates_from_pos("EURUSD", frame, 0, 10)) == expected


def test_bars_by_the_last_price() -> None:
    assert mt5.symbol_info("SBER").chart_mode == mt5.SYMBOL_CHART_MODE_LAST
    bars = mt5.copy_rates_from_pos("SBER", mt5.TIMEFRAME_D1, 0, 5)
    assert [bar.item() for bar in bars] == [
        (FRIDAY - DAY, 100.0, 100.0, 100.0, 100.0, 1, 100, 4),
        (FRIDAY, 100.6, 100.6, 100.1, 100.1, 2, 50, 40),
    ]


def test_requests_that_mean_nothing_or_ask_too_much() -> None:
    for function, arguments in (
        (mt5.copy_rates_from_pos, ("EURUSD", 7, 0, 5)),
        (mt5.copy_rates_from_pos, ("EURUSD", 1, -1, 5)),
        (mt5.copy_rates_from_pos, ("EURUSD", 1, 0, 0)),
        (mt5.copy_rates_from_pos, ("EURUSD", 1, 0, 50)),  # as many as max_bars
        (mt5.copy_rates_from, ("EURUSD", 1, FRIDAY, 50)),
        (mt5.copy_rates_from, ("EURUSD", 1, FRIDAY, -5)),
        (mt5.copy_ticks_from, ("EURUSD", FRIDAY, 0, -1)),
        (mt5.copy_ticks_from, ("EURUSD", FRIDAY, 5, 64)),
    ):
        assert function(*arguments) is None
        assert failed(-2, "Terminal: Invalid params")


def test_a_symbol_without_data_or_name() -> None:
    assert len(mt5.copy_rates_from_pos("USDJPY", 1, 0, 5)) == 0
    assert len(mt5.copy_ticks_from("USDJPY", 1, 5, -1)) == 0
    assert mt5.last_error() == (1, "Success")
    assert mt5.symbol_info_tick("USDJPY") is None
    for function, arguments in (
        (mt5.copy_rates_from_pos, ("NOSUCH", 1, 0, 5)),
        (mt5.copy_ticks_range, ("eurusd", 1, 5, -1)),
        (mt5.symbol_info, ("NOSUCH",)),
        (mt5.symbol_info_tick, ("NOSUCH",)),
        (mt5.market_book_get, ("NOSUCH",)),
    ):
        assert function(*arguments) is None
        assert failed(-4, "Terminal: Not found")


# Symbols -----------------------------------------------------------------------------------------------------


def test_masks_choose_symbols() -> None:
    for mask, names in (
        ("*", ["EURUSD", "GBPUSD", "USDJPY", "SBER"]),
        ("*USD", ["EURUSD", "GBPUSD"]),
        ("*USD*,!*JPY*", ["EURUSD", "GBPUSD"]),
        ("!*JPY*,*USD*", ["EURUSD", "GBPUSD"]),
        ("SBER, EUR*", ["EURUSD", "SBER"]),
        ("!EURUSD", []),
        ("eur*", []),
        ("", []),
    ):
        assert [each.name for each in mt5.symbols_get(mask)] == names, mask
        assert mt5.last_error() == (1, "Success")
    assert mt5.symbols_total() == len(mt5.symbols_get()) == 4


def test_an_unselected_symbol_shows_its_rules_without_prices() -> None:
    info = mt5.symbol_info("GBPUSD")
    assert (info.select, info.visible, info.digits, info.trade_contract_size) == (False, False, 5, 100_000.0)
    assert (info.bid, info.ask, info.time, info.spread, info.session_open, info.trade_tick_value) == (0.0,) * 6
    assert mt5.symbol_info_tick("GBPUSD") is None
    assert mt5.symbol_select("GBPUSD") is True
    assert mt5.symbol_info("GBPUSD").select is True
    assert mt5.symbol_select("GBPUSD", 0) is True
    assert mt5.symbol_info("GBPUSD").visible is False


def test_a_symbol_in_use_stays_selected() -> None:
    opened = mt5.order_send(action=1, symbol="EURUSD", volume=0.1, type=0)
    assert opened.retcode == mt5.TRADE_RETCODE_DONE
    assert mt5.symbol_select("EURUSD", False) is False
    assert failed(-1, "Terminal: Call failed")
    assert mt5.Close("EURUSD") is True
    assert mt5.symbol_select("EURUSD", False) is True
    assert len(mt5.copy_rates_from_pos("EURUSD", 1, 0, 9)) == 5, "history is there all the same"
    assert mt5.symbol_select("EURUSD", True) is True


def test_the_values_of_a_quoted_symbols_day() -> None:
    info = mt5.symbol_info("EURUSD")
    assert (info.time, info.bid, info.ask, info.last, info.spread) == (FRIDAY + 82_800, 1.10015, 1.10025, 0.0, 10)
    assert (info.bidhigh, info.bidlow, info.askhigh, info.asklow) == (1.1002, 1.09995, 1.1003, 1.1001)
    assert (info.session_open, info.session_close) == (1.1, 1.0999)
    assert info.price_change == round((1.10015 / 1.0999 - 1) * 100, 4)
    assert (info.lasthigh, info.lastlow, info.volume, info.volumehigh, info.session_deals) == (0.0, 0.0, 0, 0, 0)
    tick = mt5.symbol_info_tick("EURUSD")
    assert tick == (FRIDAY + 82_800, 1.10015, 1.10025, 0.0, 0, (FRIDAY + 82_800) * 1000, 6, 0.0)


def test_the_values_of_a_traded_symbols_day() -> None:
    info = mt5.symbol_info("SBER")
    assert (info.last, info.volume, info.volume_real) == (100.1, 30, 30.0)
    assert (info.lasthigh, info.lastlow) == (100.6, 100.1)
    assert (info.volumehigh, info.volumelow, info.volumehigh_real, info.volumelow_real) == (30, 10, 30.0, 10.0)
    assert (info.session_deals, info.session_volume, info.session_aw) == (2, 40.0, 100.22)
    assert info.session_turnover == pytest.approx((100.6 * 10 + 100.1 * 30) * 10)
    assert (info.session_open, info.session_close) == (100.6, 100.0)
    assert [type(value) for value in info] == [type(value) for value in mt5.symbol_info("EURUSD")]
    tick = mt5.symbol_info_tick("SBER")
    assert (tick.bid, tick.ask, tick.last, tick.volume, tick.volume_real, tick.flags) == (
        100.1,
        100.4,
        100.1,
        30,
        30.0,
        4,
    )


# Depth -------------------------------------------------------------------------------------------------------


def test_depth_needs_a_subscription_and_runs_from_dear_to_cheap() -> None:
    assert mt5.market_book_get("EURUSD") is None
    assert failed(-1, "Terminal: Call failed")
    assert mt5.market_book_add("EURUSD") is True
    assert mt5.market_book_add("EURUSD") is True
    book = mt5.market_book_get("EURUSD")
    assert [each.type for each in book] == [mt5.BOOK_TYPE_SELL] * 3 + [mt5.BOOK_TYPE_BUY] * 3
    assert [each.price for each in book] == [1.10027, 1.10026, 1.10025, 1.10015, 1.10014, 1.10013]
    assert all(type(each.volume) is int and type(each.volume_dbl) is float and each.volume > 0 for each in book)
    assert mt5.market_book_release("EURUSD") is True
    assert mt5.market_book_get("EURUSD") is None
    assert mt5.market_book_release("EURUSD") is False
    assert mt5.last_error() == (1, "Success"), "these two never tell why"
    for name in ("GBPUSD", "NOSUCH"):
        assert mt5.market_book_add(name) is False
        assert mt5.last_error() == (1, "Success")


def test_numpy_reads_what_comes_without_a_copy_of_the_terminals() -> None:
    first = mt5.copy_ticks_range("EURUSD", 1, FRIDAY + DAY, -1)
    first["bid"] = 0.0
    assert np.all(mt5.copy_ticks_range("EURUSD", 1, FRIDAY + DAY, -1)["bid"] > 1.0)
