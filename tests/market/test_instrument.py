"""Instruments: volumes and prices on their grids, and the choice of filling."""

from __future__ import annotations

from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market import (
    Execution,
    Filling,
    FillingError,
    Instrument,
    VolumeError,
    allowed_fillings,
    choose_filling,
    normalize_volume,
    round_price,
)
from market.instrument import decimals_of, floor_to_step, on_grid
from tests.market.samples import EURUSD, variant

steps = st.sampled_from([0.001, 0.01, 0.1, 0.25, 0.5, 1.0, 5.0, 1e-5])


@given(step=steps, count=st.integers(1, 100_000))
def test_multiples_of_a_step_stay_what_they_are(step: float, count: int) -> None:
    value = round(count * step, decimals_of(step))
    assert floor_to_step(count * step, step) == value
    assert floor_to_step(value, step) == value
    assert on_grid(value, step)
    assert not on_grid(value + step / 2, step)


@given(volume=st.floats(0.01, 100.0), step=st.sampled_from([0.01, 0.1, 0.25, 1.0]))
def test_normal_volume_is_on_the_grid_and_never_more_than_asked(volume: float, step: float) -> None:
    instrument = variant(volume_step=step, volume_min=0.0)
    normal = normalize_volume(instrument, volume)
    assert on_grid(normal, step)
    assert normal <= volume + step * 1e-8
    assert volume - normal < step


@pytest.mark.parametrize("volume", [0.1 + 0.2, 0.3, 0.3049])
def test_noise_of_binary_floats_loses_no_step(volume: float) -> None:
    assert normalize_volume(variant(volume_step=0.1), volume) == 0.3


@pytest.mark.parametrize(
    ("volume", "said"),
    [
        (0.009, "below the least"),
        (100.02, "above the largest"),
        (0.0, "positive"),
        (-1.0, "positive"),
        (float("nan"), "positive"),
        (float("inf"), "positive"),
    ],
)
def test_bad_volume_is_refused_with_its_reason(volume: float, said: str) -> None:
    with pytest.raises(VolumeError, match=said):
        normalize_volume(EURUSD, volume)


@pytest.mark.parametrize(
    ("tick_size", "price", "rounding", "expected"),
    [
        (1e-5, 1.123456, "nearest", 1.12346),
        (1e-5, 1.123456, "down", 1.12345),
        (1e-5, 1.123451, "up", 1.12346),
        (0.25, 4012.3, "nearest", 4012.25),
        (0.25, 4012.3, "up", 4012.5),
        (0.0, 1.123456, "nearest", 1.12346),
        (1e-5, 1.12345, "up", 1.12345),
        (1e-5, 1.12345, "down", 1.12345),
    ],
)
def test_price_lands_on_the_tick_grid(
    tick_size: float, price: float, rounding: Literal["nearest", "down", "up"], expected: float
) -> None:
    assert round_price(variant(tick_size=tick_size), price, rounding) == expected


@given(price=st.floats(0.01, 1e6), tick=st.sampled_from([1e-5, 0.001, 0.25, 0.5]))
def test_rounded_prices_bracket_the_price(price: float, tick: float) -> None:
    instrument = variant(tick_size=tick)
    down, up = round_price(instrument, price, "down"), round_price(instrument, price, "up")
    assert down <= price + tick * 0.02
    assert up >= price - tick * 0.02
    assert round_price(instrument, price) in {down, up}
    assert round_price(instrument, down) == down


@pytest.mark.parametrize("price", [float("nan"), float("inf")])
def test_price_that_is_no_number_is_refused(price: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        round_price(EURUSD, price)


FOK, IOC, RETURN = Filling.FOK, Filling.IOC, Filling.RETURN


@pytest.mark.parametrize(
    ("execution", "mask", "allowed"),
    [
        (Execution.REQUEST, 0, (FOK, IOC, RETURN)),
        (Execution.INSTANT, 2, (FOK, IOC, RETURN)),
        (Execution.MARKET, 0, ()),
        (Execution.MARKET, 1, (FOK,)),
        (Execution.MARKET, 2, (IOC,)),
        (Execution.MARKET, 3, (FOK, IOC)),
        (Execution.EXCHANGE, 0, (RETURN,)),
        (Execution.EXCHANGE, 2, (IOC, RETURN)),
        (Execution.EXCHANGE, 7, (FOK, IOC, RETURN)),
    ],
)
def test_fillings_follow_execution_and_mask(execution: Execution, mask: int, allowed: tuple[Filling, ...]) -> None:
    """The table of the MQL5 documentation; a mask bit is not an ORDER_FILLING value."""
    instrument = variant(execution=int(execution), filling_mask=mask)
    assert allowed_fillings(instrument) == allowed
    if allowed:
        assert choose_filling(instrument) == allowed[0]
        assert choose_filling(instrument, preferred=allowed[-1]) == allowed[-1]
        assert choose_filling(instrument, preferred=Filling.BOC) == allowed[0]
    else:
        with pytest.raises(FillingError, match="neither"):
            choose_filling(instrument)


def test_pending_orders_take_return_whatever_the_execution() -> None:
    assert choose_filling(variant(filling_mask=0), pending=True) is RETURN
    assert choose_filling(variant(filling_mask=4), pending=True, preferred=Filling.BOC) is Filling.BOC
    assert choose_filling(variant(filling_mask=3), pending=True, preferred=Filling.BOC) is RETURN


@pytest.mark.parametrize("step", [0.0, -0.1, float("nan")])
def test_bad_step_is_refused(step: float) -> None:
    with pytest.raises(ValueError, match="grid step"):
        decimals_of(step)


def test_instrument_travels_as_an_array_in_field_order() -> None:
    wire = msgspec.msgpack.encode(EURUSD)
    assert msgspec.msgpack.decode(wire)[:4] == ["EURUSD", "EURUSD.m", 5, 1e-5]
    assert msgspec.msgpack.decode(wire, type=Instrument) == EURUSD
