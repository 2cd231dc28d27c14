"""The adapter's links: starting them, asking them, killing and replacing the ones that hang.

Only links touch the terminal. Each is a child process behind a DEALER; they meet at one loopback ROUTER whose keys are
made at every start, and only the keys of the present links are admitted to it (role ``link``).
"""

from __future__ import annotations

import logging
import os
import subprocess
from collections import deque
from collections.abc import Callable, Mapping

import msgspec
import zmq

from broker_adapter.link_config import LinkConfig
from broker_adapter.link_list import LinkList
from broker_adapter.link_messages import Answer, AnyCommand, LinkRole
from broker_adapter.link_process import LinkProcess
from broker_adapter.link_results import LinkResult
from broker_adapter.sole_owner import lock_folder
from mt5bus.home import Home
from mt5bus.processes import start_link
from mt5bus.settings import Settings
from protocol.keys import new_identity
from protocol.loop import Loop
from protocol.messages import LinkHealth
from protocol.sockets import Context, bind_router, readable

WATCH_INTERVAL_S = 0.02
TURN_BUDGET_S = 0.005
"""After so long in one turn the others get theirs, however fast a link answers."""
_BATCH = 50
_OVERSLEPT_NS = 1_000_000_000
_GRACE_NS = 250_000_000

log = logging.getLogger(__name__)


class Links:
    """The links by role: ``trade``, ``feed``, ``bulk``, or one for all if so configured.

    The gatekeeper of the context must admit `admitted_keys` for role ``link``.

    Args:
        on_ready: Called whenever a link's process is (again) ready to be attached, with the roles it plays.
        on_lost: Called when a link's process is gone, with the roles it played.
        starter: Stands in for `mt5bus.processes.start_link`.

    Raises:
        InitialisationFailed: Another adapter works in this home; its links are left alone.
        ProcessError: A link of a former adapter does not end.
    """

    def __init__(
        self,
        loop: Loop,
        context: Context,
        settings: Settings,
        *,
        home: Home,
        on_ready: Callable[[tuple[LinkRole, ...]], None] = lambda _roles: None,
        on_lost: Callable[[tuple[LinkRole, ...]], None] = lambda _roles: None,
        starter: Callable[..., subprocess.Popen[bytes]] = start_link,
    ) -> None:
        self._loop = loop
        self.on_ready = on_ready
        self.on_lost = on_lost
        self.malformed = 0
        # Before anything is ended: the links that are listed may be a living adapter's.
        self._lock = lock_folder(home.adapter, "links.lock")
        self._list = LinkList(home.adapter)
        self.orphans_ended = self._list.end_orphans()
        server = new_identity("adapter-links")
        self._socket = bind_router(context, "tcp://127.0.0.1:0", identity=server, domain="link")
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        config = LinkConfig(
            name="",
            role="",
            address=address,
            server_key=server.public.decode("ascii"),
            public="",
            secret="",
            adapter_pid=os.getpid(),
            api_module=settings.terminal.api_module,
            home=str(home.path),
            log_level=settings.logging.level,
            keep_days=settings.logging.keep_days,
        )
        groups = [tuple(LinkRole)] if settings.adapter.links == "shared" else [(role,) for role in LinkRole]
        self.isolated = len(groups) > 1
        self._links = [
            LinkProcess(
                roles,
                config=msgspec.structs.replace(config, role=roles[0].value if self.isolated else "shared"),
                clock=loop.clock,
                output=home.logs / "links-output.txt",
                send=self._send,
                defer=lambda callback: loop.after(0, callback),
                on_ready=lambda link: self.on_ready(link.roles),
                on_change=self._on_change,
                start_deadline_s=settings.adapter.deadlines.start_s,
                starter=starter,
            )
            for roles in groups
        ]
        self._by_role = {role: link for link in self._links for role in link.roles}
        self._known_states = {link.roles: "" for link in self._links}
        self._ticked_ns = loop.clock.monotonic_ns()
        self._judge_from_ns = 0
        self._bulk: deque[tuple[str, Answer]] = deque()
        loop.watch(self._socket, self._on_readable)
        self._timer = loop.every(WATCH_INTERVAL_S, self._tick)

    def start(self) -> None:
        """Start every link's process."""
        for link in self._links:
            link.start()

    def call(
        self, role: LinkRole, command: AnyCommand, on_result: Callable[[LinkResult], None], *, deadline_s: float
    ) -> None:
        """Have a link carry out `command`; `on_result` is called once, from the loop, never from within this call.

        One command at a time is with a link; others wait in order. A command that waits past its deadline, or finds
        the queue full, ends as lost with `was_sent` False. A link that has not answered `deadline_s` seconds after the
        call is killed and replaced, and the command ends as lost with `was_sent` True, once the link is dead.
        """
        if not self._by_role[role].call(command, on_result, deadline_s):
            self._loop.after(0, lambda: on_result(LinkResult("lost", reason="never_sent")))

    def let_history_wait(self) -> None:
        """From now on ticks and orders go before the bulk link. A link that plays all roles is left alone."""
        if self.isolated:
            self._by_role[LinkRole.BULK].give_way()

    def replace(self, role: LinkRole, why: str) -> None:
        """Kill the link of `role` and start another."""
        self._by_role[role].kill("died", why)

    def state(self, role: LinkRole) -> str:
        """Return the state of the link's process (see `LinkProcess`)."""
        return self._by_role[role].state

    def problem(self, role: LinkRole) -> str:
        """Return why the link's API module is unusable, or ''."""
        greeting = self._by_role[role].greeting
        return greeting.problem if greeting is not None else ""

    def roles_together(self, role: LinkRole) -> tuple[LinkRole, ...]:
        """Return all roles that the link of `role` plays."""
        return self._by_role[role].roles

    def pids(self) -> dict[LinkRole, int]:
        """Return the process id behind each role, 0 where there is none just now."""
        return {role: link.pid for role, link in self._by_role.items()}

    def busy(self, role: LinkRole) -> bool:
        """Whether the link of `role` works on a command right now."""
        return self._by_role[role].busy

    def health(self) -> tuple[LinkHealth, ...]:
        """Return the figures of every link."""
        return tuple(
            LinkHealth(
                id=link.pid,
                role="+".join(link.roles),
                state=link.state,
                calls=link.calls,
                timeouts=link.timeouts,
                restarts=link.restarts,
                latency_ms=round(link.latency_ms, 3),
            )
            for link in self._links
        )

    def admitted_keys(self) -> Mapping[bytes, str]:
        """Return the names of the present links by public key."""
        return {link.identity.public: link.identity.name for link in self._links if link.pid}

    def close(self) -> None:
        """End every link, and wait for it."""
        self._timer.cancel()
        for link in self._links:
            link.close()
        self._list.write([])
        self._loop.unwatch(self._socket)
        self._socket.close()
        self._lock.release()

    def _send(self, name: bytes, frame: bytes) -> bool:
        try:
            self._socket.send_multipart([name, frame], zmq.NOBLOCK)
        except zmq.ZMQError:
            return False  # not connected any more, or at its mark, which one outstanding command never reaches
        return True

    def _on_readable(self) -> None:
        until_ns = self._loop.clock.monotonic_ns() + round(TURN_BUDGET_S * 1e9)
        for _ in range(_BATCH):
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            self._on_parts(parts)
            if not readable(self._socket) or self._loop.clock.monotonic_ns() > until_ns:
                return  # what still waits is polled again, behind what others wait with

    def _on_parts(self, parts: list[zmq.Frame]) -> None:
        # The key's name is proven by Curve; the routing id is only what the peer says.
        try:
            name = str(parts[-1].get("User-Id"))
            answer = msgspec.msgpack.decode(parts[-1].bytes, type=Answer)
        except (zmq.ZMQError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            self.malformed += 1
            if self.malformed == 1:
                log.warning("a link's answer cannot be read; more are only counted", extra={"reason": str(error)})
            return
        link = self._link(name)
        if link is None:
            return
        if self.isolated and LinkRole.BULK in link.roles and answer.serial:
            # A page of history takes longer to handle than a tick: what else came in this turn goes first.
            self._bulk.append((name, answer))
            self._loop.after(0, self._serve_bulk)
        else:
            link.on_frame(answer)

    def _serve_bulk(self) -> None:
        name, answer = self._bulk.popleft()
        link = self._link(name)  # by its name of one life: an answer of the last one is none of this one's
        if link is not None:
            link.on_frame(answer)

    def _link(self, name: str) -> LinkProcess | None:
        return next((link for link in self._links if link.identity.name == name), None)

    def _tick(self) -> None:
        now_ns = self._loop.clock.monotonic_ns()
        if now_ns - self._ticked_ns > _OVERSLEPT_NS:
            # We were frozen (sleep, SIGSTOP): answers may be waiting on the way in. Read before judging.
            self._judge_from_ns = now_ns + _GRACE_NS
        self._ticked_ns = now_ns
        for link in self._links:
            link.tick(judge=now_ns >= self._judge_from_ns)

    def _on_change(self) -> None:
        self._list.write(link.process_identity for link in self._links if link.process_identity is not None)
        for link in self._links:
            known = self._known_states[link.roles]
            self._known_states[link.roles] = link.state
            if known in {"starting", "ready"} and link.state not in {"starting", "ready"}:
                self.on_lost(link.roles)
