"""How long service was away, and whose fault that was."""

from __future__ import annotations

from mt5bus.chaos.harness import Done, longest_outages
from mt5bus.chaos.watch import Outage, outages


def test_only_long_spans_between_good_moments_are_outages() -> None:
    assert outages([5.0, 0.0, 0.5, 4.0, 4.9], shortest_s=1.0) == [Outage(0.5, 4.0)]
    assert outages([], shortest_s=1.0) == []


def test_an_outage_is_charged_to_the_disturbance_that_began_it() -> None:
    done = [Done("kill adapter", 10.2), Done("fault hang", 14.0), Done("kill adapter", 30.0)]
    found = longest_outages(done, [Outage(10.0, 13.0), Outage(15.5, 20.0), Outage(29.9, 30.9)])
    assert found == {"kill adapter": 3.0, "fault hang": 4.5}


def test_an_outage_before_any_disturbance_is_nobodys() -> None:
    assert longest_outages([Done("kill adapter", 10.0)], [Outage(1.0, 3.0)]) == {}
