"""The supervisor as a process: sockets, timers and parts wired together.

It waits for nothing: processes are started and killed, and their ends seen, between two polls of the loop. It writes
only to its log; who looks at it asks over the control socket.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import FrameType

import msgspec
import zmq

from mt5bus import paper
from mt5bus.config import Loaded
from mt5bus.errors import ProcessError
from mt5bus.processes import ProcessIdentity
from protocol import codec
from protocol.errors import DataInvalid, NotFound, StateConflict
from protocol.keys import KeyStore
from protocol.loop import Loop
from protocol.messages import (
    Done,
    DoorCounts,
    GetStatus,
    Goodbye,
    Hello,
    Message,
    Ping,
    Pong,
    RestartNode,
    StatusReply,
    StopNode,
    StopSystem,
)
from protocol.service import Caller, Service
from protocol.sightings import Sightings
from protocol.sockets import bind_router
from protocol.zap import Gatekeeper
from supervisor import terminal
from supervisor.children import AdoptionFile, Child, ChildSpec, find_running, last_words
from supervisor.document import StatusSource
from supervisor.heartbeat import HeartbeatPolicy
from supervisor.instance import Running, Stopped, write_running, write_stopped
from supervisor.node_states import ALIVE, State
from supervisor.restarts import RestartPolicy
from supervisor.specs import NEEDS, STOP_ORDER, TERMINAL
from supervisor.status import SystemStatus
from supervisor.stopping import Stop
from supervisor.supervised import Supervised

TURN_S = 0.1
USAGE_INTERVAL_S = 1.0
START_ATTEMPTS = 3
"""Ends before the first `ready` that make a start of the system fail."""
MAX_DRAIN = 1_000
"""Messages of nodes read in one go: far more than honest ones send between two pings."""
MAX_STRANGERS = 100
"""Lives of second nodes that are remembered, so that each is told of once; of older ones it is told again."""
_ENVELOPE_PARTS = 3

log = logging.getLogger(__name__)


class SupervisorNode:
    """Watches the nodes and the terminal of one home until told to stop.

    Attributes:
        failure: Why the start failed; empty otherwise.

    Args:
        loaded: The configuration, with the password if there is one.
        specs: The nodes, in starting order.
        terminal_spec: The terminal; None if somebody else starts it.
        loop: The loop to run in.
        version: Shown in the status.
        retry_bind_s: How long a taken port is tried again.

    Raises:
        NoConnection: A port is taken.
        OSError: The home cannot be written.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        specs: Sequence[ChildSpec],
        terminal_spec: ChildSpec | None,
        loop: Loop,
        version: str,
        retry_bind_s: float = 30.0,
    ) -> None:
        self._loaded = loaded
        self._loop = loop
        self._settings = loaded.settings.supervisor
        self._own = ProcessIdentity.own()
        self._terminal = self._supervise_terminal(terminal_spec) if terminal_spec is not None else None
        self._nodes = {spec.name: self._supervise(spec) for spec in specs}
        self._all: dict[str, Supervised] = dict(self._nodes)
        if self._terminal is not None:
            self._all = {TERMINAL: self._terminal, **self._nodes}
        self._adoption = AdoptionFile(loaded.home.run / "adopted.json")
        self._stop: Stop | None = None
        self.failure = ""
        self._up_once = False
        self._last_ping_ns = loop.clock.monotonic_ns()
        self._strangers: deque[str] = deque(maxlen=MAX_STRANGERS)
        self.malformed = 0

        keys = KeyStore(loaded.home.keys)
        keys.ensure()
        identity = keys.identity("supervisor")
        self._gatekeeper = Gatekeeper(
            loop,
            keys.admitted,
            standing=keys.standing,
            sightings=Sightings(loaded.home.run / "seen-supervisor.json", loop.clock),
        )
        bus = loaded.settings.bus
        with ExitStack() as opened:
            # A start that fails half-way leaves no socket behind.
            opened.callback(self._gatekeeper.close)
            self._pings = bind_router(
                loop.context, bus.bound.pings, identity=identity, domain="node", retry_s=retry_bind_s
            )
            opened.callback(self._pings.close)
            control = bind_router(
                loop.context, bus.bound.control, identity=identity, domain="control", retry_s=retry_bind_s
            )
            opened.pop_all()
        self._pings_door = self._gatekeeper.door(self._pings, "node")
        self._control = Service(loop, control, adapter="", door=self._gatekeeper.door(control, "control"))
        self._control.handle(GetStatus, self._on_get_status)
        self._control.handle(StopSystem, self._on_stop_system)
        self._control.handle(RestartNode, self._on_restart_node)
        self._source = StatusSource(loaded, clock=loop.clock, version=version)
        loop.watch(self._pings, self._drain)
        loop.every(TURN_S, self._turn)
        loop.every(self._settings.ping_interval_s, self._ping_all)
        loop.every(USAGE_INTERVAL_S, lambda: self._source.measure(self._all.values()))

    def run(self) -> int:
        """Supervise until stopped; return the exit code: 0 as asked, 1 when the start failed.

        Raises:
            OSError: The home cannot be written.
        """
        self.begin()
        self._loop.run()
        self.finish()
        return self.exit_code

    def begin(self) -> None:
        """Say where this supervisor is, take over what runs and start the rest.

        Raises:
            OSError: The home cannot be written.
        """
        home, bus = self._loaded.home, self._loaded.settings.bus
        config = str(self._loaded.file) if self._loaded.file is not None else None
        write_running(home, Running(identity=self._own, control=bus.control, port=bus.port, config=config))
        paper.write_settings(self._loaded)
        log.info("the supervisor started", extra={"home": str(home.path), "port": bus.port})
        self._adopt_running()
        self._turn()

    def finish(self) -> None:
        """Say that nothing is left to adopt, and how it ended.

        Raises:
            OSError: The home cannot be written.
        """
        reason = self.failure or "as asked"
        self._adoption.write(())
        write_stopped(self._loaded.home, Stopped(pid=self._own.pid, failed=bool(self.failure), reason=reason))
        log.info("the supervisor ended", extra={"reason": reason})

    @property
    def exit_code(self) -> int:
        """0, or 1 when the start failed."""
        return 1 if self.failure else 0

    def close(self) -> None:
        """Close the sockets; the processes go on."""
        self._loop.unwatch(self._pings)
        self._pings.close()
        self._control.close()
        self._gatekeeper.close()

    def install_signals(self) -> None:
        """Let SIGINT, SIGTERM and (Windows) SIGBREAK stop the whole system. Main thread only."""
        numbers = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGBREAK"):
            numbers.append(signal.SIGBREAK)
        for number in numbers:
            signal.signal(number, self._on_signal)
        if sys.platform != "win32":
            # The end of a child ends the poll: it is replaced at once, not at the next turn.
            signal.signal(signal.SIGCHLD, lambda _number, _frame: self._loop.post(self._turn))
        self._loop.wake_on_signals()

    def stop_system(self, reason: str) -> None:
        """Begin to end every process, then the loop; asked twice, it is one stop."""
        if self._stop is not None:
            return
        log.info("the system stops", extra={"reason": reason})
        groups = [[self._all[name] for name in group if name in self._all] for group in STOP_ORDER]
        others = [process for name, process in self._all.items() if not any(name in group for group in STOP_ORDER)]
        self._stop = Stop([others, *groups], ask=self._ask_to_end, clock=self._loop.clock)

    def restart(self, name: str) -> None:
        """Restart a node or the terminal, also one that has failed for good.

        Raises:
            NotFound: There is none of that name.
            StateConflict: The system is stopping.
        """
        process = self._all.get(name)
        if process is None:
            raise NotFound(f"there is no process {name!r}: there are {', '.join(self._all)}")
        if self._stop is not None:
            raise StateConflict("the system is stopping: start it again with 'mt5bus up'")
        process.restart()

    def document(self) -> SystemStatus:
        """Return the status document as of now."""
        stopping = self._stop is not None
        return self._source.document(
            nodes=self._nodes.values(),
            terminal=self._terminal,
            stopping=stopping,
            first_start=not self._up_once,
            doors=DoorCounts(
                keys_refused=self._gatekeeper.refused,
                handshakes_failed=self._gatekeeper.handshakes_failed,
                malformed=self.malformed + self._control.malformed,
                crowded=self._control.crowded,
            ),
        )

    # -- processes

    def _supervise(self, spec: ChildSpec) -> Supervised:
        settings = self._settings
        heartbeat = HeartbeatPolicy(interval_s=settings.ping_interval_s, missed_pongs=settings.missed_pongs)
        return self._supervised(spec, heartbeat, lambda: None)

    def _supervise_terminal(self, spec: ChildSpec) -> Supervised:
        return self._supervised(spec, None, terminal.successor_finder(self._loaded, spec))

    def _supervised(
        self, spec: ChildSpec, heartbeat: HeartbeatPolicy | None, find_successor: Callable[[], Child | None]
    ) -> Supervised:
        settings = self._settings
        restarts = RestartPolicy(
            backoff_first_s=settings.backoff_first_s,
            backoff_max_s=settings.backoff_max_s,
            max_restarts=settings.max_restarts,
            window_s=settings.restart_window_s,
        )
        return Supervised(
            spec,
            clock=self._loop.clock,
            launch=Child.launch,
            restarts=restarts,
            heartbeat=heartbeat,
            start_deadline_s=settings.start_deadline_s,
            stop_deadline_s=settings.stop_deadline_s,
            find_successor=find_successor,
        )

    def _adopt_running(self) -> None:
        """Take over what the last supervisor left running, by its file and by command lines."""
        for entry in self._adoption.read():
            process = self._all.get(entry.name)
            if process is not None and entry.identity.runs():
                process.adopt(Child(entry.identity), entry)
        missing = [process for process in self._all.values() if process.state is State.STOPPED]
        found = find_running([process.spec for process in missing])
        for process in missing:
            identity = found.get(process.name)
            if identity is None and process is self._terminal:
                identity = terminal.find_terminal(self._loaded, process.spec)
            if identity is not None:
                process.adopt(Child(identity))
        # A system that was up before is repaired, never taken for a start that failed.
        self._up_once = any(process.state is not State.STOPPED for process in self._all.values())

    def _turn(self) -> None:
        for process in self._all.values():
            process.turn()
        if self._stop is None:
            self._start_what_can()
            self._fail_if_hopeless()
        elif self._stop.advance():
            self._loop.stop()
        self._save_adoption()

    def _save_adoption(self) -> None:
        entries = (process.adopted_entry() for process in self._all.values())
        self._adoption.write(entry for entry in entries if entry is not None)

    def _start_what_can(self) -> None:
        for name, process in self._all.items():
            if process.state is State.STOPPED and self._is_there(NEEDS.get(name)):
                process.start()

    def _is_there(self, name: str | None) -> bool:
        needed = self._all.get(name or "")
        return needed is None or needed.there

    def _fail_if_hopeless(self) -> None:
        """End a start that does not succeed, instead of leaving half a system running."""
        if self._up_once:
            return
        self._up_once = all(process.ready_once for process in self._all.values())
        for process in self._all.values():
            tried = process.state is State.FAILED or process.restarts >= START_ATTEMPTS
            if tried and not process.ready_once:
                self.failure = f"{process.name} does not start: {process.reason}{last_words(process.spec.output)}"
                log.error("the start failed", extra={"reason": self.failure})
                self.stop_system("the start failed")
                return

    def _ask_to_end(self, process: Supervised) -> bool:
        if process is self._terminal:
            if process.pid is not None:
                terminal.ask_to_end(process.pid)
            return True
        return self._send(process, StopNode("the system stops"))

    # -- pings

    def _ping_all(self) -> None:
        self._drain()
        now_ns = self._loop.clock.monotonic_ns()
        waited_s = (now_ns - self._last_ping_ns) / 1e9
        self._last_ping_ns = now_ns
        overslept = waited_s > 2 * self._settings.ping_interval_s + 0.5
        if overslept:
            log.warning("the supervisor itself did not run", extra={"seconds": round(waited_s, 1)})
        for process in self._nodes.values():
            if overslept:
                process.forgive_silence()
            else:
                process.judge()
            self._ping(process)

    def _ping(self, process: Supervised) -> None:
        if process.pinged and process.heartbeat is not None:
            self._send(process, Ping(process.heartbeat.next_serial(), self._loop.clock.monotonic_ns()))

    def _send(self, process: Supervised, message: Message) -> bool:
        if not process.routing_id:
            return False
        try:
            self._pings.send_multipart([process.routing_id, b"", codec.encode(message)], zmq.NOBLOCK)
        except zmq.Again:
            return False  # at its mark: it does not read, which its missing pongs show
        return True

    def _drain(self) -> None:
        for _ in range(MAX_DRAIN):
            try:
                parts = self._pings.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            if len(parts) != _ENVELOPE_PARTS:
                self.malformed += 1
                continue
            # The name is the key's, so a node cannot speak for another.
            name = self._pings_door.admit(parts[2])
            if name is None:
                self._pings_door.turn_away(parts[2])
                continue
            try:
                message = codec.decode(parts[2].bytes).message
            except DataInvalid:
                self.malformed += 1
                continue
            process = self._nodes.get(name)
            if process is not None:
                self._on_message(process, message, parts[0].bytes)

    def _on_message(self, process: Supervised, message: Message, routing_id: bytes) -> None:
        if isinstance(message, Pong):
            process.on_pong(message)
        elif isinstance(message, Hello):
            self._on_hello(process, message, routing_id)
        elif isinstance(message, Goodbye) and message.instance == process.instance:
            log.info("a node says goodbye", extra={"target": process.name, "reason": message.reason})

    def _on_hello(self, process: Supervised, hello: Hello, routing_id: bytes) -> None:
        if self._stop is None and process.state not in ALIVE:
            self._adopt_newcomer(process, hello)
        if process.on_hello(hello, routing_id):
            self._save_adoption()
            self._ping(process)
        elif hello.instance not in self._strangers:
            self._strangers.append(hello.instance)
            log.warning(
                "a second node of that name runs and is left alone",
                extra={"target": process.name, "stranger_pid": hello.pid, "process_pid": process.pid},
            )

    def _adopt_newcomer(self, process: Supervised, hello: Hello) -> None:
        try:
            identity = ProcessIdentity.of(hello.pid)
        except ProcessError:
            return
        if abs(identity.create_time_s - hello.create_time) < 1.0:
            process.adopt(Child(identity))

    # -- control

    def _on_get_status(self, request: GetStatus, _caller: Caller) -> StatusReply:
        return StatusReply(request.id, msgspec.json.encode(self.document()))

    def _on_stop_system(self, request: StopSystem, _caller: Caller) -> Done:
        self.stop_system("asked over the control socket")
        return Done(request.id, "the system stops")

    def _on_restart_node(self, request: RestartNode, _caller: Caller) -> Done:
        self.restart(request.node)
        return Done(request.id, f"{request.node} restarts")

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._loop.post(lambda: self.stop_system(f"signal {signal.Signals(number).name}"))
