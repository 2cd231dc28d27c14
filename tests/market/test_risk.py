"""The risk gate: each limit at its edge, and no limit that keeps anyone in a position."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market import RiskCode, RiskLimits, RiskRefusal, RiskState, TradingMode, daily_loss
from market.risk import SymbolLimits, check

LIMITS = RiskLimits(
    max_volume_per_order=1.0,
    max_volume_per_symbol=3.0,
    max_positions=5,
    max_orders_per_minute=10,
    max_daily_loss=500.0,
    max_spread_points=30,
    max_price_age_ms=2_000,
    symbols=("EURUSD", "XAUUSD"),
)
CALM = RiskState(spread_points=8, price_age_ms=100)


def gate(
    *, symbol: str = "EURUSD", volume: float = 0.5, reduces: bool = False, operator: bool = False, **state: Any
) -> RiskRefusal | None:
    now = msgspec.structs.replace(CALM, **state)
    return check(symbol, volume, limits=LIMITS, state=now, reduces=reduces, operator=operator)


def test_order_within_every_limit_passes() -> None:
    assert gate() is None


@pytest.mark.parametrize(
    ("passes", "refused", "code"),
    [
        ({"volume": 1.0}, {"volume": 1.01}, RiskCode.VOLUME_PER_ORDER),
        ({"symbol_volume": 2.5}, {"symbol_volume": 2.51}, RiskCode.VOLUME_PER_SYMBOL),
        ({"open_positions": 4}, {"open_positions": 5}, RiskCode.POSITIONS),
        ({"orders_last_minute": 9}, {"orders_last_minute": 10}, RiskCode.ORDERS_PER_MINUTE),
        ({"daily_loss": 499.99}, {"daily_loss": 500.0}, RiskCode.DAILY_LOSS),
        ({"spread_points": 30}, {"spread_points": 31}, RiskCode.SPREAD),
        ({"price_age_ms": 2_000}, {"price_age_ms": 2_001}, RiskCode.PRICE_AGE),
        ({"symbol": "XAUUSD"}, {"symbol": "GBPUSD"}, RiskCode.SYMBOL),
        ({"gap": False}, {"gap": True}, RiskCode.GAP),
        ({"unknown_outcome": False}, {"unknown_outcome": True}, RiskCode.UNKNOWN_OUTCOME),
        ({"server_time_known": True}, {"server_time_known": False}, RiskCode.SERVER_TIME),
        ({"owners": ()}, {"owners": ("confluence",)}, RiskCode.OWNER),
        ({"armed": True}, {"armed": False}, RiskCode.NOT_ARMED),
        ({"mode": TradingMode.ACTIVE}, {"mode": TradingMode.REDUCING}, RiskCode.MODE),
    ],
)
def test_each_limit_at_its_edge(passes: dict[str, Any], refused: dict[str, Any], code: RiskCode) -> None:
    assert gate(**passes) is None
    refusal = gate(**refused)
    assert refusal is not None
    assert refusal.code == code
    assert refusal.text


def test_refusal_tells_limit_and_value() -> None:
    refusal = gate(symbol_volume=2.75)
    assert refusal is not None
    assert (refusal.limit, refusal.value) == (3.0, 3.25)
    assert "3.25 lots on EURUSD" in refusal.text


@pytest.mark.parametrize(
    ("unknown", "code"),
    [
        ({"spread_points": None}, RiskCode.SPREAD),
        ({"price_age_ms": None}, RiskCode.PRICE_AGE),
        ({"daily_loss": float("nan")}, RiskCode.DAILY_LOSS),
        ({"volume": float("nan")}, RiskCode.VOLUME_PER_ORDER),
        ({"volume": -0.1}, RiskCode.VOLUME_PER_ORDER),
        ({"symbol_volume": float("nan")}, RiskCode.VOLUME_PER_SYMBOL),
    ],
)
def test_what_is_not_known_refuses_new_exposure(unknown: dict[str, Any], code: RiskCode) -> None:
    refusal = gate(**unknown)
    assert refusal is not None
    assert refusal.code == code


def test_zero_means_no_limit_where_the_configuration_says_so() -> None:
    unlimited = RiskLimits(max_daily_loss=0.0, max_spread_points=0, symbols=())
    state = RiskState(spread_points=None, price_age_ms=0, daily_loss=1e9)
    assert check("GBPUSD", 0.1, limits=unlimited, state=state, reduces=False) is None


def test_sums_of_binary_floats_reach_their_limit() -> None:
    limits = msgspec.structs.replace(LIMITS, max_volume_per_symbol=0.3)
    state = msgspec.structs.replace(CALM, symbol_volume=0.2)
    assert check("EURUSD", 0.1, limits=limits, state=state, reduces=False) is None


def test_a_symbol_may_have_limits_of_its_own() -> None:
    own = SymbolLimits(max_volume_per_order=0.2, max_volume_per_symbol=0.4, max_spread_points=300)
    limits = msgspec.structs.replace(LIMITS, symbol={"XAUUSD": own, "EURUSD": SymbolLimits()})
    wide = msgspec.structs.replace(CALM, spread_points=300)

    def code(symbol: str, volume: float, state: RiskState) -> str:
        refusal = check(symbol, volume, limits=limits, state=state, reduces=False)
        return "" if refusal is None else refusal.code.value

    assert code("XAUUSD", 0.2, wide) == ""
    assert code("XAUUSD", 0.21, wide) == "volume_per_order"
    assert code("XAUUSD", 0.2, msgspec.structs.replace(wide, symbol_volume=0.21)) == "volume_per_symbol"
    assert code("EURUSD", 0.2, wide) == "spread"
    assert code("EURUSD", 1.0, CALM) == ""


states = st.builds(
    RiskState,
    mode=st.sampled_from(TradingMode),
    armed=st.booleans(),
    open_positions=st.integers(0, 100),
    symbol_volume=st.floats(allow_nan=True),
    orders_last_minute=st.integers(0, 1000),
    daily_loss=st.floats(allow_nan=True),
    spread_points=st.one_of(st.none(), st.integers(0, 10_000)),
    price_age_ms=st.one_of(st.none(), st.integers(0, 10**9)),
    gap=st.booleans(),
    unknown_outcome=st.booleans(),
    server_time_known=st.booleans(),
)


@given(state=states, volume=st.floats(0, 1e6), symbol=st.sampled_from(["EURUSD", "GBPUSD"]))
def test_reduction_passes_whatever_the_limits_unless_halted_or_not_armed(
    state: RiskState, volume: float, symbol: str
) -> None:
    refusal = check(symbol, volume, limits=LIMITS, state=state, reduces=True)
    expected = not state.armed or state.mode == TradingMode.HALTED
    assert (refusal is not None) == expected
    by_operator = check(symbol, volume, limits=LIMITS, state=state, reduces=True, operator=True)
    assert (by_operator is None) == state.armed


@given(state=states, volume=st.floats(0, 1e6))
def test_nothing_that_opens_gets_out_unless_active(state: RiskState, volume: float) -> None:
    refusal = check("EURUSD", volume, limits=LIMITS, state=state, reduces=False, operator=True)
    if state.mode != TradingMode.ACTIVE or not state.armed:
        assert refusal is not None
    if refusal is None:
        assert volume <= LIMITS.max_volume_per_order + 1e-9
        assert state.daily_loss < LIMITS.max_daily_loss


def test_daily_loss_leaves_deposits_out() -> None:
    assert daily_loss(midnight_equity=10_000.0, deposits=0.0, equity=9_400.0) == 600.0
    assert daily_loss(midnight_equity=10_000.0, deposits=5_000.0, equity=14_400.0) == 600.0
    assert daily_loss(midnight_equity=10_000.0, deposits=-2_000.0, equity=8_100.0) == -100.0
