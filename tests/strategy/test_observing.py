"""What things are worth is told only when it changed, and only as far as the strategy cares."""

from __future__ import annotations

import msgspec

from protocol.messages import Position, PositionEvent, StateUpdate
from strategy.inputs import Observed, PositionMark
from strategy.observing import Observer
from strategy.world import World
from tests.strategy.samples import START_MS, account, batch, position, quote, snapshot


def world(*positions: Position) -> World:
    made = World("test")
    made.join(snapshot(positions=positions))
    return made


def state(
    *positions: Position, equity: float = 10_000.0, symbol: str = "EURUSD", time_ms: int = START_MS
) -> StateUpdate:
    return StateUpdate(1, 1, START_MS, account(equity=equity), positions, (quote(symbol, time_ms=time_ms),))


def test_nothing_new_is_nothing_to_tell() -> None:
    observer, seen = Observer(["EURUSD"]), world()
    assert observer.news(seen) is None
    observer.on_state(state())
    assert observer.news(seen) == Observed(None, (), (quote(),))
    assert observer.news(seen) is None


def test_newest_quote_wins_whichever_stream_brought_it() -> None:
    observer, seen = Observer(["EURUSD"]), world()
    observer.on_ticks("EURUSD", batch((START_MS + 1, 1.2), (START_MS + 2, 1.3)))
    observer.on_state(state())
    news = observer.news(seen)
    assert news is not None
    assert [(each.bid, each.time_ms) for each in news.quotes] == [(1.3, START_MS + 2)]


def test_other_symbols_and_other_s_positions_are_left_out() -> None:
    observer, seen = Observer(["EURUSD"]), world(position(1))
    observer.on_state(state(position(1), position(2, strategy="other"), symbol="GBPUSD"))
    assert observer.news(seen) == Observed(None, (PositionMark(1, 1.1, 0.0, 0.0),), ())


def test_worth_of_a_position_follows_the_state_and_its_stops_the_events() -> None:
    observer, seen = Observer(["EURUSD"]), world(position(1))
    observer.on_state(state(msgspec.structs.replace(position(1), profit=5.0, sl=9.9), equity=10_005.0))
    news = observer.news(seen)
    assert news is not None
    seen.observe(news.account, news.positions, news.quotes)
    assert (seen.positions[1].profit, seen.positions[1].sl) == (5.0, position(1).sl)
    assert seen.account is not None
    assert seen.account.equity == 10_005.0
    seen.apply(PositionEvent("changed", msgspec.structs.replace(position(1), sl=1.05)), now_ms=START_MS)
    assert seen.positions[1].sl == 1.05


def test_state_does_not_bring_back_a_position_that_an_event_closed() -> None:
    observer, seen = Observer(["EURUSD"]), world(position(1))
    seen.apply(PositionEvent("closed", position(1)), now_ms=START_MS)
    observer.on_state(state(position(1)))
    news = observer.news(seen)
    assert news is not None
    seen.observe(news.account, news.positions, news.quotes)
    assert seen.positions == {}


def test_changed_specification_is_news_once() -> None:
    seen = world()
    known = seen.instruments["EURUSD"]
    observer = Observer(["EURUSD"])
    observer.on_instrument(known)
    assert observer.news(seen) is None
    fresh = msgspec.structs.replace(known, tick_value=known.tick_value * 2)
    observer.on_instrument(fresh)
    assert observer.news(seen) == Observed(None, (), (), (fresh,))
    seen.observe(None, (), (), (fresh,))
    observer.on_instrument(fresh)
    assert observer.news(seen) is None
