"""What a newcomer sees: one command, ticks, orders, a status to script on, and an end that leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.integration.conftest import System
from tests.waiting import eventually

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

FIRST_TICK_S = 10.0
FIRST_FILL_S = 60.0
STOP_S = 10.0


def received(document: dict[str, object], node: str, stream: str) -> int:
    """Return how many messages of a stream a node has handled."""
    streams = document["streams"]
    assert isinstance(streams, list)
    return sum(s["received"] for s in streams if s["node"] == node and s["stream"] == stream)


def test_system_streams_trades_and_records_then_leaves_nothing(system: System) -> None:
    begun = time.monotonic()
    system.up()
    system.wait_for(
        lambda document: received(document, "strategy", "ticks"),
        timeout_s=max(1.0, FIRST_TICK_S - (time.monotonic() - begun)),
        what="the first tick within 10 s of the start",
    )
    system.wait_for(
        lambda document: document["orders"]["filled"],
        timeout_s=max(1.0, FIRST_FILL_S - (time.monotonic() - begun)),
        what="the first filled order within 60 s of the start",
    )
    document = system.wait_for(
        lambda document: document if document["store"]["deals"] and document["store"]["signals"] else None,
        timeout_s=20,
        what="signals and deals in the store",
    )
    assert {node["name"] for node in document["nodes"]} == {"adapter", "strategy", "ml_logger"}
    assert all(node["state"] == "running" and node["pid"] for node in document["nodes"])
    assert document["account"]["currency"] == "USD"
    assert document["orders"]["unknown"] == 0
    begun = time.monotonic()
    system.down()
    assert time.monotonic() - begun < STOP_S


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent to a console there, not to a process")
def test_interrupt_of_up_stops_everything(system: System) -> None:
    process = subprocess.Popen(
        system.command("up"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        system.wait_until_healthy()
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(STOP_S) == 0
        assert system.processes() == []
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_second_up_on_the_same_home_is_one_clear_line(system: System) -> None:
    system.up()
    again = system.run("up", "--detach")
    assert again.returncode == 1
    assert len(again.stderr.strip().splitlines()) == 1
    assert "Traceback" not in again.stderr
    assert system.status()["state"] == "running"


def test_port_in_use_is_one_clear_line_and_nothing_starts(system: System) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", system.port + 1))
        taken.listen()
        refused = system.run("up", "--detach")
    assert refused.returncode == 1
    assert str(system.port + 1) in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    assert system.processes() == []


def test_two_systems_run_side_by_side(make_system) -> None:  # type: ignore[no-untyped-def]
    first, second = make_system(), make_system()
    first.up()
    second.up()
    first.wait_until_healthy()
    second.wait_until_healthy()
    first.down()
    assert second.status()["state"] == "running"
    second.down()


def test_down_also_ends_links(system: System) -> None:
    system.up()
    system.wait_until_healthy()
    adapter = psutil.Process(system.pid_of("adapter"))
    links = eventually(lambda: adapter.children(recursive=True), what="the adapter's links")
    system.down()
    assert not [link for link in links if link.is_running() and link.status() != psutil.STATUS_ZOMBIE]
