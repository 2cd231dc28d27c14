"""A terminal's return: what it finds, and what the broker did while nobody was there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paper_terminal.arguments import trade_request
from paper_terminal.assembly import Assembly, open_terminal
from paper_terminal.settings import FeedSettings, FeedSymbol, Settings
from paper_terminal.state import STATE_FILE, SqliteStore, StateError

START_S = 1_772_445_600
ROWS = 300


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return a feed of one tick a second, the price falling by a point each."""
    path = tmp_path / "ticks.csv"
    lines = ["timestamp,bid,ask"]
    for second in range(ROWS):
        bid = 1.1 - second * 1e-5
        lines.append(f"2026-03-02 10:{second // 60:02d}:{second % 60:02d}.000,{bid:.5f},{bid + 1e-4:.5f}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    files = (FeedSymbol(symbol="EURUSD", paths=(str(path),), format="truefx"),)
    return Settings(
        feed=FeedSettings(kind="files", files=files, speed="max", step_ms=10_000), server_time="utc", history_days=0.0
    )


@contextlib.contextmanager
def opened(folder: Path, settings: Settings) -> Iterator[Assembly]:
    folder.mkdir(exist_ok=True)
    assembly = open_terminal(folder, settings)
    try:
        yield assembly
    finally:
        assembly.store.close()


def step(assembly: Assembly) -> None:
    assembly.market.asked()
    assembly.terminal.advance()
    assembly.clock.keep()


def send(assembly: Assembly, **fields: Any) -> Any:
    return assembly.terminal.call("order_send", [trade_request(fields)])


def ticks(assembly: Assembly) -> Any:
    return assembly.terminal.call("copy_ticks_range", ["EURUSD", 1, 2**31 - 1, -1])


def test_a_feeds_clock_never_goes_back_over_a_kill(tmp_path: Path, settings: Settings) -> None:
    with opened(tmp_path / "t", settings) as first:
        step(first)
        seen = ticks(first)
    with opened(tmp_path / "t", settings) as second:
        again = ticks(second)
        assert len(again) >= len(seen)
        assert (again[: len(seen)] == seen).all()
        for _ in range(40):
            step(second)
        assert len(ticks(second)) == ROWS
        assert list(ticks(second)["time"]) == list(range(START_S, START_S + ROWS))


def test_a_stop_is_hit_while_the_terminal_is_away(tmp_path: Path, settings: Settings) -> None:
    with opened(tmp_path / "t", settings) as first:
        step(first)
        result = send(first, action=1, symbol="EURUSD", volume=0.1, sl=1.0997)
        assert result.retcode == 10009
        step(first)
        assert first.terminal.call("positions_total", []) == 1
    with opened(tmp_path / "t", settings) as second:
        assert second.terminal.call("positions_total", []) == 0
        (deal,) = [each for each in second.terminal.call("history_deals_get", [1, 2**31 - 1]) if each.entry == 1]
        assert deal.position_id == result.order
        assert deal.time == START_S + 30


def test_another_feed_starts_afresh_and_keeps_the_account(tmp_path: Path, settings: Settings) -> None:
    with opened(tmp_path / "t", settings) as first:
        step(first)
        send(first, action=1, symbol="EURUSD", volume=0.1)
    for _ in range(2):
        with opened(tmp_path / "t", Settings(history_days=0.01)) as wall:
            assert not wall.market.own_clock
            assert wall.terminal.call("positions_total", []) == 1
            assert 0 < len(ticks(wall)) < 10_000


def test_symbols_bear_prefix_and_suffix(tmp_path: Path) -> None:
    settings = Settings(prefix="#", suffix=".m", history_days=0.01, market_watch=("EURUSD",))
    with opened(tmp_path / "t", settings) as assembly:
        names = [each[-2 - 1] for each in assembly.terminal.call("symbols_get", ["*"])]
        assert names == ["#EURUSD.m", "#GBPUSD.m", "#USDJPY.m", "#XAUUSD.m"]
        assert assembly.terminal.call("symbol_info_tick", ["#EURUSD.m"])
        assert send(assembly, action=1, symbol="#EURUSD.m", volume=0.1).retcode == 10009
        assert send(assembly, action=1, symbol="#GBPUSD.m", volume=0.1).retcode == 10021


def test_history_is_there_at_once(tmp_path: Path) -> None:
    with opened(tmp_path / "t", Settings(history_days=0.4, feed=FeedSettings(ticks_per_second=0.2))) as assembly:
        for name in ("EURUSD", "GBPUSD", "USDJPY", "XAUUSD"):
            assert len(assembly.terminal.call("copy_rates_from_pos", [name, 1, 0, 600])) >= 500


def test_a_state_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / STATE_FILE)
    store._database.execute("PRAGMA user_version=99")
    store.close()
    with pytest.raises(StateError, match="update it"):
        SqliteStore(tmp_path / STATE_FILE)


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    (tmp_path / STATE_FILE).write_bytes(b"not a database" * 100)
    with pytest.raises(StateError):
        SqliteStore(tmp_path / STATE_FILE)
