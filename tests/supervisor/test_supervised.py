"""One supervised process under a clock that tests turn and a starter that starts nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from mt5bus.errors import ProcessError
from protocol.clock import ManualClock
from protocol.messages import Hello, Pong
from supervisor.children import ChildSpec
from supervisor.heartbeat import HeartbeatPolicy
from supervisor.node_states import State
from supervisor.restarts import RestartPolicy
from supervisor.supervised import Process, Supervised

SPEC = ChildSpec(name="adapter", command=("x",), output=Path("x"), marks=())


class FakeProcess:
    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.create_time_s = 0.0
        self.exit_code: int | None = None
        self.gone = False
        self.kills = 0
        self.dies_when_killed = True

    def ended(self) -> bool:
        return self.gone

    def kill(self) -> None:
        self.kills += 1
        if self.dies_when_killed:
            self.die(-9)

    def die(self, code: int) -> None:
        self.gone, self.exit_code = True, code

    def usage(self) -> tuple[float, float]:
        return 1.0, 2.0

    def is_or_started(self, pid: int) -> bool:
        return pid in {self.pid, self.pid + 1000}

    def identify(self, pid: int) -> None:
        self.pid = pid


class Bench:
    """A supervised process with everything around it in the test's hands."""

    def __init__(self, *, heartbeat: bool = True, max_restarts: int = 3) -> None:
        self.clock = ManualClock()
        self.launched: list[FakeProcess] = []
        self.refuse = False
        self.successor: FakeProcess | None = None
        self.it = Supervised(
            SPEC,
            clock=self.clock,
            launch=self._launch,
            restarts=RestartPolicy(backoff_first_s=1.0, backoff_max_s=8.0, max_restarts=max_restarts, window_s=100.0),
            heartbeat=HeartbeatPolicy(interval_s=1.0, missed_pongs=3) if heartbeat else None,
            start_deadline_s=10.0,
            stop_deadline_s=2.0,
            find_successor=lambda: self.successor,
        )

    def _launch(self, _spec: ChildSpec) -> Process:
        if self.refuse:
            raise ProcessError("no such program")
        self.launched.append(FakeProcess(100 + len(self.launched)))
        return self.launched[-1]

    @property
    def state(self) -> State:
        """Read anew each time: mypy believes that a plain attribute stays as it was asserted."""
        return self.it.state

    @property
    def process(self) -> FakeProcess:
        return self.launched[-1]

    def turn(self, seconds: float = 0.0) -> None:
        self.clock.advance(seconds)
        self.it.turn()

    def hello(self, instance: str = "a", pid: int | None = None) -> bool:
        return self.it.on_hello(Hello("adapter", instance, pid or self.process.pid, 0.0, "1", "starting"), b"r")

    def pong(self, state: str = "ready", instance: str = "a", busy_until_ns: int = 0) -> None:
        self.it.on_pong(Pong("adapter", instance, 1, 0, state, 1, busy_until_ns, ()))

    def ready(self) -> None:
        self.it.start()
        assert self.hello()
        self.pong()
        assert self.state is State.RUNNING

    def tick(self) -> None:
        """One beat: judge the last pings, send the next."""
        self.turn(1.0)
        self.it.judge()
        if self.it.pinged and self.it.heartbeat is not None:
            self.it.heartbeat.next_serial()


def test_a_node_runs_once_its_pong_says_ready() -> None:
    bench, seen = Bench(), []
    bench.it.start()
    assert bench.hello()
    for said in ("starting", "ready", "degraded"):
        bench.pong(said)
        seen.append(bench.state)
    assert seen == [State.STARTING, State.RUNNING, State.DEGRADED]


def test_a_node_behind_a_launcher_is_known_by_its_own_pid() -> None:
    bench = Bench()
    bench.it.start()
    launcher_pid = bench.process.pid
    assert bench.hello(pid=launcher_pid + 1000)
    assert bench.it.pid == launcher_pid + 1000


def test_a_stranger_of_that_name_is_not_taken_for_the_node() -> None:
    bench = Bench()
    bench.it.start()
    assert not bench.hello(pid=5)
    assert not bench.it.pinged


def test_a_node_that_ends_is_restarted_at_once_and_counted() -> None:
    bench = Bench()
    bench.ready()
    bench.process.die(7)
    bench.turn()
    assert (bench.state, bench.it.reason) == (State.STARTING, "exit code 7")
    assert (bench.it.restarts, len(bench.launched)) == (1, 2)


def test_a_node_that_ends_again_waits_longer_each_time() -> None:
    bench, waited = Bench(max_restarts=9), []
    bench.it.start()
    for _ in range(4):
        bench.process.die(7)
        seconds = 0.0
        bench.turn()
        while bench.state is State.BACKOFF:
            bench.turn(0.5)
            seconds += 0.5
        waited.append(seconds)
    assert waited == [0.0, 1.0, 2.0, 4.0]


def test_a_node_that_does_not_answer_three_pings_is_killed_and_restarted() -> None:
    bench = Bench()
    bench.ready()
    for _ in range(4):
        bench.tick()
    assert bench.process.kills == 1
    bench.turn()
    assert bench.it.reason == "it did not answer 3 pings"
    bench.turn()
    assert len(bench.launched) == 2


def test_a_node_that_answers_late_but_in_time_is_left_alone() -> None:
    bench = Bench()
    bench.ready()
    for _ in range(30):
        bench.tick()
        bench.tick()
        bench.pong()
    assert bench.process.kills == 0


def test_an_announced_pause_is_not_a_hang() -> None:
    bench = Bench()
    bench.ready()
    bench.pong(busy_until_ns=bench.clock.monotonic_ns() + 20 * 10**9)
    for _ in range(19):
        bench.tick()
    assert bench.state is State.RUNNING
    bench.tick()
    bench.tick()
    assert bench.launched[0].kills == 1


def test_our_own_sleep_is_not_a_hang_of_the_node() -> None:
    bench = Bench()
    bench.ready()
    for _ in range(3):
        bench.tick()
    bench.it.forgive_silence()
    bench.tick()
    assert bench.state is State.RUNNING


def test_a_pong_of_an_earlier_life_counts_for_nothing() -> None:
    bench = Bench()
    bench.ready()
    bench.process.die(1)
    bench.turn()
    bench.turn()
    bench.hello("b")
    bench.pong("ready", instance="a")
    assert bench.state is State.STARTING


def test_a_node_without_a_hello_is_killed_after_the_start_deadline() -> None:
    bench = Bench()
    bench.it.start()
    bench.turn(9.9)
    assert bench.process.kills == 0
    bench.turn(0.2)
    assert bench.process.kills == 1
    bench.turn()
    assert bench.it.reason == "it did not say hello within 10 s"


def test_ending_again_and_again_ends_in_failed_with_the_reason() -> None:
    bench = Bench()
    bench.it.start()
    for _ in range(20):
        if bench.it.state is State.STARTING:
            bench.process.die(3)
        bench.turn(1.0)
    assert bench.state is State.FAILED
    assert bench.it.reason == "given up after 3 restarts: exit code 3"
    assert len(bench.launched) == 4


def test_a_person_restarts_what_failed() -> None:
    bench = Bench(max_restarts=1)
    bench.it.start()
    for _ in range(5):
        if bench.it.state is State.STARTING:
            bench.process.die(3)
        bench.turn(1.0)
    bench.it.restart()
    assert bench.state is State.STARTING


def test_a_start_that_is_refused_is_tried_again_and_given_up() -> None:
    bench = Bench()
    bench.refuse = True
    bench.it.start()
    assert (bench.it.state, bench.it.reason) == (State.BACKOFF, "no such program")
    for _ in range(20):
        bench.turn(2.0)
    assert bench.state is State.FAILED


def test_a_killed_process_that_stays_is_killed_again() -> None:
    bench = Bench()
    bench.ready()
    bench.process.dies_when_killed = False
    for _ in range(4):
        bench.tick()
    assert bench.state is State.HUNG
    bench.turn(6.0)
    assert bench.process.kills == 2


def test_a_stopping_process_is_killed_after_its_deadline_and_not_restarted() -> None:
    bench = Bench()
    bench.ready()
    bench.it.stop()
    bench.turn(1.9)
    assert bench.process.kills == 0
    bench.turn(0.2)
    assert bench.process.kills == 1
    bench.turn()
    bench.turn(100.0)
    assert bench.state is State.STOPPED
    assert len(bench.launched) == 1


@pytest.mark.parametrize("when", ["stopped", "backoff"])
def test_stopping_what_does_not_run_is_done_at_once(when: str) -> None:
    bench = Bench()
    if when == "backoff":
        bench.refuse = True
        bench.it.start()
    bench.it.stop()
    assert bench.state is State.STOPPED


def test_an_adopted_node_that_is_not_heard_of_is_given_its_start_deadline() -> None:
    from mt5bus.processes import ProcessIdentity
    from supervisor.children import Adopted

    bench = Bench()
    bench.it.adopt(FakeProcess(100), Adopted("adapter", ProcessIdentity(100, 0.0, "x"), "a", "adapter.a"))
    for _ in range(9):
        bench.tick()
    assert str(bench.state) == "starting"
    for _ in range(2):
        bench.tick()
    assert bench.it.reason == "it did not say hello within 10 s"


def test_a_terminal_runs_once_it_lives_and_needs_no_pongs() -> None:
    bench = Bench(heartbeat=False)
    bench.it.start()
    assert not bench.it.there
    bench.turn()
    assert (bench.state, bench.it.there, bench.it.ready_once) == (State.RUNNING, True, False)
    bench.turn(2.9)
    bench.process.die(1)
    bench.turn()
    bench.turn()
    assert not bench.it.ready_once
    assert bench.it.reason
    bench.turn(3.0)
    assert bench.it.ready_once
    assert not bench.it.reason
    bench.turn(1000.0)
    assert bench.state is State.RUNNING


def test_a_terminal_that_renewed_itself_is_found_again_and_not_restarted() -> None:
    bench = Bench(heartbeat=False)
    bench.it.start()
    bench.turn()
    bench.successor = FakeProcess(500)
    bench.process.die(0)
    bench.turn()
    bench.turn()
    assert (bench.it.state, bench.it.pid, bench.it.restarts) == (State.RUNNING, 500, 0)


def test_an_adopted_node_is_pinged_at_its_old_address_and_keeps_its_count() -> None:
    from mt5bus.processes import ProcessIdentity
    from supervisor.children import Adopted

    bench = Bench()
    process = FakeProcess(100)
    process.create_time_s = bench.clock.wall_ms() / 1e3 - 60.0
    bench.it.adopt(process, Adopted("adapter", ProcessIdentity(100, 0.0, "x"), "a", "adapter.a", 4))
    assert bench.it.pinged
    assert bench.it.routing_id == b"adapter.a"
    bench.pong()
    assert (bench.it.state, bench.it.restarts) == (State.RUNNING, 4)
    assert bench.it.uptime_s == pytest.approx(60.0)
