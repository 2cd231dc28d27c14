"""The supervisor over real processes and sockets: deaths, hangs, launchers, adoption, an orderly stop."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event

import msgspec
import psutil
import pytest
import zmq

from mt5bus.config import Loaded
from protocol import codec
from protocol.errors import NoConnection
from protocol.keys import KeyStore
from protocol.loop import Loop
from protocol.messages import Hello
from protocol.sockets import connect_dealer
from supervisor.children import ChildSpec, find_running
from supervisor.control import Control
from supervisor.instance import read_running
from supervisor.node import MAX_STRANGERS, SupervisorNode
from supervisor.status import ProcessStatus, SystemStatus
from tests.supervisor.stub_system import all_specs, make_home, node_spec, stub_terminal
from tests.waiting import eventually


class Running:
    """A supervisor whose loop the test turns."""

    def __init__(self, loaded: Loaded, specs: Sequence[ChildSpec], *, terminal: ChildSpec | None = None) -> None:
        self.loaded = loaded
        self.loop = Loop()
        self.node = SupervisorNode(
            loaded,
            specs=specs,
            terminal_spec=terminal,
            loop=self.loop,
            version="test",
            retry_bind_s=2.0,
        )
        self.node.begin()
        self.ended = False

    def until(self, check: Callable[[SystemStatus], object], *, what: str, timeout_s: float = 15.0) -> SystemStatus:
        def look() -> SystemStatus | None:
            self.loop.turn(20)
            document = self.node.document()
            return document if check(document) else None

        found = eventually(look, timeout_s=timeout_s, what=what)
        assert found is not None
        return found

    def until_running(self) -> SystemStatus:
        return self.until(lambda document: document.state == "running", what="a running system")

    def die(self) -> None:
        """What SIGKILL leaves: the processes, and the file that tells of them."""
        self.node.close()
        self.loop.close()
        self.ended = True

    def stop(self) -> None:
        if self.ended:
            return
        self.node.stop_system("the test is over")
        eventually(self._turn_until_stopped, timeout_s=15, what="the end of every process")
        self.node.finish()
        self.die()

    def _turn_until_stopped(self) -> bool:
        self.loop.turn(20)
        return self.loop.stopping


Start = Callable[..., Running]


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    return make_home(tmp_path / "home")


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Every process started, so that what outlives its supervisor is waited for in the end."""
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def remember(*args: object, **kwargs: object) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] = real(*args, **kwargs)  # type: ignore[call-overload]
        started.append(process)
        return process

    from mt5bus import processes

    start = processes.start_node
    monkeypatch.setattr(processes, "start_node", lambda *args, **kwargs: start(*args, starter=remember, **kwargs))
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait(10)


@pytest.fixture
def start(loaded: Loaded, spawned: list[subprocess.Popen[bytes]]) -> Iterator[Start]:
    systems: list[Running] = []

    def start_one(*specs: ChildSpec, terminal: ChildSpec | None = None) -> Running:
        systems.append(Running(loaded, specs or all_specs(loaded), terminal=terminal))
        return systems[-1]

    yield start_one
    for system in systems:
        system.stop()


def node(document: SystemStatus, name: str) -> ProcessStatus:
    return next(node for node in document.nodes if node.name == name)


def alive(pid: int | None) -> bool:
    try:
        return pid is not None and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_whole_system_starts_in_order_reports_and_stops(loaded: Loaded, start: Start) -> None:
    system = start(terminal=stub_terminal(loaded))
    document = system.until_running()
    assert [node.name for node in document.nodes] == ["adapter", "strategy", "ml_logger"]
    created = [psutil.Process(pid).create_time() for pid in (document.terminal.pid, *(n.pid for n in document.nodes))]
    assert created == sorted(created)
    assert (document.account.login, document.account.equity) == (7, 1001.0)
    assert (document.orders.submitted, document.orders.filled, document.store.deals) == (3, 2, 2)
    assert {stream.node for stream in document.streams} == {"adapter", "strategy", "ml_logger"}
    pids = [document.terminal.pid, *(n.pid for n in document.nodes)]
    system.until(lambda d: all((n.pong_age_s or 9) < 1 and n.memory_mb > 1 for n in d.nodes), what="pongs and usage")
    system.stop()
    assert not any(alive(pid) for pid in pids)
    assert system.node.exit_code == 0


def test_a_killed_node_is_replaced(loaded: Loaded, start: Start) -> None:
    system = start(node_spec(loaded, "adapter"))
    first = node(system.until_running(), "adapter").pid
    assert first is not None
    psutil.Process(first).kill()
    document = system.until(lambda d: d.state == "running" and node(d, "adapter").pid != first, what="another adapter")
    assert node(document, "adapter").restarts == 1


def test_a_killed_terminal_is_replaced(loaded: Loaded, start: Start) -> None:
    system = start(node_spec(loaded, "adapter"), terminal=stub_terminal(loaded))
    first = system.until_running().terminal.pid
    assert first is not None
    psutil.Process(first).kill()
    document = system.until(lambda d: d.state == "running" and d.terminal.pid != first, what="another terminal")
    assert document.terminal.restarts == 1
    assert node(document, "adapter").restarts == 0


def test_a_hanging_node_is_killed_and_replaced(loaded: Loaded, start: Start) -> None:
    system = start(node_spec(loaded, "adapter"))
    first = node(system.until_running(), "adapter").pid
    behaviour = loaded.home.run / "adapter.hang"
    behaviour.touch()
    system.until(lambda d: node(d, "adapter").pid != first, what="the end of the hanging node")
    behaviour.unlink()
    document = system.until_running()
    assert node(document, "adapter").restarts >= 1
    assert not alive(first)


def test_a_frozen_node_is_killed_and_replaced(loaded: Loaded, start: Start) -> None:
    system = start(node_spec(loaded, "adapter"))
    first = node(system.until_running(), "adapter").pid
    assert first is not None
    psutil.Process(first).suspend()
    system.until(lambda d: d.state == "running" and node(d, "adapter").pid != first, what="another adapter")


def test_a_degraded_node_is_shown_and_left_alone(loaded: Loaded, start: Start) -> None:
    system = start(node_spec(loaded, "adapter"))
    first = node(system.until_running(), "adapter").pid
    behaviour = loaded.home.run / "adapter.degraded"
    behaviour.touch()
    document = system.until(lambda d: d.state == "degraded", what="a degraded system")
    assert (node(document, "adapter").state, node(document, "adapter").pid) == ("degraded", first)
    behaviour.unlink()
    system.until_running()


def test_a_node_that_keeps_ending_fails_for_good_and_a_person_restarts_it(
    tmp_path: Path, spawned: list[subprocess.Popen[bytes]]
) -> None:
    loaded = make_home(tmp_path / "limited", max_restarts=2)
    system = Running(loaded, [node_spec(loaded, "adapter")])
    system.until_running()
    behaviour = loaded.home.run / "adapter.exit"
    behaviour.touch()
    document = system.until(lambda d: d.state == "failed", what="a failed node")
    assert node(document, "adapter").reason == "given up after 2 restarts: exit code 7"
    behaviour.unlink()
    system.node.restart("adapter")
    system.until_running()
    system.stop()


def test_a_node_behind_a_launcher_reports_its_own_pid_and_is_ended_whole(loaded: Loaded, start: Start) -> None:
    system = start(node_spec(loaded, "adapter", launcher=True))
    document = system.until_running()
    pid = node(document, "adapter").pid
    assert pid is not None
    launcher = psutil.Process(pid).parent()
    assert launcher is not None
    assert "launcher_program.py" in " ".join(launcher.cmdline())
    (loaded.home.run / "adapter.hang").touch()
    system.until(lambda d: node(d, "adapter").pid != pid, what="the end of the hanging node")
    assert not alive(pid)
    eventually(lambda: not alive(launcher.pid), what="the end of its launcher")
    (loaded.home.run / "adapter.hang").unlink()
    second = node(system.until_running(), "adapter").pid
    system.stop()
    assert not alive(second)


def test_a_node_whose_launcher_is_killed_goes_on(loaded: Loaded, start: Start) -> None:
    system = start(node_spec(loaded, "adapter", launcher=True))
    pid = node(system.until_running(), "adapter").pid
    launcher = psutil.Process(pid).parent()
    assert launcher is not None
    launcher.kill()
    eventually(lambda: not alive(launcher.pid), what="the end of the launcher")
    seen = node(system.until_running(), "adapter")
    system.until(lambda d: (node(d, "adapter").progress or 0) >= 0 and not alive(launcher.pid), what="a turn")
    assert (seen.pid, seen.restarts) == (pid, 0)


def test_a_returning_supervisor_adopts_what_runs(loaded: Loaded, start: Start) -> None:
    first = start(terminal=stub_terminal(loaded))
    before = first.until_running()
    first.die()
    assert all(alive(n.pid) for n in before.nodes)
    second = start(terminal=stub_terminal(loaded))
    after = second.until_running()
    assert [n.pid for n in after.nodes] == [n.pid for n in before.nodes]
    assert after.terminal.pid == before.terminal.pid
    assert all(n.restarts == 0 for n in after.nodes)
    killed = node(after, "strategy").pid
    assert killed is not None
    psutil.Process(killed).kill()
    second.until(lambda d: d.state == "running" and node(d, "strategy").pid != killed, what="another strategy")
    second.stop()
    assert not any(alive(n.pid) for n in before.nodes)


def test_processes_are_found_without_the_adoption_file(loaded: Loaded, start: Start) -> None:
    first = start(node_spec(loaded, "adapter"))
    before = first.until_running()
    first.die()
    (loaded.home.run / "adopted.json").write_bytes(b"{")
    after = start(node_spec(loaded, "adapter")).until_running()
    assert node(after, "adapter").pid == node(before, "adapter").pid


def test_what_died_with_its_supervisor_is_started_anew(loaded: Loaded, start: Start) -> None:
    first = start(node_spec(loaded, "adapter"))
    pid = node(first.until_running(), "adapter").pid
    assert pid is not None
    first.die()
    psutil.Process(pid).kill()
    eventually(lambda: not alive(pid), what="the end of the node")
    assert node(start(node_spec(loaded, "adapter")).until_running(), "adapter").pid != pid


def test_a_start_that_fails_stops_what_was_started(loaded: Loaded, start: Start) -> None:
    system = start(
        node_spec(loaded, "adapter"), node_spec(loaded, "strategy", "--at-once", "exit"), terminal=stub_terminal(loaded)
    )
    eventually(system._turn_until_stopped, timeout_s=15, what="the failed start's stop")
    system.node.finish()
    assert system.node.exit_code == 1
    assert system.node.failure.startswith("strategy does not start: exit code 7")
    assert system.node.failure.endswith("it said: Error: the thing is not there")
    assert find_running([*all_specs(loaded), stub_terminal(loaded)]) == {}
    system.die()


def test_a_terminal_that_keeps_ending_is_a_failed_start(loaded: Loaded, start: Start) -> None:
    broken = msgspec.structs.replace(stub_terminal(loaded), command=(sys.executable, "-c", "exit('bad settings')"))
    system = start(node_spec(loaded, "adapter"), terminal=broken)
    eventually(system._turn_until_stopped, timeout_s=15, what="the failed start's stop")
    system.node.finish()
    assert system.node.failure == "terminal does not start: exit code 1; it said: bad settings"
    system.die()


def test_a_hanging_start_is_noticed(tmp_path: Path, spawned: list[subprocess.Popen[bytes]]) -> None:
    loaded = make_home(tmp_path / "hanging", start_deadline_s=0.3)
    system = Running(loaded, [node_spec(loaded, "adapter", "--at-once", "hang")])
    eventually(system._turn_until_stopped, timeout_s=15, what="the failed start's stop")
    system.node.finish()
    assert "it did not say hello within 0.3 s" in system.node.failure
    system.die()


def test_a_node_that_ignores_the_stop_is_killed(loaded: Loaded, start: Start) -> None:
    system = start(node_spec(loaded, "adapter"))
    pid = node(system.until_running(), "adapter").pid
    (loaded.home.run / "adapter.hang").touch()
    system.stop()
    assert not alive(pid)


def test_a_taken_port_is_an_error_that_names_it(loaded: Loaded, start: Start) -> None:
    start(node_spec(loaded, "adapter"))
    loop = Loop()
    with pytest.raises(NoConnection, match=str(loaded.settings.bus.port + 3)):
        SupervisorNode(loaded, specs=[], terminal_spec=None, loop=loop, version="", retry_bind_s=0)
    loop.close()


def test_after_a_sleep_of_its_own_the_supervisor_kills_nobody(loaded: Loaded) -> None:
    command = [sys.executable, "-m", "tests.supervisor.supervisor_program", "--home", str(loaded.home.path)]
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(command, cwd=root)
    try:
        eventually(lambda: read_running(loaded.home), what="the supervisor")
        with Control.of(loaded.home) as control:
            before = eventually(
                lambda: d if (d := control.status()).state == "running" else None, what="a running system"
            )
            assert before is not None
            frozen = psutil.Process(process.pid)
            frozen.suspend()
            Event().wait(1.5)  # not a wait for something: a freeze five times as long as makes a node hang
            frozen.resume()
            after = control.status(deadline_s=5)
            eventually(lambda: control.status().supervisor.uptime_s > after.supervisor.uptime_s + 0.5, what="0.5 s")
            assert [n.pid for n in control.status().nodes] == [n.pid for n in before.nodes]
            control.stop_system()
        assert process.wait(15) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)


def test_second_nodes_are_told_of_once_and_only_the_newest_are_remembered(
    loaded: Loaded, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    running = start(node_spec(loaded, "adapter"))
    running.until_running()
    keys = KeyStore(loaded.home.keys)
    address, server_key = loaded.settings.bus.pings, keys.server_key("supervisor")
    context = running.loop.context
    socket = connect_dealer(context, address, identity=keys.identity("adapter"), server_key=server_key)

    def say_hello(number: int) -> None:
        hello = Hello("adapter", f"life-{number}", os.getpid(), 0.0, "1", "ready")
        socket.send_multipart([b"", codec.encode(hello)])

    def told() -> int:
        return sum(record.message.startswith("a second node") for record in caplog.records)

    try:
        running.until(lambda _: socket.poll(0, zmq.POLLOUT), what="the connection")
        for number in range(MAX_STRANGERS + 1):
            say_hello(number)
        say_hello(MAX_STRANGERS)  # known
        say_hello(0)  # forgotten
        say_hello(MAX_STRANGERS + 1)  # new, and last: every one before it was read
        running.until(lambda _: told() >= MAX_STRANGERS + 3, what="every second node")
        assert told() == MAX_STRANGERS + 3
    finally:
        socket.close(linger=0)
