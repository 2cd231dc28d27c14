"""Records found by time, over the hour that comes twice in autumn."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from paper_terminal.accounts import History
from paper_terminal.ledger_records import Deal

HOUR = 3600
steps = st.lists(st.sampled_from([0, 1, 600, HOUR, 5 * HOUR]), max_size=12)


@given(steps, st.integers(0, 12), st.integers(0, 40 * HOUR), st.integers(-HOUR, 40 * HOUR))
def test_between_finds_what_a_plain_search_finds(waits: list[int], back: int, from_s: int, length_s: int) -> None:
    history: History[Deal] = History(lambda deal: deal.time)
    now_s, made = 0, list[Deal]()
    for ticket, wait in enumerate(waits, start=1):
        now_s += wait - (HOUR if ticket == back else 0)
        made.append(Deal(ticket=ticket, time=now_s, time_msc=now_s * 1000, type=0))
        history.add(ticket, made[-1])
    to_s = from_s + length_s
    assert history.between(from_s, to_s) == [deal for deal in made if from_s <= deal.time <= to_s]
