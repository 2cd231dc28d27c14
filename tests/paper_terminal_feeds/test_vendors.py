"""Files of bars and of other vendors: what comes back equals what is in them."""

from __future__ import annotations

import csv
import gzip
import lzma
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paper_terminal import constants as api
from paper_terminal.feeds import FeedError, FileFeed, TickFile
from paper_terminal.history import SymbolHistory, bar_opens
from paper_terminal.records import Records
from paper_terminal.server_time import ServerTimeRule

FRAMES = {name: value for name, value in vars(api).items() if name.startswith("TIMEFRAME_")}


def ticks_of(path: Path, *, symbol: str | None = "X", server: str | int = "utc", **file: Any) -> Records:
    feed = FileFeed([TickFile(path=path, symbol=symbol, **file)], server_time=ServerTimeRule(server))
    (name,) = feed.symbols
    return feed.history(name, 0, 1 << 60)


def quotes(ticks: Records) -> list[tuple[int, float, float]]:
    return [(int(each["time_msc"]), float(each["bid"]), float(each["ask"])) for each in ticks]


Row = tuple[int, float, float, float, float, int, int, int]


@pytest.fixture(scope="module")
def exported(market_data: Path) -> tuple[SymbolHistory, list[Row]]:
    """Return the history made of MetaTrader's exported minute bars, and the file's own rows."""
    path = next((market_data / "bars_m1" / "mt5_icmarkets").glob("EURUSD*.gz"))
    history = SymbolHistory(ServerTimeRule("ny+7"), point=1e-5)
    history.append(ticks_of(path, zone="ny+7"))
    rows = []
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            stamp = datetime.strptime(f"{row['<DATE>']} {row['<TIME>']}", "%Y.%m.%d %H:%M:%S").replace(tzinfo=UTC)
            prices = (float(row["<OPEN>"]), float(row["<HIGH>"]), float(row["<LOW>"]), float(row["<CLOSE>"]))
            counts = (int(row["<TICKVOL>"]), int(row["<SPREAD>"]), int(row["<VOL>"]))
            rows.append((int(stamp.timestamp()), *prices, *counts))
    return history, rows


@pytest.mark.parametrize("name", FRAMES)
def test_every_period_of_real_minute_bars_is_built_exactly(
    exported: tuple[SymbolHistory, list[Row]], name: str
) -> None:
    history, rows = exported
    opens = bar_opens(np.array([row[0] for row in rows]), FRAMES[name]).tolist()
    built: dict[int, list[float]] = {}
    for opened, (_, open_, high, low, close, ticks, spread, volume) in zip(opens, rows, strict=True):
        bar = built.setdefault(opened, [open_, high, low, close, 0, spread, 0])
        bar[1:] = [max(bar[1], high), min(bar[2], low), close, bar[4] + ticks, min(bar[5], spread), bar[6] + volume]
    bars = history.bars(FRAMES[name])
    assert bars["time"].tolist() == list(built)
    for index, field in enumerate(("open", "high", "low", "close", "tick_volume", "spread", "real_volume")):
        assert bars[field].tolist() == [bar[index] for bar in built.values()], field


def test_a_scripts_bars_in_utf16(market_data: Path) -> None:
    ticks = ticks_of(market_data / "mt5_export" / "SPX500pM5_utf16.csv.gz", zone="UTC+02:00")
    assert len(ticks) == 4 * 5999
    first_ms = int(datetime(2025, 2, 27, 5, 5, tzinfo=UTC).timestamp()) * 1000
    assert [each[:2] for each in quotes(ticks[:4])] == [
        (first_ms, 5966.91),
        (first_ms + 100_000, 5966.9),
        (first_ms + 200_000, 5970.16),
        (first_ms + 299_999, 5969.65),
    ]


def test_lean_minute_bars_keep_bid_and_ask_apart(market_data: Path) -> None:
    path = market_data / "bars_m1" / "lean_oanda" / "de30eur" / "20190220_quote.zip"
    ticks = ticks_of(path, symbol=None)
    assert len(ticks) == 4 * 1206
    first_ms = int(datetime(2019, 2, 20, 0, 15, tzinfo=UTC).timestamp()) * 1000
    assert quotes(ticks[:1]) == [(first_ms, 11313.5, 11320.0)]


def test_bars_with_a_plain_header(market_data: Path) -> None:
    ticks = ticks_of(market_data / "bars_m1" / "nautilus_fxcm" / "usdjpy-m1-bid-2013.csv.gz")
    assert len(ticks) == 4 * 28761
    assert ticks["bid"][:4].tolist() == [91.715, 91.715, 91.653, 91.653]


TICKS = [
    (1_399_248_003_074, 1.38712, 1.38717),
    (1_399_248_003_500, 1.38713, 1.38717),
    (1_399_248_004_001, 1.38713, 1.3872),
]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_exported_ticks_carry_prices_that_did_not_change(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "EURUSD.csv"
    text = (
        "<DATE>\t<TIME>\t<BID>\t<ASK>\t<LAST>\t<VOLUME>\t<FLAGS>\r\n"
        "2014.05.05\t00:00:03.074\t1.38712\t1.38717\t\t\t6\r\n"
        "2014.05.05\t00:00:03.500\t1.38713\t\t\t\t2\r\n"
        "2014.05.05\t00:00:04.001\t\t1.38720\t\t\t4\r\n"
    )
    path.write_bytes(text.encode(encoding))
    ticks = ticks_of(path)
    assert quotes(ticks) == TICKS
    assert ticks["flags"].tolist() == [6, 2, 4]
    assert quotes(ticks_of(path, zone="ny+7"))[0][0] == TICKS[0][0] - 3 * 3_600_000
    assert quotes(ticks_of(path, server=120))[0][0] == TICKS[0][0] - 2 * 3_600_000
    assert quotes(ticks_of(path, server=120, zone="UTC"))[0][0] == TICKS[0][0]


def test_dukascopys_files(tmp_path: Path) -> None:
    path = tmp_path / "ticks.csv"
    path.write_text(
        "Gmt time,Ask,Bid,AskVolume,BidVolume\n"
        + "05.05.2014 00:00:03.074,1.38717,1.38712,1.5,2.25\n05.05.2014 00:00:03.500,1.38717,1.38713,1.0,1.0\n",
        encoding="utf-8",
    )
    assert quotes(ticks_of(path)) == TICKS[:2]
    hour = tmp_path / "EURUSD" / "2014" / "04" / "05" / "00h_ticks.bi5"
    hour.parent.mkdir(parents=True)
    records = b"".join(struct.pack(">IIIff", ms, ask, bid, 1.0, 1.0) for ms, ask, bid in [(3074, 138717, 138712)])
    hour.write_bytes(lzma.compress(records, format=lzma.FORMAT_ALONE))
    (hour.parent / "01h_ticks.bi5").write_bytes(b"")  # an hour without ticks
    feed = FileFeed([TickFile(path=each) for each in sorted(hour.parent.iterdir())])
    assert quotes(feed.history("EURUSD", 0, 1 << 60)) == TICKS[:1]


def test_histdatas_files_are_in_new_yorks_winter_time(tmp_path: Path) -> None:
    path = tmp_path / "DAT_ASCII_EURUSD_T_201405.csv"
    path.write_text(
        "20140504 190003074,1.387120,1.387170,0\n20140504 190003500,1.387130,1.387170,0\n", encoding="utf-8"
    )
    assert quotes(ticks_of(path, symbol=None)) == TICKS[:2]
    bars = tmp_path / "DAT_ASCII_EURUSD_M1_2014.csv"
    bars.write_text("20140504 190000;1.387120;1.387170;1.387100;1.387150;0\n", encoding="utf-8")
    assert ticks_of(bars, symbol=None)["bid"].tolist() == [1.38712, 1.3871, 1.38717, 1.38715]
    assert quotes(ticks_of(path, symbol=None, zone="UTC"))[0][0] == TICKS[0][0] - 5 * 3_600_000
    assert quotes(ticks_of(path, symbol=None, zone="ny+7"))[0][0] == TICKS[0][0] - 8 * 3_600_000


def test_truefx_as_given_out(tmp_path: Path) -> None:
    path = tmp_path / "EURUSD-2014-05.csv"
    path.write_text("EUR/USD,20140505 00:00:03.074,1.38712,1.38717\n", encoding="utf-8")
    assert quotes(ticks_of(path, symbol=None)) == TICKS[:1]


def test_parquet_of_ticks_and_bars(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    stamps = np.array([tick[0] for tick in TICKS], dtype="datetime64[ms]")
    table = pa.table({"timestamp": stamps, "bid": [tick[1] for tick in TICKS], "ask": [tick[2] for tick in TICKS]})
    pq.write_table(table, tmp_path / "ticks.parquet")
    assert quotes(ticks_of(tmp_path / "ticks.parquet")) == TICKS
    bars = {"time": [1_399_248_000], "open": [1.1], "high": [1.3], "low": [1.05], "close": [1.2], "spread": [10]}
    pq.write_table(pa.table(bars), tmp_path / "bars.parquet")
    ticks = ticks_of(tmp_path / "bars.parquet")
    assert ticks["bid"].tolist() == [1.1, 1.05, 1.3, 1.2]
    assert ticks["ask"].tolist() == [1.2, 1.15, 1.4, 1.3]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.csv", "<DATE>\t<TIME>\t<BID>\t<ASK>\n2014.05.05\t00:00:03\t\t1.2\n", "holds no ticks"),
        ("b.csv", "time,open,high,low,close\n", "holds no ticks"),
        ("c.csv", "name,age\nx,3\n", "neither a zip"),
        ("d.parquet", "PAR1 and nothing more", "no Parquet"),
        ("2014/04/05/00h_ticks.bi5", "not lzma", "no whole LZMA"),
    ],
)
def test_files_that_are_not_what_they_claim_are_refused(tmp_path: Path, name: str, text: str, reason: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FeedError, match=reason):
        ticks_of(path)


def test_a_bad_row_is_counted_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(
        "time,open,high,low,close\n2014-05-05 00:00:00,1.1,1.2,1.0,1.1\n2014-05-05 00:01:00,1.1,1.0,1.2,1.1\n", "utf-8"
    )
    (report,) = FileFeed([TickFile(path=path, symbol="X")]).reports
    assert (report.bad_rows, report.ticks) == (1, 4)
    assert f"{path}:3" in report.first_bad_rows[0]
