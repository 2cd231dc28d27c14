"""Argument rules: what the client refuses before anything is sent."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import paper_terminal.client as mt5_module
from paper_terminal import arguments as rules

mt5: Any = mt5_module


@pytest.fixture(autouse=True)
def _no_connection() -> None:
    mt5.shutdown()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("volume", 1),
        ("price", 1),
        ("volume", None),
        ("action", np.int64(1)),
        ("magic", 1.0),
        ("symbol", b"EURUSD"),
        ("expiration", datetime(2026, 1, 1, tzinfo=UTC)),
        ("comment", "x" * 30),
        ("comment", "x" * 28 + "\N{GRINNING FACE}"),
    ],
)
def test_a_field_of_the_wrong_type_is_refused_by_name(field: str, value: object) -> None:
    assert mt5.order_send({field: value}) is None
    assert mt5.last_error() == (-2, f'Invalid "{field}" argument')


def test_fields_of_the_right_type_pass_and_unknown_ones_are_ignored() -> None:
    request = rules.trade_request({"action": True, "volume": np.float64(0.1), "stop_loss": 1, "comment": "x" * 29})
    assert request[0] == 1
    assert request[4] == 0.1
    assert len(request) == 17


@pytest.mark.parametrize("field", ["magic", "order", "deviation", "position"])
@pytest.mark.parametrize("value", [-1, 2**64])
def test_an_unsigned_field_out_of_range_surfaces_as_system_error(field: str, value: int) -> None:
    with pytest.raises(SystemError) as caught:
        mt5.order_send({field: value})
    assert isinstance(caught.value.__cause__, OverflowError)


def test_a_forwarded_empty_keyword_dict_breaks_order_send() -> None:
    empty: dict[str, Any] = {}
    assert mt5.order_send(*({"action": 1},), **empty) is None
    assert mt5.last_error() == (-2, "Unnamed arguments not allowed")


def test_fields_as_keywords_or_one_dict_but_not_both() -> None:
    assert mt5.order_check(action=1, volume=1) is None
    assert mt5.last_error() == (-2, 'Invalid "volume" argument')
    assert mt5.order_check({"action": 1}, symbol="EURUSD") is None
    assert mt5.last_error()[0] == -2


def test_positions_get_takes_no_unnamed_arguments_and_ticket_wins() -> None:
    assert mt5.positions_get("EURUSD") is None
    assert mt5.last_error() == (-2, "Unnamed arguments not allowed")
    assert mt5.positions_get(group=1, ticket="x") is None
    assert mt5.last_error() == (-2, 'Invalid "ticket" argument')


def test_history_needs_positional_dates() -> None:
    for keywords in ({}, {"date_from": 1, "date_to": 2}):
        assert mt5.history_deals_get(**keywords) is None
        assert mt5.last_error() == (-2, "Invalid arguments")


def test_symbols_get_with_a_bad_group_is_false() -> None:
    assert mt5.symbols_get(group=1) is False
    assert mt5.last_error() == (-2, 'Invalid "group" argument')


def test_login_needs_a_number() -> None:
    assert mt5.login(password="x") is False
    assert mt5.last_error() == (-2, 'Invalid "login" argument')
    assert mt5.login("1", "x") is False
    assert mt5.last_error() == (-2, "Invalid 1st unnamed argument")


@pytest.mark.parametrize("value", [date(2026, 1, 1), np.datetime64("2026-01-01"), "2026", np.int64(5)])
def test_other_dates_are_refused(value: object) -> None:
    assert mt5.copy_ticks_from("EURUSD", value, 1, -1) is None
    assert mt5.last_error() == (-2, "Invalid arguments")


def test_dates_are_whole_seconds_of_32_bits() -> None:
    assert rules.date_s(1.9) == 1
    assert rules.date_s(datetime(1970, 1, 1, 0, 1, tzinfo=UTC)) == 60
    assert rules.date_s(datetime(2100, 1, 1, tzinfo=UTC)) == rules.INT32_MIN
    with pytest.raises(rules.Pending):
        rules.date_s(1_700_000_000_000)


def test_a_wrong_number_type_in_a_copy_call_surfaces_as_system_error() -> None:
    with pytest.raises(SystemError) as caught:
        mt5.copy_rates_from_pos("EURUSD", 1, 0, "5")
    assert isinstance(caught.value.__cause__, TypeError)
    assert mt5.last_error()[0] == -2
    assert mt5.copy_rates_from_pos("EURUSD", np.int64(1), 0, np.int32(5)) is None
    assert mt5.last_error()[0] == -10004


@pytest.mark.parametrize(
    ("mask", "name", "selected"),
    [
        ("*", "", True),
        ("*USD*", "EURUSD", True),
        ("EURUSD", "EURUSD.m", False),
        ("*,!*EUR*", "EURUSD", False),
        ("*,!EUR", "EURUSD", True),
        ("!*EUR*", "GBPUSD", False),
        (" GBP* , EUR* ", "EURUSD", True),
        ("eur*", "EURUSD", False),
        ("E*U*D", "EURUSD", True),
        ("E?RUSD", "EURUSD", False),
        ("AB*BA", "ABA", False),
    ],
)
def test_group_masks(mask: str, name: str, selected: bool) -> None:
    assert rules.matches_group(mask, name) is selected


@given(st.text("AB*", max_size=8), st.text("AB", max_size=8))
def test_a_star_matches_any_run(mask: str, name: str) -> None:
    import re

    expected = bool(mask) and re.fullmatch(".*".join(map(re.escape, mask.split("*"))), name) is not None
    assert rules.matches_group(mask, name) is expected
