"""A long stretch of the account's history, read in chunks by the bulk link, so that neither ticks nor orders wait."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

import msgspec

from broker_adapter.api_types import ApiDeal, ApiOrder
from broker_adapter.connection import Connection
from broker_adapter.link_messages import HistoryPage, LinkRole, ReadHistory
from broker_adapter.link_results import LinkResult
from protocol.errors import BusError, NotReady
from protocol.loop import Loop

_CHUNK_S = 7 * 24 * 3600
_RETRY_S = 1.0
_WAIT_S = 0.05

log = logging.getLogger(__name__)


class Swept(msgspec.Struct, frozen=True):
    """All final orders and deals of a stretch, server seconds, both ends included."""

    from_s: int
    to_s: int
    orders: tuple[ApiOrder, ...]
    deals: tuple[ApiDeal, ...]


class HistorySweep:
    """Reads one stretch at a time: final orders, then deals, a page after the other.

    What fails is tried again until it succeeds.
    """

    def __init__(self, loop: Loop, connection: Connection, *, deadline_s: float) -> None:
        self.running = False
        self.failures = 0
        self._loop = loop
        self._connection = connection
        self._deadline_s = deadline_s
        self._begin(0, 0, lambda _swept: None)
        self.running = False

    def start(self, from_s: int, to_s: int, on_done: Callable[[Swept], None]) -> None:
        """Read from `from_s` to `to_s`, server seconds; `on_done` is called once, from the loop. One at a time."""
        assert not self.running
        self._begin(from_s, to_s, on_done)
        self._ask()

    def _begin(self, from_s: int, to_s: int, on_done: Callable[[Swept], None]) -> None:
        self.running = True
        self._from_s, self._to_s, self._on_done = from_s, to_s, on_done
        self._what: Literal["orders", "deals"] = "orders"
        self._at_s = from_s
        self._orders: list[ApiOrder] = []
        self._deals: list[ApiDeal] = []

    def _ask(self) -> None:
        if not self._connection.attached(LinkRole.BULK):
            self._loop.after(_WAIT_S, self._ask)
            return
        end_s = min(self._at_s + _CHUNK_S - 1, self._to_s)
        self._connection.call(
            LinkRole.BULK,
            ReadHistory(self._what, self._at_s, end_s),
            self._on_page,
            deadline_s=self._deadline_s,
        )

    def _on_page(self, result: LinkResult) -> None:
        try:
            page = result.decode(HistoryPage)
            if not self._connection.serves(page.login, page.server):
                raise NotReady(f"the terminal is on account {page.login} at {page.server}")
        except BusError as error:
            self.failures += 1
            if self.failures in {1, 10, 100} or self.failures % 1000 == 0:
                log.warning("history could not be read", extra={"reason": error.text, "failures": self.failures})
            self._loop.after(_RETRY_S, self._ask)
            return
        self._orders += page.orders
        self._deals += page.deals
        self._at_s = page.through_s + 1
        if self._at_s <= self._to_s:
            self._ask()
        elif self._what == "orders":
            # Deals last: a deal may be newer than the orders beside it, never older.
            self._what, self._at_s = "deals", self._from_s
            self._ask()
        else:
            self.running = False
            swept = Swept(self._from_s, self._to_s, tuple(self._orders), tuple(self._deals))
            self._orders, self._deals = [], []  # the next sweep is a day away
            self._on_done(swept)
