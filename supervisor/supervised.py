"""One supervised process: its state, its child, its pongs and its restarts, without sockets.

The node feeds it hellos, pongs and the passing of time; it starts, judges, kills and restarts. Clock and
process starter are handed in.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from mt5bus import processes
from mt5bus.errors import ProcessError
from protocol.clock import Clock
from protocol.messages import Hello, Pong
from supervisor.children import Adopted, ChildSpec
from supervisor.heartbeat import Heartbeat, HeartbeatPolicy
from supervisor.node_states import ALIVE, ANSWERING, Event, State, following
from supervisor.restarts import RestartHistory, RestartPolicy

SETTLED_AFTER_S = 3.0
"""A process that speaks no bus and lives this long has started."""
KILL_REPEAT_S = 5.0
"""A killed process that is still there is killed again, and reported, after so long."""

_PONG_EVENTS = {"ready": Event.READY, "degraded": Event.IMPAIRED, "starting": Event.UNREADY, "stopping": Event.UNREADY}

log = logging.getLogger(__name__)


class Process(Protocol):
    """What `Supervised` needs of a child; `children.Child` in real life."""

    @property
    def pid(self) -> int:
        """Process id."""
        ...

    @property
    def create_time_s(self) -> float:
        """When it was created, seconds since the epoch."""
        ...

    @property
    def exit_code(self) -> int | None:
        """Exit code, if it ended and we started it."""
        ...

    def ended(self) -> bool:
        """Whether it is gone."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...

    def usage(self) -> tuple[float, float]:
        """CPU in percent of one core, memory in MB."""
        ...

    def is_or_started(self, pid: int) -> bool:
        """Whether a process is this one or below it."""
        ...

    def identify(self, pid: int) -> None:
        """Take the node's own identity."""
        ...


Launch = Callable[[ChildSpec], Process]


class Supervised:
    """A node or the terminal under supervision.

    Args:
        spec: What to start.
        clock: For durations.
        launch: Starts it; raises ProcessError.
        restarts: Pace and limit of restarts.
        heartbeat: How it is pinged; None for a process that speaks no bus (the terminal): running once it lives.
        start_deadline_s: From its start to its first hello.
        stop_deadline_s: From being told to stop to being killed.
        find_successor: Finds it running under a new pid after its end (a terminal that updated itself).
    """

    def __init__(
        self,
        spec: ChildSpec,
        *,
        clock: Clock,
        launch: Launch,
        restarts: RestartPolicy,
        heartbeat: HeartbeatPolicy | None,
        start_deadline_s: float,
        stop_deadline_s: float,
        find_successor: Callable[[], Process | None] = lambda: None,
    ) -> None:
        self.spec = spec
        self.state = State.STOPPED
        self.child: Process | None = None
        self.instance = ""
        self.routing_id = b""
        self.reason = ""
        self.ready_once = False
        self.pong: Pong | None = None
        self.heartbeat: Heartbeat | None = None
        self._clock = clock
        self._launch = launch
        self._history = RestartHistory(restarts)
        self._heartbeat_policy = heartbeat
        self._start_deadline_s = start_deadline_s
        self._stop_deadline_s = stop_deadline_s
        self._find_successor = find_successor
        self._launched_ns = 0
        self._due_ns = 0  # backoff: of the restart; hung, stopping: of the next kill
        self._kills = 0
        self._restarts_before = 0
        self._heard = False  # of it, in this life and by this supervisor

    @property
    def name(self) -> str:
        """Its name in status and logs."""
        return self.spec.name

    @property
    def restarts(self) -> int:
        """Restarts so far, those by the supervisors it was adopted from included."""
        return self._restarts_before + self._history.count

    @property
    def pid(self) -> int | None:
        """Process id; None without a process."""
        return self.child.pid if self.child is not None else None

    @property
    def uptime_s(self) -> float | None:
        """Seconds since it was started; None without a process."""
        return None if self.child is None else (self._clock.monotonic_ns() - self._launched_ns) / 1e9

    @property
    def there(self) -> bool:
        """Whether what needs it can be started: it runs, and its sockets are bound (which its first pong shows)."""
        return self.pong is not None or (self._heartbeat_policy is None and self.state is State.RUNNING)

    @property
    def pinged(self) -> bool:
        """Whether it is to be pinged now."""
        return self.state in ANSWERING and bool(self.routing_id) and self.heartbeat is not None

    def start(self) -> None:
        """Start the process, unless it runs. A start that is refused counts as an end."""
        if self.state in ALIVE:
            return
        try:
            child = self._launch(self.spec)
        except ProcessError as error:
            log.warning("a process could not be started", extra={"target": self.name, "reason": str(error)})
            self._after_end(str(error), ran_s=0.0, curable=True)
            return
        self._take(child)
        log.info("a process was started", extra={"target": self.name, "process_pid": child.pid})

    def adopt(self, child: Process, entry: Adopted | None = None) -> None:
        """Take over a process that runs already.

        Args:
            child: The process.
            entry: What the last supervisor knew of it; with its instance it can be pinged at once.
        """
        self._take(child)
        self._launched_ns -= round(max(0.0, self._clock.wall_ms() / 1e3 - child.create_time_s) * 1e9)
        if entry is not None:
            self._restarts_before = entry.restarts
            self.instance = entry.instance
            self.routing_id = entry.routing_id.encode("ascii", "replace")
        log.info("a running process was adopted", extra={"target": self.name, "process_pid": child.pid})

    def restart(self) -> None:
        """Restart because a person asked: past failures are forgiven."""
        self._history.forgive()
        self._due_ns = 0
        if self.state in ALIVE:
            self.reason = "restart was asked for"
            self._silence("restart was asked for")
        else:
            self.start()

    def stop(self) -> None:
        """Note that it was told to stop; it is killed if it lives past the deadline."""
        if self.state is not State.STOPPING:
            self._become(Event.TOLD_TO_STOP)
            self._due_ns = self._in(self._stop_deadline_s)
            self._kills = 0

    def kill_now(self) -> None:
        """Kill it without waiting for its deadline: there is no way to ask it."""
        self._kill()

    def usage(self) -> tuple[float, float]:
        """Return (CPU in percent of one core, resident memory in MB); zeros without a process."""
        return self.child.usage() if self.child is not None else (0.0, 0.0)

    def on_hello(self, hello: Hello, routing_id: bytes) -> bool:
        """Take note of a node that presents itself; return False for a stranger of that name."""
        if self.child is None or not self.child.is_or_started(hello.pid):
            return False
        try:
            self.child.identify(hello.pid)
        except ProcessError:
            return False  # it ended since; that shows by itself
        if hello.instance != self.instance and self._heartbeat_policy is not None:
            self.heartbeat = Heartbeat(self._heartbeat_policy)
        self.instance = hello.instance
        self.routing_id = routing_id
        self._heard = True
        return True

    def on_pong(self, pong: Pong) -> None:
        """Take note of a pong; one of an earlier life is ignored."""
        if pong.instance != self.instance or self.heartbeat is None or self.state not in ALIVE:
            return
        self.heartbeat.on_pong(now_ns=self._clock.monotonic_ns(), busy_until_ns=pong.busy_until_ns)
        self.pong = pong
        self._heard = True
        before = self.state
        self._become(_PONG_EVENTS.get(pong.state, Event.IMPAIRED))
        if self.state is State.RUNNING and before is not State.RUNNING:
            self.ready_once = True
            self.reason = ""
            log.info("a node is ready", extra={"target": self.name, "process_pid": self.pid})

    def judge(self) -> None:
        """Kill it if it hangs; called one interval after each ping, with every pong drained."""
        if not self._heard or not self.pinged or self.heartbeat is None:
            return  # not connected yet: that has a deadline of its own
        if self.heartbeat.silent(now_ns=self._clock.monotonic_ns()):
            self._silence(f"it did not answer {self.heartbeat.unanswered} pings")

    def turn(self) -> None:
        """See whether it ended, and whether something is due. Called at every turn of the loop."""
        now_ns = self._clock.monotonic_ns()
        if self.child is not None and self.child.ended():
            self._on_end(self.child)
        if self.state is State.STARTING and not self._heard and now_ns >= self._due_ns:
            if self._heartbeat_policy is None:
                self._heard = True
                self._become(Event.READY)
            else:
                self._silence(f"it did not say hello within {self._start_deadline_s:g} s")
        elif self.state is State.RUNNING and self._heartbeat_policy is None:
            if (self.uptime_s or 0.0) >= SETTLED_AFTER_S:
                # Nothing says `ready` for a terminal: it has started when it lives on.
                self.ready_once = True
                self.reason = ""
        elif self.state in {State.HUNG, State.STOPPING} and now_ns >= self._due_ns:
            self._kill()
        elif self.state is State.BACKOFF and now_ns >= self._due_ns:
            self.start()

    def forgive_silence(self) -> None:
        """Do not count the pongs missed while the supervisor itself did not run (sleep, freeze)."""
        if self.heartbeat is not None:
            self.heartbeat.forget_unanswered()
        if self.state is State.STARTING and not self._heard:
            self._due_ns = max(self._due_ns, self._in(self._start_deadline_s / 2))

    def adopted_entry(self) -> Adopted | None:
        """Return what the next supervisor needs to know of it; None without a process."""
        identity = getattr(self.child, "identity", None)
        if identity is None:
            return None
        return Adopted(self.name, identity, self.instance, self.routing_id.decode("ascii", "replace"), self.restarts)

    def _take(self, child: Process) -> None:
        self._become(Event.LAUNCHED)
        self.child = child
        self.instance = ""
        self.routing_id = b""
        self.pong = None
        self.heartbeat = Heartbeat(self._heartbeat_policy) if self._heartbeat_policy else None
        self._launched_ns = self._clock.monotonic_ns()
        self._due_ns = self._in(self._start_deadline_s) if self._heartbeat_policy else 0
        self._kills = 0
        self._heard = False

    def _silence(self, why: str) -> None:
        log.warning("a process is killed", extra={"target": self.name, "process_pid": self.pid, "reason": why})
        self.reason = why
        self._become(Event.SILENT)
        self._kill()

    def _kill(self) -> None:
        if self.child is None:
            return
        self._kills += 1
        if self._kills > 1:
            log.error("a killed process is still there", extra={"target": self.name, "process_pid": self.pid})
        self.child.kill()
        self._due_ns = self._in(KILL_REPEAT_S)

    def _on_end(self, child: Process) -> None:
        code = child.exit_code
        explained = "it ended" if code is None else processes.explain_exit(code)
        # A kill of ours is known before it is done; the exit code would not tell.
        why = self.reason if self.state is State.HUNG and self.reason else explained
        ran_s = (self._clock.monotonic_ns() - self._launched_ns) / 1e9
        expected = self.state is State.STOPPING
        level = logging.INFO if expected else logging.WARNING
        log.log(level, "a process ended", extra={"target": self.name, "process_pid": child.pid, "reason": why})
        self.child = None
        self.pong = None
        self.routing_id = b""
        if not expected:
            successor = self._find_successor()
            if successor is not None:
                self._become(Event.ENDED)
                self.adopt(successor)
                return
        self._after_end(why, ran_s=ran_s, curable=code is None or not processes.broken_environment(code))

    def _after_end(self, why: str, *, ran_s: float, curable: bool) -> None:
        self.reason = why
        if self.state is State.STOPPING:
            self._become(Event.ENDED)
            return
        now_s = self._clock.monotonic_ns() / 1e9
        pause_s = self._history.after_end(now_s=now_s, ran_s=ran_s) if curable else None
        if pause_s is None:
            self._become(Event.EXHAUSTED)
            self.reason = f"given up after {self.restarts} restarts: {why}" if curable else why
            log.error("a process failed for good", extra={"target": self.name, "reason": self.reason})
            return
        self._become(Event.ENDED)
        self._due_ns = self._in(pause_s)

    def _become(self, event: Event) -> None:
        self.state = following(self.state, event)

    def _in(self, seconds: float) -> int:
        return self._clock.monotonic_ns() + round(seconds * 1e9)
