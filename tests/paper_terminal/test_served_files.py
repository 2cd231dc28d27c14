"""Every real file, replayed by a terminal process: what clients get is what the file holds, read here another way."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import paper_terminal.client as client_module
from paper_terminal.settings import FeedSettings, FeedSymbol, Settings
from paper_terminal.specifications import DEFAULT_SPECIFICATIONS, Specification
from tests.paper_terminal.running import RunningTerminal
from tests.waiting import eventually

pd: Any = pytest.importorskip("pandas")
mt5: Any = client_module

EVER_S = 2_000_000_000
OHLC = ["open", "high", "low", "close"]
OTHERS: dict[str, dict[str, Any]] = {
    "NZDUSD": {"digits": 5},
    "DE30EUR": {"digits": 1, "currency_base": "EUR", "currency_profit": "EUR"},
    "SPX500": {"digits": 2, "currency_base": "USD"},
}


def specification(name: str, digits: int | None = None) -> Specification:
    known = {each.name: each for each in DEFAULT_SPECIFICATIONS}
    made = known.get(name) or msgspec.structs.replace(known["EURUSD"], name=name, **OTHERS[name])
    return made if digits is None else msgspec.structs.replace(made, digits=digits)


@contextmanager
def served(
    folder: Path, *files: FeedSymbol, digits: int | None = None, server_time: str = "utc", **settings: Any
) -> Iterator[None]:
    """Run a terminal to which everything in the files is past."""
    feed = FeedSettings(kind="files", files=files, start="2033-01-01T00:00:00", **settings)
    terminal = Settings(
        symbols=tuple(specification(each.symbol, digits) for each in files),
        feed=feed,
        history_days=20_000.0,
        max_bars=2_000_000,
        server_time=server_time,
    )
    with RunningTerminal(folder / "terminal", terminal) as running:
        assert mt5.initialize(str(running.folder)), mt5.last_error()
        try:
            yield
        finally:
            mt5.shutdown()


def zipped(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        return pd.read_csv(io.BytesIO(archive.read(archive.namelist()[0])), header=None)


def seconds(column: Any) -> Any:
    return column.astype("datetime64[ms]").astype("int64") // 1000


def check_bars(symbol: str, timeframe: int, expected: Any) -> None:
    """Compare every bar: `expected` has time (s) and some of the fields."""
    bars = pd.DataFrame(mt5.copy_rates_range(symbol, timeframe, 1, EVER_S))
    assert len(bars) == len(expected)
    for name in expected:
        assert bars[name].tolist() == expected[name].tolist(), name


# Ticks -------------------------------------------------------------------------------------------------------

VENUES = [
    ("lean_fxcm", "eurusd", 5),
    ("lean_fxcm", "nzdusd", 5),
    ("lean_oanda", "eurusd", 0),
    ("lean_oanda", "xauusd", 0),
]


@pytest.mark.parametrize(("venue", "symbol", "behind_utc_h"), VENUES)
def test_lean_ticks(market_data: Path, tmp_path: Path, venue: str, symbol: str, behind_utc_h: int) -> None:
    folder = market_data / "ticks" / venue / symbol
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    parts = []
    for path in sorted(folder.iterdir()):
        table = zipped(path)
        midnight_ms = int(pd.Timestamp(path.name[:8], tz="UTC").timestamp()) * 1000
        table[0] = midnight_ms + np.floor(table[0]).astype("int64") + behind_utc_h * 3_600_000
        parts.append(table)
    expected = pd.concat(parts, ignore_index=True)
    file = FeedSymbol(symbol=symbol.upper(), paths=(str(folder),), zone=f"UTC-{behind_utc_h:02}:00")
    digits = 3 if symbol == "xauusd" else None
    with served(tmp_path, file, digits=digits):
        ticks = mt5.copy_ticks_range(symbol.upper(), 1, EVER_S, mt5.COPY_TICKS_ALL)
        assert ticks["time_msc"].tolist() == expected[0].tolist()
        assert ticks["bid"].tolist() == expected[1].tolist()
        assert ticks["ask"].tolist() == expected[2].tolist()
        assert (ticks["time"] == ticks["time_msc"] // 1000).all()
        minute = (expected[0] // 60_000 * 60).rename("time")
        grouped = expected[1].groupby(minute)
        wanted = pd.DataFrame({
            "open": grouped.first(),
            "high": grouped.max(),
            "low": grouped.min(),
            "close": grouped.last(),
        })
        points = ((expected[2] - expected[1]) * 10 ** mt5.symbol_info(symbol.upper()).digits).round().clip(lower=0)
        wanted["tick_volume"], wanted["spread"] = grouped.size(), points.groupby(minute).min().astype("int64")
        check_bars(symbol.upper(), mt5.TIMEFRAME_M1, wanted.reset_index())


def test_truefx_ticks(market_data: Path, tmp_path: Path) -> None:
    path = market_data / "ticks" / "nautilus_truefx" / "usdjpy-ticks.csv"
    expected = pd.read_csv(path)
    moments = pd.to_datetime(expected["timestamp"], format="ISO8601", utc=True).dt.tz_localize(None)
    with served(tmp_path, FeedSymbol(symbol="USDJPY", paths=(str(path),)), server_time="ny+7"):
        ticks = mt5.copy_ticks_range("USDJPY", 1, EVER_S, mt5.COPY_TICKS_INFO)
    assert ticks["time_msc"].tolist() == (moments.astype("datetime64[ms]").astype("int64") + 2 * 3_600_000).tolist()
    assert ticks["bid"].tolist() == expected["bid"].tolist()
    assert ticks["ask"].tolist() == expected["ask"].tolist()


@pytest.mark.parametrize("policy", ["keep", "drop", "repair"])
def test_crossed_quotes(market_data: Path, tmp_path: Path, policy: str) -> None:
    path = market_data / "ticks" / "lean_fxcm" / "eurusd" / "20140505_quote.zip"
    expected = zipped(path)
    crossed = expected[1] > expected[2]
    assert crossed.sum() > 1000
    if policy == "drop":
        expected = expected[~crossed]
    elif policy == "repair":
        expected[1], expected[2] = expected[[1, 2]].min(axis=1), expected[[1, 2]].max(axis=1)
    with served(tmp_path, FeedSymbol(symbol="EURUSD", paths=(str(path),)), crossed=policy):
        ticks = mt5.copy_ticks_from("EURUSD", 1, 10**6, mt5.COPY_TICKS_ALL)
    assert ticks["bid"].tolist() == expected[1].tolist()
    assert ticks["ask"].tolist() == expected[2].tolist()


def test_ticks_exported_and_read_again(market_data: Path, tmp_path: Path) -> None:
    """A day of Lean's ticks in the layout of MetaTrader's export, UTF-16, on the server's clock."""
    table = zipped(market_data / "ticks" / "lean_oanda" / "eurusd" / "20140505_quote.zip")
    stamps = pd.Timestamp("2014-05-05") + pd.to_timedelta(np.floor(table[0]), unit="ms")
    same = [table[side] == table[side].shift() for side in (1, 2)]
    text = pd.DataFrame({
        "<DATE>": stamps.dt.strftime("%Y.%m.%d"),
        "<TIME>": stamps.dt.strftime("%H:%M:%S.%f").str[:-3],
        "<BID>": table[1].map("{:.5f}".format).mask(same[0], ""),
        "<ASK>": table[2].map("{:.5f}".format).mask(same[1], ""),
        "<LAST>": "",
        "<VOLUME>": "",
        "<FLAGS>": 2 * ~same[0] + 4 * ~same[1],
    })
    path = tmp_path / "EURUSD.csv"
    text.to_csv(path, sep="\t", index=False, lineterminator="\r\n", encoding="utf-16")
    with served(tmp_path, FeedSymbol(symbol="EURUSD", paths=(str(path),)), server_time="ny+7"):
        ticks = mt5.copy_ticks_range("EURUSD", 1, EVER_S, mt5.COPY_TICKS_ALL)
    assert ticks["time_msc"].tolist() == stamps.astype("datetime64[ms]").astype("int64").tolist()
    assert ticks["bid"].tolist() == table[1].tolist()
    assert ticks["ask"].tolist() == table[2].tolist()


# Bars --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ["", "ny+7"])
def test_bars_exported_by_metatrader(market_data: Path, tmp_path: Path, zone: str) -> None:
    paths = sorted((market_data / "bars_m1" / "mt5_icmarkets").glob("*.gz"))
    files = [FeedSymbol(symbol=path.name[:6], paths=(str(path),), zone=zone) for path in paths]
    with served(tmp_path, *files, server_time="ny+7"):
        for path in paths:
            table = pd.read_csv(path, sep="\t")
            expected = pd.DataFrame({"time": seconds(pd.to_datetime(table["<DATE>"] + " " + table["<TIME>"]))})
            for name in OHLC:
                expected[name] = table[f"<{name.upper()}>"]
            expected["tick_volume"], expected["spread"] = table["<TICKVOL>"], table["<SPREAD>"]
            expected["real_volume"] = table["<VOL>"]
            check_bars(path.name[:6], mt5.TIMEFRAME_M1, expected)


def test_bars_of_a_script_in_utf16(market_data: Path, tmp_path: Path) -> None:
    path = market_data / "mt5_export" / "SPX500pM5_utf16.csv.gz"
    names = ["time", *OHLC, "tick_volume", "real_volume"]
    expected = pd.read_csv(path, encoding="utf-16", header=None, names=names)
    expected["time"] = seconds(pd.to_datetime(expected["time"]))
    with served(tmp_path, FeedSymbol(symbol="SPX500", paths=(str(path),)), server_time="ny+7"):
        check_bars("SPX500", mt5.TIMEFRAME_M5, expected)


def test_hourly_bars_in_points(market_data: Path, tmp_path: Path) -> None:
    folder = market_data / "bars_h1" / "ejtrader_mt5"
    files = {path.name[:6]: path for path in sorted(folder.glob("*.gz"))}
    symbols = [
        FeedSymbol(symbol=name, paths=(str(path),), zone="server", prices="points") for name, path in files.items()
    ]
    with served(tmp_path, *symbols, server_time="eu+2"):
        for name, path in files.items():
            expected = pd.read_csv(path).rename(columns={"Date": "time"})
            expected["time"] = seconds(pd.to_datetime(expected["time"]))
            digits = mt5.symbol_info(name).digits
            for column in OHLC:
                expected[column] = (expected[column].round() / 10**digits).round(digits)
            check_bars(name, mt5.TIMEFRAME_H1, expected)


LEAN_NAMES = ["time", *OHLC, "size", "ask_open", "ask_high", "ask_low", "ask_close", "ask_size"]


@pytest.mark.parametrize("name", ["eurusd", "xauusd"])
def test_hourly_bars_of_lean(market_data: Path, tmp_path: Path, name: str) -> None:
    path = market_data / "bars_h1" / "lean_oanda" / f"{name}.zip"
    expected = zipped(path)
    expected.columns = LEAN_NAMES
    expected["time"] = seconds(pd.to_datetime(expected["time"], format="%Y%m%d %H:%M"))
    with served(tmp_path, FeedSymbol(symbol=name.upper(), paths=(str(path),)), digits=3 if name == "xauusd" else None):
        check_bars(name.upper(), mt5.TIMEFRAME_H1, expected[["time", *OHLC]])
        ticks = mt5.copy_ticks_range(name.upper(), 1, EVER_S, mt5.COPY_TICKS_ALL)
    asks = ticks["ask"].reshape(-1, 4)
    assert asks[:, 0].tolist() == expected["ask_open"].tolist()
    assert asks.max(axis=1).tolist() == expected["ask_high"].tolist()
    assert asks.min(axis=1).tolist() == expected["ask_low"].tolist()
    assert asks[:, 3].tolist() == expected["ask_close"].tolist()


def test_minute_bars_of_lean(market_data: Path, tmp_path: Path) -> None:
    folder = market_data / "bars_m1" / "lean_oanda" / "de30eur"
    parts = []
    for path in sorted(folder.iterdir()):
        table = zipped(path)
        table.columns = LEAN_NAMES
        table["time"] = int(pd.Timestamp(path.name[:8], tz="UTC").timestamp()) + table["time"] // 1000
        parts.append(table)
    with served(tmp_path, FeedSymbol(symbol="DE30EUR", paths=(str(folder),))):
        check_bars("DE30EUR", mt5.TIMEFRAME_M1, pd.concat(parts)[["time", *OHLC]])


def test_minute_bars_of_bid_and_ask(market_data: Path, tmp_path: Path) -> None:
    folder = market_data / "bars_m1" / "nautilus_fxcm"
    bid, ask = (folder / f"usdjpy-m1-{side}-2013.csv.gz" for side in ("bid", "ask"))
    expected, asks = pd.read_csv(bid), pd.read_csv(ask)
    expected["time"] = seconds(pd.to_datetime(expected.pop("timestamp"), utc=True).dt.tz_localize(None))
    with served(tmp_path, FeedSymbol(symbol="USDJPY", paths=(str(bid),), ask_paths=(str(ask),))):
        check_bars("USDJPY", mt5.TIMEFRAME_M1, expected)
        ticks = mt5.copy_ticks_range("USDJPY", 1, EVER_S, mt5.COPY_TICKS_ALL)
    assert ticks["ask"][0::4].tolist() == asks["open"].tolist()
    assert ticks["ask"][3::4].tolist() == asks["close"].tolist()


def test_bars_that_come_one_by_one(market_data: Path, tmp_path: Path) -> None:
    """Played from the start instead of being past already, with a kill in the middle."""
    source = min((market_data / "bars_m1" / "mt5_icmarkets").glob("*.gz"))
    table = pd.read_csv(source, sep="\t", nrows=600)
    path = tmp_path / "bars.csv"
    table.to_csv(path, sep="\t", index=False, lineterminator="\r\n")
    symbol = source.name[:6]
    feed = FeedSettings(
        kind="files", files=(FeedSymbol(symbol=symbol, paths=(str(path),)),), speed="max", step_ms=300_000
    )
    settings = Settings(symbols=(specification(symbol),), feed=feed, server_time="ny+7", hold=True)
    opens = seconds(pd.to_datetime(table["<DATE>"] + " " + table["<TIME>"])).tolist()

    def passed(index: int) -> bool:
        tick = mt5.symbol_info_tick(symbol)
        return tick is not None and tick.time >= opens[index]

    with RunningTerminal(tmp_path / "terminal", settings) as terminal:
        assert mt5.initialize(str(terminal.folder)), mt5.last_error()
        eventually(lambda: passed(300), timeout_s=60, what="half of the bars")
        terminal.kill()
        terminal.start()
        assert mt5.initialize(str(terminal.folder)), mt5.last_error()
        eventually(
            lambda: passed(-1) and mt5.symbol_info_tick(symbol).time == opens[-1] + 59, timeout_s=60, what="the rest"
        )
        bars = mt5.copy_rates_from_pos(symbol, mt5.TIMEFRAME_M1, 0, 10_000)
        mt5.shutdown()
    assert bars["time"].tolist() == opens
    for name, column in (("open", "OPEN"), ("close", "CLOSE"), ("tick_volume", "TICKVOL"), ("spread", "SPREAD")):
        assert bars[name].tolist() == table[f"<{column}>"].tolist(), name
