"""The broker's history into the store: bounded pages, one request at a time, resumable, idempotent.

Each subject (the bars of a symbol and timeframe, the deals or the final orders of an account) has a point in time
through which the store is complete: its coverage, written with the rows that it stands for. Filling goes from there
(at the first start: from the configured number of days back) to the present, oldest first. Once filled, the recorder
moves the point along with what it hears live.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

import msgspec

from market.bars import Timeframe
from ml_logger.rows import FROM_HISTORY, Account, Batch
from mt5bus.settings import Logger
from protocol.errors import BusError, ChangeTheRequest, DataInvalid
from protocol.event_follower import Asks
from protocol.loop import Loop, Timer
from protocol.messages import Deals, GetDeals, GetHistoryOrders, GetRates, Orders, Rates, Reply, Request

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
# The adapter itself reads deals again that far back: a broker may date one late.
HISTORY_OVERLAP_MS = DAY_MS
# A bar's revision may have come while nobody listened.
BARS_OVERLAP = 10
DEADLINE_S = 60.0
RETRY_FIRST_S = 1.0
RETRY_MAX_S = 30.0

log = logging.getLogger(__name__)


class Subject(msgspec.Struct, frozen=True):
    """What a stretch of history is about: bars (`symbol`, `timeframe`), or an account's deals or orders."""

    kind: str
    name: str
    symbol: str = ""
    timeframe: str = ""
    account: Account | None = None


class Stretch(msgspec.Struct, frozen=True):
    """History to fetch, UTC milliseconds, both ends inclusive."""

    subject: Subject
    from_ms: int
    to_ms: int


class Page(msgspec.Struct, frozen=True):
    """What an answer brought: its rows and whence to go on."""

    batch: Batch
    next_ms: int


def bars_subject(adapter: str, symbol: str, timeframe: str) -> Subject:
    """Return the subject of a symbol's bars."""
    return Subject("bars", f"bars/{adapter}/{symbol}/{timeframe}", symbol=symbol, timeframe=timeframe)


def history_subjects(account: Account) -> tuple[Subject, Subject]:
    """Return the subjects of an account's deals and final orders."""
    owner = f"{account.server}/{account.login}"
    return Subject("deals", f"deals/{owner}", account=account), Subject("orders", f"orders/{owner}", account=account)


class Backfill:
    """Fills the store from the broker's history through `queries`, at low priority.

    Args:
        write: Commits a batch; False if the store does not take it, then this backfill is over.
        coverage: By subject's name, as the store holds it now.
    """

    def __init__(
        self,
        loop: Loop,
        queries: Asks,
        *,
        adapter: str,
        settings: Logger,
        coverage: Mapping[str, int],
        write: Callable[[Batch], bool],
    ) -> None:
        self._loop = loop
        self._queries = queries
        self._adapter = adapter
        self._settings = settings
        self._coverage = dict(coverage)
        self._write = write
        self._queue: dict[str, Stretch] = {}
        self._current: Stretch | None = None
        self._filled: set[str] = set()
        self._retry_s = RETRY_FIRST_S
        self._timer: Timer | None = None
        self._closed = False

    def close(self) -> None:
        """Ask no more, and ignore what is still on its way."""
        self._closed = True
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()

    @property
    def pending(self) -> int:
        """Subjects that are not filled yet."""
        return len(self._queue) + (self._current is not None)

    def filled(self, subject: Subject) -> bool:
        """Whether the store holds this subject's history up to the present."""
        return subject.name in self._filled

    def moved(self, subject: Subject, through_ms: int) -> None:
        """Take note that the recorder wrote this subject's history through here, live."""
        self._coverage[subject.name] = max(through_ms, self._coverage.get(subject.name, through_ms))

    def want_bars(self, symbols: Iterable[str], timeframes: Iterable[str], now_ms: int) -> None:
        """Fill the bars of every symbol in every timeframe up to `now_ms`, market time."""
        names = tuple(timeframes)
        for symbol in symbols:
            for name in names:
                overlap_ms = BARS_OVERLAP * Timeframe.parse(name).milliseconds
                self._want(bars_subject(self._adapter, symbol, name), now_ms, overlap_ms)

    def want_history(self, account: Account, now_ms: int) -> None:
        """Fill an account's deals and final orders up to `now_ms`, market time."""
        for subject in history_subjects(account):
            self._want(subject, now_ms, HISTORY_OVERLAP_MS)

    def _want(self, subject: Subject, now_ms: int, overlap_ms: int) -> None:
        first_ms = now_ms - self._settings.backfill_days * DAY_MS
        through_ms = self._coverage.get(subject.name)
        # Coverage ahead of the clock comes from a file feed that was played from its beginning again.
        from_ms = through_ms - overlap_ms if through_ms is not None and through_ms <= now_ms else first_ms
        self._filled.discard(subject.name)
        waiting = self._queue.get(subject.name, Stretch(subject, from_ms, now_ms))
        self._queue[subject.name] = Stretch(subject, min(from_ms, waiting.from_ms), max(now_ms, waiting.to_ms))
        self._schedule(0)

    def _schedule(self, delay_s: float) -> None:
        if self._current is None and self._timer is None and not self._closed:
            self._timer = self._loop.after(delay_s, self._next)

    def _next(self) -> None:
        self._timer = None
        if self._closed or self._current is not None or not self._queue:
            return
        self._current = self._queue.pop(next(iter(self._queue)))
        self._ask(self._current)

    def _ask(self, stretch: Stretch) -> None:
        end_ms = min(stretch.to_ms, stretch.from_ms + self._settings.backfill_chunk_h * HOUR_MS)
        self._queries.ask(
            lambda request_id: _request(request_id, stretch.subject, stretch.from_ms, end_ms),
            on_reply=lambda reply: self._answered(stretch, end_ms, reply),
            on_error=lambda error: self._failed(stretch, error),
            deadline_s=DEADLINE_S,
        )

    def _answered(self, stretch: Stretch, end_ms: int, reply: Reply) -> None:
        if self._closed:
            return
        try:
            page = self._page(stretch, end_ms, reply)
        except DataInvalid as error:
            self._failed(stretch, error)
            return
        self._retry_s = RETRY_FIRST_S
        name = stretch.subject.name
        through_ms = max(page.next_ms, self._coverage.get(name, page.next_ms))
        page.batch.coverage[name] = through_ms
        if not self._write(page.batch):
            return
        self._coverage[name] = through_ms
        self._current = None
        if page.next_ms < stretch.to_ms:
            self._go_on(Stretch(stretch.subject, page.next_ms, stretch.to_ms))
        elif name not in self._queue:
            self._filled.add(name)
            log.info("history filled", extra={"subject": name, "through_ms": through_ms})
        self._schedule(0)

    def _go_on(self, rest: Stretch) -> None:
        """Put the rest of a stretch first in the queue, joined with what was wanted meanwhile."""
        name = rest.subject.name
        wanted = self._queue.pop(name, rest)
        joined = Stretch(rest.subject, min(rest.from_ms, wanted.from_ms), max(rest.to_ms, wanted.to_ms))
        self._queue = {name: joined, **self._queue}

    def _page(self, stretch: Stretch, end_ms: int, reply: Reply) -> Page:
        batch = Batch(self._adapter)
        subject = stretch.subject
        if isinstance(reply, Rates):
            batch.add_rates(self._adapter, subject.symbol, subject.timeframe, reply.records)
            last_ms = reply.next_ms
        elif isinstance(reply, Deals) and subject.account is not None:
            batch.add_deals(subject.account, reply.deals)
            last_ms = reply.deals[-1].time_ms if reply.deals else 0
        elif isinstance(reply, Orders) and subject.account is not None:
            batch.add_orders(subject.account, reply.orders, FROM_HISTORY)
            last_ms = reply.orders[-1].time_done_ms if reply.orders else 0
        else:
            raise DataInvalid(f"{reply.kind} is no answer to a request for {subject.kind}")
        # A page that ends where it began would be asked for again for ever.
        return Page(batch, max(last_ms, stretch.from_ms + 1) if reply.more else end_ms)

    def _failed(self, stretch: Stretch, error: BusError) -> None:
        if self._closed:
            return
        self._current = None
        fields = {"subject": stretch.subject.name, "error": error.code, "text": error.text}
        if isinstance(error, ChangeTheRequest):
            log.warning("history that the adapter does not have is left out", extra=fields)
            self._schedule(0)
            return
        log.info("history cannot be fetched yet: asking again", extra=fields | {"retry_s": self._retry_s})
        # Behind the others: one subject that cannot be had does not hold them up.
        self._queue.setdefault(stretch.subject.name, stretch)
        self._schedule(self._retry_s)
        self._retry_s = min(2 * self._retry_s, RETRY_MAX_S)


def _request(request_id: int, subject: Subject, from_ms: int, to_ms: int) -> Request:
    match subject.kind:
        case "bars":
            return GetRates(request_id, subject.symbol, subject.timeframe, from_ms, to_ms)
        case "deals":
            return GetDeals(request_id, from_ms, to_ms)
        case _:
            return GetHistoryOrders(request_id, from_ms, to_ms)
