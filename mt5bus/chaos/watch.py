"""Following the system from outside: its events from the first on, its processes, and when it was whole."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import msgspec

from mt5bus.config import Loaded
from protocol.errors import BusError
from protocol.keys import KeyStore
from protocol.loop import Loop
from protocol.messages import Event, GetHealth, GetStatus, Health, IntentEvent, Reply, Snapshot, StatusReply, TickBatch
from protocol.numbering import EventPosition
from protocol.requests import Requester
from protocol.subscriber import StreamSubscriber
from supervisor.status import SystemStatus

POLL_S = 0.25
_ANSWER_S = 1.0
_FRESH_S = 1.0  # an answer older than this says nothing about now
_FINAL = frozenset({"refused", "done", "rejected", "not_executed", "unresolved"})


class Outage(msgspec.Struct, frozen=True):
    """A span without service, seconds since the harness began."""

    from_s: float
    to_s: float


def outages(good_s: Iterable[float], *, shortest_s: float) -> list[Outage]:
    """Return the spans between two neighbouring good moments that are longer than `shortest_s`."""
    pairs = itertools.pairwise(sorted(good_s))
    return [Outage(before, after) for before, after in pairs if after - before > shortest_s]


class Watch:
    """Subscribes to every event, and asks adapter and supervisor four times a second how they are.

    Args:
        log_id: The event log, which is followed from its first entry on.
        now_s: Seconds since the harness began.
    """

    def __init__(self, loop: Loop, loaded: Loaded, *, log_id: str, now_s: Callable[[], float]) -> None:
        keys = KeyStore(loaded.home.keys)
        bus, adapter = loaded.settings.bus, loaded.settings.adapter.name
        identity, adapter_key = keys.identity("client"), keys.server_key("adapter")
        self._now_s = now_s
        self._adapter = Requester(
            loop, loop.context, bus.queries, identity=identity, server_key=adapter_key, name="adapter"
        )
        self._supervisor = Requester(
            loop,
            loop.context,
            bus.control,
            identity=identity,
            server_key=keys.server_key("supervisor"),
            name="supervisor",
        )
        self._subscriber = StreamSubscriber(
            loop,
            loop.context,
            bus.streams,
            identity=identity,
            server_key=adapter_key,
            adapter=adapter,
            queries=self._adapter,
            on_tick=self._on_tick,
            heal_ticks=True,
            on_event=self._on_event,
            on_snapshot=self._on_snapshot,
            position=EventPosition(log_id, 0),
        )
        self.events: list[Event] = []
        self.resyncs = 0
        self.ticks: dict[str, list[bytes]] = {}
        """Tick records by symbol, as they came."""
        self.undecided: dict[str, str] = {}
        """Our orders without a final state, with the state they are in."""
        self.health: Health | None = None
        self.status: SystemStatus | None = None
        self._healthy_s = self._running_s = -_FRESH_S
        self.whole_s: list[float] = []
        """Moments at which everything was in order, seconds since the harness began."""
        self._subscriber.start()
        self._timer = loop.every(POLL_S, self._look)

    def close(self) -> None:
        """Leave."""
        self._timer.cancel()
        self._subscriber.close()
        self._adapter.close()
        self._supervisor.close()

    @property
    def live(self) -> bool:
        """Whether every event that the adapter has is here."""
        return self._subscriber.live

    @property
    def ticks_lost(self) -> int:
        """Ticks that were numbered, did not arrive, and could not be fetched; and gaps of unknown size that stay."""
        return next(each.skipped + each.unhealed for each in self._subscriber.reports() if each.stream == "ticks")

    @property
    def healthy(self) -> bool:
        """Whether orders can be carried out and every process runs, as of the last second."""
        return min(self._healthy_s, self._running_s) > self._now_s() - _FRESH_S

    def traded_ms(self) -> list[int]:
        """Return when orders were carried out, UTC milliseconds."""
        bodies = ((event.recorded_ms, event.body) for event in self.events)
        return [at_ms for at_ms, body in bodies if isinstance(body, IntentEvent) and body.state == "done"]

    def pids(self) -> dict[str, int]:
        """Return the process ids as last told, by the names that the schedule uses."""
        found: dict[str, int] = {}
        if self.status is not None:
            found["supervisor"] = self.status.supervisor.pid
            processes = {node.name: node.pid for node in self.status.nodes} | {"terminal": self.status.terminal.pid}
            found |= {name: pid for name, pid in processes.items() if pid}
        if self.health is not None:
            found |= {f"link:{link.role}": link.id for link in self.health.links if link.id}
        return found

    def _look(self) -> None:
        self._adapter.ask(GetHealth, on_reply=self._on_health, on_error=_ignored, deadline_s=_ANSWER_S)
        self._supervisor.ask(GetStatus, on_reply=self._on_status, on_error=_ignored, deadline_s=_ANSWER_S)

    def _on_health(self, reply: Reply) -> None:
        if not isinstance(reply, Health):
            return
        self.health = reply
        if (
            reply.connection == "attached"
            and reply.terminal_connected
            and reply.trade_allowed
            and all(link.state == "ready" for link in reply.links)
        ):
            self._healthy_s = self._now_s()
        self._note_whole()

    def _on_status(self, reply: Reply) -> None:
        if not isinstance(reply, StatusReply):
            return
        self.status = msgspec.json.decode(reply.document, type=SystemStatus)
        if self.status.state == "running":
            self._running_s = self._now_s()
        self._note_whole()

    def _note_whole(self) -> None:
        if self.healthy:
            self.whole_s.append(min(self._healthy_s, self._running_s))

    def _on_tick(self, symbol: str, batch: TickBatch) -> None:
        self.ticks.setdefault(symbol, []).append(batch.records)

    def _on_event(self, event: Event) -> None:
        self.events.append(event)
        body = event.body
        if isinstance(body, IntentEvent):
            if body.state in _FINAL:
                self.undecided.pop(body.client_order_id, None)
            else:
                self.undecided[body.client_order_id] = body.state

    def _on_snapshot(self, _: Snapshot) -> None:
        self.resyncs += 1


def _ignored(_: BusError) -> None:
    """Take no answer for what it is: silence. The next question follows in a moment."""
