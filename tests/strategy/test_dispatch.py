"""The dispatcher: the order of callbacks, ids, warm-up, timers, errors, and that a restart repeats nothing anew."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.messages import (
    ClosePosition,
    Deal,
    DealEvent,
    OrderRequest,
    PositionEvent,
    ReportSignal,
    Request,
    SubmitOrder,
)
from strategy.dispatch import Dispatcher
from strategy.inputs import (
    BarArrived,
    Ended,
    Fired,
    History,
    Input,
    Joined,
    Observed,
    Occurred,
    Record,
    Refused,
    SymbolBars,
    TicksArrived,
)
from strategy.sdk import Strategy
from strategy.world import FINAL_STATES, World
from tests.held import held
from tests.strategy.example_strategies import Eager, Raises, Recorder
from tests.strategy.samples import (
    START_MS,
    TIMEFRAME,
    account,
    bar,
    began,
    event,
    intent,
    position,
    quote,
    rates,
    snapshot,
    ticks,
)


def make(kind: type[Strategy] = Recorder, **parameters: object) -> Strategy:
    strategy = kind.__new__(kind)
    strategy.parameters = msgspec.convert(parameters, kind.Parameters)
    strategy.__init__()  # type: ignore[misc]
    return strategy


class Life:
    """One life of a strategy in a dispatcher, fed by hand."""

    def __init__(self, kind: type[Strategy] = Recorder, *, start: bool = True, **more: object) -> None:
        self.strategy = make(kind)
        self.began = began(self.strategy, **more)  # type: ignore[arg-type]
        self.dispatcher = Dispatcher(self.strategy, self.began)
        self.records: list[Record] = []
        self.feed(self.began)
        if start:
            self.feed(Joined(snapshot()), History(()))

    @property
    def seen(self) -> list[str]:
        assert isinstance(self.strategy, Recorder)
        return self.strategy.seen

    def feed(self, *inputs: Input, now_ms: int = START_MS) -> list[Request]:
        fresh = [self.dispatcher.dispatch(now_ms, each) for each in inputs]
        self.records += fresh
        return [decision.request() for record in fresh for decision in record.decisions]

    def orders(self, *inputs: Input, now_ms: int = START_MS) -> list[str]:
        found = self.feed(*inputs, now_ms=now_ms)
        return [request.client_order_id for request in found if isinstance(request, OrderRequest)]


def arrived(number: int, *, symbol: str = "EURUSD", revision: int = 0, close: float = 1.1) -> BarArrived:
    return BarArrived(symbol, TIMEFRAME, revision, bar(number, close))


def test_start_sees_positions_before_past_bars_and_live_ones() -> None:
    life = Life(start=False)
    history = History((SymbolBars("EURUSD", rates([bar(0), bar(1)])),))
    life.feed(Joined(snapshot(positions=(position(),))), history, arrived(2))
    assert life.seen == [
        "start 1",
        f"past EURUSD {START_MS}",
        f"past EURUSD {START_MS + 5_000}",
        f"bar EURUSD {START_MS + 10_000}",
    ]


def test_past_bars_of_several_symbols_come_in_the_order_of_time() -> None:
    life = Life(start=False, symbols=("EURUSD", "GBPUSD"))
    pages = (SymbolBars("EURUSD", rates([bar(0), bar(2)])), SymbolBars("GBPUSD", rates([bar(0), bar(1)])))
    life.feed(Joined(snapshot()), History(pages))
    assert [line.split()[1] for line in life.seen[1:]] == ["EURUSD", "GBPUSD", "GBPUSD", "EURUSD"]


def test_nothing_is_sent_before_the_strategy_is_warm_nor_at_its_stop() -> None:
    life = Life(Eager, start=False)
    before = life.feed(Joined(snapshot()), History((SymbolBars("EURUSD", rates([bar(0)])),)))
    assert before == []
    assert life.feed(Ended("test")) == []
    assert life.dispatcher.world.orders == {}


def test_orders_of_one_callback_have_ids_of_their_own_and_carry_the_quote_s_time() -> None:
    life = Life(Eager)
    life.feed(Observed(account(), (), (quote(time_ms=START_MS + 7),)))
    first, second, report = life.feed(arrived(0))
    assert isinstance(first, SubmitOrder)
    assert isinstance(second, SubmitOrder)
    assert first.client_order_id != second.client_order_id
    assert (first.side, first.volume, first.sl, first.decided_ms) == ("buy", 0.1, 1.0, START_MS + 7)
    assert isinstance(report, ReportSignal)
    signal = report.signal
    assert (signal.client_order_id, signal.taken, signal.price) == (first.client_order_id, True, 1.1)
    assert (signal.timeframe, signal.bar_open_time_ms) == (TIMEFRAME, START_MS)


def test_bar_seen_before_is_not_delivered_again() -> None:
    life = Life()
    life.feed(
        arrived(0), arrived(0), arrived(0, revision=1, close=1.2), History((SymbolBars("EURUSD", rates([bar(0)])),))
    )
    assert life.seen == ["start 0", f"bar EURUSD {START_MS}", f"revised EURUSD {START_MS}"]


def test_revised_bar_that_comes_first_is_the_same_decision() -> None:
    assert Life(Eager).orders(arrived(0, revision=1)) == Life(Eager).orders(arrived(0))


def test_ticks_of_one_millisecond_are_different_triggers() -> None:
    life = Life(Eager)
    found = life.orders(TicksArrived("EURUSD", ticks((START_MS, 1.1), (START_MS, 1.2), (START_MS - 5, 1.3))))
    assert len(set(found)) == 3


def test_tick_id_does_not_depend_on_how_ticks_were_batched() -> None:
    together = Life(Eager).orders(TicksArrived("EURUSD", ticks((START_MS, 1.1), (START_MS, 1.2))))
    one = TicksArrived("EURUSD", ticks((START_MS, 1.1)))
    other = TicksArrived("EURUSD", ticks((START_MS, 1.2)))
    assert Life(Eager).orders(one, other) == together


def test_timer_is_due_at_multiples_of_its_interval_and_fires_once_for_missed_ones() -> None:
    life = Life(Eager)
    assert life.dispatcher.next_due_ms() == START_MS + 10_000
    assert life.dispatcher.due(START_MS + 9_999) == []
    fired = life.dispatcher.due(START_MS + 35_000)
    assert fired == [Fired("beat", START_MS + 30_000)]
    assert len(life.orders(*fired)) == 1
    assert life.dispatcher.next_due_ms() == START_MS + 40_000


def test_event_of_another_account_or_strategy_is_not_told() -> None:
    life = Life()
    life.feed(Occurred(event(1, PositionEvent("opened", position(strategy="other")))))
    life.feed(Occurred(event(2, PositionEvent("opened", position()), login=9)))
    life.feed(Occurred(event(3, intent("x", "done", strategy="other"))))
    assert life.seen == ["start 0"]


def test_position_events_keep_the_context_up_to_date() -> None:
    life = Life()
    life.feed(
        Occurred(event(1, PositionEvent("opened", position()))), Occurred(event(2, PositionEvent("closed", position())))
    )
    assert life.seen[1:] == ["position opened 100 of 1", "position closed 100 of 0"]


def test_deal_that_closes_our_position_is_ours_whoever_made_it() -> None:
    life = Life()
    deal = Deal(
        ticket=7, order=8, position_id=100, symbol="EURUSD", type=1, entry=1, reason=4, volume=0.1, price=1.0,
        profit=-10.0, commission=0.0, swap=0.0, fee=0.0, magic=0, comment="sl", time_ms=START_MS,
    )  # fmt: skip
    life.feed(Occurred(event(1, PositionEvent("opened", position()))))
    life.feed(Occurred(event(2, PositionEvent("closed", position()))), Occurred(event(3, DealEvent(deal))))
    life.feed(Occurred(event(4, DealEvent(msgspec.structs.replace(deal, ticket=9, position_id=555)))))
    assert life.seen[-1] == "deal 7"


def test_symbol_is_busy_until_the_filled_order_s_position_shows() -> None:
    life = Life(Eager)
    (identifier, other) = life.orders(arrived(0))
    context = life.dispatcher.context
    life.feed(Occurred(event(1, intent(other, "refused"))))
    assert context.busy("EURUSD")
    life.feed(Occurred(event(2, intent(identifier, "done", position=100))))
    assert context.busy("EURUSD")
    life.feed(Occurred(event(3, PositionEvent("changed", position()))))
    assert not context.busy("EURUSD")


def test_position_that_never_shows_is_not_awaited_for_ever() -> None:
    """Opened and closed between two reads of the terminal: the deals come, and no position event."""
    world = World("test")
    counts = []
    for number in range(1, 201):
        now_ms = START_MS + number * 1000
        world.note_order(intent(f"order-{number}", "done", position=number), now_ms=now_ms)
        assert world.busy("EURUSD", now_ms=now_ms)
        counts.append(held(world) - len(world.orders))
    assert not world.busy("EURUSD", now_ms=now_ms + 30_000)
    assert counts[-1] == counts[50]


def test_order_without_an_outcome_keeps_no_others_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strategy.world._KEPT", 3)
    world = World("test")
    world.note_order(intent("stuck", "unknown"), now_ms=START_MS)
    for number in range(100):
        world.note_order(intent(f"order-{number}", "refused"), now_ms=START_MS)
    assert list(world.orders) == ["stuck", "order-97", "order-98", "order-99"]
    assert world.busy("EURUSD", now_ms=START_MS)


@given(
    st.lists(st.tuples(st.integers(0, 20), st.sampled_from(["requested", "intended", "unknown", "done", "refused"])))
)
def test_orders_remembered_are_those_without_an_outcome_and_the_newest_others(steps: list[tuple[int, str]]) -> None:
    kept = 3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("strategy.world._KEPT", kept)
        world = World("test")
        for number, state in steps:
            if number not in {int(name) for name, order in world.orders.items() if order.state in FINAL_STATES}:
                world.note_order(intent(str(number), state), now_ms=START_MS)
            open_ones = {name for name, order in world.orders.items() if order.state not in FINAL_STATES}
            assert {order.client_order_id for order in world.in_flight()} == open_ones
            assert len(world.orders) - len(open_ones) <= kept
            assert str(number) in world.orders


def test_unknown_order_keeps_its_symbol_busy() -> None:
    life = Life(Eager)
    identifiers = life.orders(arrived(0))
    for offset, identifier in enumerate(identifiers, start=1):
        life.feed(Occurred(event(offset, intent(identifier, "unknown"))))
    assert life.dispatcher.context.busy("EURUSD")


def test_repeated_outcome_is_told_once() -> None:
    life = Life(Eager)
    identifier = life.orders(arrived(0))[0]
    outcome = intent(identifier, "refused")
    life.feed(Refused(outcome), Occurred(event(1, outcome)))
    assert life.seen.count(f"order {identifier} refused") == 1


def test_missed_event_is_told_but_does_not_undo_the_present() -> None:
    life = Life()
    life.feed(Occurred(event(1, PositionEvent("opened", position())), missed=True))
    assert life.seen == ["start 0", "position opened 100 of 0"]


def test_decision_on_a_missed_event_that_was_made_before_is_not_made_again() -> None:
    known = Life(Eager)
    (request,) = known.feed(Occurred(event(5, PositionEvent("opened", position()))))
    assert isinstance(request, ClosePosition)
    later = Life(Eager, start=False)
    done = intent(request.client_order_id, "done")
    later.feed(Joined(snapshot(offset=9, intents=(done,))), History(()))
    assert later.feed(Occurred(event(5, PositionEvent("opened", position())), missed=True)) == []


def test_resync_tells_the_differences() -> None:
    life = Life()
    life.feed(Joined(snapshot(log_id="log2", positions=(position(1),), intents=(intent("a", "done"),))))
    life.feed(Joined(snapshot(log_id="log3", positions=(position(2), position(3, strategy="other")))))
    assert life.seen[1:] == [
        "order a done",
        "position opened 1 of 1",
        "position closed 1 of 1",
        "position opened 2 of 1",
    ]


def test_callback_that_raises_ends_the_strategy_and_drops_its_decisions() -> None:
    life = Life(Raises)
    assert len(life.feed(arrived(0))) == 1
    assert life.feed(arrived(1)) == []
    assert "ZeroDivisionError: my mistake" in life.records[-1].error
    assert life.feed(arrived(2)) == []
    assert life.records[-1].error == ""


def test_state_is_loaded_before_the_start_and_only_newer_bars_follow() -> None:
    life = Life(start=False, state=b"saved", last_bars={"EURUSD": START_MS})
    life.feed(Joined(snapshot()), History((SymbolBars("EURUSD", rates([bar(0), bar(1)])),)))
    assert isinstance(life.strategy, Recorder)
    assert life.strategy.loaded == b"saved"
    assert life.seen == ["start 0", f"past EURUSD {START_MS + 5_000}"]


# -- properties: any sequence of inputs

numbers = st.integers(0, 6)
inputs: st.SearchStrategy[Input] = st.one_of(
    st.builds(arrived, numbers, revision=st.integers(0, 1), close=st.floats(1.0, 1.2)),
    st.builds(
        lambda times: TicksArrived("EURUSD", ticks(*((START_MS + t, 1.1) for t in times))),
        st.lists(st.integers(0, 3), max_size=4),
    ),
    st.builds(lambda n: Fired("beat", START_MS + n * 10_000), numbers),
    st.builds(lambda n, o: Occurred(event(o, intent(f"x{n}", "rejected"))), numbers, numbers),
    st.builds(
        lambda n, o, change: Occurred(event(o, PositionEvent(change, position(n)))),
        numbers,
        numbers,
        st.sampled_from(["opened", "changed", "closed"]),
    ),
    st.builds(lambda bid: Observed(None, (), (quote(bid=bid),)), st.floats(1.0, 1.2)),
)


@settings(max_examples=60)
@given(st.lists(inputs, max_size=25))
def test_same_inputs_give_the_same_decisions(sequence: Sequence[Input]) -> None:
    one, other = Life(Eager), Life(Eager)
    one.feed(*sequence)
    other.feed(*sequence)
    assert one.records == other.records


@settings(max_examples=60)
@given(st.lists(inputs, max_size=25), st.data())
def test_restart_repeats_no_decision_under_a_new_id(drawn: Sequence[Input], data: st.DataObject) -> None:
    """A life that has lost all memory hears some inputs again: what it decides anew has the ids it had."""
    sequence = [_numbered(place, each) for place, each in enumerate(drawn, start=1)]
    cut = data.draw(st.integers(0, len(sequence)))
    back = data.draw(st.integers(0, cut))
    first, second = Life(Eager), Life(Eager)
    first.feed(*sequence[:cut])
    second.feed(*sequence[back:])
    before = _ids_by_trigger(first.records)
    for trigger, identifiers in _ids_by_trigger(second.records).items():
        known = before.get(trigger, [])
        both = min(len(known), len(identifiers))
        assert identifiers[:both] == known[:both]


def _numbered(place: int, drawn: Input) -> Input:
    """Give each event an offset of its own, as a log does."""
    return Occurred(event(place, drawn.event.body)) if isinstance(drawn, Occurred) else drawn


def _requests(records: Sequence[Record]) -> list[OrderRequest]:
    found = [decision.request() for record in records for decision in record.decisions]
    return [request for request in found if isinstance(request, OrderRequest)]


def _ids_by_trigger(records: Sequence[Record]) -> dict[str, list[str]]:
    """Return the ids decided at each bar, timer and event, in order.

    Ticks are left out: a life that begins within a millisecond counts that one's ticks from there.
    """
    found: dict[str, list[str]] = {}
    for record in records:
        match record.input:
            case BarArrived(symbol=symbol, bar=seen, revision=revision):
                name = f"{symbol} {seen.open_time_ms} {revision}"
            case Fired(name=timer, due_ms=due_ms):
                name = f"{timer} {due_ms}"
            case Occurred(event=told):
                name = f"event {told.offset}"
            case _:
                continue
        found.setdefault(name, []).extend(request.client_order_id for request in _requests([record]))
    return found


def test_order_of_an_earlier_life_keeps_its_symbol_busy() -> None:
    decided = Life(Eager)
    decided.feed(arrived(0))
    unsettled = decided.records[-1].decisions
    life = Life(Recorder, start=False, unsettled=unsettled)
    life.feed(Joined(snapshot()), History(()))
    assert life.dispatcher.context.busy("EURUSD")
