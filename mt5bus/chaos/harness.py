"""A chaos run from beginning to end: a fresh system, its disturbances, its rest, its audit."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from threading import Event

import msgspec

from mt5bus.chaos.actions import Actor, NotNow
from mt5bus.chaos.audit import Row, audit
from mt5bus.chaos.configuration import START_S
from mt5bus.chaos.evidence import collect
from mt5bus.chaos.schedule import LINES, Action, make_schedule
from mt5bus.chaos.watch import POLL_S, Outage, Watch, outages
from mt5bus.chaos.wire import Wire
from mt5bus.config import Loaded, paper_folder
from mt5bus.connect import client_of
from protocol.errors import BusError
from protocol.loop import Loop
from supervisor.launch import System, check_before_start

Say = Callable[[str], None]

SETTLE_S = 150.0
_NO_TRADE_S = 1.0  # between two orders carried out; many times what is usual
_NOT_WHOLE_S = 2 * POLL_S + 0.5
_PUT_OFF_S = 0.5
_GIVE_UP_S = 30.0
_SUPERVISOR_CHECK_S = 0.5


class Done(msgspec.Struct, frozen=True):
    """An action as it was carried out, seconds since the harness began."""

    label: str
    at_s: float


class ServiceRow(msgspec.Struct, frozen=True):
    """The longest time without service after one kind of disturbance, seconds."""

    label: str
    times: int
    trading_s: float
    whole_s: float


class Result(msgspec.Struct, frozen=True):
    """What a run found."""

    rows: tuple[Row, ...]
    services: tuple[ServiceRow, ...]
    not_done: tuple[str, ...]

    @property
    def broken(self) -> bool:
        """Whether any promise is broken."""
        return any(row.broken for row in self.rows)


class ChaosRun:
    """One run. `run` does all; afterwards nothing of the system is left but its home."""

    def __init__(self, loaded: Loaded, *, seed: int, minutes: float, say: Say) -> None:
        self._loaded = loaded
        self._say = say
        self._length_s = 60 * minutes
        self._schedule = make_schedule(seed, self._length_s)
        # The strategy trades until then: between two of its orders everything may look at rest.
        self._until_ms = max(each.params["until_ms"] for each in loaded.settings.strategy)
        self._began_s = time.monotonic()
        self._began_wall_s = time.time()
        self._system = System(loaded, say=lambda _: None)
        self._done: list[Done] = []
        self._not_done: list[str] = []

    def run(self) -> Result:
        """Start, disturb, let settle, audit, stop.

        Raises:
            Mt5busError: The system did not start, or a side does not give its records.
            BusError: The adapter does not give its records.
            OSError: The ports between the nodes cannot be had.
        """
        check_before_start(self._loaded)
        loop, wire = Loop(), _wire_of(self._loaded)
        try:
            self._say(f"starting on {self._loaded.home.path}, port {self._loaded.settings.bus.port} ...")
            self._system.start_supervisor()
            self._system.wait_until_up()
            watch = Watch(loop, self._loaded, log_id=self._log_id(), now_s=self._now_s)
            try:
                return self._disturb_and_audit(loop, watch, wire)
            finally:
                watch.close()
        finally:
            loop.close()
            wire.heal(LINES)
            self._system.stop()
            wire.close()

    def _disturb_and_audit(self, loop: Loop, watch: Watch, wire: Wire) -> Result:
        actor = Actor(paper_folder(self._loaded), wire, pids=watch.pids, started_s=self._began_wall_s - 1)
        keeper = loop.every(_SUPERVISOR_CHECK_S, self._keep_supervisor)
        try:
            self._turn_until(loop, lambda: watch.healthy, START_S)
            self._say(f"{len(self._schedule)} disturbances in {self._length_s:.0f} s ...")
            self._disturb(loop, actor)
            self._say("waiting for the system to settle ...")
            self._turn_until(loop, lambda: _ended(actor), SETTLE_S)
            settled = self._turn_until(loop, lambda: self._at_rest(watch), SETTLE_S)
        finally:
            keeper.cancel()
            for target in actor.frozen:
                actor.thaw(target)
        traded_s = [at_ms / 1000 - self._began_wall_s for at_ms in watch.traded_ms()]
        services = _services(
            self._done, outages(traded_s, shortest_s=_NO_TRADE_S), outages(watch.whole_s, shortest_s=_NOT_WHOLE_S)
        )
        self._say("comparing the records ...")
        rows = audit(collect(self._loaded, watch, not_settled="" if settled else self._why_not(watch)))
        return Result(rows, services, tuple(self._not_done))

    def _disturb(self, loop: Loop, actor: Actor) -> None:
        """Carry out the schedule; what cannot be done yet is put off, and what comes after it too."""
        began_s = self._now_s()
        waiting = deque(self._schedule)
        ready_s = 0.0

        def turn() -> bool:
            nonlocal ready_s
            now_s = self._now_s() - began_s
            while waiting and max(waiting[0].at_s, ready_s) <= now_s:
                action = waiting.popleft()
                problem = self._try(loop, actor, action)
                if problem and now_s - action.at_s < _GIVE_UP_S:
                    waiting.appendleft(action)
                    ready_s = now_s + _PUT_OFF_S
                elif problem:
                    self._not_done.append(f"{action.label}: {problem}")
            return now_s >= self._length_s

        self._turn_until(loop, turn, self._length_s + 1)
        self._not_done += [f"{action.label}: no time was left" for action in waiting]

    def _try(self, loop: Loop, actor: Actor, action: Action) -> str:
        try:
            actor.do(action)
        except NotNow as error:
            return str(error)
        self._done.append(Done(action.label, self._now_s()))
        if action.duration_s:
            loop.after(action.duration_s, lambda: actor.undo(action))
        return ""

    def _keep_supervisor(self) -> None:
        """Bring back a supervisor that died, as `up` does."""
        if self._system.supervisor_died():
            self._system.start_supervisor()

    def _at_rest(self, watch: Watch) -> bool:
        status = watch.status
        return (
            time.time() * 1000 > self._until_ms
            and watch.healthy
            and watch.live
            and not watch.undecided
            and status is not None
            and status.orders.unknown == 0
            and bool(watch.events)
            and status.store.event_offset >= watch.events[-1].offset
        )

    def _why_not(self, watch: Watch) -> str:
        status, health = watch.status, watch.health
        return (
            f"healthy {watch.healthy}, events live {watch.live}, undecided {dict(list(watch.undecided.items())[:5])},"
            f" state {status.state if status else '-'}, connection {health.connection if health else '-'}"
            f" ({health.text if health else '-'}), store at {status.store.event_offset if status else '-'} of"
            f" {watch.events[-1].offset if watch.events else 0}"
        )

    def _turn_until(self, loop: Loop, condition: Callable[[], bool], longest_s: float) -> bool:
        until_s = self._now_s() + longest_s
        while not condition():
            if self._now_s() > until_s:
                return False
            loop.turn(50)
        return True

    def _log_id(self) -> str:
        """Return the event log's identity, from an adapter that may still be starting."""
        until_s = self._now_s() + START_S
        pause = Event()
        while True:
            try:
                with client_of(self._loaded) as bus:
                    return bus.snapshot().log_id
            except BusError:
                if self._now_s() > until_s:
                    raise
                pause.wait(_PUT_OFF_S)

    def _now_s(self) -> float:
        return time.monotonic() - self._began_s


def _wire_of(loaded: Loaded) -> Wire:
    """Return the forwarder between where the sockets are bound and where the nodes reach them."""
    bus = loaded.settings.bus
    return Wire({name: (bus.reach_port + place, bus.port + place) for place, name in enumerate(LINES)})


def _ended(actor: Actor) -> bool:
    try:
        actor.end()
    except NotNow:
        return False
    return True


def _services(done: list[Done], trading: list[Outage], whole: list[Outage]) -> tuple[ServiceRow, ...]:
    """Return a row for each kind of disturbance.

    Trading is missing between two orders that were carried out; the whole is missing while any process is.
    """
    labels = sorted({each.label for each in done})
    longest = {"trading": longest_outages(done, trading), "whole": longest_outages(done, whole)}
    return tuple(
        ServiceRow(
            label,
            sum(1 for each in done if each.label == label),
            longest["trading"].get(label, 0.0),
            longest["whole"].get(label, 0.0),
        )
        for label in labels
    )


def longest_outages(done: list[Done], spans: list[Outage]) -> dict[str, float]:
    """Return the longest outage, seconds, by disturbance: the last one before the outage's first second was over."""
    found: dict[str, float] = {}
    for outage in spans:
        cause = next((each for each in reversed(done) if each.at_s <= outage.from_s + 1.0), None)
        if cause is not None:
            found[cause.label] = max(found.get(cause.label, 0.0), outage.to_s - outage.from_s)
    return found
