"""The history window: whatever happens at the broker, what was handed over adds up to what is there."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from broker_adapter import link_history
from broker_adapter.api_types import ApiDeal, ApiOrder
from broker_adapter.link_history import HistoryReader
from tests.broker_adapter.fake_api import TradeDeal, TradeOrder, filled

WINDOW = (1, 2_000_000_000)


class Broker:
    """An API with a history that grows, at its end or in between, and whose records may be corrected."""

    def __init__(self) -> None:
        self.deals: dict[int, Any] = {}
        self.orders: dict[int, Any] = {}
        self.full_reads = 0

    def add(self, ticket: int, time_s: int) -> None:
        self.deals[ticket] = filled(TradeDeal, ApiDeal, ticket=ticket, time=time_s, time_msc=time_s * 1000)
        self.orders[ticket] = filled(TradeOrder, ApiOrder, ticket=ticket, time_done=time_s)

    def correct(self, ticket: int) -> None:
        self.deals[ticket] = self.deals[ticket]._replace(profit=self.deals[ticket].profit + 1)

    def history_deals_total(self, from_s: int, to_s: int) -> int:
        return len(self.history_deals_get(from_s, to_s))

    def history_orders_total(self, from_s: int, to_s: int) -> int:
        return len(self.history_orders_get(from_s, to_s))

    def history_deals_get(self, from_s: int, to_s: int) -> Any:
        self.full_reads += from_s == WINDOW[0]
        return tuple(each for each in self.deals.values() if from_s <= each.time <= to_s)

    def history_orders_get(self, from_s: int, to_s: int) -> Any:
        return tuple(each for each in self.orders.values() if from_s <= each.time_done <= to_s)

    def last_error(self) -> tuple[int, str]:
        return (1, "Success")


STEPS = st.lists(st.tuples(st.sampled_from(["late", "early", "correct", "lost"]), st.integers(0, 20)), max_size=20)


@given(STEPS, st.integers(1, 5))
def test_what_was_handed_over_is_what_is_there(steps: list[tuple[str, int]], page: int) -> None:
    broker = Broker()
    reader = HistoryReader(broker)
    deals: dict[int, Any] = {}
    serial, now_s = 0, 1_000_000
    before, link_history.PAGE = link_history.PAGE, page
    try:
        for kind, number in steps:
            now_s += number
            if kind == "late":
                broker.add(len(broker.deals) + 1, now_s)
            elif kind == "early":
                broker.add(len(broker.deals) + 1, now_s - 5000)
            elif kind == "correct" and broker.deals:
                broker.correct(number % len(broker.deals) + 1)
            elif kind == "lost":
                reader.look(WINDOW, serial=serial, reread=False)  # its answer never arrives
            more = True
            while more:
                news = reader.look(WINDOW, serial=serial, reread=kind == "correct")
                if news.complete:
                    deals = {}
                deals |= {each.ticket: each for each in news.deals}
                serial, more = news.serial, news.more
                assert len(news.deals) <= page
            assert deals == broker.deals
    finally:
        link_history.PAGE = before


def test_a_new_deal_does_not_read_the_whole_history_again() -> None:
    broker = Broker()
    for ticket in range(1, 101):
        broker.add(ticket, 1_000_000 + ticket * 60)
    reader = HistoryReader(broker)
    first = reader.look(WINDOW, serial=0, reread=False)
    assert (len(first.deals), first.complete) == (100, True)
    reads = broker.full_reads
    quiet = reader.look(WINDOW, serial=first.serial, reread=False)
    broker.add(101, 1_000_000 + 101 * 60)
    news = reader.look(WINDOW, serial=quiet.serial, reread=False)
    assert [each.ticket for each in news.deals] == [101]
    # The totals are counted over the window (two each look here), the records are not read.
    assert broker.full_reads - reads == 2
