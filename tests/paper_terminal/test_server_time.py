"""The rule of the broker's clock."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paper_terminal.records import TICK_DTYPE
from paper_terminal.server_time import ServerTimeRule

HOUR_MS = 3_600_000


def ms(*date: int) -> int:
    return int(datetime(*date, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("rule", "moment", "hours"),
    [
        ("ny+7", ms(2026, 3, 8, 6, 59), 2),
        ("ny+7", ms(2026, 3, 8, 7, 0), 3),
        ("ny+7", ms(2026, 11, 1, 5, 59), 3),
        ("ny+7", ms(2026, 11, 1, 6, 0), 2),
        ("eu+2", ms(2026, 3, 29, 0, 59), 2),
        ("eu+2", ms(2026, 3, 29, 1, 0), 3),
        ("utc", ms(2026, 7, 1), 0),
        (90, ms(2026, 7, 1), 1.5),
    ],
)
def test_offset_follows_the_rule(rule: str | int, moment: int, hours: float) -> None:
    assert ServerTimeRule(rule).offset_ms(moment) == hours * HOUR_MS


@given(st.integers(ms(2008, 1, 1), ms(2036, 1, 1)), st.sampled_from(["ny+7", "eu+2", "utc", -330]))
def test_server_time_turns_back_into_the_same_moment(moment: int, rule: str | int) -> None:
    clock = ServerTimeRule(rule)
    server = clock.to_server_ms(moment)
    assert moment in {clock.to_utc_ms(server), clock.to_utc_ms(server, latest=True)}


def test_the_repeated_hour_has_two_moments() -> None:
    clock = ServerTimeRule("ny+7")
    first = ms(2026, 11, 1, 5, 30)
    server = clock.to_server_ms(first)
    assert clock.to_utc_ms(server) == first
    assert clock.to_utc_ms(server, latest=True) == first + HOUR_MS


def test_ticks_across_a_change_get_their_own_offsets() -> None:
    ticks = np.zeros(2, dtype=TICK_DTYPE)
    ticks["time_msc"] = [ms(2026, 3, 8, 6, 59), ms(2026, 3, 8, 7, 1)]
    served = ServerTimeRule("ny+7").to_server_ticks(ticks)
    assert list(served["time_msc"] - ticks["time_msc"]) == [2 * HOUR_MS, 3 * HOUR_MS]
    assert list(served["time"]) == list(served["time_msc"] // 1000)


@pytest.mark.parametrize("rule", ["ny+8", "", 15 * 60])
def test_an_unknown_rule_is_refused(rule: str | int) -> None:
    with pytest.raises(ValueError, match="server_time"):
        ServerTimeRule(rule)
