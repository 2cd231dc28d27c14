"""Capture files: what is written is read, whatever happened to the file; tables of it."""

from __future__ import annotations

import csv
from pathlib import Path

import msgpack
import msgspec
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from protocol import codec
from protocol import messages as m
from protocol.capture_tables import CsvSink, ParquetSink, convert
from protocol.captures import FORMAT, MAGIC, QUERIES, STREAMS, Capture, CaptureWriter
from protocol.clock import ManualClock
from protocol.errors import DataInvalid
from tests.protocol.fake_adapter import tick_records
from tests.protocol.samples import BAR, DEAL, INTENT, ORDER, POSITION, SIGNAL

NOON_MS = 1_700_049_600_000
BODIES: tuple[m.EventBody, ...] = (
    m.DealEvent(DEAL),
    m.OrderEvent(ORDER),
    m.PositionEvent("opened", POSITION),
    INTENT,
    SIGNAL,
    m.ModeEvent("halted", "news", 1),
    m.AlertEvent("a-1", "critical", "disk", "full", {"free": "0"}),
)


def frames() -> list[bytes]:
    """Return one frame of several kinds."""
    made = [
        codec.encode(m.TickBatch(1, 5, 0, tick_records(5, 3)), "main", "EURUSD"),
        codec.encode(m.TickBatch(1, 1, 0, tick_records(1, 1)), "main", "XAUUSD"),
        codec.encode(m.BarUpdate(1, 1, 0, "S5", 0, BAR), "main", "EURUSD"),
    ]
    for offset, body in enumerate(BODIES, 1):
        made.append(codec.encode(m.Event("log", offset, 1, 2, 3, "Demo", 5, body), "main"))
    return made


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(wall_ms=NOON_MS)


def write(folder: Path, clock: ManualClock, *, close: bool = True) -> Path:
    """Write all frames a second apart; return the file."""
    writer = CaptureWriter(folder, "main", software="1.2.3", clock=clock)
    for frame in frames():
        writer.write(STREAMS, frame)
        writer.flush()
        clock.advance(1)
    if close:
        writer.close()
    else:
        writer.flush()
        writer.abandon()
    return writer.paths[0]


def test_what_was_written_is_read(tmp_path: Path, clock: ManualClock) -> None:
    capture = Capture(write(tmp_path, clock))
    assert capture.header == (FORMAT, "main", NOON_MS, "1.2.3")
    records = list(capture)
    assert [record.frame for record in records] == frames()
    assert [record.recorded_ms for record in records] == [NOON_MS + 1000 * n for n in range(len(records))]
    assert [record.monotonic_ns for record in records] == [10**9 * n for n in range(len(records))]
    assert (capture.complete, capture.truncated, capture.damage, capture.count) == (True, False, "", len(records))
    assert list(capture) == records


def test_the_file_is_plain_messagepack_in_zstd(tmp_path: Path, clock: ManualClock) -> None:
    with write(tmp_path, clock).open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as plain:
        objects = list(msgpack.Unpacker(plain))
    assert objects[0] == [MAGIC, FORMAT, "main", NOON_MS, "1.2.3"]
    assert objects[1] == [NOON_MS, 0, "streams", frames()[0]]
    assert objects[-1][2:] == ["end", b""]


def test_filters(tmp_path: Path, clock: ManualClock) -> None:
    capture = Capture(write(tmp_path, clock))
    assert [d.message.kind for d in capture.decoded(kinds={"tick"})] == ["tick", "tick"]
    assert [d.topic.kind for d in capture.decoded(symbols={"EURUSD"})] == ["tick", "bar"]
    assert [d.topic for d in capture.decoded(kinds={"tick"}, symbols={"XAUUSD"})] == [("tick", "main", "XAUUSD")]
    within = capture.records(from_ms=NOON_MS + 1000, to_ms=NOON_MS + 2000)
    assert [record.recorded_ms for record in within] == [NOON_MS + 1000, NOON_MS + 2000]
    assert capture.complete


def test_a_new_file_each_utc_day_and_none_overwritten(tmp_path: Path) -> None:
    clock = ManualClock(wall_ms=NOON_MS + 12 * 3_600_000 - 1)
    writer = CaptureWriter(tmp_path, "main", software="1", clock=clock)
    writer.write(STREAMS, b"a")
    clock.advance(0.001)
    writer.write(STREAMS, b"b")
    writer.close()
    again = CaptureWriter(tmp_path, "main", software="1", clock=clock)
    again.write(STREAMS, b"c")
    again.close()
    names = [path.name for path in writer.paths + again.paths]
    assert names == [
        "main-2023-11-15-235959.mt5cap",
        "main-2023-11-16-000000.mt5cap",
        "main-2023-11-16-000000-2.mt5cap",
    ]
    assert [[r.frame for r in Capture(tmp_path / name)] for name in names] == [[b"a"], [b"b"], [b"c"]]
    assert all(path.stat().st_mode & 0o077 == 0 for path in writer.paths)


def test_what_was_flushed_survives_a_crash(tmp_path: Path, clock: ManualClock) -> None:
    capture = Capture(write(tmp_path, clock, close=False))
    assert [record.frame for record in capture] == frames()
    assert capture.truncated
    assert capture.damage == ""


def test_a_file_cut_anywhere_reads_up_to_its_last_whole_record(tmp_path: Path, clock: ManualClock) -> None:
    whole = write(tmp_path, clock).read_bytes()
    cut = tmp_path / "cut.mt5cap"
    seen = set()
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        try:
            capture = Capture(cut)
        except DataInvalid:
            continue
        read = [record.frame for record in capture]
        assert read == frames()[: len(read)]
        assert capture.count == len(read)
        assert capture.truncated
        seen.add(len(read))
    assert seen == set(range(len(frames()) + 1))


@given(data=st.data())
def test_any_damage_gives_records_or_our_error(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("damage")
    whole = bytearray(write(folder, ManualClock(wall_ms=NOON_MS)).read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=3)):
        whole[place] ^= data.draw(st.integers(1, 255))
    read_all(folder / "x", bytes(whole))


@given(st.binary(max_size=300))
def test_any_bytes_give_records_or_our_error(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    folder = tmp_path_factory.mktemp("noise")
    read_all(folder / "plain", noise)
    header = msgpack.packb([MAGIC, FORMAT, "main", 1, "1"])
    read_all(folder / "inside", zstandard.ZstdCompressor().compress(header + noise))


def read_all(path: Path, content: bytes) -> None:
    """Read whatever is there; only our typed error may come."""
    path.write_bytes(content)
    try:
        capture = Capture(path)
        for _ in capture.decoded():
            pass
    except DataInvalid:
        return


@pytest.mark.parametrize(
    "header",
    [
        [MAGIC, FORMAT + 1, "main", 1, "9.9"],
        [MAGIC, "1", "main", 1, "1"],
        [MAGIC, FORMAT, "main", 1],
        ["something else", 1, "main", 1, "1"],
        {"a": 1},
        1,
    ],
)
def test_other_headers_are_refused(tmp_path: Path, header: object) -> None:
    path = tmp_path / "x"
    path.write_bytes(zstandard.ZstdCompressor().compress(msgpack.packb(header)))
    with pytest.raises(DataInvalid, match="x"):
        Capture(path)


def test_newer_headers_and_records_may_have_more_fields(tmp_path: Path) -> None:
    values = [[MAGIC, FORMAT, "main", 1, "1", {"more": 1}], [1, 2, "streams", b"f", "more"], [1, 2, "end", b"", 0]]
    path = tmp_path / "x"
    path.write_bytes(zstandard.ZstdCompressor().compress(b"".join(map(msgpack.packb, values))))
    capture = Capture(path)
    assert [record.frame for record in capture] == [b"f"]
    assert capture.complete


def test_an_expanding_file_is_read_in_bounded_pieces(tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    header = msgpack.packb([MAGIC, FORMAT, "main", 1, "1"])
    path.write_bytes(zstandard.ZstdCompressor().compress(header + b"\xc6\x7f\xff\xff\xff" + bytes(50_000_000)))
    capture = Capture(path)
    assert list(capture) == []
    assert "MessagePack" in capture.damage


def test_tables_as_csv_and_parquet(tmp_path: Path, clock: ManualClock) -> None:
    capture = Capture(write(tmp_path, clock))
    expected = {"ticks": 4, "bars": 1} | dict.fromkeys(
        ("deals", "orders", "positions", "intents", "signals", "modes", "alerts"), 1
    )
    assert convert(capture.decoded(), tmp_path / "csv", CsvSink) == expected
    assert convert(capture.decoded(), tmp_path / "parquet", ParquetSink) == expected
    with (tmp_path / "csv" / "ticks.csv").open(encoding="utf-8", newline="") as file:
        ticks = list(csv.DictReader(file))
    assert [(tick["symbol"], tick["ordinal"], tick["bid"]) for tick in ticks][:2] == [
        ("EURUSD", "5", "5.0"),
        ("EURUSD", "6", "6.0"),
    ]
    (signal,) = pq.read_table(tmp_path / "parquet" / "signals.parquet").to_pylist()
    assert signal["signal_id"] == "s-1"
    assert msgspec.json.decode(signal["features"]) == {"rsi": 61.5}
    (deal,) = pq.read_table(tmp_path / "parquet" / "deals.parquet").to_pylist()
    assert {name: deal[name] for name in DEAL.__struct_fields__} == msgspec.structs.asdict(DEAL)
    (bar,) = pq.read_table(tmp_path / "parquet" / "bars.parquet").to_pylist()
    assert bar["close"] == BAR.close


def test_queries_are_not_taken_for_streams(tmp_path: Path, clock: ManualClock) -> None:
    writer = CaptureWriter(tmp_path, "main", software="1", clock=clock)
    writer.write(QUERIES, codec.encode(m.Done(1)))
    writer.close()
    (record,) = Capture(writer.paths[0])
    assert record.stream == QUERIES
