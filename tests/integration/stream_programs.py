"""Two programs for the slow-reader test: a publisher under load, with the adapter's own streams, and a reader of them.

Each writes what it knows to a file of its own five times a second.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from broker_adapter.streams import BeaconFacts, Streams
from mt5bus.settings import Bus
from protocol.keys import KeyStore
from protocol.loop import Loop
from protocol.messages import Event, Events, GetEvents, GetSnapshot, ModeEvent, Snapshot, TickBatch
from protocol.requests import Requester
from protocol.service import Caller, Service
from protocol.sockets import bind_router, bind_streams
from protocol.subscriber import StreamSubscriber
from protocol.zap import Gatekeeper
from tests.protocol.fake_adapter import EPOCH, snapshot, tick_records

TICKS_A_BEAT = 200
BEAT_S = 0.01
EVENT_S = 0.05
TELL_S = 0.2


def tell(file: Path, facts: dict[str, object]) -> None:
    """Replace the file, whole."""
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(facts), encoding="utf-8")
    fresh.replace(file)


def publish(keys: Path, port: int, file: Path) -> None:
    """Publish single ticks as fast as a busy market, and events, until the file ``quiet`` appears beside `file`."""
    loop, store, bus = Loop(), KeyStore(keys), Bus(port=port)
    gatekeeper = Gatekeeper(loop, store.admitted)
    identity = store.identity("adapter")
    events: list[Event] = []
    streams = Streams(
        loop,
        bind_streams(loop.context, bus.streams, identity=identity),
        adapter="main",
        epoch=EPOCH,
        facts=lambda: BeaconFacts(EPOCH, "log-1", len(events), "attached", "active", 0, "measured"),
        state=lambda: None,
    )
    service = Service(loop, bind_router(loop.context, bus.queries, identity=identity, domain="query"), adapter="main")

    def some_events(asked: GetEvents, _caller: Caller) -> Events:
        return Events(asked.id, "log-1", 1, len(events), tuple(events[asked.after : asked.after + asked.limit]))

    def present(asked: GetSnapshot, _caller: Caller) -> Snapshot:
        return snapshot(asked.id, log_id="log-1", offset=len(events), epoch=EPOCH)

    service.handle(GetEvents, some_events)
    service.handle(GetSnapshot, present)
    tick = tick_records(1, 1)

    def quiet() -> bool:
        return (file.parent / "quiet").exists()

    def beat() -> None:
        if not quiet():
            for _ in range(TICKS_A_BEAT):
                streams.publish_ticks("EURUSD", tick)

    def event() -> None:
        if not quiet():
            offset = len(events) + 1
            body = ModeEvent("active", "", offset)
            events.append(Event("log-1", offset, EPOCH, EPOCH, EPOCH, "Demo", 1, body))
            streams.publish_event(events[-1])

    loop.every(BEAT_S, beat)
    loop.every(EVENT_S, event)
    loop.every(TELL_S, lambda: tell(file, {"ticks": streams.ticks_published, "events": len(events)}))
    loop.run()
    gatekeeper.close()


def read(keys: Path, port: int, file: Path) -> None:
    """Follow ticks and events."""
    loop, store, bus = Loop(), KeyStore(keys), Bus(port=port)
    me, server_key = store.identity("recorder"), store.server_key("adapter")
    offsets: list[int] = []
    seen = {"first": 0, "last": 0, "slowest_ms": 0.0}

    def on_tick(_symbol: str, batch: TickBatch) -> None:
        seen["first"] = seen["first"] or batch.first
        seen["last"] = batch.first + len(batch) - 1
        seen["slowest_ms"] = max(seen["slowest_ms"], (loop.clock.monotonic_ns() - batch.sent_ns) / 1e6)

    subscriber = StreamSubscriber(
        loop,
        loop.context,
        bus.streams,
        identity=me,
        server_key=server_key,
        adapter="main",
        queries=Requester(loop, loop.context, bus.queries, identity=me, server_key=server_key, name="the adapter"),
        on_tick=on_tick,
        on_event=lambda event: offsets.append(event.offset),
    )
    subscriber.start()

    def report() -> None:
        ticks = next(each for each in subscriber.reports() if each.stream == "ticks")
        whole = not offsets or offsets == list(range(offsets[0], offsets[-1] + 1))
        newest = offsets[-1] if offsets else 0
        tell(file, {**seen, "received": ticks.received, "skipped": ticks.skipped, "event": newest, "whole": whole})

    loop.every(TELL_S, report)
    loop.run()


if __name__ == "__main__":
    {"publish": publish, "read": read}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
