"""Noticing strategies that have fallen silent: their symbols only reduce until they are back.

A live strategy repeats every beacon of the adapter once it has worked up to it. So one signal measures the whole way:
streams, subscription, the strategy's own loop and callbacks, and the way back. A strategy that was never heard of,
or that stopped in order, holds nothing. What is known is kept in the journal: a restart of the adapter lifts nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import msgspec

from broker_adapter.alerts import Condition, StandingAlerts
from broker_adapter.flattening import Flattening
from broker_adapter.journal import Journal
from broker_adapter.journal_records import EventRecord, MetaRecord
from broker_adapter.order_desk import OrderDesk
from broker_adapter.order_ledger import Batch
from mt5bus.settings import Risk, StrategySettings
from protocol.clock import Clock
from protocol.errors import NotFound, ValidationFailed
from protocol.messages import AlertEvent, StrategyAlive, StrategyPresence

LOOK_INTERVAL_S = 0.5
_LONGEST_LOOK_NS = 2_000_000_000  # after a longer pause it was we who did not listen
_MOST_STRATEGIES = 1000
_MOST_SYMBOLS = 1000  # of one strategy; what is heard is kept, shown, and looked through at every order
_META = "strategy:"
_ALERT = "strategy_silent"

log = logging.getLogger(__name__)


class _Kept(msgspec.Struct, frozen=True):
    """What the journal holds of a strategy. `state`: as in `StrategyPresence`; `since_ms`: wall clock of its change."""

    state: str
    symbols: tuple[str, ...]
    since_ms: int


class _Heard(msgspec.Struct):
    kept: _Kept
    silent_ns: int = 0
    beacon_ns: int = 0


class StrategyWatch:
    """Listens to strategies.

    Args:
        epoch: Of this life of the adapter.
        alerts: Tells of silence once, also over restarts.
    """

    def __init__(
        self,
        desk: OrderDesk,
        journal: Journal,
        clock: Clock,
        *,
        epoch: int,
        risk: Risk,
        strategies: tuple[StrategySettings, ...],
        alerts: StandingAlerts,
        flattening: Flattening,
    ) -> None:
        self._desk = desk
        self._journal = journal
        self._clock = clock
        self._epoch = epoch
        self._risk = risk
        self._settings: Mapping[str, StrategySettings] = {each.name: each for each in strategies}
        self._alerts = alerts
        self._flattening = flattening
        self._looked_ns = clock.monotonic_ns()
        self._heard = {
            key[len(_META) :]: _Heard(msgspec.json.decode(value.encode("utf-8"), type=_Kept))
            for key, value in journal.metas(_META).items()
            if value
        }
        for heard in self._heard.values():
            if heard.kept.state == "silent":
                heard.silent_ns = max(0, clock.wall_ms() - heard.kept.since_ms) * 1_000_000
        self._restrict()

    def on_alive(self, alive: StrategyAlive) -> None:
        """Take note of a sign of life.

        Raises:
            ValidationFailed: It names no strategy, there are too many, or it trades too many symbols.
        """
        name = alive.strategy
        if not name.isprintable() or not name:
            raise ValidationFailed("strategy: is empty or has control characters", {"field": "strategy"})
        if len(alive.symbols) > _MOST_SYMBOLS:
            text = f"symbols: {len(alive.symbols)} of them; at most {_MOST_SYMBOLS} are taken from one strategy"
            raise ValidationFailed(text, {"field": "symbols"})
        heard = self._heard.get(name)
        if heard is None and len(self._heard) >= _MOST_STRATEGIES:
            raise ValidationFailed(f"strategy: {_MOST_STRATEGIES} others were heard of already", {"field": "strategy"})
        if alive.leaving:
            if heard is not None and heard.kept.state != "stopped":
                self._become(name, "stopped", heard.kept.symbols)
            return
        if alive.epoch != self._epoch or (heard is not None and alive.beacon_ns <= heard.beacon_ns):
            return  # it still works on what is old
        symbols = tuple(dict.fromkeys(alive.symbols))
        if heard is None or (heard.kept.state, heard.kept.symbols) != ("live", symbols):
            heard = self._become(name, "live", symbols)
        heard.beacon_ns, heard.silent_ns = alive.beacon_ns, 0

    def look(self) -> None:
        """Count the silence of each strategy; act where it has lasted too long."""
        now_ns = self._clock.monotonic_ns()
        passed_ns = min(now_ns - self._looked_ns, _LONGEST_LOOK_NS)
        self._looked_ns = now_ns
        for name, heard in tuple(self._heard.items()):
            if heard.kept.state == "stopped":
                continue
            heard.silent_ns += passed_ns
            if heard.kept.state == "live" and heard.silent_ns > self._limit_s(name) * 1e9:
                heard = self._become(name, "silent", heard.kept.symbols)
            if heard.kept.state == "silent":
                self._alerts.begin(self._condition(name, heard.kept))

    def forget(self, name: str, then: Callable[[], None]) -> None:
        """Lift what a strategy's silence stopped; it counts as never heard of until it speaks.

        `then` is called once that is on disk.

        Raises:
            NotFound: Nothing was ever heard of it.
        """
        if name not in self._heard:
            known = ", ".join(sorted(self._heard)) or "none"
            raise NotFound(f"strategy: {name!r} was never heard of (heard of: {known})", {"field": "strategy"})
        self._become(name, "forgotten", (), then)

    def presences(self) -> tuple[StrategyPresence, ...]:
        """Return every strategy that was heard of."""
        return tuple(
            StrategyPresence(
                name,
                heard.kept.state,
                round(heard.silent_ns / 1e9, 1),
                self._limit_s(name),
                self._action(name),
                heard.kept.symbols,
            )
            for name, heard in sorted(self._heard.items())
        )

    def restrictions(self) -> tuple[str, ...]:
        """Return for people which symbols only reduce, and why."""
        return tuple(f"{symbol} only reduces: {why}" for symbol, why in self._desk.gate.silent.items())

    # --- Changes ------------------------------------------------------------------------------------------------

    def _become(
        self, name: str, state: str, symbols: tuple[str, ...], then: Callable[[], None] | None = None
    ) -> _Heard:
        before = self._heard.get(name)
        was_silent = before is not None and before.kept.state == "silent"
        kept = _Kept(state, symbols, self._clock.wall_ms())
        heard = _Heard(kept, before.silent_ns if before else 0, before.beacon_ns if before else 0)
        self._heard[name] = heard
        batch = Batch()
        batch.records.append(MetaRecord(_META + name, msgspec.json.encode(kept).decode("utf-8")))
        if state == "silent" and self._action(name) == "close":
            self._flattening.begin(batch, strategy=name, serial=f"{name}-{self._epoch}-{self._clock.wall_ms()}")
        elif was_silent:
            self._flattening.end(batch, strategy=name)
            self._tell_over(batch, name, state)
        if state == "forgotten":
            batch.records[0] = MetaRecord(_META + name, "")
            del self._heard[name]
        if then is not None:
            batch.then.append(then)
        self._desk.ledger.commit(batch)
        self._restrict()
        if was_silent:
            self._alerts.over(f"{_ALERT}:{name}")
        log.warning("a strategy's presence changed", extra={"strategy": name, "state": state})
        return heard

    def _tell_over(self, batch: Batch, name: str, state: str) -> None:
        account = self._desk.account
        server, login = ("", 0) if account is None else (account.server, account.login)
        how = {"live": "is heard of again", "stopped": "stopped in order"}.get(state, "was silent, and is released")
        body = AlertEvent(
            f"strategy_back:{name}:{self._epoch}-{self._clock.monotonic_ns()}",
            "warning",
            "strategy_back",
            f"the strategy {name} {how}: its symbols take new exposure again",
            {"strategy": name},
        )
        batch.records.append(EventRecord(body, server, login, self._desk.now_ms))

    def _restrict(self) -> None:
        """Let the gate know which symbols only reduce."""
        found: dict[str, str] = {}
        for name, heard in self._heard.items():
            if heard.kept.state == "silent" and self._action(name) != "alert":
                for symbol in heard.kept.symbols:
                    found[symbol] = (
                        f"the strategy {name}, which trades it, is not heard of; lifted when it is back, or by "
                        f"'mt5bus resume --strategy {name}'"
                    )
        self._desk.gate.silent = found

    def _condition(self, name: str, kept: _Kept) -> Condition:
        consequence = {
            "reduce": "its symbols only reduce until it is back",
            "close": "its positions are being closed, and its symbols only reduce until it is back",
            "alert": "nothing is done about it, as configured",
        }[self._action(name)]
        symbols = ", ".join(kept.symbols)
        text = (
            f"the strategy {name} ({symbols}) was not heard of for {self._limit_s(name):g} s: it is dead, hangs, or "
            f"its loop is busy; {consequence}. See 'mt5bus status' and its log"
        )
        return Condition(_ALERT, "critical", text, name, {"strategy": name, "symbols": symbols})

    def _limit_s(self, name: str) -> float:
        own = self._settings.get(name)
        return self._risk.strategy_silence_s if own is None or own.silence_s is None else own.silence_s

    def _action(self, name: str) -> str:
        own = self._settings.get(name)
        return self._risk.on_strategy_silence if own is None or own.on_silence is None else own.on_silence
