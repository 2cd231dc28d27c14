"""A client with a sound query key that asks without end: orders, pings and the others' questions go on."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mt5bus.connect import client_of
from tests.integration.conftest import System
from tests.waiting import eventually

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

CONFIG = """
strategy = []

[bus]
port = PORT

[adapter]
server_time = "ny+7"

[adapter.risk]
max_orders_per_minute = 1000
max_price_age_ms = 60000
"""
# The worst that may be asked: a page of events, which comes from disk, and the whole state, in turn with history.
FLOOD = """
import sys, zmq
from pathlib import Path
from protocol import codec, messages as m
from protocol.keys import KeyStore
from protocol.sockets import connect_dealer

keys, port, ready = KeyStore(Path(sys.argv[1])), int(sys.argv[2]), Path(sys.argv[3])
socket = connect_dealer(zmq.Context(), f"tcp://127.0.0.1:{port + 1}", identity=keys.identity("recorder"),
                        server_key=keys.server_key("adapter"))
asked = [codec.encode(m.GetEvents(1, 0, "", 1000)), codec.encode(m.GetSnapshot(1)), codec.encode(m.GetHealth(1)),
         codec.encode(m.GetTicks(1, "EURUSD", 0, 2_000_000_000_000))]
sent = answered = 0
socket.poll(10_000, zmq.POLLOUT)
while True:
    for _ in range(100):
        try:
            socket.send_multipart([b"", asked[sent % len(asked)]], zmq.NOBLOCK)
            sent += 1
        except zmq.Again:
            socket.poll(5, zmq.POLLIN)
            break
    while socket.poll(0):
        socket.recv_multipart()
        answered += 1
        if answered == 1000:
            ready.write_text("flooding")
"""


@contextmanager
def flooding(system: System, folder: Path) -> Iterator[None]:
    """Let another process ask without end under the recorder's key."""
    ready = folder / "ready"
    command = [sys.executable, "-P", "-c", FLOOD, str(system.home / "keys"), str(system.port), str(ready)]
    process = subprocess.Popen(command)
    try:
        eventually(ready.exists, timeout_s=60, what="a thousand answers to the flood")
        yield
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def slowest_s(system: System, name: str, *, rounds: int) -> tuple[float, float]:
    """Return the longest that an order and a question of somebody else took, seconds."""
    orders, questions = [], []
    with client_of(system.loaded(), name=name, timeout_s=20) as client:
        for _ in range(rounds):
            began = time.monotonic()
            position = client.buy("EURUSD", 0.01).position
            orders.append(time.monotonic() - began)
            began = time.monotonic()
            assert client.prices("EURUSD")
            questions.append(time.monotonic() - began)
            client.close(position)
    return max(orders), max(questions)


def test_a_flood_of_questions_delays_neither_orders_nor_pings(make_system: object, tmp_path: Path) -> None:
    system: System = make_system(CONFIG)  # type: ignore[operator]
    system.up()
    before = system.wait_until_healthy()
    quiet = slowest_s(system, "client", rounds=10)
    with flooding(system, tmp_path):
        under_load = slowest_s(system, "client", rounds=20)
        document = system.status()
    # Bounds a busy machine keeps: a turn of the adapter's loop gives the flood 5 ms, or one request.
    assert under_load[0] < quiet[0] * 5 + 2.0, f"orders: {quiet[0]:.3f} s before, {under_load[0]:.3f} s in the flood"
    assert under_load[1] < quiet[1] * 5 + 2.0, f"questions: {quiet[1]:.3f} s before, {under_load[1]:.3f} s in the flood"
    adapter = next(node for node in document["nodes"] if node["name"] == "adapter")
    assert (adapter["state"], adapter["restarts"]) == ("running", 0)
    assert adapter["pid"] == next(node["pid"] for node in before["nodes"] if node["name"] == "adapter")
    assert adapter["pong_age_s"] < 2.5
    assert document["doors"]["crowded"] > 0, "history beyond what may wait was refused, not queued"
    print(f"slowest order {quiet[0] * 1000:.0f} -> {under_load[0] * 1000:.0f} ms, ", end="")  # noqa: T201  shown by -s
    print(f"question {quiet[1] * 1000:.0f} -> {under_load[1] * 1000:.0f} ms")  # noqa: T201
    system.down()
