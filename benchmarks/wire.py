"""The wire: ticks and requests over real sockets between two processes, beside raw pyzmq doing the same."""

from __future__ import annotations

import os
import statistics
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import zmq

from benchmarks import children
from benchmarks.children import one_core_each
from benchmarks.rows import Row, in_turn
from protocol import codec, sockets
from protocol.keys import KeyStore
from protocol.loop import Loop
from protocol.messages import Done, GetAccount, TickBatch
from protocol.requests import Requester
from protocol.service import Service
from protocol.subscriber import StreamSubscriber
from protocol.topics import Topic
from protocol.zap import Gatekeeper

RATE = 5_000
ONE_TICK = struct.pack("<qdddQqId", 0, 1.1, 1.1001, 0.0, 0, 0, 6, 0.0)
RAW_TOPIC = b"v1/tick/main/EURUSD\0"


ROUNDS = 5


def rows(*, quick: bool) -> list[Row]:
    """Return the rows of the wire. `quick` sends a tenth, once."""
    scale, rounds = (10, 1) if quick else (1, ROUNDS)
    return [
        _latency_row(10_000 // scale, rounds),
        _throughput_row("tick messages a second, one tick each, Curve", 1, 500_000 // scale, 0.5, rounds),
        _throughput_row("ticks a second in batches of 100, Curve", 100, 50_000 // scale, 0.7, rounds),
        _round_trip_row(5_000 // scale, rounds),
    ]


def _latency_row(count: int, rounds: int) -> Row:
    with one_core_each():
        pair = in_turn(lambda: _latency_us("raw", count), lambda: _latency_us("bus", count), rounds=rounds)
    return Row("tick, publisher to callback, p50 at 5,000/s", "us", *pair, "raw pyzmq, plain", 1.25)


def _throughput_row(what: str, batch: int, messages: int, target: float, rounds: int) -> Row:
    pair = in_turn(
        lambda: _throughput("raw", batch, messages),
        lambda: _throughput("bus", batch, messages),
        rounds=rounds,
        higher_is_better=True,
    )
    return Row(what, "/s", *pair, "raw pyzmq, Curve", target, higher_is_better=True)


def _round_trip_row(count: int, rounds: int) -> Row:
    pair = in_turn(lambda: raw_round_trip_us(count), lambda: _bus_round_trip_us(count), rounds=rounds)
    return Row("request round trip, p50, answered from memory", "us", *pair, "raw REQ-ROUTER, plain", 1.5)


class _Peer:
    """The other process, with keys of its own in a folder that both read."""

    def __init__(self, role: str, *arguments: object) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.keys = KeyStore(Path(self._folder.name) / "keys")
        self.keys.ensure()
        self.process = children.start(["-m", "benchmarks.wire", role, self.keys.folder, *arguments])
        assert self.process.stdout
        self.address = self.process.stdout.readline().strip()

    def go(self) -> None:
        """Tell it to begin."""
        assert self.process.stdin
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def end(self) -> None:
        """End it and remove the keys."""
        children.end(self.process)
        self._folder.cleanup()


def _latency_us(kind: str, count: int) -> float:
    """Return the median microseconds from the publisher's clock reading to the callback."""
    peer = _Peer(f"publish-{kind}", count, 1, RATE)
    latencies: list[int] = []
    try:
        if kind == "raw":
            _receive_raw(peer, count, lambda frame: latencies.append(_age_ns(frame)), curve=False)
        else:
            clock = time.monotonic_ns
            _receive_bus(peer, count, lambda batch: latencies.append(clock() - batch.sent_ns))
    finally:
        peer.end()
    return statistics.median(latencies) / 1e3


def _age_ns(frame: bytes) -> int:
    sent: int = struct.unpack_from("<q", frame, len(RAW_TOPIC))[0]
    return time.monotonic_ns() - sent


def _throughput(kind: str, batch: int, messages: int) -> float:
    """Return ticks a second from the first to the last arrival, all of them arriving."""
    peer = _Peer(f"publish-{'raw-curve' if kind == 'raw' else 'bus'}", messages, batch, 0)
    times: list[float] = []

    def note(_: object) -> None:
        if not times:
            times.append(time.perf_counter())

    try:
        if kind == "raw":
            _receive_raw(peer, messages, note, curve=True)
        else:
            _receive_bus(peer, messages * batch, note)
        return messages * batch / (time.perf_counter() - times[0])
    finally:
        peer.end()


def _receive_raw(peer: _Peer, count: int, on_frame: Callable[[bytes], None], *, curve: bool) -> None:
    context = zmq.Context[zmq.Socket[bytes]]()
    socket = context.socket(zmq.SUB)
    socket.set_hwm(0)
    if curve:
        me = peer.keys.identity("ml_logger")
        socket.curve_publickey, socket.curve_secretkey = me.public, me.secret
        socket.curve_serverkey = peer.keys.server_key("adapter")
    socket.connect(peer.address)
    socket.setsockopt(zmq.SUBSCRIBE, RAW_TOPIC)
    _join_raw(peer, socket)
    for _ in range(count):
        on_frame(socket.recv())
    socket.close(linger=0)
    context.term()


def _join_raw(peer: _Peer, socket: zmq.Socket[bytes]) -> None:
    socket.recv()  # the publisher repeats a greeting until it is told to go
    peer.go()
    while len(socket.recv()) > len(RAW_TOPIC):
        continue  # the empty frame ends the greetings


def _receive_bus(peer: _Peer, ticks: int, on_batch: Callable[[TickBatch], None]) -> None:
    loop = Loop()
    me, server_key = peer.keys.identity("ml_logger"), peer.keys.server_key("adapter")
    queries = Requester(loop, loop.context, "tcp://127.0.0.1:9", identity=me, server_key=server_key, name="none")
    state = {"joined": False, "seen": 0}

    def on_tick(_symbol: str, batch: TickBatch) -> None:
        if batch.epoch == 1:
            if not state["joined"]:
                state["joined"] = True
                peer.go()
            return
        on_batch(batch)
        state["seen"] += len(batch)
        if state["seen"] >= ticks:
            loop.stop()

    subscriber = StreamSubscriber(
        loop, loop.context, peer.address, identity=me, server_key=server_key, adapter="main", queries=queries,
        on_tick=on_tick, symbols=["EURUSD"],
    )  # fmt: skip
    subscriber.start()
    loop.run()
    if any(report.skipped for report in subscriber.reports()):
        raise RuntimeError("ticks were lost: the figure would be worth nothing")
    subscriber.close()
    queries.close()
    loop.close()


def raw_round_trip_us(rounds: int = 5_000) -> float:
    """Return the median microseconds of a round trip over a plain REQ and ROUTER: the floor of every request."""
    return _round_trip_us("raw", rounds, _ask_raw)


def _bus_round_trip_us(rounds: int) -> float:
    return _round_trip_us("bus", rounds, _ask_bus)


def _round_trip_us(kind: str, rounds: int, ask: Callable[[_Peer, int], float]) -> float:
    with one_core_each():
        peer = _Peer(f"answer-{kind}")
        try:
            return ask(peer, rounds)
        finally:
            peer.end()


def _ask_raw(peer: _Peer, rounds: int) -> float:
    context = zmq.Context[zmq.Socket[bytes]]()
    socket = context.socket(zmq.REQ)
    socket.connect(peer.address)
    question = codec.encode(GetAccount(1))
    times = _timed(rounds, lambda: (socket.send(question), socket.recv()))
    socket.close(linger=0)
    context.term()
    return times


def _ask_bus(peer: _Peer, rounds: int) -> float:
    context = zmq.Context[zmq.Socket[bytes]]()
    me, server_key = peer.keys.identity("client"), peer.keys.server_key("adapter")
    socket = sockets.connect_requester(context, peer.address, identity=me, server_key=server_key)
    times = _timed(rounds, lambda: (socket.send(codec.encode(GetAccount(1))), codec.decode(socket.recv()).message))
    socket.close(linger=0)
    context.term()
    return times


def _timed(rounds: int, ask: Callable[[], object]) -> float:
    """Return the median microseconds of `ask`, the first tenth left out."""
    times = []
    for _ in range(rounds):
        begun = time.perf_counter_ns()
        ask()
        times.append(time.perf_counter_ns() - begun)
    return statistics.median(times[rounds // 10 :]) / 1e3


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _endpoint(socket: zmq.Socket[bytes]) -> str:
    endpoint = socket.last_endpoint
    assert isinstance(endpoint, bytes)
    return endpoint.decode("ascii")


def _drop(_subscription: bytes) -> None:
    """Subscriptions need no answer."""


def _publish(kind: str, keys: KeyStore, count: int, batch: int, rate: int) -> None:
    told = _listen_to_parent()
    loop = Loop()
    gatekeeper = Gatekeeper(loop, keys.admitted)
    if kind == "raw":
        socket = loop.context.socket(zmq.XPUB)
        socket.set_hwm(0)
        socket.bind("tcp://127.0.0.1:0")
    else:
        socket = sockets.bind_streams(loop.context, "tcp://127.0.0.1:0", identity=keys.identity("adapter"), mark=0)
    _say(_endpoint(socket))
    loop.watch(socket, lambda: _drop(socket.recv()))
    prefix = Topic("tick", "main", "EURUSD").subscription()
    records = ONE_TICK * batch
    bus = kind == "bus"
    greeting = codec.encode_with(prefix, TickBatch(1, 1, 0, ONE_TICK)) if bus else RAW_TOPIC + b"greeting"
    _greet_until_told(loop, socket, greeting, told)
    if not bus:
        socket.send(RAW_TOPIC)
    begun = time.monotonic_ns()
    for index in range(count):
        if rate:
            due_ns = begun + index * 1_000_000_000 // rate
            # A publisher that spins until then would keep the core from those that it wakes.
            time.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
        now = time.monotonic_ns()
        if bus:
            socket.send(codec.encode_with(prefix, TickBatch(2, 1 + index * batch, now, records)))
        else:
            socket.send(RAW_TOPIC + struct.pack("<q", now) + records)
    loop.run()  # until the other side has everything and ends this process
    gatekeeper.close()


def _greet_until_told(loop: Loop, socket: zmq.Socket[bytes], greeting: bytes, told: threading.Event) -> None:
    while not told.is_set():
        loop.turn(10)
        socket.send(greeting)


def _listen_to_parent() -> threading.Event:
    """Return an event that the parent's first line sets; end this process when the parent is gone."""
    told = threading.Event()

    def read() -> None:
        if sys.stdin.readline():
            told.set()
            sys.stdin.read()
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return told


def _answer(kind: str, keys: KeyStore) -> None:
    _listen_to_parent()
    loop = Loop()
    if kind == "raw":
        socket = loop.context.socket(zmq.ROUTER)
        socket.bind("tcp://127.0.0.1:0")
        _say(_endpoint(socket))
        answer = codec.encode(Done(1, "well"))
        while True:
            parts = socket.recv_multipart()
            parts[-1] = answer
            socket.send_multipart(parts)
    gatekeeper = Gatekeeper(loop, keys.admitted)
    socket = sockets.bind_router(loop.context, "tcp://127.0.0.1:0", identity=keys.identity("adapter"), domain="query")
    service = Service(loop, socket, adapter="main")
    service.handle(GetAccount, lambda request, _caller: Done(request.id, "well"))
    _say(_endpoint(socket))
    loop.run()
    service.close()
    gatekeeper.close()


def _main() -> None:
    role, folder, *rest = sys.argv[1:]
    action, _, kind = role.partition("-")
    keys = KeyStore(Path(folder))
    if action == "publish":
        _publish(kind, keys, *map(int, rest))
    else:
        _answer(kind, keys)


if __name__ == "__main__":
    _main()
