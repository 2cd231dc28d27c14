"""Lasting conditions: told once when they begin, again only after they were over, also across restarts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from broker_adapter.alerts import LOOK_INTERVAL_S, UNMEASURED_S, ConditionWatch, StandingAlerts
from protocol.loop import Loop
from protocol.messages import AlertEvent
from tests.broker_adapter.fake_broker import World


class Surroundings:
    """What the watch looks at, to be turned by hand."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder)
        self.loop = Loop(self.world.clock)
        self.connection = SimpleNamespace(
            state="attached",
            account_is_right=True,
            present=(1, "A"),
            expected=(1, "A"),
            breaker="closed",
            detail="IPC timeout",
        )
        self.catalogue = SimpleNamespace(problems={}, instruments={"EURUSD": object()})
        self.catalogue.instrument = self.catalogue.instruments.get
        self.server_clock = SimpleNamespace(known=True)
        self.newest_tick_ms = 0
        self.watch = self.new_watch()

    def new_watch(self) -> ConditionWatch:
        parts: Any = {"connection": self.connection, "catalogue": self.catalogue, "clock": self.server_clock}
        alerts = StandingAlerts(
            self.world.journal,
            commit=self.world.desk.commit_new,
            market_ms=self.world.clock.wall_ms,
            account=lambda: ("A", 1),
        )
        return ConditionWatch(
            self.loop, alerts, symbols=("EURUSD",), newest_tick_ms=lambda: self.newest_tick_ms, **parts
        )

    def look(self, times: int = 1) -> list[str]:
        """Look; return the codes of all alerts told since the start."""
        for _ in range(times):
            self.world.clock.advance(LOOK_INTERVAL_S)
            self.watch.look()
            self.world.settle()
        return [event.body.code for event in self.world.published if isinstance(event.body, AlertEvent)]

    def restart(self) -> None:
        self.world.crash()
        self.world.restart()
        self.watch = self.new_watch()


@pytest.fixture
def around(tmp_path: Path) -> Iterator[Surroundings]:
    made = Surroundings(tmp_path)
    yield made
    made.world.close()
    made.loop.close()


def test_while_all_is_well_nothing_is_told(around: Surroundings) -> None:
    assert around.look(3) == []


def test_a_symbol_that_cannot_be_used_is_told_once_also_over_a_restart(around: Surroundings) -> None:
    around.catalogue.problems["EURUSD"] = "the broker has EURUSD.a and EURUSD.b"
    assert around.look(3) == ["symbol_unusable"]
    body = around.world.published[0].body
    assert isinstance(body, AlertEvent)
    assert body.text == "EURUSD cannot be used: the broker has EURUSD.a and EURUSD.b"
    around.restart()
    # Before the broker's symbols are read, nothing is known of the symbol: that is not the end of its problem.
    del around.catalogue.instruments["EURUSD"]
    around.catalogue.problems.clear()
    around.look()
    around.catalogue.problems["EURUSD"] = "the broker has EURUSD.a and EURUSD.b"
    assert around.look(3) == ["symbol_unusable"]


def test_what_was_over_and_comes_again_is_told_again(around: Surroundings) -> None:
    around.catalogue.problems["EURUSD"] = "gone"
    around.look()
    around.catalogue.problems.clear()
    around.look()
    around.catalogue.problems["EURUSD"] = "gone"
    assert around.look() == ["symbol_unusable"] * 2


def test_a_symbol_that_is_no_longer_configured_is_forgotten(around: Surroundings) -> None:
    around.catalogue.problems["GBPUSD"] = "gone"
    around.look()
    around.catalogue.problems.clear()
    around.look()
    around.catalogue.problems["GBPUSD"] = "gone"
    assert around.look() == ["symbol_unusable"] * 2


def test_a_wrong_account_that_stays_is_told(around: Surroundings) -> None:
    around.connection.state, around.connection.account_is_right = "wrong_account", False
    around.connection.present = (2, "B")
    assert around.look() == []
    assert around.look(3) == ["wrong_account"]
    event = around.world.published[0]
    assert isinstance(event.body, AlertEvent)
    assert event.body.fields == {"found": "account 2 at B", "expected": "account 1 at A"}
    assert (event.server, event.login) == ("A", 1)
    around.connection.state = "attaching"  # not yet the right one
    around.look()
    around.connection.state = "wrong_account"
    assert around.look(2) == ["wrong_account"]


def test_an_opened_breaker_is_told_once_until_it_closes(around: Surroundings) -> None:
    around.connection.breaker = "open"
    around.look()
    around.connection.breaker = "half_open"
    around.look()
    around.connection.breaker = "open"
    assert around.look() == ["circuit_open"]
    around.connection.breaker = "closed"
    around.look()
    around.connection.breaker = "open"
    assert around.look() == ["circuit_open"] * 2


def test_only_time_with_fresh_ticks_counts_for_an_unmeasured_server_time(around: Surroundings) -> None:
    around.server_clock.known = False
    looks = round(UNMEASURED_S / LOOK_INTERVAL_S)
    assert around.look(looks + 1) == []  # a closed market: no ticks
    for _ in range(looks - 1):
        around.newest_tick_ms = around.world.clock.wall_ms()
        around.look()
    assert around.look(0) == []
    around.newest_tick_ms = around.world.clock.wall_ms()
    assert around.look() == ["server_time_unknown"]
