"""Making the status document of the supervised processes and what their pongs report."""

from __future__ import annotations

import os
from collections.abc import Iterable

from mt5bus.config import Loaded
from protocol.clock import Clock
from protocol.messages import AdapterReport, DoorCounts, LoggerReport
from supervisor import status
from supervisor.node_states import ANSWERING
from supervisor.supervised import Supervised


class StatusSource:
    """What the document is made of besides the processes: the supervisor itself and measured usage."""

    def __init__(self, loaded: Loaded, *, clock: Clock, version: str) -> None:
        self._loaded = loaded
        self._clock = clock
        self._version = version
        self._started_ns = clock.monotonic_ns()
        self._usage: dict[str, tuple[float, float]] = {}

    def measure(self, processes: Iterable[Supervised]) -> None:
        """Read CPU and memory of every process; once a second, so that CPU is an average over that second."""
        self._usage = {process.name: process.usage() for process in processes}

    def document(
        self,
        *,
        nodes: Iterable[Supervised],
        terminal: Supervised | None,
        stopping: bool,
        first_start: bool = False,
        doors: DoorCounts | None = None,
    ) -> status.SystemStatus:
        """Return the status document as of now.

        Args:
            nodes: Every node.
            terminal: The terminal, if it is ours to start.
            stopping: Whether the system is being stopped.
            first_start: Not every process has been ready yet.
            doors: What the supervisor's own sockets turned away.
        """
        nodes = list(nodes)
        node_states = tuple(self._process(node) for node in nodes)
        terminal_state = self._terminal(terminal)
        reports = [node.pong.report for node in nodes if node.pong is not None]
        adapter = next((report for report in reports if isinstance(report, AdapterReport)), None)
        logger = next((report for report in reports if isinstance(report, LoggerReport)), None)
        return status.SystemStatus(
            time_ms=self._clock.wall_ms(),
            state=status.system_state(node_states, terminal_state, stopping=stopping, first_start=first_start),
            supervisor=self._supervisor(),
            nodes=node_states,
            terminal=terminal_state,
            account=status.account_status(adapter),
            streams=status.stream_status({node.name: node.pong.streams for node in nodes if node.pong is not None}),
            orders=status.orders_status(adapter.orders if adapter is not None else None),
            store=status.store_status(logger),
            prices=tuple(status.price_status(quote) for quote in adapter.quotes) if adapter else (),
            positions=tuple(status.position_status(position) for position in adapter.positions) if adapter else (),
            deals=status.newest_deals(adapter.last_deals) if adapter else (),
            doors=status.doors_status(adapter, doors or DoorCounts()),
        )

    def _supervisor(self) -> status.SupervisorStatus:
        return status.SupervisorStatus(
            pid=os.getpid(),
            uptime_s=round((self._clock.monotonic_ns() - self._started_ns) / 1e9, 1),
            home=str(self._loaded.home.path),
            config=str(self._loaded.file) if self._loaded.file is not None else None,
            version=self._version,
            port=self._loaded.settings.bus.port,
        )

    def _process(self, node: Supervised) -> status.ProcessStatus:
        cpu_percent, memory_mb = self._usage.get(node.name, (0.0, 0.0))
        pong = node.pong
        age_s = None
        if node.heartbeat is not None and node.child is not None:
            age_s = node.heartbeat.pong_age_s(now_ns=self._clock.monotonic_ns())
        return status.ProcessStatus(
            name=node.name,
            state=node.state.value,
            pid=node.pid,
            uptime_s=_rounded(node.uptime_s),
            restarts=node.restarts,
            pong_age_s=_rounded(age_s),
            cpu_percent=round(cpu_percent, 1),
            memory_mb=round(memory_mb, 1),
            lag_ms=max((stream.lag_ms for stream in pong.streams), default=None) if pong is not None else None,
            progress=pong.progress if pong is not None else None,
            reason=node.reason,
            longest_turn_ms=pong.longest_turn_ms if pong is not None else None,
            detail=status.report_detail(pong.report) if pong is not None and node.state in ANSWERING else "",
        )

    def _terminal(self, terminal: Supervised | None) -> status.TerminalStatus:
        kind = self._loaded.settings.terminal.kind
        if terminal is None:
            return status.TerminalStatus(kind=kind, state="unmanaged")
        cpu_percent, memory_mb = self._usage.get(terminal.name, (0.0, 0.0))
        return status.TerminalStatus(
            kind=kind,
            state=terminal.state.value,
            pid=terminal.pid,
            uptime_s=_rounded(terminal.uptime_s),
            restarts=terminal.restarts,
            cpu_percent=round(cpu_percent, 1),
            memory_mb=round(memory_mb, 1),
            reason=terminal.reason,
        )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)
