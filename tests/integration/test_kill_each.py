"""SIGKILL of each process in turn: the whole comes back, and no order is lost or doubled."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import psutil
import pytest

from protocol.errors import BusError
from protocol.messages import IntentEvent
from tests.integration.conftest import System, healthy
from tests.waiting import eventually

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

FAST_TRADING = """
[bus]
port = PORT

[supervisor]
backoff_first_s = 0.2
max_restarts = 50

[paper.feed]
kind = "synthetic"
seed = 7
ticks_per_second = 10.0
"""


def test_every_process_may_be_killed(make_system) -> None:  # type: ignore[no-untyped-def]
    system: System = make_system(FAST_TRADING)
    system.up()
    system.wait_until_healthy()
    system.wait_for(lambda document: document["orders"]["filled"], timeout_s=90, what="trading")
    for name in ("adapter", "strategy", "ml_logger", "terminal", "supervisor"):
        _kill_and_wait(system, name)
    for role in ("trade", "feed", "bulk"):
        _kill_link(system, role)
    filled = system.status()["orders"]["filled"]
    system.wait_for(lambda document: document["orders"]["filled"] > filled, timeout_s=120, what="trading goes on")
    _assert_nothing_lost_or_doubled(system)
    system.down()


def _kill_and_wait(system: System, name: str) -> None:
    pid = system.pid_of(name)
    psutil.Process(pid).kill()
    if name == "supervisor":
        # `up --detach` has returned: nobody is left to start the supervisor but the user, who says `up` again.
        eventually(lambda: not psutil.pid_exists(pid), what="the supervisor's end")
        done = system.run("up", "--detach")
        assert done.returncode == 0, done.stderr

    def back(document: dict[str, object]) -> bool:
        return healthy(document) and _pid_in(document, name) not in {None, pid}

    system.wait_for(back, timeout_s=60, what=f"{name} back and the system healthy")


def _pid_in(document: dict[str, object], name: str) -> int | None:
    if name in {"terminal", "supervisor"}:
        part = document[name]
        assert isinstance(part, dict)
        return int(part["pid"])
    nodes = document["nodes"]
    assert isinstance(nodes, list)
    return next((node["pid"] for node in nodes if node["name"] == name), None)


def _kill_link(system: System, role: str) -> None:
    with system.client() as bus:
        before = {link.role: link for link in bus.health().links}
        psutil.Process(before[role].id).kill()

        def replaced() -> bool:
            try:
                links = {link.role: link for link in bus.health().links}
            except BusError:
                return False
            return links[role].id not in {0, before[role].id}

        eventually(replaced, timeout_s=30, what=f"a new {role} link")
    system.wait_until_healthy()


def _assert_nothing_lost_or_doubled(system: System) -> None:
    """Compare the event log, the broker's own records and the store."""
    with system.client() as bus:

        def settled() -> bool:
            return bus.snapshot().connection == "attached" and system.status()["orders"]["unknown"] == 0

        eventually(settled, timeout_s=60, what="no order unknown")
        now = datetime.now(UTC)
        deals = [deal for deal in bus.deals(now - timedelta(days=1), now + timedelta(days=1)) if deal.symbol]
        events = list(bus.events(0))
    done = {
        e.body.client_order_id: e.body for e in events if isinstance(e.body, IntentEvent) and e.body.state == "done"
    }
    opened = [body for body in done.values() if body.action == "open"]
    entries = Counter(deal.client_order_id for deal in deals if deal.entry == 0)
    assert opened
    assert set(entries) == {body.client_order_id for body in opened}, "entries at the broker against our orders"
    assert all(count == 1 for count in entries.values()), "an order took effect twice"
    offsets = [event.offset for event in events]
    assert offsets == list(range(1, len(offsets) + 1)), "the event log has no holes"
    count = len(deals)
    stored = system.wait_for(
        lambda document: document["store"] if document["store"]["deals"] >= count else None,
        timeout_s=30,
        what="every deal in the store",
    )
    assert stored["deals"] >= count
