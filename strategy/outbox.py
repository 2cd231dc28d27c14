"""Orders and signals on their way to the adapter, until their fate is known.

No answer and no connection are not failures. An order is sent again under the same id while its time to live lasts
(the adapter executes an id at most once); after that the adapter is asked what became of it. Only when it has twice
said that it knows nothing, or nothing ever left this process, is the order reported as refused. An outcome that the
adapter does know is told by the event stream, not from here.

Signals go one by one, in order, until each is acknowledged; the same signal again changes nothing.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

import msgspec

from protocol.errors import BusError, ChangeTheRequest, NoConnection, NotFound, TryAgainLater, UnknownOutcome
from protocol.event_follower import Asks
from protocol.loop import Loop
from protocol.messages import GetIntent, IntentEvent, OrderReply, OrderRequest, Reply, ReportSignal, Request
from strategy.inputs import Decision

ANSWER_S = 5.0
RETRY_S = 0.2
INQUIRY_FIRST_S = 0.5
INQUIRY_MAX_S = 5.0
NOT_FOUND_NEEDED = 2  # the second answer comes after the adapter has had a turn to read what was still in its socket
MAX_SIGNALS = 10_000
SIGNAL_RETRY_S = 1.0
FORGOTTEN = (
    "the adapter has begun a new journal and does not know this order: whether it took effect is for a person to say. "
    "Look at the account"
)

log = logging.getLogger(__name__)

OnRefused = Callable[[OrderRequest, str, str], None]
OnOutcome = Callable[[IntentEvent], None]


class _Order:
    """One order on its way."""

    def __init__(self, request: OrderRequest, *, deadline_ns: int) -> None:
        self.request = request
        self.deadline_ns = deadline_ns
        self.sent = False
        self.may_be_forgotten = False  # the adapter that had it may have lost its journal since
        self.error: BusError | None = None
        self.not_found = 0
        self.inquiries = 0


class Outbox:
    """What one strategy has decided and does not know the fate of.

    Args:
        orders: Asks the adapter's orders socket.
        queries: Asks its queries socket.
        on_refused: Called with an order that had no effect, an error code and a text for people; with the code
            ``unknown_outcome`` nobody can tell whether it had.
        on_outcome: Called with a refusal that the adapter itself has stored.

    Attributes:
        resent: Orders sent again under their id.
        dropped_signals: Signals given up: too many waited, or the adapter refused them for good.
    """

    def __init__(
        self, loop: Loop, *, orders: Asks, queries: Asks, on_refused: OnRefused, on_outcome: OnOutcome
    ) -> None:
        self._loop = loop
        self._orders = orders
        self._queries = queries
        self._on_refused = on_refused
        self._on_outcome = on_outcome
        self._open: dict[str, _Order] = {}
        self._signals: deque[ReportSignal] = deque()
        self._reporting = False
        self._closed = False
        self.resent = 0
        self.dropped_signals = 0

    def send(self, request: Request) -> None:
        """Send an order or a signal that has just been decided. Never blocks."""
        if isinstance(request, ReportSignal):
            self._queue_signal(request)
        elif isinstance(request, OrderRequest):
            ttl_ns = request.ttl_ms * 1_000_000
            order = _Order(request, deadline_ns=self._loop.clock.monotonic_ns() + ttl_ns)
            self._open[request.client_order_id] = order
            self._try(order)

    def recover(self, request: Request, *, same_log: bool = True) -> None:
        """Find out about an order of an earlier life, which may or may not have been sent; report a signal again.

        Unless it is the `same_log`, an adapter that does not know the order may have had it all the same.
        """
        if isinstance(request, ReportSignal):
            self._queue_signal(request)
        elif isinstance(request, OrderRequest):
            order = _Order(request, deadline_ns=0)
            order.sent = True
            order.may_be_forgotten = not same_log
            self._open[request.client_order_id] = order
            self._inquire(order)

    def log_changed(self) -> None:
        """Note that the adapter has begun a new journal: what it does not know now may have taken effect before."""
        for order in self._open.values():
            order.may_be_forgotten = order.may_be_forgotten or order.sent

    def has(self, client_order_id: str) -> bool:
        """Say whether the order's fate is being found out."""
        return client_order_id in self._open

    def heard(self, client_order_id: str) -> None:
        """Note that the event stream has spoken about an order: the adapter has it, nothing needs to be asked."""
        self._open.pop(client_order_id, None)

    @property
    def unsettled(self) -> tuple[Decision, ...]:
        """What a next life would have to find out about."""
        requests: list[Request] = [order.request for order in self._open.values()]
        return tuple(Decision.of(request) for request in [*requests, *self._signals])

    @property
    def waiting_orders(self) -> int:
        """Orders whose fate is not known."""
        return len(self._open)

    def close(self) -> None:
        """Ask nothing any more."""
        self._closed = True

    # -- orders -----------------------------------------------------------------------------------------------------

    def _try(self, order: _Order) -> None:
        if self._gone(order):
            return
        if self._loop.clock.monotonic_ns() >= order.deadline_ns:
            self._time_is_over(order)
            return
        self.resent += order.sent
        request = order.request
        self._orders.ask(
            lambda request_id: msgspec.structs.replace(request, id=request_id),
            on_reply=lambda reply: self._answered(order, reply),
            on_error=lambda error: self._failed(order, error),
            deadline_s=ANSWER_S,
        )

    def _answered(self, order: _Order, reply: Reply) -> None:
        if not self._gone(order) and isinstance(reply, OrderReply):
            self._settle(order)
            if reply.outcome.state == "refused":
                self._on_outcome(reply.outcome)

    def _failed(self, order: _Order, error: BusError) -> None:
        if self._gone(order):
            return
        order.error = error
        order.sent = order.sent or not isinstance(error, NoConnection)
        if isinstance(error, UnknownOutcome):
            self._settle(order)  # the adapter finds out, and the event stream tells
        elif isinstance(error, TryAgainLater):
            self._loop.after(RETRY_S, lambda: self._try(order))
        else:
            # It says no. It may still know this id from before a restart, and then its stored outcome is the truth.
            self._inquire(order)

    def _time_is_over(self, order: _Order) -> None:
        if order.sent:
            self._inquire(order)
            return
        ttl_ms = order.request.ttl_ms
        self._refuse(order, "no_connection", f"the adapter could not be reached for {ttl_ms} ms: nothing was sent")

    def _inquire(self, order: _Order) -> None:
        if self._gone(order):
            return
        identifier = order.request.client_order_id
        self._queries.ask(
            lambda request_id: GetIntent(request_id, identifier),
            on_reply=lambda reply: self._answered(order, reply),
            on_error=lambda error: self._inquiry_failed(order, error),
            deadline_s=ANSWER_S,
        )

    def _inquiry_failed(self, order: _Order, error: BusError) -> None:
        if self._gone(order):
            return
        if isinstance(error, NotFound):
            order.not_found += 1
            if order.not_found >= NOT_FOUND_NEEDED:
                self._refuse_unknown(order)
                return
        pause_s = min(INQUIRY_FIRST_S * 2**order.inquiries, INQUIRY_MAX_S)
        order.inquiries = min(order.inquiries + 1, 10)
        self._loop.after(pause_s, lambda: self._inquire(order))

    def _refuse_unknown(self, order: _Order) -> None:
        error = order.error
        if order.may_be_forgotten:
            self._refuse(order, UnknownOutcome.code, FORGOTTEN)
        elif error is None:
            self._refuse(order, "no_answer", "it was decided before a restart and never reached the adapter")
        elif isinstance(error, TryAgainLater):
            self._refuse(order, error.code, f"it never reached the adapter and its time to live is over: {error.text}")
        else:
            self._refuse(order, error.code, error.text)

    def _refuse(self, order: _Order, code: str, text: str) -> None:
        self._settle(order)
        self._on_refused(order.request, code, text)

    def _settle(self, order: _Order) -> None:
        self._open.pop(order.request.client_order_id, None)

    def _gone(self, order: _Order) -> bool:
        return self._closed or self._open.get(order.request.client_order_id) is not order

    # -- signals ----------------------------------------------------------------------------------------------------

    def _queue_signal(self, request: ReportSignal) -> None:
        if len(self._signals) >= MAX_SIGNALS:
            self._signals.popleft()
            self._count_dropped("too many signals wait for the adapter: the oldest was dropped", "")
        self._signals.append(request)
        self._report_next()

    def _report_next(self) -> None:
        if self._reporting or self._closed or not self._signals:
            return
        self._reporting = True
        request = self._signals[0]
        self._orders.ask(
            lambda request_id: msgspec.structs.replace(request, id=request_id),
            on_reply=lambda _: self._reported(request),
            on_error=lambda error: self._report_failed(request, error),
            deadline_s=ANSWER_S,
        )

    def _reported(self, request: ReportSignal) -> None:
        self._reporting = False
        if self._signals and self._signals[0] is request:
            self._signals.popleft()
        self._report_next()

    def _report_failed(self, request: ReportSignal, error: BusError) -> None:
        if isinstance(error, ChangeTheRequest):
            self._count_dropped("the adapter refused a signal for good", error.text)
            self._reported(request)
            return
        self._loop.after(SIGNAL_RETRY_S, self._retry_report)

    def _retry_report(self) -> None:
        self._reporting = False
        self._report_next()

    def _count_dropped(self, event: str, text: str) -> None:
        self.dropped_signals += 1
        log.error(event, extra={"dropped": self.dropped_signals, "reason": text[:200]})
