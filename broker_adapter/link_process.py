"""One link as its adapter sees it: the child process, its queue of calls, its deadlines, its end and replacement.

Facts this rests on: a hung API call cannot be cancelled, only its process killed; a call that was handed over may
have taken effect. So a call is reported lost only after its link is dead and waited for: nothing can happen after.
"""

from __future__ import annotations

import logging
import subprocess
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from broker_adapter.link_config import LinkConfig
from broker_adapter.link_messages import Answer, AnyCommand, Ask, Greeting, LinkRole
from broker_adapter.link_results import LinkResult, LostReason
from mt5bus.errors import ProcessError
from mt5bus.processes import (
    ProcessIdentity,
    child_environment,
    explain_exit,
    let_others_go_first,
    module_command,
    start_link,
)
from protocol.clock import Clock
from protocol.keys import Identity, new_identity

OnResult = Callable[[LinkResult], None]
QUEUE_BOUND = 256
_RESTART_FIRST_S, _RESTART_MAX_S = 0.05, 5.0
_QUICK_DEATH_NS = 1_000_000_000
_CLOSE_DEADLINE_S = 10.0

log = logging.getLogger(__name__)


class Pending(msgspec.Struct):
    """A call, waiting or handed over."""

    command: AnyCommand
    on_result: OnResult
    deadline_ns: int
    sent_ns: int = 0


class LinkProcess:
    """A link of some roles, through all its lives.

    States: ``starting`` (process up, no greeting yet), ``ready``, ``ending`` (killed, not yet gone), ``down`` (waits
    for its restart), ``closed``.
    """

    def __init__(
        self,
        roles: tuple[LinkRole, ...],
        *,
        config: LinkConfig,
        clock: Clock,
        output: Path,
        send: Callable[[bytes, bytes], bool],
        defer: Callable[[Callable[[], None]], object],
        on_ready: Callable[[LinkProcess], None],
        on_change: Callable[[], None],
        start_deadline_s: float,
        starter: Callable[..., subprocess.Popen[bytes]] = start_link,
    ) -> None:
        self.roles = roles
        self.state = "down"
        self.identity: Identity = new_identity("link-none")
        self.process_identity: ProcessIdentity | None = None
        self.greeting: Greeting | None = None
        self.calls = 0
        self.timeouts = 0
        self.restarts = 0
        self.latency_ms = 0.0
        self._config = config
        self._clock = clock
        self._output = output
        self._send = send
        self._defer = defer
        self._on_ready = on_ready
        self._on_change = on_change
        self._start_deadline_s = start_deadline_s
        self._starter = starter
        self._gives_way = False
        self._process: subprocess.Popen[bytes] | None = None
        self._serial = 0
        self._life = 0
        self._current: Pending | None = None
        self._queue: deque[Pending] = deque()
        self._state_deadline_ns = 0
        self._quick_deaths = 0
        self._started_ns = 0
        self._end_reason: LostReason = "died"

    @property
    def name(self) -> str:
        """Return the name of the present life: role and number."""
        return f"link-{self.roles[0].value}-{self._life}" if len(self.roles) == 1 else f"link-shared-{self._life}"

    @property
    def pid(self) -> int:
        """Return the process id, 0 while there is none."""
        return self._process.pid if self._process is not None else 0

    @property
    def busy(self) -> bool:
        """Whether a command is with the link right now."""
        return self._current is not None

    def start(self) -> None:
        """Start a new life of the link. A refusal by the operating system is retried later."""
        self._life += 1
        self._serial = 0
        self.greeting = None
        self.identity = new_identity(self.name, ("link",))
        config = msgspec.structs.replace(
            self._config,
            name=self.name,
            public=self.identity.public.decode("ascii"),
            secret=self.identity.secret.decode("ascii"),
        )
        now_ns = self._clock.monotonic_ns()
        try:
            process = self._starter(
                module_command("broker_adapter.link"),
                output=self._output,
                environment=child_environment(),
                stdin=msgspec.json.encode(config) + b"\n",
            )
        except ProcessError as error:
            log.exception("a link cannot be started", extra={"link": self.name, "reason": str(error)})
            self._quick_deaths += 1
            self._wait_for_restart(now_ns)
            return
        self._process = process
        if self._gives_way:
            let_others_go_first(process.pid)
        self._started_ns = now_ns
        self._state_deadline_ns = now_ns + round(self._start_deadline_s * 1e9)
        self.state = "starting"
        try:
            self.process_identity = ProcessIdentity.of(process.pid)
        except ProcessError:
            self.process_identity = None  # gone already: `tick` sees its exit code
        self._on_change()

    def give_way(self) -> None:
        """Let other programs have the processors first, in this life and from the start of each that follows."""
        self._gives_way = True
        if self._process is not None:
            let_others_go_first(self._process.pid)

    def call(self, command: AnyCommand, on_result: OnResult, deadline_s: float) -> bool:
        """Hand `command` over, or queue it; return False if the queue is full (then nothing is called back)."""
        if self.state == "closed" or len(self._queue) >= QUEUE_BOUND:
            return False
        deadline_ns = self._clock.monotonic_ns() + round(deadline_s * 1e9)
        self._queue.append(Pending(command, on_result, deadline_ns))
        self._hand_over()
        return True

    def on_frame(self, answer: Answer) -> None:
        """Take the link's answer."""
        if self.state == "starting" and answer.serial == 0:
            self._greet(answer)
            return
        current = self._current
        if current is None or answer.serial != self._serial or self.state != "ready":
            return  # of a call already given up: its link is being killed
        self._current = None
        self.calls += 1
        elapsed_ms = (self._clock.monotonic_ns() - current.sent_ns) / 1e6
        self.latency_ms = elapsed_ms if self.latency_ms == 0 else 0.9 * self.latency_ms + 0.1 * elapsed_ms
        result = LinkResult(
            "ok" if answer.code == 1 else "failed",
            value=bytes(answer.value),
            code=answer.code,
            text=answer.text,
            elapsed_ms=elapsed_ms,
        )
        # The next call first: the link works on it while the result is handled here.
        self._hand_over()
        current.on_result(result)

    def tick(self, *, judge: bool = True) -> None:
        """See to the process's end and to its replacement and, if `judge`, to deadlines; many times a second."""
        if self.state == "closed":
            return
        now_ns = self._clock.monotonic_ns()
        exit_code = self._process.poll() if self._process is not None else None
        if self._process is not None and exit_code is not None:
            self._buried(exit_code, now_ns)
        elif not judge:
            return
        elif self.state == "starting" and now_ns >= self._state_deadline_ns:
            self.kill("timeout", "it did not greet in time")
        elif self.state == "ready" and self._current is not None and now_ns >= self._current.deadline_ns:
            self.timeouts += 1
            self.kill("timeout", f"{_name(self._current.command)} did not answer in time")
        elif self.state == "down" and now_ns >= self._state_deadline_ns:
            self.restarts += 1
            self.start()
        self._expire_queued(now_ns)

    def kill(self, reason: LostReason, why: str) -> None:
        """Kill the process at once; its end, the report of its call and its replacement follow in `tick`."""
        if self._process is None or self.state == "ending":
            return
        log.warning("a link is killed and replaced", extra={"link": self.name, "link_pid": self.pid, "reason": why})
        self._end_reason = reason
        self.state = "ending"
        self._process.kill()  # TerminateProcess on Windows; the handle is ours, so the pid cannot be another's
        self._on_change()

    def close(self) -> None:
        """Kill the process and wait for its end; nothing is called back any more."""
        self.state = "closed"
        self._queue.clear()
        self._current = None
        if self._process is not None:
            self._process.kill()
            self._process.wait(_CLOSE_DEADLINE_S)
            self._process = None
        self.process_identity = None

    def _greet(self, answer: Answer) -> None:
        try:
            self.greeting = msgspec.msgpack.decode(answer.value, type=Greeting)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self.kill("died", "its greeting cannot be read")
            return
        self.state = "ready"
        log.info(
            "a link is ready",
            extra={"link": self.name, "link_pid": self.greeting.pid, "api": self.greeting.api_version},
        )
        if self.greeting.problem:
            log.error("the API module is unusable", extra={"link": self.name, "reason": self.greeting.problem})
        self._on_ready(self)
        self._hand_over()

    def _hand_over(self) -> None:
        while self.state == "ready" and self._current is None and self._queue:
            pending = self._queue.popleft()
            now_ns = self._clock.monotonic_ns()
            if now_ns >= pending.deadline_ns:
                self._never_sent(pending)
                continue
            self._serial += 1
            pending.sent_ns = now_ns
            frame = msgspec.msgpack.encode(Ask(self._serial, pending.command))
            if not self._send(self.identity.name.encode("ascii"), frame):
                self._never_sent(pending)
                self.kill("died", "its socket is gone")
                return
            self._current = pending

    def _buried(self, exit_code: int, now_ns: int) -> None:
        reason = self._end_reason if self.state == "ending" else "died"
        log.warning(
            "a link ended",
            extra={"link": self.name, "link_pid": self.pid, "reason": reason, "exit": explain_exit(exit_code)},
        )
        self._process = None
        self.process_identity = None
        self._end_reason = "died"
        # A link that dies again right after its start is replaced more and more slowly.
        quick = self.greeting is None or now_ns - self._started_ns < _QUICK_DEATH_NS
        self._quick_deaths = self._quick_deaths + 1 if quick else 0
        self._wait_for_restart(now_ns)
        current, self._current = self._current, None
        queued, self._queue = self._queue, deque()
        self._on_change()
        if current is not None:
            current.on_result(LinkResult("lost", reason=reason, was_sent=True))
        for pending in queued:
            self._never_sent(pending)

    def _wait_for_restart(self, now_ns: int) -> None:
        self.state = "down"
        pause_s = 0.0
        if self._quick_deaths:
            pause_s = min(_RESTART_FIRST_S * 2**self._quick_deaths, _RESTART_MAX_S)
        self._state_deadline_ns = now_ns + round(pause_s * 1e9)

    def _expire_queued(self, now_ns: int) -> None:
        if not any(pending.deadline_ns <= now_ns for pending in self._queue):
            return
        expired = [pending for pending in self._queue if pending.deadline_ns <= now_ns]
        self._queue = deque(pending for pending in self._queue if pending.deadline_ns > now_ns)
        for pending in expired:
            self._never_sent(pending)

    def _never_sent(self, pending: Pending) -> None:
        # Deferred: a caller is never called back from within its own call.
        self._defer(lambda: pending.on_result(LinkResult("lost", reason="never_sent")))


def _name(command: AnyCommand) -> str:
    return getattr(command, "function", type(command).__name__)
