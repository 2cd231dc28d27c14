"""The benchmarks' machinery with tiny counts: that it measures, tells and cleans up. Never how fast anything is."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from benchmarks import backtest, children, isolation, recovery, rules, system, wire
from benchmarks.__main__ import GROUPS, main
from benchmarks.children import one_core_each, wait_until
from benchmarks.rows import Pair, Row, in_turn, table
from market.bars import BarBuilder
from paper_terminal.in_process import InProcess

ROOT = Path(__file__).resolve().parents[2]


def own_children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


@pytest.mark.parametrize(
    ("row", "ratio", "reached"),
    [
        (Row("a time", "us", 50.0, 60.0, "bare", 1.25), 1.2, True),
        (Row("a slow time", "ms", 50.0, 65.0, "bare", 1.25), 1.3, False),
        (Row("a rate", "/s", 2e6, 1.5e6, "bare", 0.7, higher_is_better=True), 0.75, True),
        (Row("a low rate", "/s", 2e6, 1e6, "bare", 0.7, higher_is_better=True), 0.5, False),
        (Row("without a target", "us", 10.0, 35.0, "bare"), 3.5, None),
    ],
)
def test_row_judges_its_ratio(row: Row, ratio: float, reached: bool | None) -> None:
    assert row.ratio == pytest.approx(ratio)
    assert row.reached is reached


def test_ratio_to_a_floor_of_nothing_is_no_number() -> None:
    assert math.isnan(Row("broken", "us", 0.0, 1.0, "bare", 2.0).ratio)


def test_table_is_markdown_with_every_figure_beside_its_floor() -> None:
    text = table([
        Row("round trip", "us", 30.0, 45.0, "raw", 1.5, note="of it 2 us"),
        Row("ticks a second", "/s", 900_000.0, 1_800_000.0, "raw", 0.5, higher_is_better=True),
        Row("features", "us", 10.0, 31.0, "bare"),
    ])
    assert text.splitlines() == [
        "| what | floor | ours | ratio | target | reached |",
        "|---|---:|---:|---:|---:|:-:|",
        "| round trip | 30.0 us (raw) | 45.0 us; of it 2 us | 1.50 | <= 1.5 | yes |",
        "| ticks a second | 900 k/s (raw) | 1.80 M/s | 2.00 | >= 0.5 | yes |",
        "| features | 10.0 us (bare) | 31.0 us | 3.10 |  |  |",
    ]


@pytest.mark.parametrize(("higher", "best"), [(False, Pair(1.0, 4.0)), (True, Pair(3.0, 6.0))])
def test_best_of_several_rounds_taken_in_turn(higher: bool, best: Pair) -> None:
    order: list[str] = []
    floors, ours = iter([3.0, 1.0, 2.0]), iter([4.0, 6.0, 5.0])

    def floor() -> float:
        order.append("floor")
        return next(floors)

    def our() -> float:
        order.append("ours")
        return next(ours)

    assert in_turn(floor, our, rounds=3, higher_is_better=higher) == best
    assert order == ["floor", "ours"] * 3


def test_waiting_ends_with_an_error() -> None:
    with pytest.raises(TimeoutError, match=r"no miracle within 0\.05 s"):
        for _ in wait_until(0.05, "miracle"):
            continue


def test_wire_measures_and_leaves_no_process() -> None:
    before = own_children()
    assert wire._latency_us("raw", 50) > 0
    assert wire._latency_us("bus", 50) > 0
    assert wire._throughput("raw", 10, 200) > 0
    assert wire._throughput("bus", 10, 200) > 0
    assert wire.raw_round_trip_us(50) > 0
    assert wire._bus_round_trip_us(50) > 0
    assert own_children() <= before


def test_a_backtest_skips_and_trades() -> None:
    ticks = backtest.random_ticks(20_000)
    replay = InProcess({"EURUSD": ticks})
    assert backtest.ema_cross(replay) > 0
    assert len(replay.account.deals) > 1
    assert all(row.ours > 0 for row in (backtest._skip_row(ticks, 1), backtest._cross_row(ticks, 1)))


def test_the_floor_of_recovery_leaves_no_process() -> None:
    before = own_children()
    assert recovery.import_ms(("protocol.clock",)) > 0
    with pytest.raises(RuntimeError, match="cannot be imported"):
        recovery.import_ms(("no_such_module_of_ours",))
    assert own_children() <= before


if sys.platform == "linux":

    @pytest.mark.skipif(len(os.sched_getaffinity(0)) == 1, reason="there is one core only")
    def test_cores_are_given_back() -> None:
        before = os.sched_getaffinity(0)
        with one_core_each():
            child = children.start(["-c", "input()"])
            try:
                assert len(os.sched_getaffinity(0)) == 1
                assert not os.sched_getaffinity(0) & os.sched_getaffinity(child.pid)
            finally:
                children.end(child)
        assert os.sched_getaffinity(0) == before


def test_bare_bars_are_the_bars_of_the_builder() -> None:
    """A floor that did less work than ours would be no floor."""
    ticks = rules._ticks(5_000)
    builder = BarBuilder(rules._PERIOD, point=rules._POINT)
    bars = builder.add_block(*ticks)
    assert rules._bare_bars(*ticks) == len(bars) + 1  # with the one that is forming
    plain = list(zip(*(column.tolist() for column in ticks), strict=True))
    assert rules._bare_loop(plain) == bars


def test_configuration_of_the_system_is_usable(tmp_path: Path) -> None:
    from mt5bus.config import load

    file = tmp_path / "mt5bus.toml"
    file.write_text(system._config(system.free_ports()), encoding="utf-8")
    settings = load(tmp_path / "home", file).settings
    assert len(settings.adapter.symbols) == 10
    assert set(recovery.MODULES) == {"adapter", "strategy", "ml_logger"}


def test_isolation_measures_p99_and_tells_what_had_none() -> None:
    assert isolation._p99([float(n) for n in range(1, 101)]) == pytest.approx(99.01)
    assert math.isnan(isolation._p99([]))
    assert isolation._row("tick p99 beside something", [10.0, 10.0, 90.0], [11.0, 90.0, 9.0]).reached
    assert isolation._row("tick p99 beside something", [10.0], [math.nan]).reached is False
    assert len({case.what for case in isolation._CASES}) == len(isolation._CASES)


def test_only_names_the_groups() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    assert all(name in result.output for name in GROUPS)


def test_command_prints_the_table() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--only", "rules"],
        capture_output=True,
        encoding="utf-8",
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "| features of one bar" in done.stdout
