"""Magic numbers and comments, there and back, also through a broker that edits comments."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_adapter import witnesses as w

tags = st.integers(1, w.MAX_TAG)
strategies = st.integers(0, w.MAX_STRATEGY)
numbers = st.integers(1, w.MAX_INTENT)


@given(tags, strategies, numbers)
def test_a_magic_number_says_what_went_into_it(tag: int, strategy: int, number: int) -> None:
    magic = w.make_magic(tag, strategy, number)
    assert 0 < magic < 1 << 63
    assert w.parse_magic(magic, tag) == (tag, strategy, number)


@given(st.integers(-(1 << 64), 1 << 65), tags)
def test_any_number_parses_to_parts_that_make_it_again_or_to_nothing(magic: int, tag: int) -> None:
    parts = w.parse_magic(magic, tag)
    if parts is not None and parts.intent_number:
        assert w.make_magic(*parts) == magic


@pytest.mark.parametrize("parts", [(0, 0, 1), (128, 0, 1), (1, -1, 1), (1, 65536, 1), (1, 0, 0), (1, 0, 1 << 40)])
def test_parts_out_of_range_are_refused(parts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="no magic number"):
        w.make_magic(*parts)


@given(numbers, st.text(max_size=60), st.text(alphabet="abc:#- ", max_size=5), st.integers(10, 29))
def test_the_code_survives_a_prefix_and_a_cut(number: int, users: str, prefix: str, kept: int) -> None:
    comment = w.make_comment(number, users)
    assert re.fullmatch(r"[A-Za-z0-9_]{10,29}", comment)
    assert w.parse_comment(comment) == number
    assert w.parse_comment(prefix + comment[:kept]) == number


@given(st.text(max_size=40))
def test_any_comment_parses_to_a_number_or_nothing(comment: str) -> None:
    number = w.parse_comment(comment)
    assert number is None or 1 <= number <= w.MAX_INTENT
