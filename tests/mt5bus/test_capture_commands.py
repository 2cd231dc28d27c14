"""`mt5bus record`, `replay` and `inspect`, as a user calls them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mt5bus.cli import group
from protocol import codec
from protocol import messages as m
from protocol.captures import STREAMS, CaptureWriter
from protocol.clock import ManualClock
from tests.protocol.fake_adapter import tick_records

NOON_MS = 1_700_049_600_000


def call(*arguments: object) -> Result:
    """Run `mt5bus` with these arguments."""
    return CliRunner().invoke(group, [str(argument) for argument in arguments])


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    clock = ManualClock(wall_ms=NOON_MS)
    writer = CaptureWriter(tmp_path / "captures", "main", software="1", clock=clock)
    for number, symbol in enumerate(("EURUSD", "XAUUSD", "EURUSD"), 1):
        writer.write(STREAMS, codec.encode(m.TickBatch(1, number, 0, tick_records(number, 1)), "main", symbol))
        clock.advance(1)
    writer.write(STREAMS, b"noise")
    writer.close()
    return writer.paths[0]


def test_inspect_summarises(capture: Path) -> None:
    result = call("inspect", capture)
    assert result.exit_code == 0
    assert "adapter main, format 1, made 2023-11-15T12:00:00.000Z" in result.output
    assert "EURUSD       2" in result.output
    assert "(no message)" in result.output
    assert "4 records, complete" in result.output


def test_inspect_filters(capture: Path) -> None:
    result = call("inspect", capture, "--kind", "tick", "--symbol", "EURUSD", "--from", "2023-11-15T12:00:01")
    assert result.exit_code == 0
    (line,) = result.output.splitlines()
    assert line.startswith("2023-11-15T12:00:02.000Z streams  tick EURUSD")
    assert len(call("inspect", capture, "--count", 2).output.splitlines()) == 2
    assert "no message" in call("inspect", capture, "--from", NOON_MS + 3000).output


def test_inspect_converts(capture: Path, tmp_path: Path) -> None:
    result = call("inspect", capture, "--csv", tmp_path / "csv", "--parquet", tmp_path / "parquet")
    assert result.exit_code == 0
    assert len((tmp_path / "csv" / "ticks.csv").read_text(encoding="utf-8").splitlines()) == 4
    assert (tmp_path / "parquet" / "ticks.parquet").exists()


def test_a_cut_file_says_so(capture: Path) -> None:
    capture.write_bytes(capture.read_bytes()[:-12])
    result = call("inspect", capture)
    assert result.exit_code == 0
    assert "then it ends" in result.output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("inspect", "FILE", "--from", "yesterday"), "no time such as"),
        (("inspect", "NOTHING"), "does not exist"),
        (("replay", "FILE", "--speed", "fast"), "neither a number above 0 nor max"),
        (("replay", "FILE", "--speed", "-1"), "neither a number above 0 nor max"),
        (("replay", "FILE", "--home", "HOME"), "holds no snapshot"),
        (("record", "--home", "HOME", "--minutes", "0"), "range"),
        (("record", "--home", "HOME"), "Start the system once"),
    ],
)
def test_bad_input_is_one_clear_line(capture: Path, tmp_path: Path, arguments: tuple[str, ...], text: str) -> None:
    places = {"FILE": capture, "HOME": tmp_path / "home", "NOTHING": tmp_path / "nothing"}
    result = call(*(places.get(argument, argument) for argument in arguments))
    assert result.exit_code != 0
    assert text in result.output
    assert "Traceback" not in result.output


def test_something_else_is_no_capture(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"hello")
    result = call("inspect", path)
    assert result.exit_code == 1
    assert "no mt5bus capture" in result.output
