"""`mt5bus record`, `replay` and `inspect`, as a user calls them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mt5bus.cli import group
from protocol import codec
from protocol import messages as m
from protocol.captures import STREAMS, CaptureWriter
from protocol.clock import ManualClock
from protocol.keys import KeyStore
from protocol.loop import Loop
from protocol.requests import Requester
from protocol.subscriber import StreamSubscriber
from tests.protocol.fake_adapter import FakeAdapter, tick_records
from tests.protocol.rig import Peer, quiet_address, running

NOON_MS = 1_700_049_600_000


def call(*arguments: object) -> Result:
    """Run `mt5bus` with these arguments."""
    return CliRunner().invoke(group, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Give back the handlers that the commands replace."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    clock = ManualClock(wall_ms=NOON_MS)
    writer = CaptureWriter(tmp_path / "captures", "main", software="1", clock=clock)
    for number, symbol in enumerate(("EURUSD", "XAUUSD", "EURUSD"), 1):
        writer.write(STREAMS, codec.encode(m.TickBatch(1, number, 0, tick_records(number, 1)), "main", symbol))
        clock.advance(1)
    writer.write(STREAMS, b"noise")
    writer.close()
    return writer.paths[0]


def test_inspect_summarises(capture: Path) -> None:
    result = call("inspect", capture)
    assert result.exit_code == 0
    assert "adapter main, format 1, made 2023-11-15T12:00:00.000Z" in result.output
    assert "EURUSD       2" in result.output
    assert "(no message)" in result.output
    assert "4 records, complete" in result.output


def test_inspect_filters(capture: Path) -> None:
    result = call("inspect", capture, "--kind", "tick", "--symbol", "EURUSD", "--from", "2023-11-15T12:00:01")
    assert result.exit_code == 0
    (line,) = result.output.splitlines()
    assert line.startswith("2023-11-15T12:00:02.000Z streams  tick EURUSD")
    assert len(call("inspect", capture, "--count", 2).output.splitlines()) == 2
    assert "no message" in call("inspect", capture, "--from", NOON_MS + 3000).output


def test_inspect_converts(capture: Path, tmp_path: Path) -> None:
    result = call("inspect", capture, "--csv", tmp_path / "csv", "--parquet", tmp_path / "parquet")
    assert result.exit_code == 0
    assert len((tmp_path / "csv" / "ticks.csv").read_text(encoding="utf-8").splitlines()) == 4
    assert (tmp_path / "parquet" / "ticks.parquet").exists()


def test_a_cut_file_says_so(capture: Path) -> None:
    capture.write_bytes(capture.read_bytes()[:-12])
    result = call("inspect", capture)
    assert result.exit_code == 0
    assert "then it ends" in result.output


def test_a_capture_of_the_home_is_found_by_its_name(capture: Path, tmp_path: Path) -> None:
    result = call("inspect", capture.name, "--home", tmp_path)
    assert result.exit_code == 0, result.output
    assert "4 records, complete" in result.output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("inspect", "FILE", "--from", "yesterday"), "no time such as"),
        (("inspect", "FILE", "--kind", "tik"), "'tik' is no kind of message"),
        (("inspect", "NOTHING"), "does not exist"),
        (("replay", "FILE", "--speed", "fast"), "neither a number above 0 nor max"),
        (("replay", "FILE", "--speed", "-1"), "neither a number above 0 nor max"),
        (("replay", "FILE", "--home", "HOME"), "holds no snapshot"),
        (("record", "--home", "HOME", "--minutes", "0"), "range"),
        (("record", "--home", "HOME"), "Start the system once"),
    ],
)
def test_bad_input_is_one_clear_line(capture: Path, tmp_path: Path, arguments: tuple[str, ...], text: str) -> None:
    places = {"FILE": capture, "HOME": tmp_path / "home", "NOTHING": tmp_path / "nothing"}
    result = call(*(places.get(argument, argument) for argument in arguments))
    assert result.exit_code != 0
    assert text in result.output
    assert "Traceback" not in result.output


def test_something_else_is_no_capture(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"hello")
    result = call("inspect", path)
    assert result.exit_code == 1
    assert "no mt5bus capture" in result.output


def test_record_then_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A live adapter is recorded by one command, and played by the other to a node that joins it."""
    home = tmp_path / "home"
    port = int(quiet_address().rsplit(":", 1)[1])
    monkeypatch.setenv("MT5BUS_PORT", str(port))
    keys = KeyStore(home / "keys")
    keys.ensure()
    peer = Peer(admitted=keys.admitted, server=keys.identity("adapter"))
    adapter = FakeAdapter(peer, f"tcp://127.0.0.1:{port}", f"tcp://127.0.0.1:{port + 1}")
    peer.loop.every(0.02, adapter.beacon)
    peer.loop.every(0.02, adapter.tick)
    with running(peer):
        recorded = call("record", "--home", home, "--minutes", 0.02)
    assert recorded.exit_code == 0, recorded.output
    (file,) = (home / "captures").glob("*.mt5cap")
    assert str(file) in recorded.output

    node = threading.Thread(target=listen, args=(keys, port))
    node.start()
    results = tmp_path / "results.jsonl"
    replayed = call("replay", file, "--home", home, "--speed", "max", "--results", results)
    node.join(20)
    assert replayed.exit_code == 0, replayed.output
    assert "done:" in replayed.output
    assert results.read_bytes().startswith(b'{"submit_order":{"client_order_id":"c-1"')


def listen(keys: KeyStore, port: int) -> None:
    """Be a node: join, order once, and end with the last tick that comes."""
    loop = Loop()
    identity, server_key = keys.identity("strategy"), keys.server_key("adapter")

    def requester(offset: int) -> Requester:
        address = f"tcp://127.0.0.1:{port + offset}"
        return Requester(loop, loop.context, address, identity=identity, server_key=server_key, name="adapter")

    queries, orders = requester(1), requester(2)
    ticks: list[str] = []

    def order(symbol: str, batch: m.TickBatch) -> None:
        ticks.append(symbol)
        if len(ticks) == 1:
            orders.ask(
                lambda request_id: m.SubmitOrder(request_id, "c-1", "s", 0, symbol, "buy", 0.1),
                on_reply=lambda reply: loop.stop(),
                on_error=lambda error: loop.stop(),
                deadline_s=5,
            )

    subscriber = StreamSubscriber(
        loop,
        loop.context,
        f"tcp://127.0.0.1:{port}",
        identity=identity,
        server_key=server_key,
        adapter="main",
        queries=queries,
        on_tick=order,
        on_event=lambda event: None,
    )
    subscriber.start()
    loop.after(30, loop.stop)
    loop.run()
    for each in (subscriber, queries, orders, loop):
        each.close()
