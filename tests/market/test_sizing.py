"""Sizing: never more risk than asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market import loss_per_lot, volume_for_risk
from market.instrument import on_grid
from tests.market.samples import EURUSD, variant


def test_one_percent_over_twenty_pips() -> None:
    """100 dollars at risk, 200 points of 1 dollar a lot: half a lot."""
    assert volume_for_risk(EURUSD, equity=10_000.0, risk_fraction=0.01, stop_distance=0.0020) == 0.5
    assert volume_for_risk(EURUSD, equity=10_000.0, risk_fraction=0.01, stop_distance=0.00203) == 0.49


@given(
    equity=st.floats(1.0, 1e7),
    risk_fraction=st.floats(1e-4, 1.0),
    stop_distance=st.floats(1e-4, 0.5),
    step=st.sampled_from([0.01, 0.1, 1.0]),
    tick_value=st.floats(0.1, 10.0),
)
def test_loss_at_the_stop_never_exceeds_the_risk_and_a_step_more_would(
    equity: float, risk_fraction: float, stop_distance: float, step: float, tick_value: float
) -> None:
    instrument = variant(volume_step=step, volume_min=step, tick_value=tick_value)
    volume = volume_for_risk(instrument, equity=equity, risk_fraction=risk_fraction, stop_distance=stop_distance)
    per_lot = loss_per_lot(instrument, stop_distance)
    risk = equity * risk_fraction
    assert volume * per_lot <= risk + per_lot * step * 1e-4
    assert volume == 0 or instrument.volume_min <= volume <= instrument.volume_max
    assert on_grid(volume, step)
    if volume < instrument.volume_max:
        assert (volume + step) * per_lot > risk * (1 - 1e-9)


def test_nothing_when_the_least_volume_risks_too_much() -> None:
    assert volume_for_risk(EURUSD, equity=100.0, risk_fraction=0.001, stop_distance=0.01) == 0.0
    assert volume_for_risk(EURUSD, equity=0.0, risk_fraction=0.01, stop_distance=0.01) == 0.0
    assert volume_for_risk(EURUSD, equity=-5.0, risk_fraction=0.01, stop_distance=0.01) == 0.0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"equity": float("nan")}, "equity"),
        ({"risk_fraction": 0.0}, "risk_fraction"),
        ({"risk_fraction": 1.1}, "risk_fraction"),
        ({"risk_fraction": float("nan")}, "risk_fraction"),
        ({"stop_distance": 0.0}, "stop_distance"),
        ({"stop_distance": float("inf")}, "stop_distance"),
    ],
)
def test_bad_argument_is_named(arguments: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        volume_for_risk(EURUSD, **({"equity": 1e4, "risk_fraction": 0.01, "stop_distance": 0.01} | arguments))


@pytest.mark.parametrize("tick_value", [0.0, -1.0, float("nan")])
def test_symbol_without_a_tick_value_is_refused(tick_value: float) -> None:
    with pytest.raises(ValueError, match="no tick value"):
        volume_for_risk(variant(tick_value=tick_value), equity=1e4, risk_fraction=0.01, stop_distance=0.01)
