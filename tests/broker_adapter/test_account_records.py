"""Records of looks that share a log: each keeps what it was, and finds what a plain search finds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker_adapter.account_records import Records
from broker_adapter.witnesses import make_comment, parse_comment
from protocol.messages import Deal


def deal(ticket: int, order: int, position: int, magic: int, number: int, profit: float) -> Deal:
    comment = make_comment(number, "") if number else "by hand"
    return Deal(ticket, order, position, "EURUSD", 0, 0, 3, 0.1, 1.1, profit, 0.0, 0.0, 0.0, magic, comment, 1000)


few = st.integers(0, 3)
deals = st.lists(st.builds(deal, st.integers(1, 6), few, few, few, few, st.sampled_from([0.0, 1.0])), max_size=6)


@given(st.lists(st.tuples(st.integers(0, 9), deals), max_size=6), few, few, few)
def test_every_look_stays_what_it_was(steps: list[tuple[int, list[Deal]]], one: int, two: int, three: int) -> None:
    """Grown from any earlier one, also twice from the same, beside dicts that are copied each time."""
    looks: list[tuple[Records[Deal], dict[int, Deal]]] = [(Records(), {})]
    for earlier, more in steps:
        before, expected = looks[earlier % len(looks)]
        after = before.with_more(more)
        looks.append((after, expected | {each.ticket: each for each in more}))
        assert {each.ticket: each for each in after.since(before)}.items() >= looks[-1][1].items() - expected.items()
        assert not after.grew_from(before) or not set(after.since(before)) & set(before)
    for found, expected in looks:
        everything = list(found)
        assert {each.ticket: each for each in everything} == expected
        assert len(found) == len(everything) == len(expected)
        assert [found.get(ticket) for ticket in expected] == list(expected.values())
        assert found.of_order(one) == [each for each in everything if each.order == one and one]
        assert found.of_position(two) == [each for each in everything if each.position_id == two and two]
        assert found.naming(orders=(one,), magic=two, number=three) == [
            each
            for each in everything
            if (one and each.order == one)
            or (two and each.magic == two)
            or (three and parse_comment(each.comment) == three)
        ]


def test_what_is_known_just_so_makes_no_new_look() -> None:
    known = Records([deal(1, 1, 1, 0, 0, 0.0)])
    assert known.with_more([deal(1, 1, 1, 0, 0, 0.0)]) is known
    assert known.with_more([]) is known


def test_what_grew_twice_from_the_same_look_does_not_mix() -> None:
    root = Records([deal(1, 1, 1, 0, 0, 0.0)])
    left, right = root.with_more([deal(2, 1, 1, 0, 0, 0.0)]), root.with_more([deal(3, 1, 1, 0, 0, 0.0)])
    assert [each.ticket for each in left] == [1, 2]
    assert [each.ticket for each in right] == [1, 3]
    assert left.grew_from(root)
    assert not right.grew_from(root)
    assert [each.ticket for each in right.since(root)] == [1, 3]
