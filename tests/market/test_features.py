"""Features: the same in serving and training, and none of them knows the future."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market import Bar
from market.features import DEFAULT_PARAMS, FEATURE_NAMES, BarArrays, FeatureParams, compute_features, feature_rows

SMALL = FeatureParams(ema_fast=3, ema_slow=6, macd_signal=3, adx=4, rsi=4, roc=3, atr=4, bollinger=5)
COUNT = 120


def market(seed: int, count: int = COUNT) -> BarArrays:
    rng = np.random.default_rng(seed)
    close = 1.1 + np.cumsum(rng.normal(0, 2e-4, count))
    opened = np.concatenate(([1.1], close[:-1]))
    high = np.maximum(opened, close) + rng.random(count) * 1e-4
    low = np.minimum(opened, close) - rng.random(count) * 1e-4
    times = 1_763_510_400_000 + np.arange(count, dtype=np.int64) * 60_000
    return BarArrays(times, opened, high, low, close, rng.random(count) * 50, rng.random(count) * 1e-4)


def part(bars: BarArrays, begin: int, end: int) -> BarArrays:
    return BarArrays(*(getattr(bars, name)[begin:end] for name in BarArrays.__struct_fields__))


def test_warm_up_is_what_the_documentation_says() -> None:
    assert DEFAULT_PARAMS.window == 139
    rows = feature_rows(market(1, 150))
    assert rows.shape == (150, len(FEATURE_NAMES))
    assert np.isnan(rows[:138]).all()
    assert np.isfinite(rows[138:]).all()


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), end=st.integers(SMALL.window, COUNT), kept=st.integers(0, COUNT))
def test_serving_and_training_agree_bit_for_bit_whatever_history_was_at_hand(seed: int, end: int, kept: int) -> None:
    bars = market(seed)
    trained = feature_rows(bars, SMALL)[end - 1]
    begin = max(0, end - SMALL.window - kept)
    served = compute_features(part(bars, begin, end), SMALL)
    assert tuple(served) == FEATURE_NAMES
    assert list(served.values()) == trained.tolist()


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), cut=st.integers(SMALL.window, COUNT - 1))
def test_no_feature_knows_a_later_bar(seed: int, cut: int) -> None:
    bars = market(seed)
    before = feature_rows(part(bars, 0, cut), SMALL)
    for column in (bars.high, bars.low, bars.close, bars.spread):
        column[cut:] *= 3.0
    assert np.array_equal(feature_rows(bars, SMALL)[:cut], before, equal_nan=True)


def trending(step: float) -> BarArrays:
    close = 1.1 + np.arange(150) * step + np.tile([0.0, 2e-5], 75)
    times = np.arange(150, dtype=np.int64) * 60_000
    spread = np.full(150, 8e-5)
    return BarArrays(times, close, close + 5e-5, close - 5e-5, close, spread, spread)


def test_features_point_the_way_the_market_goes() -> None:
    up, down = compute_features(trending(1e-4)), compute_features(trending(-1e-4))
    for name in ("ema_gap", "roc"):
        assert up[name] > 0 > down[name]
    assert up["rsi"] > 70
    assert down["rsi"] < 30
    assert up["adx"] > 40
    assert down["adx"] > 40
    assert up["bollinger_position"] > 0.8
    assert down["bollinger_position"] < 0.2


def test_values_have_their_stated_units() -> None:
    values = compute_features(trending(1e-4))
    assert values["atr"] == pytest.approx(1.4e-4, rel=0.3)
    assert values["atr_ratio"] == pytest.approx(values["atr"] / trending(1e-4).close[-1])
    assert values["spread_ratio"] == pytest.approx(8e-5 / values["atr"])
    assert values["roc"] == pytest.approx(10 * 1e-4 / trending(1e-4).close[-11] * 100, rel=1e-6)


def test_hour_is_the_bars_opening_on_a_circle() -> None:
    bars = market(3, 200)
    values = compute_features(bars)
    angle = (int(bars.open_time_ms[-1]) % 86_400_000) / 86_400_000 * math.tau
    assert (values["hour_sin"], values["hour_cos"]) == (math.sin(angle), math.cos(angle))


@pytest.mark.parametrize("moved", [0, 100])
def test_market_that_stands_still_gives_neutral_numbers(moved: int) -> None:
    flat = np.full(150, 1.1)
    flat[:moved] += np.tile([0.0, 1e-4], moved // 2)
    bars = BarArrays(np.arange(150, dtype=np.int64), flat, flat, flat, flat, flat, np.zeros(150))
    values = compute_features(bars)
    assert all(math.isfinite(value) for value in values.values())
    assert values["bollinger_position"] == 0.5
    assert values["bollinger_width"] == 0.0
    if not moved:
        assert values["rsi"] == 50.0
        assert values["ema_gap"] == values["macd_hist"] == values["atr"] == 0.0


def test_bars_become_columns() -> None:
    bars = [Bar(60_000 * n, 1.0 + n, 2.0 + n, 0.5 + n, 1.5 + n, n, 8) for n in range(3)]
    columns = BarArrays.of(bars, point=0.1)
    assert len(columns) == 3
    assert columns.open_time_ms.tolist() == [0, 60_000, 120_000]
    assert columns.close.tolist() == [1.5, 2.5, 3.5]
    assert columns.spread.tolist() == pytest.approx([0.8] * 3)
    assert len(BarArrays.of([], point=0.1)) == 0


def test_too_few_bars_and_bad_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="139 bars to warm up, got 138"):
        compute_features(market(1, 138))
    short = market(1, 150)
    with pytest.raises(ValueError, match="column close"):
        feature_rows(BarArrays(*(*(getattr(short, n) for n in ("open_time_ms", "open", "high", "low")),
                                 short.close[:-1], short.tick_volume, short.spread)))  # fmt: skip
    broken = market(1, 150)
    broken.high[3] = math.nan
    with pytest.raises(ValueError, match="high holds values"):
        compute_features(broken)


@pytest.mark.parametrize(
    "change",
    [{"ema_fast": 26}, {"ema_fast": 1}, {"rsi": 0}, {"adx": 5000}, {"bollinger_deviations": 0.0}],
)
def test_bad_parameters_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        FeatureParams(**change)
