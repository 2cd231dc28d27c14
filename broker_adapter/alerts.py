"""Alerts of conditions that last: a symbol that cannot be used, a wrong account, no way to the terminal or to its time.

Each is told once, when it begins, and again only after it was over: also across restarts, since what was told is kept
in the journal together with the event. Health shows the same conditions as they are now.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from broker_adapter.catalogue import Catalogue
from broker_adapter.connection import Connection
from broker_adapter.journal import Journal
from broker_adapter.journal_records import EventRecord, MetaRecord
from broker_adapter.order_ledger import Batch
from broker_adapter.server_clock import ServerClock
from protocol.loop import Loop
from protocol.messages import AlertEvent

LOOK_INTERVAL_S = 1.0
UNMEASURED_S = 600.0
"""Fresh ticks for so long should have been enough to measure the server's time."""
_FRESH_MS = 10_000
_META = "alert:"

log = logging.getLogger(__name__)


class Condition(msgspec.Struct, frozen=True):
    """Something a person should know that lasts. `subject`: of what, where there may be several."""

    code: str
    severity: str
    text: str
    subject: str = ""
    fields: dict[str, str] = {}

    @property
    def key(self) -> str:
        """What tells it from other conditions."""
        return f"{self.code}:{self.subject}" if self.subject else self.code


class StandingAlerts:
    """Tells each condition once while it lasts.

    Args:
        commit: Writes records and publishes their events.
        account: Server and login that alerts are filed under.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        commit: Callable[[Batch], None],
        market_ms: Callable[[], int],
        account: Callable[[], tuple[str, int]],
    ) -> None:
        self._journal = journal
        self._commit = commit
        self._market_ms = market_ms
        self._account = account
        self._standing = {key[len(_META) :] for key, value in journal.metas(_META).items() if value}
        self._told = 0

    @property
    def standing(self) -> frozenset[str]:
        """Keys of the conditions that were told and are not over."""
        return frozenset(self._standing)

    def begin(self, condition: Condition) -> None:
        """Tell the condition, unless that was done. While the disk takes nothing it is left for the next time."""
        if condition.key in self._standing or not self._journal.has_room:
            return
        self._standing.add(condition.key)
        self._told += 1
        log.error("alert", extra={"code": condition.code, "subject": condition.subject, "reason": condition.text})
        alert_id = f"{condition.key}:{self._journal.epoch}-{self._told}"
        body = AlertEvent(alert_id, condition.severity, condition.code, condition.text, condition.fields)
        batch = Batch()
        batch.records.append(EventRecord(body, *self._account(), self._market_ms()))
        batch.records.append(MetaRecord(_META + condition.key, str(self._market_ms())))
        self._commit(batch)

    def over(self, key: str) -> None:
        """Take note that a condition is over, so that it is told when it comes again."""
        if key in self._standing and self._journal.has_room:
            self._standing.discard(key)
            batch = Batch()
            batch.records.append(MetaRecord(_META + key, ""))
            self._commit(batch)


class ConditionWatch:
    """Looks every second whether such a condition holds.

    Args:
        newest_tick_ms: Wall clock when ticks last came, 0 before the first.
    """

    def __init__(
        self,
        loop: Loop,
        alerts: StandingAlerts,
        *,
        symbols: tuple[str, ...],
        connection: Connection,
        catalogue: Catalogue,
        clock: ServerClock,
        newest_tick_ms: Callable[[], int],
    ) -> None:
        self._loop = loop
        self._alerts = alerts
        self._symbols = symbols
        self._connection = connection
        self._catalogue = catalogue
        self._clock = clock
        self._newest_tick_ms = newest_tick_ms
        self._wrong_looks = 0
        self._unmeasured_s = 0.0
        loop.every(LOOK_INTERVAL_S, self.look)

    def look(self) -> None:
        """Tell what has begun, note what is over."""
        self._look_at_symbols()
        self._look_at_account()
        self._look_at_breaker()
        self._look_at_server_time()

    def _look_at_symbols(self) -> None:
        problems = self._catalogue.problems
        for symbol, text in problems.items():
            self._alerts.begin(
                Condition("symbol_unusable", "critical", f"{symbol} cannot be used: {text}", symbol, {"symbol": symbol})
            )
        for key in self._alerts.standing:
            code, _, symbol = key.partition(":")
            usable = symbol not in self._symbols or self._catalogue.instrument(symbol) is not None
            if code == "symbol_unusable" and symbol not in problems and usable:
                self._alerts.over(key)

    def _look_at_account(self) -> None:
        connection = self._connection
        if connection.account_is_right:
            self._wrong_looks = 0
            self._alerts.over("wrong_account")
            return
        self._wrong_looks += connection.state == "wrong_account"
        if self._wrong_looks < 2:  # logging in again may be all it takes
            return
        found = _named(connection.present)
        expected = _named(connection.expected)
        text = (
            f"the terminal is on {found}, this adapter serves {expected}: nothing is traded and no event is told until "
            "it is back. Log in to the right account in the terminal, or correct login, server and password in "
            "[terminal]"
        )
        self._alerts.begin(Condition("wrong_account", "critical", text, fields={"found": found, "expected": expected}))

    def _look_at_breaker(self) -> None:
        connection = self._connection
        if connection.breaker == "closed":
            self._alerts.over("circuit_open")
        elif connection.breaker == "open":
            text = (
                f"the terminal could not be attached to several times in a row ({connection.detail}); it is tried more "
                "and more rarely. See whether the terminal runs and answers, then ask for a reconnect"
            )
            self._alerts.begin(Condition("circuit_open", "critical", text, fields={"detail": connection.detail}))

    def _look_at_server_time(self) -> None:
        if self._clock.known:
            self._unmeasured_s = 0.0
            self._alerts.over("server_time_unknown")
            return
        newest_ms = self._newest_tick_ms()
        if newest_ms and self._loop.clock.wall_ms() - newest_ms <= _FRESH_MS:
            self._unmeasured_s += LOOK_INTERVAL_S
        if self._unmeasured_s >= UNMEASURED_S:
            text = (
                f"the broker's server time could not be measured in {UNMEASURED_S / 60:.0f} minutes of fresh ticks, so "
                "no new exposure is taken and no history is read. See whether this computer's clock is right, or set "
                "[adapter] server_time"
            )
            self._alerts.begin(Condition("server_time_unknown", "critical", text))


def _named(account: tuple[int, str] | None) -> str:
    return "no account" if account is None else f"account {account[0]} at {account[1]}"
