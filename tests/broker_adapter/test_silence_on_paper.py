"""A strategy that is frozen, dies, or comes back, seen by a real adapter over real sockets; no supervisor helps."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from protocol.client import Addresses, BusClient
from protocol.errors import NotReady, RiskRefused
from protocol.messages import AlertEvent
from tests.broker_adapter.test_orders_on_paper import Adapter
from tests.waiting import eventually

pytestmark = pytest.mark.slow

MORE = """
[[strategy]]
name = "watched"
class = "STRATEGY:Idle"
symbols = ["EURUSD"]
silence_s = 3.0
on_silence = "close"
"""
STRATEGY = """
from strategy.sdk import Strategy
class Idle(Strategy):
    pass
"""


class Watched(Adapter):
    """An adapter, and a node that runs one strategy which does nothing."""

    def __init__(self, folder: Path) -> None:
        (folder / "idle.py").write_text(STRATEGY, encoding="utf-8")
        self.more = MORE.replace("STRATEGY", (folder / "idle.py").as_posix())
        super().__init__(folder)
        self.node = self.start_node()

    def start_node(self) -> psutil.Process:
        places = ["--home", str(self.home), "--config", str(self.config)]
        self.child = subprocess.Popen(
            [sys.executable, "-P", "-m", "strategy", *places, "--alone"], stdout=self.output, stderr=subprocess.STDOUT
        )
        return psutil.Process(self.child.pid)

    def presence(self) -> str:
        return next((each.state for each in self.bus.risk().strategies if each.name == "watched"), "")

    def until(self, state: str) -> None:
        eventually(lambda: self.presence() == state, timeout_s=30, what=f"a strategy that is {state}")

    def refuses(self) -> bool:
        """Say whether new exposure is refused, for the silence's sake; waits for an adapter that is just starting."""
        try:
            position = eventually(self.bought, timeout_s=30, what="an answer to an order")
        except RiskRefused as error:
            return error.details["limit"] == "strategy_silent"
        self.bus.close(position)
        return False

    def bought(self) -> int:
        try:
            return self.bus.buy("EURUSD", 0.1).position
        except NotReady:
            return 0

    def alerts(self) -> list[str]:
        return [e.body.code for e in self.bus.events(0) if isinstance(e.body, AlertEvent)]

    def close(self) -> None:
        self.child.kill()
        self.child.wait(10)
        super().close()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    it = Watched(tmp_path)
    yield it
    it.close()


def test_a_frozen_or_dead_strategy_is_noticed_and_its_positions_closed(watched: Watched) -> None:
    watched.until("live")
    assert not watched.refuses()
    bus = watched.loaded.settings.bus
    addresses = Addresses(queries=bus.queries, orders=bus.orders, control=bus.control)
    with BusClient(watched.loaded.home.keys, addresses, strategy="watched", timeout_s=20) as as_the_strategy:
        held = as_the_strategy.buy("EURUSD", 0.1).position
    by_hand = watched.bus.buy("EURUSD", 0.2).position

    watched.node.suspend()
    watched.until("silent")
    assert watched.refuses()
    eventually(
        lambda: [each.identifier for each in watched.bus.positions()] == [by_hand], timeout_s=30, what=f"{held} closed"
    )
    watched.bus.close(by_hand)
    watched.kill()
    watched.start()
    assert watched.presence() == "silent"
    assert watched.refuses()

    watched.node.resume()
    watched.until("live")
    assert not watched.refuses()

    watched.node.kill()
    watched.child.wait(10)
    watched.until("silent")
    assert watched.refuses()
    watched.node = watched.start_node()
    watched.until("live")
    assert not watched.refuses()
    told = [code for code in watched.alerts() if code.startswith("strategy_")]
    assert told == ["strategy_silent", "strategy_back"] * 2
