"""The outbox: no answer is no failure, and nothing is given up before its fate is known. Turned by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import pytest

from protocol.clock import ManualClock
from protocol.errors import (
    BusError,
    NoAnswer,
    NoConnection,
    NotFound,
    NotReady,
    RiskRefused,
    UnknownOutcome,
    ValidationFailed,
)
from protocol.loop import Loop
from protocol.messages import (
    Done,
    GetIntent,
    IntentEvent,
    OrderReply,
    Reply,
    ReportSignal,
    Request,
    SignalEvent,
    SubmitOrder,
)
from strategy import outbox as module
from strategy.inputs import Decision
from strategy.outbox import Outbox
from tests.strategy.samples import intent

ORDER = SubmitOrder(0, "id1", "test", 2_000, "EURUSD", "buy", 0.1)


class Peer:
    """Keeps what is asked; the test answers."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self._pending: list[tuple[Callable[[Reply], None], Callable[[BusError], None]]] = []

    def ask(
        self,
        make: Callable[[int], Request],
        *,
        on_reply: Callable[[Reply], None],
        on_error: Callable[[BusError], None],
        deadline_s: float,
    ) -> int:
        assert deadline_s > 0
        self.asked.append(make(len(self.asked) + 1))
        self._pending.append((on_reply, on_error))
        return len(self.asked)

    def answer(self, outcome: Reply | BusError) -> None:
        on_reply, on_error = self._pending.pop(0)
        if isinstance(outcome, BusError):
            on_error(outcome)
        else:
            on_reply(outcome)

    @property
    def waits(self) -> bool:
        return bool(self._pending)


class Desk:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.loop = Loop(clock=self.clock)
        self.orders, self.queries = Peer(), Peer()
        self.refused: list[str] = []
        self.outcomes: list[IntentEvent] = []
        self.outbox = Outbox(
            self.loop,
            orders=self.orders,
            queries=self.queries,
            on_refused=lambda request, code, text: self.refused.append(f"{request.client_order_id} {code}"),
            on_outcome=self.outcomes.append,
        )

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.loop.turn(0)

    def retry(self, error: BusError, times: int) -> None:
        for _ in range(times):
            self.orders.answer(error)
            self.advance(module.RETRY_S)


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.loop.close()


def reply(state: str) -> OrderReply:
    return OrderReply(1, intent("id1", state))


def signal(name: str) -> ReportSignal:
    event = SignalEvent(name, "test", "EURUSD", "S5", 0, 1, 1.0, 1.1, {}, taken=False)
    return ReportSignal(0, event)


def test_answered_order_is_settled(desk: Desk) -> None:
    desk.outbox.send(ORDER)
    assert list(desk.outbox.unsettled) == [Decision.of(ORDER)]
    assert desk.orders.asked == [msgspec.structs.replace(ORDER, id=1)]
    desk.orders.answer(reply("done"))
    assert not desk.outbox.unsettled
    assert desk.refused == []
    assert desk.outcomes == []


def test_stored_refusal_is_told(desk: Desk) -> None:
    desk.outbox.send(ORDER)
    desk.orders.answer(reply("refused"))
    assert [outcome.state for outcome in desk.outcomes] == ["refused"]


def test_unanswered_order_is_sent_again_under_its_id_while_it_lives(desk: Desk) -> None:
    desk.outbox.send(ORDER)
    desk.retry(NoAnswer("silence"), 3)
    assert {request.client_order_id for request in desk.orders.asked if isinstance(request, SubmitOrder)} == {"id1"}
    assert len(desk.orders.asked) == 4
    assert desk.outbox.resent == 3
    assert desk.refused == []


def test_order_past_its_time_is_asked_about_and_not_sent_again(desk: Desk) -> None:
    desk.outbox.send(ORDER)
    desk.clock.advance(3.0)
    desk.retry(NoAnswer("silence"), 1)
    assert len(desk.orders.asked) == 1
    assert desk.queries.asked == [GetIntent(1, "id1")]
    desk.queries.answer(reply("unknown"))
    assert not desk.outbox.unsettled
    assert desk.refused == []


def test_order_that_the_adapter_twice_does_not_know_is_refused(desk: Desk) -> None:
    desk.outbox.send(ORDER)
    desk.clock.advance(3.0)
    desk.retry(NoAnswer("silence"), 1)
    desk.queries.answer(NotFound("no such order"))
    assert desk.refused == []
    desk.advance(module.INQUIRY_FIRST_S)
    desk.queries.answer(NotFound("no such order"))
    assert desk.refused == ["id1 no_answer"]
    assert not desk.outbox.unsettled


def test_inquiry_without_an_answer_goes_on_for_ever(desk: Desk) -> None:
    desk.outbox.send(ORDER)
    desk.clock.advance(3.0)
    desk.retry(NoAnswer("silence"), 1)
    for _ in range(30):
        desk.queries.answer(NoConnection("down"))
        desk.advance(module.INQUIRY_MAX_S)
    assert desk.refused == []
    assert desk.outbox.waiting_orders == 1
    assert len(desk.queries.asked) == 31


def test_order_that_never_left_is_refused_without_asking(desk: Desk) -> None:
    desk.outbox.send(ORDER)
    desk.retry(NoConnection("down"), 10)
    assert desk.refused == ["id1 no_connection"]
    assert not desk.queries.waits


@pytest.mark.parametrize("error", [RiskRefused("too large"), ValidationFailed("volume"), ValidationFailed("id reused")])
def test_refusal_is_believed_only_if_the_adapter_does_not_know_the_order(desk: Desk, error: BusError) -> None:
    desk.outbox.send(ORDER)
    desk.orders.answer(error)
    desk.queries.answer(reply("done"))
    assert desk.refused == []
    desk.outbox.send(ORDER)
    desk.orders.answer(error)
    desk.queries.answer(NotFound("no such order"))
    desk.advance(module.INQUIRY_FIRST_S)
    desk.queries.answer(NotFound("no such order"))
    assert desk.refused == [f"id1 {error.code}"]


def test_unknown_outcome_is_left_to_the_event_stream(desk: Desk) -> None:
    desk.outbox.send(ORDER)
    desk.orders.answer(UnknownOutcome("may have happened"))
    assert not desk.outbox.unsettled
    assert desk.refused == []


def test_order_that_the_event_stream_spoke_of_is_settled(desk: Desk) -> None:
    desk.outbox.send(ORDER)
    desk.outbox.heard("id1")
    desk.orders.answer(NoAnswer("silence"))
    desk.advance(10.0)
    assert not desk.outbox.unsettled
    assert desk.refused == []
    assert len(desk.orders.asked) == 1


def test_adapter_that_is_not_ready_is_tried_again(desk: Desk) -> None:
    desk.outbox.send(ORDER)
    desk.retry(NotReady("starting"), 1)
    desk.orders.answer(reply("done"))
    assert not desk.outbox.unsettled


def test_order_of_an_earlier_life_is_asked_about_and_never_sent(desk: Desk) -> None:
    desk.outbox.recover(ORDER)
    assert desk.orders.asked == []
    desk.queries.answer(reply("done"))
    assert not desk.outbox.unsettled


def test_signals_go_in_order_until_acknowledged(desk: Desk) -> None:
    first, second = signal("s1"), signal("s2")
    desk.outbox.send(first)
    desk.outbox.send(second)
    desk.orders.answer(NoConnection("down"))
    desk.advance(module.SIGNAL_RETRY_S)
    desk.orders.answer(Done(1))
    desk.orders.answer(Done(2))
    names = [request.signal.signal_id for request in desk.orders.asked if isinstance(request, ReportSignal)]
    assert names == ["s1", "s1", "s2"]
    assert not desk.outbox.unsettled


def test_signal_that_the_adapter_refuses_is_counted_and_the_next_goes(desk: Desk) -> None:
    desk.outbox.send(signal("s1"))
    desk.outbox.send(signal("s2"))
    desk.orders.answer(ValidationFailed("strength"))
    desk.orders.answer(Done(1))
    assert desk.outbox.dropped_signals == 1
    assert not desk.outbox.unsettled


def test_signals_that_wait_are_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SIGNALS", 3)
    for number in range(5):
        desk.outbox.send(signal(f"s{number}"))
    assert len(desk.outbox.unsettled) == 3
    assert desk.outbox.dropped_signals == 2


def test_closed_outbox_asks_nothing(desk: Desk) -> None:
    desk.outbox.send(ORDER)
    desk.outbox.close()
    desk.orders.answer(NoAnswer("silence"))
    desk.advance(10.0)
    assert len(desk.orders.asked) == 1


@pytest.mark.parametrize("recovered", [True, False])
def test_order_unknown_to_a_new_journal_is_not_called_refused(desk: Desk, *, recovered: bool) -> None:
    if recovered:
        desk.outbox.recover(ORDER, same_log=False)
    else:
        desk.outbox.send(ORDER)
        desk.orders.answer(NoAnswer("silence"))
        desk.outbox.log_changed()
        desk.advance(3.0)
    assert desk.outbox.has("id1")
    for _ in range(module.NOT_FOUND_NEEDED):
        desk.queries.answer(NotFound("no order id1"))
        desk.advance(module.INQUIRY_MAX_S)
    assert desk.refused == ["id1 unknown_outcome"]
