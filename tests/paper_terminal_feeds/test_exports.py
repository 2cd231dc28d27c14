"""What else files hold: deals, volumes, flags, bars of the ask, prices in points, times of every form."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paper_terminal import constants as api
from paper_terminal.feeds import FeedError, FileFeed, FileReport, TickFile
from paper_terminal.feeds.times import Times, parsed_ms
from paper_terminal.history import SymbolHistory
from paper_terminal.records import Records
from paper_terminal.server_time import ServerTimeRule

START_MS = int(datetime(2026, 3, 2, 10, tzinfo=UTC).timestamp()) * 1000
EVER_MS = 1 << 60
TICK_HEADER = "<DATE>\t<TIME>\t<BID>\t<ASK>\t<LAST>\t<VOLUME>\t<FLAGS>\r\n"
BAR_HEADER = "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\r\n"
DEALS = (
    "2026.03.02\t10:00:00.100\t\t\t100.50\t7\t88\r\n"  # a deal before any offer
    "2026.03.02\t10:00:01.000\t100.40\t100.60\t\t\t6\r\n"
    "2026.03.02\t10:00:02.250\t\t\t100.60\t3.00000000\t56\r\n"
    "2026.03.02\t10:00:02.250\t100.45\t\t\t\t2\r\n"
    "2026.03.02\t10:01:30.000\t\t\t100.45\t5\t312\r\n"
    "2026.03.02\t10:02:00.000\t\t100.70\t\t\t4\r\n"
)


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


def read(path: Path, **file: Any) -> tuple[Records, FileReport]:
    feed = FileFeed([TickFile(path=path, symbol="X", **file)])
    return feed.history("X", 0, EVER_MS), feed.reports[0]


def history_of(ticks: Records, *, point: float = 0.01, by_last: bool = False) -> SymbolHistory:
    history = SymbolHistory(ServerTimeRule("utc"), point=point, by_last=by_last)
    history.append(ticks)
    return history


# Deals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_exported_deals_keep_last_volume_and_flags(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "SBER.csv"
    path.write_bytes((TICK_HEADER + DEALS).encode(encoding))
    ticks, report = read(path, by_last=True, digits=2)
    assert (report.bad_rows, report.crossed) == (0, 0)
    assert (ticks["time_msc"] - START_MS).tolist() == [100, 1000, 2250, 2250, 90_000, 120_000]
    assert ticks["bid"].tolist() == [0.0, 100.4, 100.4, 100.45, 100.45, 100.45]
    assert ticks["ask"].tolist() == [0.0, 100.6, 100.6, 100.6, 100.6, 100.7]
    assert ticks["last"].tolist() == [100.5, 100.5, 100.6, 100.6, 100.45, 100.45]
    assert ticks["volume"].tolist() == [7, 7, 3, 3, 5, 5]
    assert ticks["volume_real"].tolist() == [7.0, 7.0, 3.0, 3.0, 5.0, 5.0]
    assert ticks["flags"].tolist() == [88, 6, 56, 2, 312, 4]


def test_bars_on_last_are_made_of_deals_alone(tmp_path: Path) -> None:
    ticks, _ = read(written(tmp_path / "a.csv", TICK_HEADER + DEALS), by_last=True)
    history = history_of(ticks, by_last=True)
    assert [bar.item() for bar in history.bars(api.TIMEFRAME_M1)] == [
        (START_MS // 1000, 100.5, 100.6, 100.5, 100.6, 2, 0, 10),
        (START_MS // 1000 + 60, 100.45, 100.45, 100.45, 100.45, 1, 15, 5),
    ]
    seconds = START_MS // 1000
    assert history.ticks_from(seconds, 9, api.COPY_TICKS_TRADE)["flags"].tolist() == [88, 56, 312]
    assert history.ticks_from(seconds, 9, api.COPY_TICKS_INFO)["flags"].tolist() == [6, 2, 4]
    assert len(history.ticks_from(seconds, 9, api.COPY_TICKS_ALL)) == 6


def test_bars_on_bid_add_up_the_volume_of_deals(tmp_path: Path) -> None:
    ticks, _ = read(written(tmp_path / "a.csv", TICK_HEADER + DEALS))
    assert [bar.item() for bar in history_of(ticks).bars(api.TIMEFRAME_M1)] == [
        (START_MS // 1000, 100.4, 100.45, 100.4, 100.45, 3, 15, 3),
        (START_MS // 1000 + 60, 100.45, 100.45, 100.45, 100.45, 1, 15, 5),
        (START_MS // 1000 + 120, 100.45, 100.45, 100.45, 100.45, 1, 25, 0),
    ]


def test_flags_left_empty_are_what_the_row_gives(tmp_path: Path) -> None:
    rows = ("01\t1.1\t1.2\t\t\t", "02\t\t\t1.15\t4\t", "03\t1.1\t\t\t\t0")
    text = TICK_HEADER + "".join(f"2026.03.02\t10:00:{row}\n" for row in rows)
    ticks, _ = read(written(tmp_path / "a.csv", text))
    assert ticks["flags"].tolist() == [6, 24, 2]


def test_ticks_saved_from_the_module_come_back(tmp_path: Path) -> None:
    """A DataFrame of copy_ticks_range, written with its index."""
    text = (
        ",time,bid,ask,last,volume,time_msc,flags,volume_real\n"
        f"0,{START_MS // 1000},1.1,1.2,1.15,2,{START_MS + 7},88,2.0\n"
        f"1,{START_MS // 1000},1.1,1.3,1.15,2,{START_MS + 9},4,2.0\n"
    )
    ticks, _ = read(written(tmp_path / "a.csv", text))
    assert (ticks["time_msc"] - START_MS).tolist() == [7, 9]
    assert ticks["last"].tolist() == [1.15, 1.15]
    assert ticks["flags"].tolist() == [88, 4]
    without, _ = read(written(tmp_path / "b.csv", text.replace("88", "").replace(",4,", ",,")))
    assert without["flags"].tolist() == [2 + 4 + 8 + 16, 4]


def test_a_format_that_was_named_must_be_the_files(tmp_path: Path) -> None:
    ticks = written(tmp_path / "ticks.csv", TICK_HEADER + DEALS)
    bars = written(tmp_path / "bars.csv", BAR_HEADER + "2026.03.02\t10:00:00\t1.1\t1.3\t1.0\t1.2\t9\t0\t5\r\n")
    for path, name in ((ticks, "mt5_bars"), (bars, "mt5_ticks")):
        with pytest.raises(FeedError, match=f"does not hold .* {name}"):
            read(path, format_name=name)
    for path, name in ((ticks, "mt5_ticks"), (bars, "mt5_bars"), (bars, "csv")):
        assert read(path, format_name=name)[1].bad_rows == 0


def test_a_symbol_charted_by_last_needs_one(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "timestamp,bid,ask\n2026-03-02 10:00:00,1.1,1.2\n")
    with pytest.raises(FeedError, match="no last price"):
        read(path, by_last=True)


@pytest.mark.parametrize(
    "bad",
    [
        "2026.03.02\t10:00:05\t1.1\t1.2\t-1\t\t6",
        "2026.03.02\t10:00:05\t1.1\t1.2\t\t-3\t6",
        "2026.03.02\t10:00:05\t1.1\t1.2\t\t\tBUY",
        "2026.03.02\t10:00:05\t1.1\t1.2\t\tnan\t6",
        "2026.03.02\t10:00:61\t1.1\t1.2\t\t\t6",
        "2026.03.02\t10:00:05\t0\t1.2\t\t\t6",
        "2026.03.02\t10:00:05",
    ],
)
def test_a_bad_exported_tick_is_named_and_carries_nothing_on(
    tmp_path: Path, bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = f"2026.03.02\t10:00:01\t1.1\t1.2\t\t\t6\n{bad}\n2026.03.02\t10:00:09\t\t1.3\t\t\t4\n"
    path = written(tmp_path / "a.csv", TICK_HEADER + rows)
    with caplog.at_level("INFO"):
        ticks, report = read(path)
    assert f"{path}: 2 ticks of X; 1 bad rows" in caplog.text
    assert (report.bad_rows, report.first_bad_rows[0].split(" ")[0]) == (1, f"{path}:3:")
    assert [tuple(tick.item())[1:4] for tick in ticks] == [(1.1, 1.2, 0.0), (1.1, 1.3, 0.0)]


# Bars --------------------------------------------------------------------------------------------------------

bars = st.lists(
    st.tuples(
        st.integers(100_000, 100_100),
        st.integers(0, 20),
        st.integers(0, 20),
        st.integers(0, 9),
        st.integers(0, 9),
        st.integers(0, 1000),
        st.integers(0, 10**12),
        st.integers(0, 500),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=bars, digits=st.sampled_from([2, 3, 5]), by_last=st.booleans())
def test_any_exported_bar_comes_back_whole(
    tmp_path: Path, rows: list[tuple[int, ...]], digits: int, by_last: bool
) -> None:
    lines, expected = [], []
    for minute, (low, up, down, opened, closed, count, volume, spread) in enumerate(rows):
        high = low + up + down
        prices = [low + min(opened, high - low), high, low, low + min(closed, high - low)]
        texts = [f"{price / 10**digits:.{digits}f}" for price in prices]
        lines.append(f"2026.03.02\t10:{minute:02}:00\t" + "\t".join([*texts, str(count), str(volume), str(spread)]))
        expected.append((START_MS // 1000 + minute * 60, *map(float, texts), count, spread, volume))
    path = written(tmp_path / "bars.csv", BAR_HEADER + "\r\n".join(lines))
    ticks, report = read(path, digits=digits, by_last=by_last)
    assert (report.bad_rows, report.repeated) == (0, 0)
    history = history_of(ticks, point=float(f"1e-{digits}"), by_last=by_last)
    assert [bar.item() for bar in history.bars(api.TIMEFRAME_M1)] == expected


def test_daily_bars_are_exported_without_a_time(tmp_path: Path) -> None:
    header = BAR_HEADER.replace("<TIME>\t", "")
    rows = "2026.03.02\t1.1\t1.3\t1.0\t1.2\t9\t0\t5\r\n2026.03.03\t1.2\t1.3\t1.1\t1.1\t9\t0\t5\r\n"
    feed = FileFeed(
        [TickFile(path=written(tmp_path / "d.csv", header + rows), symbol="X", digits=1)],
        server_time=ServerTimeRule("ny+7"),
    )
    history = SymbolHistory(ServerTimeRule("ny+7"), point=0.1)
    history.append(feed.history("X", 0, EVER_MS))
    day = START_MS // 1000 // 86_400 * 86_400
    assert [bar.item() for bar in history.bars(api.TIMEFRAME_D1)] == [
        (day, 1.1, 1.3, 1.0, 1.2, 9, 5, 0),
        (day + 86_400, 1.2, 1.3, 1.1, 1.1, 9, 5, 0),
    ]


@pytest.mark.parametrize("time", ["", " 00:00", " 00:00:00"])
@pytest.mark.parametrize("rest", ["", ",9", ",9,120"])
def test_bars_of_scripts(tmp_path: Path, time: str, rest: str) -> None:
    text = f"2026.03.02{time},1.1,1.3,1.0,1.2{rest}\n2026.03.03{time},1.2,1.3,1.1,1.1{rest}\n"
    ticks, report = read(written(tmp_path / "PETR4.csv", text))
    bars = history_of(ticks).bars(api.TIMEFRAME_D1)
    assert report.bad_rows == 0
    assert bars["close"].tolist() == [1.2, 1.1]
    assert bars["tick_volume"].tolist() == [9 if rest else 4] * 2
    assert bars["real_volume"].tolist() == [120 if rest.endswith("120") else 0] * 2


def test_daily_bars_stay_on_their_day_when_the_clocks_change(tmp_path: Path) -> None:
    header = BAR_HEADER.replace("<TIME>\t", "")
    days = [f"2026.{month:02}.{day:02}" for month, last in ((3, 31), (10, 31), (11, 30)) for day in range(1, last + 1)]
    rows = "".join(f"{day}\t1.1\t1.3\t1.0\t1.2\t4\t0\t5\r\n" for day in days)
    for rule in ("ny+7", "eu+2"):
        file = TickFile(path=written(tmp_path / "d.csv", header + rows), symbol="X", zone=rule)
        history = SymbolHistory(ServerTimeRule(rule), point=0.1)
        history.append(FileFeed([file]).history("X", 0, EVER_MS))
        served = history.bars(api.TIMEFRAME_D1)
        assert [f"{datetime.fromtimestamp(int(time), UTC):%Y.%m.%d}" for time in served["time"]] == days
        assert set(served["tick_volume"].tolist()) == {4}


def test_prices_in_points(tmp_path: Path) -> None:
    text = (
        "Date,open,high,low,close,tick_volume\n"
        "2026-03-02 10:00:00,103428.0,103500.0,103428.00000000001,103428.00000000001,12\n"
        "2026-03-02 11:00:00,103428.0,103400.0,103428.0,103428.0,12\n"
    )
    path = written(tmp_path / "USDJPYh1.csv", text)
    ticks, report = read(path, in_points=True, digits=3)
    assert report.bad_rows == 1
    assert ticks["bid"].tolist() == [103.428, 103.428, 103.5, 103.428]
    with pytest.raises(FeedError, match="digits"):
        read(path, in_points=True)


def test_real_bars_in_points(market_data: Path) -> None:
    pd = pytest.importorskip("pandas")
    for path, digits in ((each, 3 if "JPY" in each.name else 5) for each in market_data.glob("bars_h1/ejtrader_mt5/*")):
        ticks, report = read(path, in_points=True, digits=digits, zone="server")
        assert report.bad_rows == 0
        frame = pd.read_csv(path, parse_dates=["Date"])
        bars = history_of(ticks, point=10.0**-digits).bars(api.TIMEFRAME_H1)
        assert bars["time"].tolist() == (frame["Date"].astype("datetime64[ms]").astype("int64") // 1000).tolist()
        for name in ("open", "high", "low", "close"):
            assert bars[name].tolist() == [round(round(value) / 10**digits, digits) for value in frame[name]]
        assert bars["tick_volume"].tolist() == frame["tick_volume"].tolist()


def test_bars_of_bid_and_ask_in_two_files(market_data: Path, tmp_path: Path) -> None:
    folder = market_data / "bars_m1" / "nautilus_fxcm"
    bid, ask = folder / "usdjpy-m1-bid-2013.csv.gz", folder / "usdjpy-m1-ask-2013.csv.gz"
    ticks, report = read(bid, ask_path=ask)
    alone, _ = read(bid)
    asks, _ = read(ask)
    assert report.bad_rows == 0
    assert ticks["bid"].tolist() == alone["bid"].tolist()
    # The ask's path follows the bid's direction, so it visits the same prices as on its own.
    assert np.sort(ticks["ask"].reshape(-1, 4)).tolist() == np.sort(asks["bid"].reshape(-1, 4)).tolist()
    short = written(tmp_path / "ask.csv", "timestamp,open,high,low,close\n2013-02-01 00:00:00+00:00,9.1,9.1,9.1,9.1\n")
    rows = "2013-02-01 00:00:00+00:00,9.0,9.0,9.0,9.0\n2013-02-01 00:01:00+00:00,9.0,9.0,9.0,9.0\n"
    lone = written(tmp_path / "bid.csv", "timestamp,open,high,low,close\n" + rows)
    ticks, report = read(lone, ask_path=short)
    assert (len(ticks), report.bad_rows, ticks["ask"].tolist()) == (4, 1, [9.1] * 4)


def test_a_bar_given_twice_counts_once(tmp_path: Path) -> None:
    row = "2026.03.02\t10:00:00\t1.1\t1.3\t1.0\t1.2\t9\t0\t5\r\n"
    first, second = (written(tmp_path / name, BAR_HEADER + row) for name in ("a.csv", "b.csv"))
    feed = FileFeed([TickFile(path=path, symbol="X") for path in (first, second)])
    assert [report.repeated for report in feed.reports] == [0, 1]
    assert history_of(feed.history("X", 0, EVER_MS)).bars(1)["tick_volume"].tolist() == [9]


# Parquet -----------------------------------------------------------------------------------------------------


def test_parquet_of_bars_with_rows_that_are_none(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns: dict[str, Any] = {
        "time": pa.array(np.array([START_MS, START_MS + 60_000, START_MS + 120_000], "datetime64[ms]")).cast(
            pa.timestamp("ms", tz="UTC")
        ),
        "open": [1.1, 1.1, None],
        "high": [1.3, 1.0, 1.3],
        "low": [1.0, 1.2, 1.0],
        "close": [1.2, 1.1, 1.2],
        "tick_volume": [7, 7, 7],
        "spread": [12, 1, 1],
        "real_volume": [99, 9, 9],
    }
    pq.write_table(pa.table(columns), tmp_path / "bars.parquet")
    ticks, report = read(tmp_path / "bars.parquet", digits=5)
    assert (report.bad_rows, len(ticks)) == (2, 4)
    assert report.first_bad_rows[0].startswith(f"{tmp_path / 'bars.parquet'}:2: ")
    assert [bar.item() for bar in history_of(ticks, point=1e-5).bars(1)] == [
        (START_MS // 1000, 1.1, 1.3, 1.0, 1.2, 7, 12, 99)
    ]
    server = FileFeed(
        [TickFile(path=tmp_path / "bars.parquet", symbol="X", zone="server")], server_time=ServerTimeRule(60)
    )
    assert server.start_ms == START_MS - 3_600_000


def test_parquet_of_ticks_with_deals(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {
        "time": [START_MS // 1000] * 2,
        "bid": [1.1, 1.1],
        "ask": [1.2, 1.2],
        "last": [1.15, 1.16],
        "volume": [3, 4],
        "time_msc": [START_MS + 1, START_MS + 2],
        "flags": [88, 56],
        "volume_real": [3.0, 4.0],
    }
    pq.write_table(pa.table(columns), tmp_path / "ticks.parquet")
    ticks, _ = read(tmp_path / "ticks.parquet", by_last=True)
    assert [tick.item() for tick in ticks] == [
        (START_MS // 1000, 1.1, 1.2, 1.15, 3, START_MS + 1, 88, 3.0),
        (START_MS // 1000, 1.1, 1.2, 1.16, 4, START_MS + 2, 56, 4.0),
    ]


# Times -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "milliseconds", "naive"),
    [
        ("2026.03.02 10:00:00.0019", START_MS + 1, True),
        ("2026-03-02T10:00", START_MS, True),
        ("2026-03-02", START_MS - 36_000_000, True),
        ("20260302", START_MS - 36_000_000, True),
        ("20260302 100000005", START_MS + 5, True),
        ("2026-03-02 12:00:00+02:00", START_MS, False),
        ("2026-03-02 10:00:00Z", START_MS, False),
        ("02.03.2026 10:00:00.250 GMT+0000", START_MS + 250, False),
        (str(START_MS // 1000), START_MS, True),
        (f"{START_MS // 1000}.25", START_MS + 250, True),
        (str(START_MS + 1), START_MS + 1, True),
        (f"{START_MS}001", START_MS, True),
        (f"{START_MS}001002", START_MS, True),
    ],
)
def test_times_of_every_form(text: str, milliseconds: int, naive: bool) -> None:
    assert parsed_ms(text) == (milliseconds, naive)


@given(
    st.lists(st.datetimes(timezones=st.just(UTC)).filter(lambda each: each.year > 1970), max_size=9), st.integers(0, 6)
)
def test_times_met_before_are_read_alike(moments: list[datetime], digits: int) -> None:
    times = Times()
    for moment in [*moments, *moments]:
        text = f"{moment:%Y.%m.%d %H:%M:%S}" + (f".{moment:%f}"[: digits + 1] if digits else "")
        assert times.parsed(text) == parsed_ms(text)


def test_a_time_that_is_none_stays_so_after_a_good_one() -> None:
    times = Times()
    times.parsed("2026.03.02 10:00:00")
    for text in ("2026.03.02 10:00:60", "2026.03.02 10:00:0x", "2026.03.02 10:00:00.x", "2026.03.02 10:00x00"):
        with pytest.raises(ValueError, match=r"date and time|second must be"):
            times.parsed(text)
    assert times.parsed("2026.03.02 10:00:00+02:00") == (START_MS - 7_200_000, False)
