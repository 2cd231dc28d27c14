"""Changes of orders on their way to disk and back: state, event and reply, in that order.

A change is made in memory at once, so that the next decision sees it; the event is published and the caller answered
only when it is on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import msgspec

from broker_adapter.intent_book import IntentBook
from broker_adapter.intents import Intent
from broker_adapter.journal import Journal
from broker_adapter.journal_records import EventRecord, IntentRecord, Record
from broker_adapter.order_states import OPEN, State
from protocol.messages import AlertEvent, Event, OrderReply
from protocol.service import Caller

Then = Callable[[], None]


class Batch:
    """What belongs together: stored as one, published and answered after."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.numbers: list[int] = []
        self.then: list[Then] = []

    def __bool__(self) -> bool:
        return bool(self.records or self.then)


class _Waiter(NamedTuple):
    caller: Caller
    request_id: int
    repeated: bool


class OrderLedger:
    """Writes what becomes of orders, tells it, and answers who asked.

    Args:
        publish: Gets every new event, in offset order, once it is durable.
        market_ms: Market time, UTC.
    """

    def __init__(
        self, journal: Journal, book: IntentBook, *, publish: Callable[[Event], None], market_ms: Callable[[], int]
    ) -> None:
        self._journal = journal
        self._book = book
        self._publish = publish
        self._market_ms = market_ms
        self._waiters: dict[int, list[_Waiter]] = {}

    def change(self, batch: Batch, intent: Intent) -> Intent:
        """Enter an intent's new state, with its event; return it as entered."""
        now_ms = self._market_ms()
        entered = msgspec.structs.replace(intent, updated_ms=now_ms)
        self._book.put(entered)
        batch.numbers.append(entered.number)
        batch.records.append(IntentRecord(entered))
        body = entered.event()
        # With its number: after `ids_kept_days` the same id may stand for another order, whose events are news.
        key = f"{body.key()}:{entered.number}"
        batch.records.append(EventRecord(body, entered.server, entered.login, now_ms, key))
        return entered

    def amend(self, batch: Batch, intent: Intent) -> None:
        """Enter something about an intent that subscribers need not know."""
        self._book.put(intent)
        batch.numbers.append(intent.number)
        kept = intent if intent.state is not State.SENT else msgspec.structs.replace(intent, state=State.INTENDED)
        batch.records.append(IntentRecord(kept))

    def alert(self, batch: Batch, intent: Intent, code: str, text: str, *, severity: str = "critical") -> None:
        """Tell a person about an intent; once for each code."""
        fields = {
            "client_order_id": intent.client_order_id,
            "symbol": intent.symbol,
            "action": intent.action,
            "volume": f"{intent.volume:g}",
            "position": str(intent.position),
        }
        body = AlertEvent(f"{code}:{intent.number}", severity, code, text, fields)
        batch.records.append(EventRecord(body, intent.server, intent.login, self._market_ms()))

    def commit(self, batch: Batch) -> None:
        """Hand the batch to the disk. It is always taken: new work is refused before it gets here."""
        if batch:
            self._journal.write(batch.records, partial(self._durable, batch), essential=True)

    def wait_for(self, intent: Intent, caller: Caller, *, repeated: bool) -> None:
        """Answer `caller` when the intent's outcome is known (or known to be unknown) and durable; now if it is."""
        self._waiters.setdefault(intent.number, []).append(_Waiter(caller, caller.request_id, repeated))
        self._answer((intent.number,))

    def _durable(self, batch: Batch, events: tuple[Event, ...]) -> None:
        for event in events:
            self._publish(event)
        for number in batch.numbers:
            self._book.durable(number)
        self._answer(batch.numbers)
        for then in batch.then:
            then()

    def _answer(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if number not in self._waiters or not self._book.is_durable(number):
                continue
            intent = self._book.by_number(number)
            if intent is None or intent.state in OPEN:
                continue
            for waiter in self._waiters.pop(number):
                if intent.state is State.REFUSED:
                    waiter.caller.fail(intent.error())
                else:
                    waiter.caller.reply(OrderReply(waiter.request_id, intent.event(), waiter.repeated))
