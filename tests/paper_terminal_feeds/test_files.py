"""Tick files: every tick in order, cut to milliseconds, and nothing that is not what it claims to be."""

from __future__ import annotations

import logging
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paper_terminal.feeds import FeedError, FileFeed, TickFile, contents
from paper_terminal.feeds.contents import parse_zone
from paper_terminal.records import TICK_DTYPE, Records

MIDNIGHT_MS = int(datetime(2014, 5, 5, tzinfo=UTC).timestamp() * 1000)
HOUR_MS = 3_600_000
EVER_MS = 4_000_000_000_000


def lean(folder: Path, text: str, *, member: str = "20140505_eurusd_tick_quote.csv", name: str = "q.zip") -> Path:
    path = folder / name
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, text)
    return path


def truefx(folder: Path, text: str) -> Path:
    path = folder / "ticks.csv"
    path.write_text(text, encoding="utf-8")
    return path


def feed_of(path: Path, *, symbol: str | None = None, zone: str = "UTC", **kwargs: Any) -> FileFeed:
    return FileFeed([TickFile(path=path, symbol=symbol, zone=zone)], **kwargs)


def everything(feed: FileFeed, symbol: str = "EURUSD") -> Records:
    return feed.history(symbol, 0, EVER_MS)


# Real files: rows and first and last times as their description states them.


@pytest.mark.parametrize(
    ("name", "zone", "rows", "first", "last", "crossed"),
    [
        ("lean_oanda/xauusd/20140505_quote.zip", "UTC", 186_204, "00:00:00.040", "23:59:49.529", 0),
        ("lean_oanda/xauusd/20140506_quote.zip", "UTC", 161_552, "00:00:00.808", "23:59:59.882", 0),
        ("lean_oanda/eurusd/20140505_quote.zip", "UTC", 25_177, "00:00:23.668", "23:59:59.513", 0),
        ("lean_fxcm/eurusd/20140505_quote.zip", "UTC-05:00", 58_143, "00:00:03.074", "23:59:58.807", 4_987),
        ("lean_fxcm/nzdusd/20140507_quote.zip", "UTC-05:00", 109_542, "00:00:00.288", "23:59:54.706", None),
    ],
)
def test_real_lean_file_is_read_whole(
    market_data: Path, name: str, zone: str, rows: int, first: str, last: str, crossed: int | None
) -> None:
    path = market_data / "ticks" / name
    feed = feed_of(path, zone=zone)
    (symbol,) = feed.symbols
    ticks = everything(feed, symbol)
    date = f"{path.name[:4]}-{path.name[4:6]}-{path.name[6:8]}"
    suffix = zone.removeprefix("UTC") or "+00:00"
    expected = [round(datetime.fromisoformat(f"{date}T{time}{suffix}").timestamp() * 1000) for time in (first, last)]
    assert symbol == path.parent.name.upper()
    assert len(ticks) == rows
    assert [int(ticks["time_msc"][0]), int(ticks["time_msc"][-1])] == expected
    assert np.all(np.diff(ticks["time_msc"]) >= 0)
    (report,) = feed.reports
    assert (report.ticks, report.bad_rows, report.out_of_order) == (rows, 0, 0)
    if crossed is not None:
        assert report.crossed == crossed == int(np.count_nonzero(ticks["bid"] > ticks["ask"]))


def test_real_ticks_equal_the_files_text(market_data: Path) -> None:
    path = market_data / "ticks/lean_oanda/xauusd/20140506_quote.zip"
    with zipfile.ZipFile(path) as archive:
        lines = archive.read(archive.namelist()[0]).decode("ascii").splitlines()
    rows = [line.split(",") for line in lines]
    midnight_ms = MIDNIGHT_MS + 24 * HOUR_MS
    ticks = everything(feed_of(path), "XAUUSD")
    assert ticks["time_msc"].tolist() == [midnight_ms + int(time.partition(".")[0]) for time, _, _ in rows]
    assert ticks["bid"].tolist() == [float(bid) for _, bid, _ in rows]
    assert ticks["ask"].tolist() == [float(ask) for _, _, ask in rows]


def test_ticks_that_share_a_millisecond_are_all_kept(market_data: Path) -> None:
    ticks = everything(feed_of(market_data / "ticks/lean_oanda/eurusd/20140505_quote.zip"))
    assert int(np.count_nonzero(np.diff(ticks["time_msc"]) == 0)) == 92


def test_real_truefx_file_is_read_whole(market_data: Path) -> None:
    feed = feed_of(market_data / "ticks/nautilus_truefx/usdjpy-ticks.csv", symbol="USDJPY")
    ticks = everything(feed, "USDJPY")
    assert len(ticks) == 1000
    assert int(ticks["time_msc"][0]) == 1_357_077_600_295
    assert (ticks["bid"][0], ticks["ask"][0]) == (86.655, 86.728)


def test_two_real_symbols_are_merged_by_time(market_data: Path) -> None:
    folder = market_data / "ticks"
    feed = FileFeed([
        TickFile(path=folder / "lean_oanda/xauusd/20140505_quote.zip"),
        TickFile(path=folder / "lean_oanda/eurusd/20140505_quote.zip"),
        TickFile(path=folder / "lean_oanda/eurusd/20140506_quote.zip"),
    ])
    taken = dict.fromkeys(feed.symbols, 0)
    until_ms = feed.start_ms
    while (due_ms := feed.next_time_ms()) is not None:
        until_ms = due_ms + HOUR_MS
        for symbol, ticks in feed.take(until_ms):
            assert due_ms <= int(ticks["time_msc"][0])
            assert int(ticks["time_msc"][-1]) <= until_ms
            taken[symbol] += len(ticks)
    assert taken == {"XAUUSD": 186_204, "EURUSD": 25_177 + 44_864}


# What a row means.


def test_fraction_of_a_millisecond_is_cut(tmp_path: Path) -> None:
    ticks = everything(feed_of(lean(tmp_path, "40.1868,1.1,1.2\n40.9999,1.1,1.3\n41,1.0,1.3\n")))
    assert (ticks["time_msc"] - MIDNIGHT_MS).tolist() == [40, 40, 41]
    assert ticks["flags"].tolist() == [6, 4, 2]
    assert ticks["time"].tolist() == (ticks["time_msc"] // 1000).tolist()
    assert ticks.dtype == TICK_DTYPE


def test_repeated_quote_carries_both_flags(tmp_path: Path) -> None:
    ticks = everything(feed_of(lean(tmp_path, "1,1.1,1.2\n1,1.1,1.2\n")))
    assert ticks["flags"].tolist() == [6, 6]


def test_zone_is_that_of_the_venue(tmp_path: Path) -> None:
    path = lean(tmp_path, "0,1.1,1.2\n")
    assert int(everything(feed_of(path, zone="UTC-05:00"))["time_msc"][0]) == MIDNIGHT_MS + 5 * HOUR_MS
    assert int(everything(feed_of(path, zone="+02:00"))["time_msc"][0]) == MIDNIGHT_MS - 2 * HOUR_MS


def test_truefx_times_carry_their_zone_or_take_the_given_one(tmp_path: Path) -> None:
    path = truefx(
        tmp_path,
        "timestamp,bid,ask\n2014-05-05 00:00:00.0019+00:00,1.1,1.2\n"
        "2014-05-05T02:00:01+02:00,1.1,1.2\n2014-05-04 19:00:02.5,1.1,1.2\n",
    )
    ticks = everything(feed_of(path, symbol="EURUSD", zone="UTC-05:00"))
    assert (ticks["time_msc"] - MIDNIGHT_MS).tolist() == [1, 1000, 2500]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_line_ends_and_byte_order_mark_do_not_matter(tmp_path: Path, end: str, bom: str) -> None:
    path = truefx(tmp_path, bom + end.join(["timestamp,bid,ask", "2014-05-05T00:00:00Z,1.1,1.2", "", ""]))
    assert len(everything(feed_of(path, symbol="EURUSD"))) == 1
    text = end.join(["0,1.1,1.2", "1,1.1,1.2", ""])
    assert len(everything(feed_of(lean(tmp_path, text)))) == 2


@pytest.mark.parametrize(
    ("text", "minutes"), [("UTC", 0), ("Z", 0), ("UTC-05:00", -300), ("+05:45", 345), ("UTC+14:00", 840)]
)
def test_zone_is_parsed(text: str, minutes: int) -> None:
    assert parse_zone(text) == minutes


@pytest.mark.parametrize("text", ["", "utc", "-5", "UTC-5:00", "+15:00", "+01:60", "America/New_York"])
def test_bad_zone_is_refused(text: str) -> None:
    with pytest.raises(FeedError, match="zone"):
        parse_zone(text)


# Crossed quotes.

CROSSED = "0,1.1,1.2\n1,1.3,1.2\n2,1.2,1.2\n"


@pytest.mark.parametrize(
    ("policy", "quotes", "dropped", "repaired"),
    [
        ("keep", [(1.1, 1.2), (1.3, 1.2), (1.2, 1.2)], 0, 0),
        ("drop", [(1.1, 1.2), (1.2, 1.2)], 1, 0),
        ("repair", [(1.1, 1.2), (1.2, 1.3), (1.2, 1.2)], 0, 1),
    ],
)
def test_crossed_quotes_follow_the_policy(
    tmp_path: Path, policy: str, quotes: list[tuple[float, float]], dropped: int, repaired: int
) -> None:
    feed = feed_of(lean(tmp_path, CROSSED), crossed=policy)
    ticks = everything(feed)
    (report,) = feed.reports
    assert list(zip(ticks["bid"].tolist(), ticks["ask"].tolist(), strict=True)) == quotes
    assert (report.crossed, report.dropped, report.repaired, report.locked) == (1, dropped, repaired, 1)
    assert report.ticks == len(ticks)


def test_unknown_policy_and_a_policy_that_leaves_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FeedError, match="policy"):
        feed_of(lean(tmp_path, CROSSED), crossed="mend")
    with pytest.raises(FeedError, match="leaves no tick"):
        feed_of(lean(tmp_path, "0,1.3,1.2\n"), crossed="drop")


# Bad rows.

BAD_LEAN_ROWS = ["x,1.1,1.2", "1,1.1", "1,1.1,1.2,9", "1,nan,1.2", "1,inf,1.2", "1,0,1.2", "-1,1.1,1.2", "nan,1,1"]
BAD_LEAN_ROWS += ["86400000,1.1,1.2", "1,-1.1,1.2", "1,1.1,", "timestamp,bid,ask"]


@pytest.mark.parametrize("bad", BAD_LEAN_ROWS)
def test_bad_lean_row_is_named_counted_and_left_out(tmp_path: Path, bad: str, caplog: pytest.LogCaptureFixture) -> None:
    path = lean(tmp_path, f"0,1.1,1.2\n{bad}\n2,1.1,1.2\n")
    with caplog.at_level(logging.WARNING):
        feed = feed_of(path)
    (report,) = feed.reports
    assert (report.ticks, report.bad_rows) == (2, 1)
    assert report.first_bad_rows[0].startswith(f"{path}!20140505_eurusd_tick_quote.csv:2: ")
    assert "bad row left out" in caplog.text


@pytest.mark.parametrize("bad", ["later,1.1,1.2", "2014-05-05,1.1", "0001-01-01T00:00:00+14:00,1,1", "1969-01-01,1,1"])
def test_bad_truefx_row_is_named_counted_and_left_out(tmp_path: Path, bad: str) -> None:
    path = truefx(tmp_path, f"timestamp,bid,ask\n2014-05-05T00:00:00Z,1.1,1.2\n{bad}\n")
    (report,) = feed_of(path, symbol="EURUSD").reports
    assert (report.ticks, report.bad_rows) == (1, 1)
    assert report.first_bad_rows[0].startswith(f"{path}:3: ")


def test_too_many_bad_rows_refuse_the_file(tmp_path: Path) -> None:
    path = lean(tmp_path, "0,1.1,1.2\n" + "nonsense\n" * 4)
    assert feed_of(path, max_bad_rows=4).reports[0].bad_rows == 4
    with pytest.raises(FeedError, match="4 rows are bad and 3 are allowed") as refused:
        feed_of(path, max_bad_rows=3)
    assert refused.value.line == 5


# Files that are not what they claim to be.


def test_file_that_is_no_tick_file_is_refused(tmp_path: Path) -> None:
    cases: dict[str, bytes] = {
        "empty": b"",
        "prose": b"Once upon a time",
        "binary": bytes(range(256)),
        "cut zip": lean(tmp_path, "0,1.1,1.2\n" * 500).read_bytes()[:200],
    }
    for name, content in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(FeedError) as refused:
            feed_of(path, symbol="EURUSD")
        assert refused.value.path == str(path)


@pytest.mark.parametrize(
    "member", ["ticks.csv", "20140505_eurusd_trade.csv", "20141505_eurusd_tick_quote.csv", "../../evil.csv"]
)
def test_zip_without_a_lean_member_is_refused(tmp_path: Path, member: str) -> None:
    with pytest.raises(FeedError):
        feed_of(lean(tmp_path, "0,1.1,1.2\n", member=member))


def test_zip_of_several_files_is_refused(tmp_path: Path) -> None:
    path = lean(tmp_path, "0,1.1,1.2\n")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("20140506_eurusd_tick_quote.csv", "0,1.1,1.2\n")
    with pytest.raises(FeedError, match="holds 2"):
        feed_of(path)


@pytest.mark.parametrize("text", ["", "\n\n", "\x00\x01"])
def test_file_without_ticks_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(FeedError, match="holds no ticks"):
        feed_of(lean(tmp_path, text))


def test_text_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ticks.csv"
    path.write_bytes(b"timestamp,bid,ask\n\xff\xfe")
    with pytest.raises(FeedError, match="is no text"):
        feed_of(path, symbol="EURUSD")


def test_huge_unpacked_size_is_refused_before_unpacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "LARGEST_TEXT_BYTES", 20)
    with pytest.raises(FeedError, match="too large"):
        feed_of(lean(tmp_path, "0,1.1,1.2\n" * 10))


def test_missing_file_unknown_format_and_missing_symbol_are_told(tmp_path: Path) -> None:
    with pytest.raises(FeedError, match="cannot be read"):
        feed_of(tmp_path / "nowhere.zip")
    with pytest.raises(FeedError, match="unknown tick file format"):
        FileFeed([TickFile(path=lean(tmp_path, "0,1.1,1.2\n"), format_name="metastock")])
    with pytest.raises(FeedError, match="name the symbol"):
        feed_of(truefx(tmp_path, "timestamp,bid,ask\n2014-05-05T00:00:00Z,1.1,1.2\n"))
    with pytest.raises(FeedError, match="is no text"):
        FileFeed([TickFile(path=lean(tmp_path, "0,1,1"), format_name="truefx", symbol="X")])
    with pytest.raises(FeedError, match="header"):
        FileFeed([TickFile(path=truefx(tmp_path, "time,bid,ask\n"), format_name="truefx", symbol="X")])
    with pytest.raises(FeedError, match="zip"):
        FileFeed([TickFile(path=truefx(tmp_path, "timestamp,bid,ask\n"), format_name="lean")])
    with pytest.raises(FeedError, match="at least one"):
        FileFeed([])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), claim=st.sampled_from(["auto", "lean", "truefx"]))
def test_any_bytes_are_ticks_or_a_feed_error(tmp_path: Path, content: bytes, claim: str) -> None:
    path = tmp_path / "any"
    path.write_bytes(content)
    with pytest.raises(FeedError):
        FileFeed([TickFile(path=path, format_name=claim, symbol="X")])


rows = st.lists(st.tuples(st.integers(0, 2_000), st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=40).map(
    lambda values: [(time / 4, bid / 8, ask / 8) for time, bid, ask in values]
)
no_fixture_reset = [HealthCheck.function_scoped_fixture]


@settings(max_examples=60, suppress_health_check=no_fixture_reset)
@given(rows=rows, broken=st.lists(st.sampled_from(BAD_LEAN_ROWS), max_size=3), data=st.data())
def test_both_readers_of_a_lean_file_agree(
    tmp_path: Path, rows: list[tuple[float, float, float]], broken: list[str], data: st.DataObject
) -> None:
    """A file with bad rows takes the slow reader: what it keeps is what the fast one reads of the rest."""
    lines = [f"{time},{bid},{ask}" for time, bid, ask in rows]
    clean = everything(feed_of(lean(tmp_path, "\n".join(lines), name="clean.zip")))
    for bad in broken:
        lines.insert(data.draw(st.integers(0, len(lines))), bad)
    feed = feed_of(lean(tmp_path, "\n".join(lines), name="broken.zip"))
    assert np.array_equal(everything(feed), clean)
    assert feed.reports[0].bad_rows == len(broken)


@settings(max_examples=60, suppress_health_check=no_fixture_reset)
@given(files=st.lists(rows, min_size=1, max_size=3), cuts=st.lists(st.integers(0, 600), max_size=5))
def test_take_in_any_steps_gives_each_tick_once_in_order(
    tmp_path: Path, files: list[list[tuple[float, float, float]]], cuts: list[int]
) -> None:
    paths = [
        lean(tmp_path, "\n".join(f"{t},{b},{a}" for t, b, a in part), name=f"{number}.zip")
        for number, part in enumerate(files)
    ]
    feed = FileFeed([TickFile(path=path) for path in paths])
    wanted = sorted(((int(t), b, a) for part in files for t, b, a in part), key=lambda row: row[0])
    got: list[Records] = []
    for cut in [*sorted(cuts), 600]:
        got += [ticks for _, ticks in feed.take(MIDNIGHT_MS + cut)]
        due_ms = feed.next_time_ms()
        assert due_ms is None or due_ms > MIDNIGHT_MS + cut
    ticks = np.concatenate(got)
    seen = zip((ticks["time_msc"] - MIDNIGHT_MS).tolist(), ticks["bid"].tolist(), ticks["ask"].tolist(), strict=True)
    assert list(seen) == wanted
    assert feed.take(EVER_MS) == []
    assert np.array_equal(everything(feed), ticks)


def test_start_makes_what_is_earlier_history(tmp_path: Path) -> None:
    path = lean(tmp_path, "0,1.1,1.2\n5,1.1,1.2\n5,1.1,1.3\n6,1.1,1.2\n")
    feed = feed_of(path, start_ms=MIDNIGHT_MS + 5)
    ((_, ticks),) = feed.take(EVER_MS)
    assert len(ticks) == 3
    assert len(everything(feed)) == 4
    assert feed_of(path, start_ms=MIDNIGHT_MS + 7).next_time_ms() is None
    assert feed_of(path).start_ms == MIDNIGHT_MS
    with pytest.raises(KeyError):
        feed.history("GBPUSD", 0, 1)


def test_what_a_reader_does_to_its_ticks_stays_with_it(tmp_path: Path) -> None:
    feed = feed_of(lean(tmp_path, "0,1.1,1.2\n"))
    everything(feed)["bid"] = 0.0
    ((_, ticks),) = feed.take(EVER_MS)
    assert ticks["bid"].tolist() == [1.1]


def test_rows_out_of_order_are_sorted_and_counted(tmp_path: Path) -> None:
    feed = feed_of(lean(tmp_path, "5,1.1,1.2\n3,1.1,1.3\n5,1.1,1.4\n"))
    assert (everything(feed)["time_msc"] - MIDNIGHT_MS).tolist() == [3, 5, 5]
    assert feed.reports[0].out_of_order == 1
