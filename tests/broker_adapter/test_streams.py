"""Numbering, the ring of recent ticks, and what reaches a real subscriber."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from broker_adapter.streams import BeaconFacts, Streams, TickRing
from protocol import codec
from protocol.errors import NotFound
from protocol.keys import new_identity
from protocol.loop import Loop
from protocol.messages import Beacon, TickBatch
from protocol.sockets import bind_streams, connect_subscriber
from protocol.ticks import TICK_DTYPE
from protocol.zap import Gatekeeper

FACTS = BeaconFacts(1, "log", 5, "attached", "active", 120, "measured")


def records(count: int, start: int = 0) -> bytes:
    made = np.zeros(count, TICK_DTYPE)
    made["time_msc"] = np.arange(start, start + count)
    return made.tobytes()


@given(st.lists(st.integers(1, 30), min_size=1, max_size=30), st.integers(1, 100), st.data())
def test_the_ring_gives_back_what_it_keeps(counts: list[int], limit: int, data: st.DataObject) -> None:
    ring = TickRing(limit)
    total = 0
    for count in counts:
        ring.append(total + 1, records(count, total))
        total += count
    # At least `limit` ticks are kept, and never a whole batch more.
    first = data.draw(st.integers(max(1, total - limit + 1), total))
    count = data.draw(st.integers(1, 50))
    found = np.frombuffer(ring.range(first, count), TICK_DTYPE)["time_msc"].tolist()
    assert found == list(range(first - 1, min(first - 1 + count, total)))
    with pytest.raises(NotFound):
        ring.range(total + 1, 1)


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def test_a_subscriber_gets_numbered_ticks_and_beacons(loop: Loop) -> None:
    server, client = new_identity("adapter"), new_identity("client", ("subscribe",))
    gate = Gatekeeper(loop, lambda role: {client.public: "client"} if role == "subscribe" else {})
    socket = bind_streams(loop.context, "tcp://127.0.0.1:*", identity=server)
    address = socket.getsockopt_string(zmq.LAST_ENDPOINT)
    streams = Streams(loop, socket, adapter="main", epoch=7, facts=lambda: FACTS, state=lambda: None)
    reader = connect_subscriber(loop.context, address, identity=client, server_key=server.public)
    reader.setsockopt(zmq.SUBSCRIBE, b"")
    got: list[codec.Received] = []
    loop.watch(reader, lambda: got.append(codec.decode(reader.recv())))
    for _ in range(500):
        streams.publish_beacon()
        loop.turn(10)
        if got:
            break
    streams.publish_ticks("EURUSD", records(3))
    streams.publish_ticks("EURUSD", records(5000, 3))
    streams.publish_beacon()
    for _ in range(500):
        loop.turn(10)
        if isinstance(got[-1].message, Beacon) and got[-1].message.ticks:
            break
    batches = [each.message for each in got if isinstance(each.message, TickBatch)]
    assert [(each.epoch, each.first, len(each)) for each in batches] == [(7, 1, 3), (7, 4, 4096), (7, 4100, 904)]
    beacon = got[-1].message
    assert isinstance(beacon, Beacon)
    assert (beacon.ticks, beacon.event_offset) == ({"EURUSD": 5003}, 5)
    assert streams.tick_range("EURUSD", 7, 5000, 10) == records(4, 4999)
    with pytest.raises(NotFound):
        streams.tick_range("EURUSD", 6, 1, 1)
    loop.unwatch(reader)
    reader.close()
    streams.close()
    gate.close()
