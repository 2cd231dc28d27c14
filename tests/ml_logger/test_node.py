"""The ML logger as a process of its own: killed mid-write, stalled, pinged, stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from ml_logger.store import FILE_NAME, open_store, store_url
from mt5bus.config import Loaded
from mt5bus.processes import child_environment, module_command, start_node
from protocol.keys import KeyStore
from protocol.loop import Loop
from protocol.messages import DealEvent, Event, LoggerReport
from protocol.requests import Requester
from protocol.subscriber import StreamSubscriber
from tests.ml_logger import facts
from tests.ml_logger.contents import everything, locked
from tests.ml_logger.fake_adapter import ADAPTER, FakeAdapter, make_home
from tests.ml_logger.test_recorder import bodies, expected

Start = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def home(tmp_path: Path) -> Loaded:
    return make_home(tmp_path / "home", rows_per_commit=40)


@pytest.fixture
def adapter(home: Loaded) -> Iterator[FakeAdapter]:
    adapter = FakeAdapter(home)
    yield adapter
    adapter.close()


@pytest.fixture
def start(home: Loaded) -> Iterator[Start]:
    processes: list[subprocess.Popen[bytes]] = []

    def started() -> subprocess.Popen[bytes]:
        command = module_command("ml_logger", "--home", home.home.path)
        process = start_node(command, output=home.home.logs / "output.txt", environment=child_environment())
        processes.append(process)
        return process

    yield started
    for process in processes:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and, on Windows, the Python that its launcher started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
    process.kill()
    process.wait(10)


def stored_offset(home: Loaded) -> int:
    """Return how far the store has come, as another process sees it."""
    path = home.home.store / FILE_NAME
    if not path.exists():
        return -1
    try:
        with closing(sqlite3.connect(path, timeout=5)) as reader:
            row = reader.execute("SELECT max(log_offset) FROM event_logs").fetchone()
    except sqlite3.OperationalError:
        return -1  # the tables are just being made
    return -1 if row[0] is None else int(row[0])


def test_killed_mid_write_nothing_is_lost_and_nothing_doubled(adapter: FakeAdapter, start: Start, home: Loaded) -> None:
    numbers = iter(range(1, 100_000))

    def publish_some() -> None:
        for _ in range(3):
            adapter.publish(*bodies(facts.life_of_an_order(0, next(numbers))))

    stream = adapter.loop.every(0.005, publish_some)
    for _ in range(3):
        process = start()
        aim = max(stored_offset(home), 0) + 700
        adapter.until(lambda aim=aim: stored_offset(home) >= aim, what=f"offset {aim}")  # type: ignore[misc]
        kill(process)
    start()
    aim = stored_offset(home) + 300
    adapter.until(lambda: stored_offset(home) >= aim)
    stream.cancel()
    adapter.until(lambda: stored_offset(home) == adapter.last_offset)
    with open_store(store_url("", home.home.store), writing=False) as store:
        found = everything(store)
    assert found | {"coverage": []} == expected(adapter.events)
    assert len(found["deals"]) == next(numbers) - 1


def test_pings_are_answered_and_stopping_leaves_nothing_open(adapter: FakeAdapter, start: Start, home: Loaded) -> None:
    process = start()
    adapter.publish(*bodies(facts.life_of_an_order(0, 1)))
    adapter.until(lambda: "ml_logger" in adapter.peers, what="its hello")

    def ready() -> bool:
        adapter.ping()
        return bool(adapter.pongs) and adapter.pongs[-1].state == "ready"

    adapter.until(ready, what="the state ready")
    report = adapter.pongs[-1].report
    assert isinstance(report, LoggerReport)
    assert (report.signals, report.orders, report.deals, report.event_offset) == (1, 1, 1, 9)
    assert {stream.stream for stream in adapter.pongs[-1].streams} == {"bars", "events"}
    progress = adapter.pongs[-1].progress
    adapter.until(lambda: ready() and adapter.pongs[-1].progress > progress, what="progress")
    adapter.publish(DealEvent(facts.deal(500)))
    if sys.platform == "win32":
        kill(process)
        return
    adapter.until(lambda: adapter.pongs[-1].report and ready() and stored_offset(home) == 10)
    process.send_signal(signal.SIGTERM)
    adapter.until(lambda: process.poll() is not None, what="its end")
    assert process.returncode == 0
    # A store that was closed in order has no log of writes beside it.
    assert not (home.home.store / f"{FILE_NAME}-wal").exists()


def test_stalled_store_changes_nothing_for_the_publisher_nor_for_others(
    adapter: FakeAdapter, start: Start, home: Loaded
) -> None:
    start()
    adapter.publish(*bodies(facts.life_of_an_order(0, 1)))
    adapter.until(lambda: stored_offset(home) == adapter.last_offset)
    with closing(OtherReader(adapter.loop, home)) as other:
        adapter.until(lambda: other.streams.live and "ml_logger" in adapter.peers)
        with locked(home.home.store):
            turns_ns: list[int] = []
            for number in range(2, 300):
                adapter.publish(*bodies(facts.life_of_an_order(0, number)))
                before_ns = adapter.loop.clock.monotonic_ns()
                adapter.loop.turn(1)
                turns_ns.append(adapter.loop.clock.monotonic_ns() - before_ns)
            adapter.until(lambda: len(other.offsets) == adapter.last_offset - 9, what="the other reader's events")

            def degraded() -> bool:
                adapter.ping()
                return bool(adapter.pongs) and adapter.pongs[-1].state == "degraded"

            adapter.until(degraded, what="a pong that tells of the stall")
            assert stored_offset(home) == 9
        assert other.offsets == list(range(10, adapter.last_offset + 1))
        assert sorted(turns_ns)[len(turns_ns) // 2] < 100_000_000
        adapter.until(lambda: stored_offset(home) == adapter.last_offset)
    with open_store(store_url("", home.home.store), writing=False) as store:
        assert everything(store) | {"coverage": []} == expected(adapter.events)


class OtherReader:
    """Another node on the same streams."""

    def __init__(self, loop: Loop, home: Loaded) -> None:
        keys, bus = KeyStore(home.home.keys), home.settings.bus
        identity, server_key = keys.identity("strategy"), keys.server_key("adapter")
        self.offsets: list[int] = []
        self._queries = Requester(
            loop, loop.context, bus.queries, identity=identity, server_key=server_key, name="the adapter"
        )
        self.streams = StreamSubscriber(
            loop,
            loop.context,
            bus.streams,
            identity=identity,
            server_key=server_key,
            adapter=ADAPTER,
            queries=self._queries,
            on_event=self._on_event,
        )
        self.streams.start()

    def _on_event(self, event: Event) -> None:
        self.offsets.append(event.offset)

    def close(self) -> None:
        self.streams.close()
        self._queries.close()


def run(home: Loaded, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = module_command("ml_logger", "--home", home.home.path, *arguments)
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", timeout=60, check=False, env=child_environment()
    )


def test_store_that_can_never_be_used_ends_the_node_with_one_line(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    open_store(store_url("", home.home.store)).close()
    with closing(sqlite3.connect(home.home.store / FILE_NAME)) as other, other:
        other.execute("UPDATE schema_version SET version = 99")
    ended = run(home)
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert "schema version 99" in ended.stderr
    (log,) = home.home.logs.glob("ml_logger-*.jsonl")
    assert json.loads(log.read_text(encoding="utf-8").splitlines()[-1])["level"] == "critical"


def test_node_loads_neither_pandas_nor_scikit_learn() -> None:
    code = "import sys, ml_logger.node, ml_logger.cli; print(' '.join(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, encoding="utf-8", env=dict(os.environ)
    )
    assert not {"pandas", "sklearn", "pyarrow"} & set(done.stdout.split())
