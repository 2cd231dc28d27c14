"""Server time: conversions through daylight saving, and measuring the offset from ticks."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market import OffsetEstimator, ServerTimeRule, choose_rule, matching_rules

HOUR_MS = 3_600_000
RULES = ["ny+7", "eu+2", "utc", "fixed:+120", "fixed:-210"]
moments = st.integers(0, 4_000_000_000_000)


def utc_ms(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp() * 1000)  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("name", "moment", "hours"),
    [
        ("ny+7", (2025, 1, 15), 2),
        ("ny+7", (2025, 7, 15), 3),
        ("ny+7", (2025, 3, 20), 3),  # the US has changed its clocks, the EU not yet
        ("eu+2", (2025, 3, 20), 2),
        ("eu+2", (2025, 7, 15), 3),
        ("eu+2", (2025, 10, 29), 2),
        ("ny+7", (2025, 10, 29), 3),
        ("utc", (2025, 7, 15), 0),
        ("fixed:+120", (2025, 7, 15), 2),
        ("fixed:-210", (2025, 7, 15), -3.5),
    ],
)
def test_offset_follows_the_dates_of_its_region(name: str, moment: tuple[int, ...], hours: float) -> None:
    assert ServerTimeRule.parse(name).offset_ms(utc_ms(*moment)) == hours * HOUR_MS


@given(moment=moments)
def test_new_york_plus_seven_agrees_with_the_zone_database(moment: int) -> None:
    local = datetime.fromtimestamp(moment // 1000, ZoneInfo("America/New_York"))
    offset = local.utcoffset()
    assert offset is not None
    assert ServerTimeRule.parse("ny+7").offset_ms(moment) == (offset.total_seconds() + 7 * 3600) * 1000


@given(moment=moments, name=st.sampled_from(RULES))
def test_round_trip_but_for_the_second_pass_of_a_repeated_hour(moment: int, name: str) -> None:
    rule = ServerTimeRule.parse(name)
    server = rule.to_server_ms(moment)
    first, second = rule.to_utc_ms(server), rule.to_utc_ms(server, second_pass=True)
    assert moment in {first, second}
    assert rule.is_ambiguous(server) == (first != second)


def test_repeated_hour_means_the_first_pass_unless_told() -> None:
    """New York goes back on 2025-11-02 at 06:00 UTC: the server shows 08:00 to 09:00 twice."""
    rule = ServerTimeRule.parse("ny+7")
    server = utc_ms(2025, 11, 2, 8, 30)
    assert rule.is_ambiguous(server)
    assert rule.to_utc_ms(server) == utc_ms(2025, 11, 2, 5, 30)
    assert rule.to_utc_ms(server, second_pass=True) == utc_ms(2025, 11, 2, 6, 30)
    assert not rule.is_ambiguous(utc_ms(2025, 11, 2, 9))
    assert not rule.is_ambiguous(utc_ms(2025, 11, 2, 7, 59))


def test_time_the_clock_jumps_over_lies_after_the_jump() -> None:
    """New York goes forward on 2025-03-09 at 07:00 UTC: the server shows no 09:00 to 10:00."""
    rule = ServerTimeRule.parse("ny+7")
    assert not rule.is_ambiguous(utc_ms(2025, 3, 9, 9, 30))
    assert rule.to_utc_ms(utc_ms(2025, 3, 9, 9, 30)) == utc_ms(2025, 3, 9, 7, 30)


@given(times=st.lists(moments, max_size=30), name=st.sampled_from(RULES))
def test_arrays_convert_as_single_times_do(times: list[int], name: str) -> None:
    rule, array = ServerTimeRule.parse(name), np.array(times, dtype=np.int64)
    assert rule.to_server_ms_array(array).tolist() == [rule.to_server_ms(time) for time in times]
    assert rule.to_utc_ms_array(array).tolist() == [rule.to_utc_ms(time) for time in times]


@pytest.mark.parametrize("name", ["", "ny", "ny+70", "eu+20", "fixed:+900", "fixed:2", "Europe/Berlin", "NY+7"])
def test_unknown_rule_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="server-time rule"):
        ServerTimeRule.parse(name)


def test_chosen_rule_fits_and_the_usual_convention_comes_first() -> None:
    winter, between = utc_ms(2025, 1, 15), utc_ms(2025, 3, 20)
    assert choose_rule(2 * HOUR_MS, winter).name == "ny+7"
    assert choose_rule(2 * HOUR_MS, between).name == "eu+2"
    assert choose_rule(3 * HOUR_MS, between).name == "ny+7"
    assert choose_rule(0, winter).name == "utc"
    assert choose_rule(-19_800_000, winter).name == "fixed:-330"
    assert [rule.name for rule in matching_rules(2 * HOUR_MS, winter)] == ["ny+7", "eu+2"]


def test_current_rule_stays_while_it_fits() -> None:
    eu = ServerTimeRule.parse("eu+2")
    assert choose_rule(2 * HOUR_MS, utc_ms(2025, 1, 15), current=eu) is eu
    assert choose_rule(3 * HOUR_MS, utc_ms(2025, 3, 20), current=eu).name == "ny+7"


@given(offset_minutes=st.integers(-720, 840), moment=moments)
def test_chosen_rule_explains_the_measurement(offset_minutes: int, moment: int) -> None:
    assert choose_rule(offset_minutes * 60_000, moment).offset_ms(moment) == offset_minutes * 60_000


def test_offset_off_whole_minutes_is_refused() -> None:
    with pytest.raises(ValueError, match="whole minutes"):
        choose_rule(12_345, 0)


NOW = utc_ms(2025, 11, 19, 12)


def live(estimator: OffsetEstimator, symbol: str, *, offset_ms: int, start_ms: int = NOW, count: int = 6) -> None:
    for step in range(count):
        now_ms = start_ms + step * 1000
        estimator.observe(symbol, now_ms + offset_ms - 250, now_ms)


def test_offset_is_assumed_until_two_symbols_rise_together() -> None:
    estimator = OffsetEstimator()
    live(estimator, "EURUSD", offset_ms=2 * HOUR_MS)
    assert (estimator.status, estimator.offset_ms) == ("assumed", None)
    live(estimator, "USDJPY", offset_ms=2 * HOUR_MS)
    assert (estimator.status, estimator.offset_ms) == ("measured", 2 * HOUR_MS)


def test_ticks_that_stand_still_prove_nothing() -> None:
    """A weekend: the last tick's age happens to look like an offset."""
    estimator = OffsetEstimator(symbols_needed=1)
    for step in range(100):
        estimator.observe("EURUSD", NOW - HOUR_MS, NOW + step)
    assert estimator.status == "assumed"


def test_ticks_far_from_the_grid_prove_nothing() -> None:
    estimator = OffsetEstimator(symbols_needed=1)
    live(estimator, "EURUSD", offset_ms=2 * HOUR_MS + 400_000)
    assert estimator.status == "assumed"


def test_delayed_quotes_do_not_lower_the_offset() -> None:
    estimator = OffsetEstimator()
    for symbol in ("EURUSD", "USDJPY"):
        live(estimator, symbol, offset_ms=2 * HOUR_MS)
    for symbol in ("#AAPL", "#MSFT", "#IBM"):
        live(estimator, symbol, offset_ms=2 * HOUR_MS - 900_000)
    assert estimator.offset_ms == 2 * HOUR_MS


def test_change_of_clocks_is_followed_though_a_silent_symbol_remembers_the_old_offset() -> None:
    estimator = OffsetEstimator()
    for symbol in ("EURUSD", "USDJPY", "DE30"):
        live(estimator, symbol, offset_ms=3 * HOUR_MS)
    for symbol in ("EURUSD", "USDJPY"):
        live(estimator, symbol, offset_ms=2 * HOUR_MS, start_ms=NOW + 50 * HOUR_MS)
    assert estimator.offset_ms == 2 * HOUR_MS


@given(
    offset=st.integers(-48, 56).map(lambda quarter: quarter * 900_000),
    ages=st.lists(st.integers(0, 29_000), min_size=12, max_size=40),
)
def test_measured_offset_is_the_true_one_for_any_tick_ages(offset: int, ages: list[int]) -> None:
    estimator = OffsetEstimator()
    for step, age in enumerate(ages):
        now_ms = NOW + step * 30_000
        estimator.observe(f"S{step % 2}", now_ms + offset - age, now_ms)
    assert estimator.offset_ms in {offset, None}
    assert estimator.offset_ms == offset
