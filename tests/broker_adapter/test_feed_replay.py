"""Tick files replayed as fast as possible through terminal, link, adapter and socket: every tick, once, in order."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from protocol.messages import BarUpdate, Beacon, TickBatch
from protocol.ticks import ticks_array
from tests.broker_adapter.paper import PaperSystem

FEED = """
hold = true
history_days = 0
[feed]
kind = "files"
speed = "max"
step_ms = 300000
[[feed.files]]
symbol = "XAUUSD"
paths = {gold}
[[feed.files]]
symbol = "EURUSD"
paths = {euro}
"""
ADAPTER = "[terminal]\nclock = 'feed'\n[adapter]\nsymbols = ['XAUUSD', 'EURUSD']\n"


def quotes_of(path: Path) -> np.ndarray:
    """Return milliseconds of the day, bid and ask of a Lean tick file, read independently of the terminal."""
    with zipfile.ZipFile(path) as archive:
        text = archive.read(archive.namelist()[0]).decode("ascii")
    return np.loadtxt(io.StringIO(text), delimiter=",", usecols=(0, 1, 2), ndmin=2)


def received_quotes(system: PaperSystem, symbol: str) -> np.ndarray:
    """Return the same of what was received."""
    batches = [
        each.message for each in system.received if isinstance(each.message, TickBatch) and each.topic.symbol == symbol
    ]
    expected = 1
    for batch in batches:
        assert batch.first == expected
        expected += len(batch)
    ticks = ticks_array(b"".join(batch.records for batch in batches))
    times = ticks["time_msc"].astype(np.float64)
    assert (np.diff(times) >= 0).all()
    return np.column_stack([times, ticks["bid"], ticks["ask"]])


@pytest.mark.slow
def test_every_tick_of_the_files_arrives(tmp_path: Path, market_data: Path) -> None:
    gold = market_data / "ticks" / "lean_oanda" / "xauusd" / "20140505_quote.zip"
    euro = market_data / "ticks" / "lean_fxcm" / "eurusd" / "20140505_quote.zip"
    paper = FEED.format(gold=json.dumps([str(gold)]), euro=json.dumps([str(euro)]))
    with PaperSystem(tmp_path, paper=paper, adapter=ADAPTER) as system:
        system.subscribe()
        system.start_adapter()
        # The feed starts with the terminal, and that only once the subscriber has joined: nothing is missed.
        system.until(lambda: system.of(Beacon), what="a beacon")
        system.start_terminal()
        wanted = {"XAUUSD": quotes_of(gold), "EURUSD": quotes_of(euro)}
        counts = {symbol: len(quotes) for symbol, quotes in wanted.items()}
        system.until(
            lambda: system.of(Beacon) and system.of(Beacon)[-1].ticks == counts, timeout_s=60, what="all ticks"
        )
        for symbol, quotes in wanted.items():
            got = received_quotes(system, symbol)
            assert len(got) == len(quotes)
            day_ms = got[0, 0] - quotes[0, 0] // 1
            assert day_ms % 3_600_000 == 0  # the files' own zone, whole hours from UTC
            np.testing.assert_array_equal(got[:, 0] - day_ms, np.floor(quotes[:, 0]))
            np.testing.assert_allclose(got[:, 1:], quotes[:, 1:], rtol=0, atol=5e-6)
        bars = {(bar.timeframe, bar.bar.open_time_ms) for bar in system.of(BarUpdate) if bar.revision == 0}
        assert sum(name == "M1" for name, _ in bars) > 1000
        assert system.of(Beacon)[-1].market_ms == max(int(received_quotes(system, symbol)[-1, 0]) for symbol in wanted)
